//! Chat models' GGUF files as an enemy would write them: each is refused with the key or tensor that is wrong, before
//! anything is made in the size it claims.

use proptest::prelude::*;
use weir_diffusion_engine::LogitsModel;
use weir_diffusion_engine::inspect::verify;

use crate::dense::{load, tiny, written};
use crate::gguf_file::{F32, FLAG, File, LIST, TEXT, U32, list, text, typed};

const U64: u32 = 10;
const Q8_0: u32 = 8;
const Q4_0: u32 = 2;

/// Changes a tiny model of `architecture`, which must then be refused in these words, by load and verify alike.
#[track_caller]
fn refused(architecture: &str, words: &[&str], change: impl FnOnce(&mut File)) {
    let mut file = tiny(architecture);
    change(&mut file);
    let dir = tempfile::tempdir().expect("folder");
    let path = written(&dir, &file);
    let error = load(&path).expect_err("is wrong");
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    assert!(!verify(&path, |_| {}).is_empty(), "{words:?}");
}

fn whole(value: u64) -> Vec<u8> {
    typed(U64, &value.to_le_bytes())
}

fn number(value: f32) -> Vec<u8> {
    typed(F32, &value.to_le_bytes())
}

#[test]
fn sizes_are_bounded_whatever_the_keys_claim() {
    let most = [
        ("attention.head_count", "1..=1024"),
        ("attention.head_count_kv", "1..=4"),
        ("attention.key_length", "2..=256"),
        ("embedding_length", "1..=65536"),
        ("block_count", "1..=512"),
        ("feed_forward_length", "1..=1048576"),
        ("context_length", "1..=4194304"),
        ("rope.dimension_count", "2..=16"),
    ];
    for (key, range) in most {
        let key = format!("llama.{key}");
        for wrong in [u64::MAX, 1 << 40, 0] {
            refused("llama", &[&key, range], |file| file.set(&key, whole(wrong)));
        }
        refused("llama", &[&key, range], |file| file.set(&key, typed(5, &(-1i32).to_le_bytes())));
        refused("llama", &[&key, range], |file| file.set(&key, number(4.0)));
        refused("llama", &[&key, range], |file| file.set(&key, typed(TEXT, &text("4"))));
        refused("llama", &[&key, range], |file| file.set(&key, list(U32, &[4u32.to_le_bytes().to_vec()])));
    }
    refused("llama", &["head_count_kv", "divide"], |file| file.set("llama.attention.head_count_kv", whole(3)));
    refused("llama", &["rope.dimension_count", "even"], |file| file.set("llama.rope.dimension_count", whole(7)));
    refused("llama", &["llama.attention.sliding_window"], |file| file.set("llama.attention.sliding_window", whole(64)));
    for capped in ["llama.attn_logit_softcapping", "llama.final_logit_softcapping"] {
        refused("llama", &[capped], |file| file.set(capped, number(50.0)));
    }
    refused("gemma3", &["sliding_window", "1..="], |file| file.set("gemma3.attention.sliding_window", whole(0)));
    refused("llama", &["attn_q.weight", "expected shape [16384, 64]"], |file| {
        file.set("llama.attention.head_count", whole(1024));
    });
    refused("llama", &["blk.2.attn_norm.weight", "missing"], |file| file.set("llama.block_count", whole(512)));
}

#[test]
fn a_key_that_is_missing_is_named() {
    let needed = [
        "llama.attention.head_count",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
        "tokenizer.chat_template",
    ];
    for key in needed {
        refused("llama", &[key], |file| file.keys.retain(|(own, _)| own != key));
    }
    refused("gemma3", &["gemma3.attention.sliding_window"], |file| {
        file.keys.retain(|(own, _)| own != "gemma3.attention.sliding_window");
    });
}

