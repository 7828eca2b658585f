//! Broken and hostile checkpoints: each gets an error that names the file and the tensor or field; nothing panics.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use weir_diffusion_engine::{Engine, EngineOptions, ModelFiles, logits_for};

use crate::support;

fn load(dir: &Path) -> Result<Engine, String> {
    Engine::load(ModelFiles::Dir(dir.to_path_buf()), EngineOptions::default()).map_err(|error| error.to_string())
}

/// The error after `change`, which must name all of `words`.
fn broken(words: &[&str], change: impl FnOnce(&Path)) {
    let dir = support::tiny_model("llada2_moe");
    change(dir.path());
    let error = load(dir.path()).expect_err(&format!("{words:?} must not load"));
    for word in words {
        assert!(error.contains(word), "`{error}` does not name `{word}`");
    }
}

fn config(field: &str, value: Value) {
    broken(&["config.json", field], |dir| {
        let mut config = support::config_json("llada2_moe");
        config[field] = value;
        std::fs::write(dir.join("config.json"), config.to_string()).expect("writable");
    });
}

#[test]
fn config_fields_are_bounded() {
    config("model_type", json!("gpt2"));
    config("model_type", json!(3));
    config("vocab_size", json!(-1));
    config("vocab_size", json!(1e30));
    config("hidden_size", json!("64"));
    config("hidden_size", json!(u64::MAX));
    config("num_hidden_layers", json!(0));
    config("num_attention_heads", json!(0));
    config("num_key_value_heads", json!(3));
    config("head_dim", json!(4096));
    config("max_position_embeddings", Value::Null);
    config("rope_theta", json!(0));
    config("rope_scaling", json!({"type": "yarn"}));
    config("partial_rotary_factor", json!(0.2));
    config("rotary_dim", json!(4));
    config("num_experts", json!(1u64 << 40));
    config("n_group", json!(3));
    config("topk_group", json!(5));
    config("num_experts_per_tok", json!(9));
    config("hidden_act", json!("gelu"));
    config("use_bias", json!(true));
    config("expert_capacity", json!(17));
    config("expert_capacity", json!(-1));
    config("block_size", json!(0));
    config("delete_token_id", json!(320));
    config("split_token_id", json!("x"));
    config("rms_norm_eps", json!("small"));
}

#[test]
fn one_token_cannot_both_delete_and_split() {
    broken(&["config.json", "split_token_id", "delete_token_id"], |dir| {
        let mut config = support::config_json("llada2_moe");
        (config["delete_token_id"], config["split_token_id"]) = (json!(7), json!(7));
        std::fs::write(dir.join("config.json"), config.to_string()).expect("writable");
    });
}

#[test]
fn a_folder_of_gguf_files_is_told_which_name_to_give() {
    broken(&["has no `config.json`", "b-Q4_0.gguf"], |dir| {
        std::fs::remove_file(dir.join("config.json")).expect("was there");
        std::fs::write(dir.join("c-Q8_0.gguf"), b"GGUF").expect("writable");
        std::fs::write(dir.join("b-Q4_0.gguf"), b"GGUF").expect("writable");
    });
}

#[test]
fn block_routing_demands_what_it_was_trained_with() {
    let with = |model_type: &str, fields: &[(&str, u64)]| {
        let mut config = support::config_json(model_type);
        fields.iter().for_each(|(field, value)| config[*field] = json!(value));
        config.to_string()
    };
    let write = |dir: &Path, text: String| std::fs::write(dir.join("config.json"), text).expect("writable");
    // Fewer experts admitted than a token visits.
    broken(&["config.json", "num_experts_per_tok", "1..=3"], |dir| {
        write(dir, with("llada2_moe", &[("expert_capacity", 3)]))
    });
    broken(&["config.json", "expert_capacity", "autoregressive"], |dir| {
        write(dir, with("bailing_moe_v2", &[("expert_capacity", 8)]));
    });
    broken(&["options", "block_length", "blocks of 16"], |dir| {
        write(dir, with("llada2_moe", &[("expert_capacity", 8), ("block_size", 16)]));
    });
}

