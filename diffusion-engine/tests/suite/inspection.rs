//! What is told about a checkpoint, and that every fault of one is found.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use weir_diffusion_engine::EngineKind;
use weir_diffusion_engine::inspect::{inspect, verify};

use crate::support;

#[test]
fn the_report_counts_what_is_there() {
    let dir = support::tiny_model("llada2_moe");
    let report = inspect(dir.path()).expect("reads");
    assert_eq!((report.kind, report.parameters, report.context), (EngineKind::Diffusion, 313_920, 1024));
    // 2 layers × 16 experts × 3 × 32 × 64 routed, of which a token visits a quarter.
    assert_eq!(report.active_parameters, 313_920 - 196_608 * 3 / 4);
    assert_eq!((report.kv_elements, report.kv_scales), (2 * 3 * 2 * 16, 2 * 3 * 2));
    let [share] = &report.types[..] else { panic!("{:?}", report.types) };
    assert_eq!((share.name, share.elements, share.bytes), ("F32", 313_920, 4 * 313_920));
    let sizes: BTreeMap<&str, u64> = report.sizes.iter().map(|size| (size.name, size.bytes)).collect();
    assert_eq!(sizes["F32"], 4 * 313_920);
    assert!(sizes["Q4_0"] < sizes["Q8_0"] && sizes["Q8_0"] < sizes["BF16"], "{sizes:?}");
    // No row has 256 elements, so K-quants fall back to F16.
    assert_eq!(sizes["Q4_K"], sizes["BF16"]);
    let routing = report.routing.expect("has experts");
    assert!(routing.contains("2 of 4 groups"), "{routing}");
    assert!(report.decoder.contains("joint") && report.decoder.contains("threshold"), "{}", report.decoder);

    let mut config = support::config_json("llada2_moe");
    (config["expert_capacity"], config["delete_token_id"]) = (json!(8), json!(318));
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    std::fs::remove_file(dir.path().join("tokenizer.json")).expect("present");
    let report = inspect(dir.path()).expect("reads");
    assert!(report.decoder.starts_with("joint"), "DELETE alone is of no use: {}", report.decoder);
    assert!(report.routing.expect("has experts").contains("8 of 16"));
    for word in ["no text", "how long a block", "without the other", "vocabulary of 320"] {
        assert!(report.oddities.iter().any(|oddity| oddity.contains(word)), "{word}: {:?}", report.oddities);
    }
    config["split_token_id"] = json!(319);
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    let decoder = inspect(dir.path()).expect("reads").decoder;
    assert!(decoder.starts_with("levenshtein"), "{decoder}");
}

#[test]
fn all_faults_are_listed_and_progress_reaches_the_end() {
    let dir = support::tiny_model("llada2_moe");
    let mut last = None;
    assert!(verify(dir.path(), |progress| last = Some((progress.done, progress.total))).is_empty());
    assert_eq!(last, Some((4 * 313_920, 4 * 313_920)));

    let file = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&file).expect("golden weights");
    let golden = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = golden
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    tensors.remove("model.norm.weight");
    tensors.remove("model.layers.2.mlp.experts.15.down_proj.weight");
    tensors.insert("model.surprise".into(), (vec![1], vec![0; 4]));
    tensors.get_mut("lm_head.weight").expect("present").0 = vec![64, 320];
    let bias = tensors.get_mut("model.layers.1.mlp.gate.expert_bias").expect("present");
    bias.1[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    let views = tensors
        .iter()
        .map(|(name, (shape, data))| (name, TensorView::new(Dtype::F32, shape.clone(), data).expect("consistent")));
    safetensors::serialize_to_file(views, None, &file).expect("writable");
    std::fs::write(dir.path().join("tokenizer_config.json"), "{}").expect("writable");
    let faults: Vec<String> = verify(dir.path(), |_| {}).iter().map(ToString::to_string).collect();
    let expected = [
        ("chat_template", "is missing"),
        ("model.norm.weight", "is missing"),
        ("experts.15.down_proj", "is missing"),
        ("model.surprise", "not part"),
        ("lm_head.weight", "expected shape [320, 64], got [64, 320]"),
        ("model.layers.1.mlp.gate.expert_bias", "element 2 is not a finite number"),
    ];
    for (name, what) in expected {
        assert!(faults.iter().any(|fault| fault.contains(name) && fault.contains(what)), "{name}: {faults:#?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn a_config_that_claims_millions_of_tensors_lists_a_thousand() {
    let dir = support::tiny_model("llada2_moe");
    let mut config = support::config_json("llada2_moe");
    for (field, value) in [("num_hidden_layers", 512), ("num_experts", 4096)] {
        config[field] = json!(value);
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    assert_eq!(verify(dir.path(), |_| {}).len(), 1000);
}

#[test]
fn a_shape_that_overflows_behind_a_zero_is_told() {
    let dir = support::tiny_model("llada2_moe");
    let header = json!({"model.none": {"dtype": "F32", "shape": [1u64 << 40, 1u64 << 40, 0], "data_offsets": [0, 0]}});
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(dir.path().join("model.safetensors"), bytes).expect("writable");
    let error = inspect(dir.path()).expect_err("refused").to_string();
    assert!(error.contains("model.none") && error.contains("too large"), "{error}");
}
