//! Forwards that compute some of a lane's tokens, beside those that compute all. A model of one layer is enough to check
//! them to the bit: there a token's keys and values depend on nothing but the token.

use proptest::prelude::*;

use super::forward::{Lane, Visibility};
use super::head::Wanted;
use super::random::Random;
use super::recipe::Recipe;
use super::weights::Model;
use crate::cache::KvCache;
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::source::{Bytes, Named};
use crate::options::KvType;

const VOCAB: u32 = 96;
/// Two pages, so that what is computed lies in both.
const BLOCK: usize = 64;

/// `by_rows`: as small models go, or as large ones.
fn model(layers: usize, by_rows: bool) -> Model {
    let config = format!(
        r#"{{"model_type": "llada2_moe", "vocab_size": {VOCAB}, "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": {layers}, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
        "rms_norm_eps": 1e-6, "max_position_embeddings": 512, "rope_theta": 600, "partial_rotary_factor": 0.5,
        "num_experts": 8, "num_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "routed_scaling_factor": 2.5, "moe_intermediate_size": 32, "first_k_dense_replace": 0}}"#
    );
    let config = Named { name: "shape".into(), bytes: Bytes::Owned(config.into_bytes()) };
    let mut source = Random::new(Recipe::EXACT, 7, false);
    let model = Model::from_source(ModelConfig::parse(&config).expect("a config"), &mut source).expect("weights");
    Model { rowwise: by_rows, ..model }
}

/// Logits of `asked` of `tokens`, behind the committed ones.
fn logits(
    model: &Model,
    cache: &mut KvCache,
    tokens: &[u32],
    computed: Option<&[usize]>,
    asked: &[usize],
) -> Result<Vec<f32>, weir_kernels::KernelError> {
    let (wanted, visibility) = (Wanted::Logits(asked), Visibility::Blocks(BLOCK));
    let mut other = KvCache::alone(model.kv_shape(), KvType::F32, BLOCK);
    let lane = Lane { tokens, computed, logits_from: 0, wanted, cache, visibility };
    // Beside a request that computes all of its own.
    let whole =
        Lane { tokens: &[5; 9], computed: None, logits_from: 0, wanted: Wanted::All, cache: &mut other, visibility };
    Ok(model.forward(&mut [whole, lane])?.of_lane(1).0.to_vec())
}

/// A canvas seen first, its successor, and what is computed of that: all that is new, and more.
fn canvases() -> impl Strategy<Value = (Vec<u32>, Vec<u32>, Vec<usize>)> {
    let position = (0..VOCAB, prop::option::weighted(0.2, 0..VOCAB), prop::bool::weighted(0.2));
    prop::collection::vec(position, BLOCK).prop_map(|positions| {
        let first = positions.iter().map(|(token, ..)| *token).collect();
        let second = positions.iter().map(|(token, new, _)| new.unwrap_or(*token)).collect();
        let computed = positions.iter().enumerate().filter(|(_, (_, new, more))| new.is_some() || *more);
        (first, second, computed.map(|(at, _)| at).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn keys_and_values_of_an_earlier_forward_serve_a_later_one(
        (first, second, computed) in canvases(),
        kind in prop::sample::select(vec![KvType::F32, KvType::Bf16, KvType::Int8]),
        (by_rows, deep) in any::<(bool, bool)>(),
    ) {
        let model = model(if deep { 3 } else { 1 }, by_rows);
        // Deeper down they depend on the other tokens, too.
        let second = if deep { &first } else { &second };
        let mut cache = KvCache::alone(model.kv_shape(), kind, 2 * BLOCK);
        let prompt: Vec<u32> = (0..BLOCK as u32).collect();
        logits(&model, &mut cache, &prompt, None, &[])?;
        cache.commit(&prompt);
        let asked: Vec<usize> = computed.iter().copied().step_by(2).collect();
        let whole = logits(&model, &mut cache, second, None, &asked)?;
        logits(&model, &mut cache, &first, None, &[])?;
        let partial = logits(&model, &mut cache, second, Some(&computed), &asked)?;
        prop_assert_eq!(whole.len(), asked.len() * VOCAB as usize);
        prop_assert_eq!(whole, partial);
    }
}

#[test]
fn what_is_not_computed_cannot_be_asked_about() {
    for by_rows in [false, true] {
        let model = model(1, by_rows);
        let mut cache = KvCache::alone(model.kv_shape(), KvType::F32, BLOCK);
        let tokens = [3; BLOCK];
        for (computed, asked) in [(Some(&[1, 2][..]), 3), (Some(&[][..]), 0), (None, BLOCK)] {
            let wrong = logits(&model, &mut cache, &tokens, computed, &[asked]).expect_err("no such row");
            assert_eq!((wrong.what, wrong.got), ("wanted row", asked));
        }
    }
}