#[test]
fn wrong_files_are_named() {
    let write = |dir: &Path, name: &str, text: &str| std::fs::write(dir.join(name), text).expect("writable");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        broken(&[name], |dir| std::fs::remove_file(dir.join(name)).expect("present"));
        broken(&[name], |dir| write(dir, name, ""));
        broken(&[name], |dir| write(dir, name, "[1, 2"));
    }
    broken(&["tokenizer_config.json", "chat_template"], |dir| write(dir, "tokenizer_config.json", "{}"));
    for template in ["{% for x in %}", "{{ raise_exception('no') }}", "{{ nothing.here.at.all }}"] {
        let config = json!({"chat_template": template}).to_string();
        broken(&["tokenizer_config.json", "chat_template"], |dir| write(dir, "tokenizer_config.json", &config));
    }
    let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    let huge = "{% for a in range(90000) %}{{ 'x' * 1000 }}{% endfor %}";
    for template in [endless, huge] {
        let config = json!({"chat_template": template}).to_string();
        broken(&["chat_template"], |dir| write(dir, "tokenizer_config.json", &config));
    }
    let index = json!({"weight_map": {"a": "../model.safetensors"}}).to_string();
    broken(&["model.safetensors.index.json", "outside"], |dir| write(dir, "model.safetensors.index.json", &index));
}

#[test]
fn a_tokenizer_without_what_the_engine_needs_is_refused() {
    let without = |texts: &[&str]| {
        let mut tokenizer = support::tokenizer_json();
        let added = tokenizer["added_tokens"].as_array_mut().expect("list");
        for token in added {
            if texts.contains(&token["content"].as_str().expect("text")) {
                token["content"] = format!("unused{}", token["id"]).into();
            }
        }
        tokenizer.to_string()
    };
    let write = |dir: &Path, text: String| std::fs::write(dir.join("tokenizer.json"), text).expect("writable");
    broken(&["tokenizer.json", "<|mask|>"], |dir| write(dir, without(&["<|mask|>"])));
    broken(&["tokenizer.json", "<|role_end|>"], |dir| write(dir, without(&["<|role_end|>", "<|endoftext|>"])));
    broken(&["tokenizer.json", "vocab_size"], |dir| {
        let mut tokenizer = support::tokenizer_json();
        tokenizer["model"]["vocab"]["beyond"] = 400.into();
        write(dir, tokenizer.to_string());
    });
}

/// A checkpoint's tensors, to be changed and written again.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

#[test]
fn control_tokens_have_a_length_that_can_be_kept() {
    broken(&["tokenizer.json", "added_tokens", "too long"], |dir| {
        let mut tokenizer = support::tokenizer_json();
        let mut long = tokenizer["added_tokens"][0].clone();
        (long["id"], long["content"]) = (json!(319), json!(format!("<{}>", "x".repeat(6000))));
        tokenizer["added_tokens"].as_array_mut().expect("a list").push(long);
        std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("writable");
    });
}

fn golden_tensors() -> Tensors {
    let bytes = std::fs::read(support::golden().join("model.safetensors")).expect("golden weights");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let owned = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    file.tensors().into_iter().map(|(name, view)| (name, owned(view))).collect()
}

fn write_tensors<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a (Dtype, Vec<usize>, Vec<u8>))>) {
    let views = tensors
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).expect("consistent")));
    safetensors::serialize_to_file(views, None, path).expect("writable");
}