#[test]
fn numbers_that_are_none_are_refused() {
    for wrong in [f32::NAN, f32::INFINITY, -1.0, 1e30] {
        refused("llama", &["layer_norm_rms_epsilon", "expected a number"], |file| {
            file.set("llama.attention.layer_norm_rms_epsilon", number(wrong));
        });
        refused("llama", &["rope.freq_base", "expected a number"], |file| {
            file.set("llama.rope.freq_base", number(wrong))
        });
        refused("gemma3", &["rope.local_freq_base"], |file| file.set("gemma3.rope.local_freq_base", number(wrong)));
        refused("llama", &["rope.scaling.factor"], |file| {
            file.set("llama.rope.scaling.type", typed(TEXT, &text("linear")));
            file.set("llama.rope.scaling.factor", number(wrong));
        });
    }
    for tensor in ["token_embd.weight", "blk.1.ffn_down.weight", "blk.0.attn_q.weight", "output_norm.weight"] {
        refused("llama", &[tensor, "finite"], |file| {
            file.tensor(tensor).data[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
        });
    }
    for (kind, block) in [(Q8_0, 34), (Q4_0, 18)] {
        for scale in [half::f16::NAN, half::f16::INFINITY] {
            refused("llama", &["blk.1.ffn_gate.weight", "row 1 ", "not finite"], |file| {
                let tensor = file.tensor("blk.1.ffn_gate.weight");
                tensor.kind = kind;
                tensor.data = vec![0; 96 * 2 * block];
                tensor.data[3 * block..3 * block + 2].copy_from_slice(&scale.to_le_bytes());
            });
        }
    }
    for factor in [0.0, -1.0, f32::NAN] {
        refused("llama", &["rope_freqs.weight"], |file| {
            let mut factors = file.tensor("output_norm.weight").clone();
            factors.name = "rope_freqs.weight".into();
            factors.dimensions = vec![8];
            factors.data = [1.0f32; 7].iter().chain([&factor]).flat_map(|factor| factor.to_le_bytes()).collect();
            file.tensors.push(factors);
        });
    }
}

#[test]
fn tensors_of_another_shape_are_refused() {
    refused("llama", &["blk.0.attn_k.weight", "expected shape [32, 64]", "[64, 32]"], |file| {
        file.tensor("blk.0.attn_k.weight").dimensions = vec![32, 64];
    });
    refused("qwen2", &["blk.1.attn_v.bias", "expected shape [32]"], |file| {
        let bias = file.tensor("blk.1.attn_v.bias");
        (bias.dimensions, bias.data) = (vec![16], bias.data[..64].to_vec());
    });
    refused("qwen3", &["blk.0.attn_q_norm.weight", "missing"], |file| {
        file.tensors.retain(|tensor| tensor.name != "blk.0.attn_q_norm.weight");
    });
    refused("llama", &["token_embd.weight", "dimension is 0"], |file| {
        file.tensor("token_embd.weight").dimensions = vec![64, 0];
    });
    refused("llama", &["vocab_size", "2 to 2^21"], |file| {
        let table = file.tensor("token_embd.weight");
        (table.dimensions, table.data) = (vec![64, 1], table.data[..256].to_vec());
    });
    refused("llama", &["token_embd.weight", "expected shape [267, 64]"], |file| {
        let table = file.tensor("token_embd.weight");
        (table.dimensions, table.data) = (vec![32, 267], table.data[..32 * 267 * 4].to_vec());
    });
    refused("llama", &["token_embd.weight", "is missing"], |file| {
        file.tensors.retain(|tensor| tensor.name != "token_embd.weight");
    });
}

#[test]
fn a_tokenizer_must_fit_its_model() {
    refused("llama", &["vocab"], |file| {
        let table = file.tensor("token_embd.weight");
        (table.dimensions, table.data) = (vec![64, 100], table.data[..100 * 256].to_vec());
        file.set("tokenizer.ggml.eos_token_id", whole(2));
    });
    refused("llama", &["eos_token_id", "below 267"], |file| file.set("tokenizer.ggml.eos_token_id", whole(267)));
    refused("llama", &["tokenizer.ggml.token_type"], |file| {
        file.set("tokenizer.ggml.token_type", list(U32, &[1u32.to_le_bytes().to_vec()]));
    });
    refused("llama", &["token_type", "0 tokens"], |file| file.set("tokenizer.ggml.tokens", list(TEXT, &[])));
    refused("llama", &["tokenizer.ggml.tokens"], |file| {
        file.set(
            "tokenizer.ggml.tokens",
            [LIST.to_le_bytes().as_slice(), &TEXT.to_le_bytes(), &u64::MAX.to_le_bytes()].concat(),
        );
    });
    refused("llama", &["add_bos_token"], |file| file.set("tokenizer.ggml.add_bos_token", whole(1)));
    refused("llama", &["tokenizer.ggml.scores"], |file| file.set("tokenizer.ggml.model", typed(TEXT, &text("llama"))));
    refused("llama", &["tokenizer.ggml.scores", "finite"], |file| {
        file.set("tokenizer.ggml.model", typed(TEXT, &text("llama")));
        file.set("tokenizer.ggml.scores", list(F32, &vec![f32::NAN.to_le_bytes().to_vec(); 267]));
    });
    refused("llama", &["tokenizer.ggml.tokens", "token 5 is longer than 512 bytes"], |file| {
        let tokens: Vec<Vec<u8>> = (0..267).map(|id| text(&"x".repeat(if id == 5 { 600 } else { id + 1 }))).collect();
        file.set("tokenizer.ggml.model", typed(TEXT, &text("llama")));
        file.set("tokenizer.ggml.tokens", list(TEXT, &tokens));
        file.set("tokenizer.ggml.scores", list(F32, &vec![0f32.to_le_bytes().to_vec(); 267]));
    });
    let mut flagged = tiny("llama");
    flagged.set("tokenizer.ggml.add_bos_token", typed(FLAG, &[0]));
    let dir = tempfile::tempdir().expect("folder");
    assert!(load(&written(&dir, &flagged)).is_ok(), "what is right is taken");
}

#[test]
fn a_long_context_costs_nothing_until_it_is_used() {
    let mut file = tiny("llama");
    file.set("llama.context_length", whole(1 << 22));
    let dir = tempfile::tempdir().expect("folder");
    assert!(load(&written(&dir, &file)).is_ok());
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let bytes = tiny("llama").bytes();
    let head = tiny("llama").head().len();
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("cut.gguf");
    let ends = (0..head).step_by(97).chain((head..bytes.len() - 64).step_by(9_973));
    for end in ends {
        std::fs::write(&path, &bytes[..end]).expect("writable");
        assert!(load(&path).is_err(), "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_damaged_model_never_panics(
        flips in proptest::collection::vec((0usize..12_000, any::<u8>()), 1..6), family in 0usize..5
    ) {
        let family = ["llama", "qwen2", "qwen3", "gemma", "gemma3"][family];
        let mut bytes = tiny(family).bytes();
        for (at, value) in flips {
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("damaged.gguf");
        std::fs::write(&path, &bytes).expect("writable");
        let loaded = load(&path).is_ok();
        prop_assert_eq!(loaded, verify(&path, |_| {}).is_empty());
        if loaded {
            let model = LogitsModel::open(&path).expect("verified");
            let _ = model.logits(&[1, 0, 1], 1, true);
        }
    }
}
