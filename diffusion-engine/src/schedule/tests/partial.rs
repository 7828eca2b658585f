//! What a lane leaves out of a forward: only what an earlier forward computed with the very tokens that are there, and
//! never anything of a forward whose K/V is committed. The logits are random.

use proptest::prelude::*;

use super::*;

/// Logits of a row: one token more or less sure, the same for the same numbers.
fn row(seed: u64, step: usize, position: usize) -> Vec<f32> {
    let mut state = seed ^ ((step as u64) << 32) ^ position as u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % below
    };
    let (token, logit) = (next(90) as usize, next(14) as f32);
    (0..VOCAB).map(|at| if at == token { logit } else { 0.0 }).collect()
}

/// The share of the tokens that was computed, of those fed.
fn run(decoder: DecoderKind, refresh_every: usize, thresholds: [f32; 2], seed: u64) -> Result<f64, TestCaseError> {
    let (tokenizer, kernels) = (tokenizer(), registry::best());
    let (mut job, generation) = job(vec![5; 70], 100, true);
    let diffusion = job.diffusion.as_mut().expect("diffusion");
    let [threshold, editing_threshold] = thresholds;
    diffusion.settings =
        DecodeSettings { decoder, refresh_every, threshold, editing_threshold, ..DecodeSettings::default() };
    let mut prefixes = PrefixCache::new(limits(PAGES).pool);
    let cache = prefixes.admit(&job.need()).expect("room");
    let mut lane = Lane::new(job, cache);
    let (mut plan, mut seen, mut since_whole) = (Plan::default(), vec![None; 4096], 0);
    let (mut fed, mut computed_in_all) = (0, 0);
    for step in 0..2000 {
        lane.plan(64, &mut plan);
        let start = lane.cache.committed();
        let computed = lane.input(&plan).computed.map(<[usize]>::to_vec);
        since_whole = if computed.is_some() { since_whole + 1 } else { 0 };
        prop_assert!(since_whole < refresh_every);
        let all: Vec<usize> = (0..plan.tokens.len()).collect();
        let own = computed.as_ref().unwrap_or(&all);
        prop_assert!(own.is_sorted() && own.iter().all(|at| *at < plan.tokens.len()));
        for (at, token) in plan.tokens.iter().enumerate() {
            match own.binary_search(&at) {
                Ok(_) => seen[start + at] = Some(*token),
                Err(_) => prop_assert_eq!(seen[start + at], Some(*token), "step {}, position {}", step, at),
            }
        }
        (fed, computed_in_all) = (fed + all.len(), computed_in_all + own.len());
        let mut logits = Vec::new();
        for row_at in &plan.rows {
            prop_assert!(own.binary_search(&(plan.logits_from + row_at)).is_ok(), "asked about, not computed");
            logits.extend(row(seed, step, start + plan.logits_from + row_at));
        }
        let tops: Vec<Option<weir_kernels::Top1>> = logits.chunks(VOCAB).map(|row| kernels.top1(row)).collect();
        let likeliest: &[_] = if lane.input(&plan).wanted == Wanted::Logits(&plan.rows) { &[] } else { &tops };
        let rows = &*plan.rows;
        let read = Readout { rows, logits: &mut logits, likeliest, vocab: VOCAB, kernels, tokenizer: &tokenizer };
        let end = lane.apply(&plan, read).expect("finite");
        prop_assert!(computed.is_none() || lane.cache.committed() <= start, "K/V of different times was committed");
        if let Some(reason) = end {
            lane.complete(reason);
            let whole =
                matches!(last(generation), GenerationEvent::Done { usage, .. } if usage.completion_tokens == 100);
            prop_assert!(whole, "ends by its length");
            return Ok(computed_in_all as f64 / fed as f64);
        }
    }
    Err(TestCaseError::fail("never ends"))
}

const DECODERS: [DecoderKind; 5] =
    [DecoderKind::Threshold, DecoderKind::Hierarchy, DecoderKind::Credit, DecoderKind::Joint, DecoderKind::MultiBlock];

proptest! {
    #[test]
    fn nothing_is_left_out_that_is_not_there(
        decoder in prop::sample::select(DECODERS.to_vec()),
        refresh_every in 1usize..8,
        thresholds in [0.1f32..1.0, 0.0f32..1.0],
        seed: u64,
    ) {
        let share = run(decoder, refresh_every, thresholds, seed)?;
        prop_assert!(refresh_every > 1 || share == 1.0, "1 is exact");
    }
}

/// A token a step: of a block's 32 positions 17 are open or new, on average.
#[test]
fn about_half_of_a_slow_block_is_computed() {
    for decoder in DECODERS {
        let share = run(decoder, 256, [1.0, 1.0], 3).expect("ends");
        assert!(share < 0.65, "{decoder:?}: {share}");
    }
}
