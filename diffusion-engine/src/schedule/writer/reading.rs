//! How a block's writer reads a forward: which positions it asks about, what the caller, the decoder and the form
//! demanded do to the logits, and the candidates that come of it. Must never write into the canvas.

use std::collections::BTreeMap;

use weir_protocol::EngineError;

use crate::constrain::constraint::Constraint;
use crate::decode::{Candidate, List};
use crate::options::DecoderKind;

use super::super::rows::restrict;
use super::super::scorer::Readout;
use super::super::window::Block;
use super::BlockWriter;

impl BlockWriter {
    /// Adds to `rows` the positions of the next forward, counted from the first fed behind the final ones, that are still open: the masked
    /// ones, and the written ones where the decoder or the form may take them back. Never those of the prompt.
    pub(crate) fn asked(&self, rows: &mut Vec<usize>) {
        if self.window.is_due {
            let mut first = 0;
            for block in &self.window.open {
                rows.extend(first + block.canvas.fixed..first + block.canvas.tokens.len());
                first += block.canvas.tokens.len();
            }
            return;
        }
        let canvas = &self.active.canvas;
        // Drafts behind what the form has validated may be chosen again.
        let from = self.constraint.as_ref().map_or(canvas.tokens.len(), Constraint::frontier);
        let (edits, partial) = (self.job.settings.decoder.edits(), self.is_partial());
        let written = |at: usize| edits && (!partial || self.is_new(at));
        let open = |at: &usize| *at >= from || canvas.is_masked(*at) || written(*at);
        rows.extend((canvas.fixed..canvas.tokens.len()).filter(open));
    }

    /// Whether the next forward computes no more of the block than [`BlockWriter::computed`] says. Never its first one, nor
    /// one whose K/V may stay, which sees all tokens as they are.
    pub(super) fn is_partial(&self) -> bool {
        let settings = &self.job.settings;
        let may = match settings.decoder {
            DecoderKind::Threshold | DecoderKind::Hierarchy | DecoderKind::Credit => true,
            // A form may choose again behind any edit.
            DecoderKind::Joint | DecoderKind::MultiBlock => self.constraint.is_none(),
            DecoderKind::Levenshtein => false,
        };
        let is_due = self.decoder.since_whole.is_none_or(|count| count + 1 >= settings.refresh_every);
        may && !is_due && !self.window.is_due && !self.active.canvas.masked().is_empty()
    }

    /// Adds to `computed` the positions of a partial forward: those asked about and those whose token is not the one that
    /// the last forward saw. None where all are computed.
    pub(crate) fn computed(&self, asked: &[usize], computed: &mut Vec<usize>) {
        if !self.is_partial() {
            return;
        }
        let all = 0..self.active.canvas.tokens.len();
        computed.extend(all.filter(|at| asked.binary_search(at).is_ok() || self.is_new(*at)));
    }

    /// Whether the last forward saw another token here.
    fn is_new(&self, at: usize) -> bool {
        self.before.tokens.get(at) != self.active.canvas.tokens.get(at)
    }

    /// Tokens never written, where the likeliest of the others is all that is asked about a position.
    pub(crate) fn likeliest_but(&self) -> Option<&[u32]> {
        let settings = &self.job.settings;
        let plain = match settings.decoder {
            DecoderKind::Threshold | DecoderKind::Hierarchy | DecoderKind::Joint | DecoderKind::MultiBlock => true,
            // They change logits, or ask for the second likeliest.
            DecoderKind::Credit | DecoderKind::Levenshtein => false,
        };
        let plain = plain && self.constraint.is_none() && settings.repeat_penalty <= 0.0;
        self.scorer.likeliest_but().filter(|_| plain)
    }

    /// One candidate for each position of the canvas.
    pub(super) fn candidates(&self, read: &Readout<'_>) -> Result<List<Candidate>, EngineError> {
        let mut all: List<Candidate> = (0..self.active.canvas.tokens.len()).map(|at| self.active.unasked(at)).collect();
        for (at, candidate) in self.scorer.candidates(read, self.active.start)? {
            if let Some(place) = all.get_mut(at) {
                *place = candidate;
            }
        }
        Ok(all)
    }

