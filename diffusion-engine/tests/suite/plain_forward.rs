//! The forward a second time, in f64 and in plain loops over whole sequences: no cache, no panels, no batching. Written
//! from the report, to check the engine's forward where no reference logits exist (block routing, LLaDA2.2).

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use weir_diffusion_engine::{DecoderKind, Engine, ModelFiles, logits_for};
use weir_protocol::EngineError;

use crate::answers::{Whole, ask, lively, request, whole};
use crate::support;

type Row = Vec<f64>;

struct Plain {
    config: Value,
    tensors: BTreeMap<String, Vec<f64>>,
}

impl Plain {
    fn read(dir: &Path) -> Plain {
        let config = std::fs::read(dir.join("config.json")).expect("config");
        let bytes = std::fs::read(dir.join("model.safetensors")).expect("weights");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let floats = |data: &[u8]| data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        let tensors = file.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect();
        Plain { config: serde_json::from_slice(&config).expect("JSON"), tensors }
    }

    fn size(&self, field: &str) -> usize {
        self.config[field].as_u64().unwrap_or(0) as usize
    }

    /// `x · wᵀ` with the weight of this name.
    fn linear(&self, name: &str, x: &[f64]) -> Row {
        self.tensors[name].chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Row {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().zip(&self.tensors[name]).map(|(x, w)| x / (mean + 1e-6).sqrt() * w).collect()
    }

    fn mlp(&self, name: &str, x: &[f64]) -> Row {
        let gate = self.linear(&format!("{name}.gate_proj.weight"), x);
        let up = self.linear(&format!("{name}.up_proj.weight"), x);
        let inner: Row = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        self.linear(&format!("{name}.down_proj.weight"), &inner)
    }

    /// One head's slice of a token's queries, keys or values, normed and rotated where `norm` names a weight.
    fn head(&self, qkv: &[f64], head: usize, norm: Option<&str>, position: usize) -> Row {
        let d = self.size("head_dim");
        let Some(norm) = norm else { return qkv[head * d..][..d].to_vec() };
        let x = self.norm(norm, &qkv[head * d..][..d]);
        let half = match self.size("rotary_dim") {
            0 => d / 4, // partial_rotary_factor is 0.5, pairs are half of that
            rotary => rotary / 2,
        };
        let theta = self.config["rope_theta"].as_f64().expect("theta");
        let mut turned = x.clone();
        for i in 0..half {
            let angle = position as f64 * theta.powf(-((2 * i) as f64) / (2 * half) as f64);
            turned[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
            turned[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
        }
        turned
    }

    fn attention(&self, layer: &str, x: &[Row], block: usize) -> Vec<Row> {
        let (heads, kv, d) =
            (self.size("num_attention_heads"), self.size("num_key_value_heads"), self.size("head_dim"));
        let qkv: Vec<Row> =
            x.iter().map(|x| self.linear(&format!("{layer}.attention.query_key_value.weight"), x)).collect();
        let q_norm = format!("{layer}.attention.query_layernorm.weight");
        let k_norm = format!("{layer}.attention.key_layernorm.weight");
        (0..x.len())
            .map(|t| {
                let seen = ((t / block + 1) * block).min(x.len());
                let mut mixed = Vec::new();
                for h in 0..heads {
                    let q = self.head(&qkv[t], h, Some(&q_norm), t);
                    let own = h / (heads / kv);
                    let key = |s: usize| self.head(&qkv[s], heads + own, Some(&k_norm), s);
                    let scores: Row = (0..seen)
                        .map(|s| q.iter().zip(key(s)).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt())
                        .collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                    let mut out = vec![0.0; d];
                    for (s, score) in scores.iter().enumerate() {
                        let value = self.head(&qkv[s], heads + kv + own, None, s);
                        out.iter_mut().zip(value).for_each(|(o, v)| *o += (score - max).exp() / sum * v);
                    }
                    mixed.extend(out);
                }
                self.linear(&format!("{layer}.attention.dense.weight"), &mixed)
            })
            .collect()
    }

    /// Experts a token may visit: of its kept groups, or of its block's pool.
    fn allowed(&self, block: &[Row], token: usize) -> Vec<bool> {
        let experts = block[token].len();
        let rank = |values: &[f64], i: usize| {
            (0..values.len()).filter(|j| values[*j] > values[i] || (values[*j] == values[i] && *j < i)).count()
        };
        let capacity = self.size("expert_capacity");
        if capacity > 0 {
            let best: Row = (0..experts).map(|e| block.iter().map(|t| t[e]).fold(f64::MIN, f64::max)).collect();
            return (0..experts).map(|e| rank(&best, e) < capacity).collect();
        }
        let (groups, kept) = (self.size("n_group"), self.size("topk_group"));
        let two_best = |group: &[f64]| (0..group.len()).filter(|i| rank(group, *i) < 2).map(|i| group[i]).sum::<f64>();
        let scores: Row = block[token].chunks(experts / groups).map(two_best).collect();
        (0..experts).map(|e| rank(&scores, e / (experts / groups)) < kept).collect()
    }

    fn experts(&self, name: &str, x: &[Row], block: usize) -> Vec<Row> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let none = vec![0.0; self.size("num_experts")];
        let bias = self.tensors.get(&format!("{name}.gate.expert_bias")).unwrap_or(&none);
        let (normed, scale) = (self.config["norm_topk_prob"] != false, self.config["routed_scaling_factor"].as_f64());
        let scores: Vec<Row> = x
            .iter()
            .map(|x| self.linear(&format!("{name}.gate.weight"), x).into_iter().map(sigmoid).collect())
            .collect();
        let biased: Vec<Row> = scores.iter().map(|s| s.iter().zip(bias).map(|(s, b)| s + b).collect()).collect();
        let kept = self.size("num_experts_per_tok");
        (0..x.len())
            .map(|t| {
                let own = &biased[t / block * block..((t / block + 1) * block).min(x.len())];
                let allowed = self.allowed(own, t % block);
                let mut order: Vec<usize> = (0..bias.len()).filter(|e| allowed[*e]).collect();
                order.sort_by(|a, b| biased[t][*b].total_cmp(&biased[t][*a]));
                order.truncate(kept);
                let sum: f64 = if normed { order.iter().map(|e| scores[t][*e]).sum() } else { 1.0 };
                let mut out = match self.size("num_shared_experts") {
                    0 => vec![0.0; x[t].len()],
                    _ => self.mlp(&format!("{name}.shared_experts"), &x[t]),
                };
                for e in order {
                    let weight = scores[t][e] / sum * scale.unwrap_or(1.0);
                    let result = self.mlp(&format!("{name}.experts.{e}"), &x[t]);
                    out.iter_mut().zip(result).for_each(|(o, r)| *o += weight * r);
                }
                out
            })
            .collect()
    }

    fn logits(&self, ids: &[u32], block: usize) -> Vec<Row> {
        let hidden = self.size("hidden_size");
        let embeddings = &self.tensors["model.word_embeddings.weight"];
        let mut x: Vec<Row> = ids.iter().map(|id| embeddings[*id as usize * hidden..][..hidden].to_vec()).collect();
        let add = |x: &mut Vec<Row>, y: Vec<Row>| {
            x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        };
        for n in 0..self.size("num_hidden_layers") {
            let layer = format!("model.layers.{n}");
            let normed: Vec<Row> = x.iter().map(|x| self.norm(&format!("{layer}.input_layernorm.weight"), x)).collect();
            add(&mut x, self.attention(&layer, &normed, block));
            let normed: Vec<Row> =
                x.iter().map(|x| self.norm(&format!("{layer}.post_attention_layernorm.weight"), x)).collect();
            let name = format!("{layer}.mlp");
            let mixed = match n < self.size("first_k_dense_replace") {
                true => normed.iter().map(|x| self.mlp(&name, x)).collect(),
                false => self.experts(&name, &normed, block),
            };
            add(&mut x, mixed);
        }
        let head =
            ["lm_head.weight", "model.word_embeddings.weight"][usize::from(self.config["tie_word_embeddings"] == true)];
        x.iter().map(|x| self.linear(head, &self.norm("model.norm.weight", x))).collect()
    }
}

/// Largest deviation of the engine from the plain forward; with and without cache.
fn compare(dir: &Path, ids: &[u32], block: usize) -> f64 {
    let expected: Vec<f64> = Plain::read(dir).logits(ids, block).concat();
    let mut worst = 0.0f64;
    for use_cache in [false, true] {
        let got = logits_for(dir, ids, block, use_cache).expect("loads");
        assert_eq!(got.len(), expected.len());
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let deviation = (f64::from(*got) - expected).abs();
            assert!(deviation <= 2e-4, "cache {use_cache} element {index}: {got} where {expected} is due");
            worst = worst.max(deviation);
        }
    }
    worst
}

/// The golden checkpoint with these fields in its config.
fn golden_with(fields: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = support::tiny_model("llada2_moe");
    let mut config = support::config_json("llada2_moe");
    for (field, value) in fields {
        config[*field] = value.clone();
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    dir
}

#[test]
fn the_plain_forward_agrees_where_reference_logits_exist() {
    let ids: Vec<u32> = (0..75).map(|i| i * 37 % 320).collect();
    let worst = compare(golden_with(&[]).path(), &ids, 32);
    println!("grouped routing: largest deviation {worst:e}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn block_routing_equals_the_plain_forward(
        ids in proptest::collection::vec(0u32..320, 1..70),
        capacity in 4u64..=16,
        block in prop_oneof![Just(8usize), Just(32)],
    ) {
        let dir = golden_with(&[
            ("expert_capacity", json!(capacity)), ("block_size", json!(block)), ("rope_theta", json!(3_000_000.0)),
            ("max_position_embeddings", json!(131_072)), ("delete_token_id", json!(318)), ("split_token_id", json!(319)),
        ]);
        compare(dir.path(), &ids, block);
    }
}

#[test]
fn a_small_pool_changes_what_comes_out() {
    let ids: Vec<u32> = (0..64).map(|i| i * 37 % 320).collect();
    let logits = |capacity: u64| {
        let dir = golden_with(&[("expert_capacity", json!(capacity))]);
        logits_for(dir.path(), &ids, 32, true).expect("loads")
    };
    let differs = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(differs(&logits(16), &logits(4)), "a pool of 4 of 16 experts must bind");
}

#[test]
fn with_block_routing_an_answer_is_the_same_alone_and_in_company() {
    let dir = golden_with(&[("expert_capacity", json!(5)), ("block_size", json!(32))]);
    let files = ModelFiles::Dir(dir.path().to_path_buf());
    let engine = Engine::load(files, lively(DecoderKind::Joint)).expect("loads");
    let mut requests: Vec<_> = (0..6u32).map(|i| request(&"hello world ".repeat(1 + 5 * i as usize), 60)).collect();
    let alone: Vec<Whole> = requests.iter().map(|request| ask(&engine, request)).collect();
    let started: Vec<_> = requests.iter().map(|request| engine.generate(request).expect("accepted")).collect();
    assert_eq!(alone, started.into_iter().map(whole).collect::<Vec<Whole>>());
    requests[0].diffusion.block_length = Some(16);
    let error = engine.generate(&requests[0]).expect_err("other blocks, other experts");
    assert!(
        matches!(&error, EngineError::InvalidRequest { field, .. } if field == "diffusion.block_length"),
        "{error}"
    );
}

/// A model of this shape with weights at random, the same at each call.
fn made(fields: &[(&str, Value)]) -> tempfile::TempDir {
    let mut config = json!({
        "model_type": "llada2_moe", "vocab_size": 267, "hidden_size": 17, "intermediate_size": 13, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 5, "rotary_dim": 4, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 512, "rope_theta": 600, "num_experts": 6, "num_shared_experts": 1,
        "num_experts_per_tok": 2, "n_group": 3, "topk_group": 2, "routed_scaling_factor": 2.5,
        "moe_intermediate_size": 7, "first_k_dense_replace": 1,
    });
    for (field, value) in fields {
        config[*field] = value.clone();
    }
    let size = |field: &str| config[field].as_u64().expect(field) as usize;
    let (hidden, d, heads, kv) =
        (size("hidden_size"), size("head_dim"), size("num_attention_heads"), size("num_key_value_heads"));
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.word_embeddings.weight".into(), vec![size("vocab_size"), hidden]),
        ("model.norm.weight".into(), vec![hidden]),
    ];
    if config["tie_word_embeddings"] != true {
        shapes.push(("lm_head.weight".into(), vec![size("vocab_size"), hidden]));
    }
    for n in 0..size("num_hidden_layers") {
        let mut add = |rest: &str, shape: &[usize]| shapes.push((format!("model.layers.{n}.{rest}"), shape.to_vec()));
        add("input_layernorm.weight", &[hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
        add("attention.query_key_value.weight", &[(heads + 2 * kv) * d, hidden]);
        add("attention.query_layernorm.weight", &[d]);
        add("attention.key_layernorm.weight", &[d]);
        add("attention.dense.weight", &[hidden, heads * d]);
        let mut mlp = |name: &str, width: usize| {
            add(&format!("{name}.gate_proj.weight"), &[width, hidden]);
            add(&format!("{name}.up_proj.weight"), &[width, hidden]);
            add(&format!("{name}.down_proj.weight"), &[hidden, width]);
        };
        if n < size("first_k_dense_replace") {
            mlp("mlp", size("intermediate_size"));
            continue;
        }
        let width = size("moe_intermediate_size");
        (0..size("num_experts")).for_each(|expert| mlp(&format!("mlp.experts.{expert}"), width));
        if size("num_shared_experts") > 0 {
            mlp("mlp.shared_experts", width * size("num_shared_experts"));
        }
        add("mlp.gate.weight", &[size("num_experts"), hidden]);
        if config["moe_router_enable_expert_bias"] != false {
            add("mlp.gate.expert_bias", &[size("num_experts")]);
        }
    }
    let mut state = 1u64;
    let mut number = |scale: f32| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 3.0 * scale
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let middle = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let scale = 1.0 / (*shape.last().expect("a dimension") as f32).sqrt();
            let numbers = (0..shape.iter().product()).flat_map(|_| (middle + number(scale)).to_le_bytes()).collect();
            (name, shape, numbers)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("consistent")));
    let dir = support::tiny_model("llada2_moe");
    safetensors::serialize_to_file(views, None, &dir.path().join("model.safetensors")).expect("writable");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    dir
}

#[test]
fn shapes_at_the_edges_equal_the_plain_forward() {
    let ids: Vec<u32> = (0..75).map(|i| i * 37 % 267).collect();
    let shapes: [&[(&str, Value)]; 12] = [
        &[],
        &[("head_dim", json!(2)), ("rotary_dim", json!(2)), ("num_attention_heads", json!(1))],
        &[("head_dim", json!(33)), ("rotary_dim", json!(2)), ("hidden_size", json!(1))],
        &[("head_dim", json!(255)), ("rotary_dim", json!(254)), ("num_key_value_heads", json!(3))],
        &[
            ("num_experts", json!(1)),
            ("num_experts_per_tok", json!(1)),
            ("n_group", json!(1)),
            ("topk_group", json!(1)),
        ],
        &[("num_experts_per_tok", json!(4)), ("norm_topk_prob", json!(false))],
        &[("n_group", json!(6)), ("topk_group", json!(3)), ("num_experts_per_tok", json!(3))],
        &[("num_shared_experts", json!(0)), ("moe_intermediate_size", json!(1))],
        &[("num_shared_experts", json!(3)), ("routed_scaling_factor", json!(0.0))],
        &[("tie_word_embeddings", json!(true)), ("moe_router_enable_expert_bias", json!(false))],
        &[("first_k_dense_replace", json!(3)), ("intermediate_size", json!(1))],
        &[("first_k_dense_replace", json!(0)), ("hidden_size", json!(64)), ("expert_capacity", json!(2))],
    ];
    for shape in shapes {
        for block in [1, 32] {
            println!("{shape:?}: {:e}", compare(made(shape).path(), &ids, block));
        }
    }
}

#[test]
fn shapes_that_cannot_be_are_told() {
    for (fields, named) in [
        (&[("num_experts", json!(0))][..], "num_experts"),
        (&[("num_experts_per_tok", json!(0))], "num_experts_per_tok"),
        (&[("num_experts_per_tok", json!(5))], "num_experts_per_tok"),
        (&[("n_group", json!(0))], "n_group"),
        (&[("n_group", json!(4))], "n_group"),
        (&[("n_group", json!(7))], "n_group"),
        (&[("topk_group", json!(4))], "topk_group"),
        (&[("expert_capacity", json!(1))], "num_experts_per_tok"),
        (&[("rotary_dim", json!(3))], "rotary"),
        (&[("rotary_dim", json!(6))], "rotary_dim"),
        (&[("rotary_dim", json!(null))], "rotary"),
        (&[("partial_rotary_factor", json!(0.0))], "rotary"),
        (&[("head_dim", json!(1))], "head_dim"),
        (&[("head_dim", json!(257))], "head_dim"),
        (&[("num_key_value_heads", json!(2))], "num_key_value_heads"),
        (&[("vocab_size", json!(266))], "266"),
        (&[("rms_norm_eps", json!(-1.0))], "rms_norm_eps"),
        (&[("rope_theta", json!(0.5))], "rope_theta"),
        (&[("first_k_dense_replace", json!(4))], "first_k_dense_replace"),
        (&[("max_position_embeddings", json!(0))], "max_position_embeddings"),
        (&[("tie_word_embeddings", json!("yes"))], "tie_word_embeddings"),
    ] {
        let dir = made(&[]);
        let text = std::fs::read_to_string(dir.path().join("config.json")).expect("there");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        for (field, value) in fields {
            config[*field] = value.clone();
        }
        std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        let files = ModelFiles::Dir(dir.path().to_path_buf());
        let error = Engine::load(files, lively(DecoderKind::Joint)).expect_err("refused").to_string();
        assert!(error.contains(named), "{fields:?}: {error}");
    }
}