#[test]
fn every_tensor_is_due_and_no_other() {
    const NAME: &str = "model.layers.1.mlp.experts.3.up_proj.weight";
    let wrong = |words: &[&str], change: fn(&mut Tensors)| {
        broken(words, |dir| {
            let mut tensors = golden_tensors();
            change(&mut tensors);
            write_tensors(&dir.join("model.safetensors"), tensors.iter());
        });
    };
    wrong(&["model.safetensors", NAME, "missing"], |t| {
        t.remove(NAME);
    });
    wrong(&["model.safetensors", "model.surprise", "not part"], |t| {
        t.insert("model.surprise".into(), (Dtype::F32, vec![1], vec![0; 4]));
    });
    wrong(&[NAME, "[32, 64]", "[64, 32]"], |t| t.get_mut(NAME).expect("present").1 = vec![64, 32]);
    wrong(&[NAME, "I32"], |t| t.get_mut(NAME).expect("present").0 = Dtype::I32);
    wrong(&[NAME, "element 1 "], |t| {
        t.get_mut(NAME).expect("present").2[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    wrong(&[NAME, "element type I16"], |t| {
        let tensor = t.get_mut(NAME).expect("present");
        (tensor.0, tensor.1) = (Dtype::I16, vec![32, 128]);
    });
}

/// A file with this header and `data` zero bytes.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn headers_must_be_consistent() {
    let one = |begin: u64, end: u64| format!(r#""dtype":"F32","shape":[2],"data_offsets":[{begin},{end}]"#);
    let packed = r#"{"a":{"dtype":"WEIR_Q9","shape":[2],"data_offsets":[0,8]}}"#;
    let cases: [(Vec<u8>, &[&str]); 11] = [
        (raw(packed, 8), &["`a`", "WEIR_Q9", "another version of Weir"]),
        (vec![1, 2, 3], &["too few"]),
        (u64::MAX.to_le_bytes().to_vec(), &["header of"]),
        (raw("{}", 0)[..9].to_vec(), &["header of"]),
        (raw(&format!(r#"{{"a":{{{}}},"a":{{{}}}}}"#, one(0, 8), one(8, 16)), 16), &["`a`", "twice"]),
        (raw(&format!(r#"{{"a":{{{}}},"b":{{{}}}}}"#, one(0, 8), one(4, 12)), 12), &["`b`", "starts at"]),
        (raw(&format!(r#"{{"a":{{{}}},"b":{{{}}}}}"#, one(0, 8), one(12, 20)), 20), &["`b`", "starts at"]),
        (raw(&format!(r#"{{"a":{{{}}}}}"#, one(0, 8)), 12), &["end at byte 8"]),
        (raw(&format!(r#"{{"a":{{{}}}}}"#, one(0, 8)), 4), &["`a`", "outside"]),
        (raw(&format!(r#"{{"a":{{{}}}}}"#, one(8, 0)), 8), &["`a`", "outside"]),
        (
            raw(r#"{"a":{"dtype":"F32","shape":[9223372036854775808,4],"data_offsets":[0,0]}}"#, 0),
            &["`a`", "does not fit"],
        ),
    ];
    for (bytes, words) in cases {
        broken(&[&["model.safetensors"], words].concat(), |dir| {
            std::fs::write(dir.join("model.safetensors"), bytes).expect("writable");
        });
    }
}

#[test]
fn shards_and_half_precision_load() {
    let ids: Vec<u32> = (0..40).collect();
    let golden = logits_for(&support::golden(), &ids, 32, true).expect("golden");
    let dir = support::tiny_model("llada2_moe");
    std::fs::remove_file(dir.path().join("model.safetensors")).expect("present");
    let mut tensors = golden_tensors();
    let mut map = BTreeMap::new();
    for (index, (name, (dtype, _, data))) in tensors.iter_mut().enumerate() {
        map.insert(name.clone(), format!("part-{}.safetensors", index % 2));
        // The router's choice is not continuous, so that one stays exact; norms go to f16, matrices to bf16.
        if name.contains("mlp.gate.") {
            continue;
        }
        let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        if name.contains("norm") {
            *data = values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
            *dtype = Dtype::F16;
        } else {
            *data = values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect();
            *dtype = Dtype::BF16;
        }
    }
    for part in ["part-0.safetensors", "part-1.safetensors"] {
        write_tensors(&dir.path().join(part), tensors.iter().filter(|(name, _)| map[*name] == part));
    }
    let index = json!({"weight_map": map}).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).expect("writable");
    let engine = load(dir.path()).expect("loads");
    assert_eq!(engine.info().parameters, 313_920);
    let rounded = logits_for(dir.path(), &ids, 32, true).expect("loads");
    let close = rounded.iter().zip(&golden).filter(|(a, b)| (*a - *b).abs() < 0.5).count();
    assert!(close * 10 > golden.len() * 9, "{close} of {} logits are close", golden.len());
}

#[test]
fn an_index_agrees_with_its_shards() {
    let shards = |words: &[&str], change: fn(&Path, &mut BTreeMap<String, String>)| {
        broken(words, |dir| {
            let tensors = golden_tensors();
            std::fs::remove_file(dir.join("model.safetensors")).expect("present");
            let part = |name: &String| if name.contains("layers.1") { "b.safetensors" } else { "a.safetensors" };
            for file in ["a.safetensors", "b.safetensors"] {
                write_tensors(&dir.join(file), tensors.iter().filter(|(name, _)| part(name) == file));
            }
            let mut map = tensors.keys().map(|name| (name.clone(), part(name).to_owned())).collect();
            change(dir, &mut map);
            let index = json!({"weight_map": map}).to_string();
            std::fs::write(dir.join("model.safetensors.index.json"), index).expect("writable");
        });
    };
    const INDEX: &str = "model.safetensors.index.json";
    const NORM: &str = "model.norm.weight";
    shards(&[INDEX, "2 of 3 shards are missing: b.safetensors, c.safetensors"], |dir, map| {
        std::fs::remove_file(dir.join("b.safetensors")).expect("present");
        map.insert("model.more".into(), "c.safetensors".into());
    });
    shards(&[INDEX, NORM, "says b.safetensors", "lies in a.safetensors"], |_, map| {
        map.insert(NORM.into(), "b.safetensors".into());
    });
    shards(&[INDEX, NORM, "does not name it"], |_, map| {
        map.remove(NORM);
    });
    shards(&[INDEX, "model.more", "does not hold it"], |_, map| {
        map.insert("model.more".into(), "a.safetensors".into());
    });
}

#[test]
fn merged_experts_load_and_give_the_same_logits() {
    let ids: Vec<u32> = (0..40).collect();
    let golden = logits_for(&support::golden(), &ids, 32, true).expect("golden");
    for suffix in ["", ".weight"] {
        let dir = support::tiny_model("llada2_moe");
        let file = dir.path().join("model.safetensors");
        let merged = merge_experts(golden_tensors(), suffix);
        write_tensors(&file, merged.iter());
        assert_eq!(load(dir.path()).expect("loads").info().parameters, 313_920);
        assert_eq!(logits_for(dir.path(), &ids, 32, true).expect("loads"), golden);

        // Both kinds at once: one of them would stay unread.
        let both: Tensors = merged.into_iter().chain(golden_tensors()).collect();
        write_tensors(&file, both.iter());
        let error = load(dir.path()).expect_err("both").to_string();
        assert!(error.contains("experts.0.down_proj") && error.contains("not part"), "{error}");
    }
    broken(&["model.layers.1.mlp.experts.up_proj", "[16, 32, 64]", "[15, 32, 64]"], |dir| {
        let mut tensors = merge_experts(golden_tensors(), "");
        let tensor = tensors.get_mut("model.layers.1.mlp.experts.up_proj").expect("merged");
        tensor.1[0] = 15;
        tensor.2.truncate(15 * 32 * 64 * 4);
        write_tensors(&dir.join("model.safetensors"), tensors.iter());
    });
}

/// `experts.J.{part}.weight` of each layer as one `experts.{part}{suffix}`.
fn merge_experts(tensors: Tensors, suffix: &str) -> Tensors {
    let mut merged = Tensors::new();
    for layer in [1, 2] {
        for part in ["gate_proj", "up_proj", "down_proj"] {
            let experts = (0..16).map(|j| &tensors[&format!("model.layers.{layer}.mlp.experts.{j}.{part}.weight")]);
            let (dtype, shape, _) = experts.clone().next().expect("an expert").clone();
            let data = experts.flat_map(|(_, _, data)| data.clone()).collect();
            let name = format!("model.layers.{layer}.mlp.experts.{part}{suffix}");
            merged.insert(name, (dtype, [vec![16], shape].concat(), data));
        }
    }
    merged.extend(tensors.into_iter().filter(|(name, _)| !name.contains(".experts.")));
    merged
}

/// A prefix of `bytes`, or `bytes` with up to four bytes changed.
fn damage(bytes: Vec<u8>, reach: usize) -> impl Strategy<Value = Vec<u8>> {
    let reach = reach.min(bytes.len());
    let flips = proptest::collection::vec((0..reach, any::<u8>()), 1..5);
    (any::<bool>(), 0..reach, flips).prop_map(move |(cut, length, flips)| {
        let mut bytes = bytes.clone();
        if cut {
            bytes.truncate(length);
        }
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at).filter(|_| !cut) {
                *byte = value;
            }
        }
        bytes
    })
}

/// Loads the tiny model with one damaged file; whatever comes of it, it must not panic.
fn survive(name: &str, bytes: &[u8]) {
    let dir = support::tiny_model("llada2_moe");
    std::fs::write(dir.path().join(name), bytes).expect("writable");
    let _ = load(dir.path());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_damaged_config_never_panics(bytes in damage(support::config_json("llada2_moe").to_string().into_bytes(), 4096)) {
        survive("config.json", &bytes);
    }

    #[test]
    fn a_damaged_weights_header_never_panics(
        bytes in damage(std::fs::read(support::golden().join("model.safetensors")).expect("golden"), 12_000)
    ) {
        survive("model.safetensors", &bytes);
    }

    #[test]
    fn a_damaged_tokenizer_never_panics(bytes in damage(support::tokenizer_json().to_string().into_bytes(), 8192)) {
        survive("tokenizer.json", &bytes);
    }

    #[test]
    fn a_damaged_tokenizer_config_never_panics(bytes in damage(support::tokenizer_config_json().to_string().into_bytes(), 4096)) {
        survive("tokenizer_config.json", &bytes);
    }
}