    /// Leaves only allowed tokens in the logits of the frontier; returns where that is, the row as it was being in `kept`.
    pub(super) fn restrict(&mut self, read: &mut Readout<'_>) -> Result<Option<usize>, EngineError> {
        let Some(constraint) = &mut self.constraint else { return Ok(None) };
        let settings = &self.job.settings;
        let by_threshold = match settings.decoder {
            DecoderKind::Threshold | DecoderKind::Joint | DecoderKind::MultiBlock => true,
            // They compare probabilities with each other, or change tokens that are not the likeliest.
            DecoderKind::Hierarchy | DecoderKind::Credit | DecoderKind::Levenshtein => false,
        };
        if by_threshold && self.scorer.is_greedy() && !self.scorer.reports() {
            // Sure enough among all tokens it is so among fewer, and what is allowed need not be worked out.
            let surest = |at: usize| {
                let top = read.kernels.top1(read.row(at)?).filter(|top| top.probability > settings.threshold)?;
                u32::try_from(top.index).ok()
            };
            if constraint.takes(&self.active.canvas, surest)? {
                return Ok(None);
            }
        }
        let Some((at, allowed)) = constraint.allowed(&self.active.canvas)? else { return Ok(None) };
        let Some(row) = read.row_mut(at) else { return Ok(None) };
        self.kept.clear();
        self.kept.extend_from_slice(row);
        restrict(row, &allowed);
        Ok(Some(at))
    }

    /// Applies to the logits what the caller and the decoder want: afterwards a row's likeliest token is what may be
    /// written there.
    pub(super) fn adjust(&mut self, read: &mut Readout<'_>) {
        let (settings, control) = (&self.job.settings, self.job.control);
        let (is_last, counts) = (self.decoder.is_last(settings), self.counts());
        let kernels = read.kernels;
        for (at, row) in read.rows_mut() {
            self.apply_rules(row, &self.active, at, &counts);
            if settings.decoder == DecoderKind::Levenshtein
                && let Some(control) = control
            {
                let may_move = self.active.own(at).is_some() && !is_last;
                // A deletion before the least length would pull an end token below it.
                let is_early = self.scorer.rules.is_early(self.index(&self.active, at));
                forbid(row, control.delete, !may_move || is_early);
                forbid(row, control.split, !may_move);
            }
            if settings.decoder == DecoderKind::Credit
                && self.active.canvas.is_masked(at)
                && let Some(top) = kernels.top1(row)
            {
                let proposed = Candidate { token: top.index as u32, probability: top.probability };
                for (token, rise) in self.decoder.credits.book(at, proposed) {
                    if let Some(logit) = row.get_mut(token as usize) {
                        *logit += rise;
                    }
                }
            }
        }
    }

    /// How often each token stands in the answer as it is.
    pub(super) fn counts(&self) -> BTreeMap<u32, u32> {
        let blocks = self.window.open.iter().chain([&self.active]);
        self.scorer.rules.with_canvas(blocks.flat_map(Block::written_tokens))
    }

    /// Index in the answer of a block's position.
    pub(super) fn index(&self, block: &Block, at: usize) -> usize {
        (block.start + at).saturating_sub(self.prompt)
    }

    /// The caller's rules for one row, whatever the decoder.
    pub(super) fn apply_rules(&self, row: &mut [f32], block: &Block, at: usize, counts: &BTreeMap<u32, u32>) {
        let before = at.checked_sub(1).map_or(block.left, |before| block.canvas.tokens.get(before).copied());
        // sglang's `penalty_lambda`: a token becomes less likely to the right of itself.
        if self.job.settings.repeat_penalty > 0.0
            && let Some(logit) = before.and_then(|token| row.get_mut(token as usize))
        {
            *logit -= self.job.settings.repeat_penalty;
        }
        self.scorer.rules.apply(row, self.index(block, at), counts, block.own(at));
    }
}

fn forbid(row: &mut [f32], token: u32, forbidden: bool) {
    if forbidden && let Some(logit) = row.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}
