//! The expert layer's half of a forward: who visits whom, then all visits. Must never know a request.

use std::ops::Range;

use weir_kernels::KernelError;
use weir_kernels::packed::experts::PackedExpert;
use weir_kernels::route::{admit, choose, choose_within};

use super::clock::Work;
use super::matrix::{Matrix, room};
use super::scratch::Scratch;
use super::weights::{Experts, Mlp, Model};

impl Model {
    /// `scratch.normed[m, hidden]` → `scratch.out[m, hidden]`. Expert by expert: the tokens of one expert are gathered
    /// into one small batch. A token adds its experts in ascending order, whoever else visits them, then the shared one.
    pub(super) fn experts(
        &self,
        experts: &Experts,
        blocks: &[Range<usize>],
        m: usize,
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        self.route(experts, blocks, m, scratch)?;
        scratch.clock.did_with(Work::Router, &experts.router, m);
        match experts.packed {
            true => self.packed_experts(experts, m, scratch),
            false => self.exact_experts(experts, m, scratch),
        }
    }

    /// `scratch.chosen[expert]`: the tokens that visit it, with their weights.
    fn route(
        &self,
        experts: &Experts,
        blocks: &[Range<usize>],
        m: usize,
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let Scratch { normed, scores, inputs, chosen, .. } = scratch;
        let count = experts.experts.len();
        let scores = room(scores, m * count); // [m, experts]
        self.compute.linear(room(normed, m * self.config.hidden), m, &experts.router, inputs, scores)?;
        chosen.resize_with(count, Vec::new);
        chosen.iter_mut().for_each(Vec::clear);
        let (bias, routing) = (experts.bias.as_deref(), self.routing(experts));
        for block in blocks {
            let own = &scores[block.start * count..block.end * count];
            let pool = routing.capacity.map(|capacity| admit(own, count, bias, capacity));
            for (token, scores) in block.clone().zip(own.chunks_exact(count)) {
                let choices = match &pool {
                    Some(pool) => choose_within(pool, scores, bias, routing),
                    None => choose(scores, bias, routing),
                };
                for choice in choices {
                    chosen[choice.expert].push((token, choice.weight));
                }
            }
        }
        Ok(())
    }

    fn packed_experts(&self, experts: &Experts, m: usize, scratch: &mut Scratch) -> Result<(), KernelError> {
        let hidden = self.config.hidden;
        let Scratch { normed, out, inputs, chosen, visits, packed, clock, .. } = scratch;
        self.compute.products.fill(inputs, room(normed, m * hidden), m, hidden, experts.needs)?;
        visits.clear();
        for (index, tokens) in chosen.iter().enumerate() {
            visits.add(index, tokens.iter().copied());
            if let Some(expert) = experts.experts.get(index).filter(|_| !tokens.is_empty()) {
                expert.matrices().into_iter().for_each(|matrix| clock.count(Work::Experts, matrix, tokens.len()));
            }
        }
        clock.visited(visits.experts());
        if let Some(shared) = &experts.shared {
            visits.add(experts.experts.len(), (0..m).map(|token| (token, 1.0)));
            shared.matrices().into_iter().for_each(|matrix| clock.count(Work::Experts, matrix, m));
        }
        let find = |index: usize| {
            let expert =
                if index == experts.experts.len() { experts.shared.as_ref() } else { experts.experts.get(index) };
            expert.and_then(Mlp::packed)
        };
        self.compute.products.experts(self.compute.kernels, inputs, &find, visits, packed, room(out, m * hidden))?;
        clock.did(Work::Experts);
        Ok(())
    }

    fn exact_experts(&self, experts: &Experts, m: usize, scratch: &mut Scratch) -> Result<(), KernelError> {
        let hidden = self.config.hidden;
        let kernels = self.compute.kernels;
        let Scratch { normed, out, gathered, gate, up, rows: results, inputs, chosen, clock, .. } = scratch;
        let (x, out) = (room(normed, m * hidden), room(out, m * hidden));
        out.fill(0.0);
        let mut visit = |expert: &Mlp, x: &[f32], m: usize, add: &mut dyn FnMut(&[f32]) -> Result<(), KernelError>| {
            let width = expert.gate.n();
            let (gate, up, results) = (room(gate, m * width), room(up, m * width), room(results, m * hidden));
            self.compute.linear(x, m, &expert.gate, inputs, gate)?;
            self.compute.linear(x, m, &expert.up, inputs, up)?;
            kernels.silu_mul(gate, up)?;
            self.compute.linear(gate, m, &expert.down, inputs, results)?;
            expert.matrices().into_iter().for_each(|matrix| clock.count(Work::Experts, matrix, m));
            add(results)
        };
        for (expert, visits) in experts.experts.iter().zip(&*chosen) {
            if visits.is_empty() {
                continue;
            }
            gathered.clear();
            for (token, _) in visits {
                gathered.extend_from_slice(&x[token * hidden..][..hidden]);
            }
            visit(expert, gathered, visits.len(), &mut |results| {
                for ((token, weight), result) in visits.iter().zip(results.chunks_exact(hidden)) {
                    kernels.add_scaled(&mut out[token * hidden..][..hidden], result, *weight)?;
                }
                Ok(())
            })?;
        }
        if let Some(shared) = &experts.shared {
            visit(shared, x, m, &mut |results| kernels.add_scaled(out, results, 1.0))?;
        }
        clock.did(Work::Experts);
        Ok(())
    }
}

impl Mlp {
    /// Gate, up, down.
    pub(super) fn matrices(&self) -> [&Matrix; 3] {
        [&self.gate, &self.up, &self.down]
    }

    /// The packed form, if all of it is.
    pub(super) fn packed(&self) -> Option<PackedExpert<'_>> {
        Some(PackedExpert { gate: self.gate.packed()?, up: self.up.packed()?, down: self.down.packed()? })
    }
}
