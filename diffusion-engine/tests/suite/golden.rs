//! The forward against the reference implementation's logits: shared/golden/tiny-llada2.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use weir_diffusion_engine::{LogitsModel, logits_file, logits_for};

use crate::{gguf_file, support};

const VOCAB: usize = 320;
const TOLERANCE: f32 = 2e-4;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Largest deviation; fails on a NaN, another length or another argmax.
fn deviation(what: &str, got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len(), "{what}");
    let argmax = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    for (row, (got, expected)) in got.chunks(VOCAB).zip(expected.chunks(VOCAB)).enumerate() {
        assert_eq!(argmax(got), argmax(expected), "{what} row {row}: another argmax");
    }
    let mut worst = 0.0f32;
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let deviation = (got - expected).abs();
        assert!(deviation <= TOLERANCE, "{what} element {index}: {got} where {expected} is due");
        worst = worst.max(deviation);
    }
    worst
}

/// The reference's cases: ids and logits.
fn cases() -> Vec<(Vec<u32>, Vec<f32>)> {
    let bytes = std::fs::read(support::golden().join("expected.safetensors")).expect("golden logits");
    let expected = SafeTensors::deserialize(&bytes).expect("safetensors");
    let case = |case: usize| {
        let ids = expected.tensor(&format!("case{case}.input_ids")).expect("ids");
        let ids: Vec<u32> = ids.data().as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        (ids, floats(expected.tensor(&format!("case{case}.logits")).expect("logits").data()))
    };
    (0..4).map(case).collect()
}

#[test]
fn every_logit_equals_the_reference_with_and_without_the_cache() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let gguf = dir.path().join("golden.gguf");
    std::fs::write(&gguf, gguf_file::golden().bytes()).expect("writable");
    for (case, (ids, logits)) in cases().iter().enumerate() {
        for (name, path) in [("safetensors", support::golden()), ("GGUF F32", gguf.clone())] {
            for use_cache in [false, true] {
                let got = logits_for(&path, ids, 32, use_cache).expect("golden checkpoint");
                let what = format!("{name} case {case} ({} tokens) cache {use_cache}", ids.len());
                println!("{what}: largest deviation {:e}", deviation(&what, &got, logits));
            }
        }
    }
}

/// Partial forwards that compute all, or whose canvas stands still, leave nothing out; others do, and come near.
#[test]
fn partial_forwards_equal_the_reference_where_nothing_is_old() {
    let model = LogitsModel::open(&support::golden()).expect("golden checkpoint");
    for (case, (ids, logits)) in cases().iter().enumerate() {
        let other: Vec<u32> = ids.iter().map(|id| (id + 1) % VOCAB as u32).collect();
        let all: Vec<usize> = (0..ids.len()).collect();
        for (what, canvases) in [("new", vec![&**ids]), ("all", vec![&*other, ids]), ("still", vec![&**ids, ids, ids])]
        {
            let got = model.partial_logits(&canvases, &all, 32).expect("good ids");
            deviation(&format!("case {case}, {what}"), &got, logits);
        }
        let some: Vec<usize> = all.iter().copied().filter(|at| at % 3 == 0).collect();
        let due: Vec<f32> = some.iter().flat_map(|at| &logits[at * VOCAB..(at + 1) * VOCAB]).copied().collect();
        deviation("some", &model.partial_logits(&[ids, ids], &some, 32).expect("good ids"), &due);
        if ids.len() > 4 {
            // What was made of the others while their neighbour was another token.
            let mut before = ids.clone();
            before[1] = other[1];
            let old = model.partial_logits(&[&before, ids], &[0], 32).expect("good ids");
            let most = old.iter().zip(logits).fold(0.0f32, |most, (old, due)| most.max((old - due).abs()));
            assert!(most > TOLERANCE, "case {case}: nothing was left out");
        }
    }
    let wrong = model.partial_logits(&[&[1, 2], &[1]], &[0], 32).expect_err("two lengths");
    assert_eq!(wrong.to_string(), "canvases: must be of one length");
}

fn write_ids(path: &Path, dtype: Dtype, bytes: &[u8], count: usize) {
    let view = TensorView::new(dtype, vec![count], bytes).expect("shape");
    safetensors::serialize_to_file([("input_ids", view)], None, path).expect("writable");
}

#[test]
fn logits_file_takes_all_id_types_and_refuses_bad_ids() {
    let golden = support::golden();
    let dir = tempfile::tempdir().expect("temporary folder");
    let (input, output) = (dir.path().join("ids.safetensors"), dir.path().join("out.safetensors"));
    let ids = [5i64, 17, 319, 0];
    let expected = logits_for(&golden, &[5, 17, 319, 0], 32, true).expect("golden checkpoint");
    let narrow: Vec<u8> = ids.iter().flat_map(|id| (*id as i32).to_le_bytes()).collect();
    let wide: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    for (dtype, bytes) in [(Dtype::I32, &narrow), (Dtype::U32, &narrow), (Dtype::I64, &wide)] {
        write_ids(&input, dtype, bytes, 4);
        logits_file(&golden, &input, &output, 32, true).expect("good ids");
        let written = std::fs::read(&output).expect("output");
        let written = SafeTensors::deserialize(&written).expect("safetensors");
        let logits = written.tensor("logits").expect("logits");
        assert_eq!((logits.shape(), floats(logits.data())), ([4, VOCAB].as_slice(), expected.clone()));
    }
    for (bad, word) in [(-1i64, "negative"), (320, "vocabulary")] {
        write_ids(&input, Dtype::I64, &bad.to_le_bytes(), 1);
        let error = logits_file(&golden, &input, &output, 32, true).expect_err("bad id").to_string();
        assert!(error.contains("input_ids") && error.contains(word), "{error}");
    }
    write_ids(&input, Dtype::F32, &narrow, 4);
    let error = logits_file(&golden, &input, &output, 32, true).expect_err("floats").to_string();
    assert!(error.contains("input_ids") && error.contains("F32"), "{error}");
    assert!(logits_for(&golden, &[1], 0, true).is_err());
    assert!(logits_for(&golden, &vec![0; 1025], 32, true).is_err());
    assert_eq!(logits_for(&golden, &[], 32, true).expect("no ids"), Vec::<f32>::new());
}

#[test]
fn half_precision_checkpoints_stay_close() {
    for (dtype, narrow) in [(Dtype::BF16, narrow_bf16 as fn(f32) -> [u8; 2]), (Dtype::F16, narrow_f16)] {
        let dir = support::tiny_model("llada2_moe");
        let file = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&file).expect("golden weights");
        let weights = SafeTensors::deserialize(&bytes).expect("safetensors");
        let rounded: Vec<(String, Vec<usize>, Vec<u8>)> = weights
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                (name, view.shape().to_vec(), floats(view.data()).into_iter().flat_map(narrow).collect())
            })
            .collect();
        let views = rounded.iter().map(|(name, shape, data)| {
            (name.clone(), TensorView::new(dtype, shape.clone(), data).expect("consistent"))
        });
        safetensors::serialize_to_file(views, None, &file).expect("writable");
        let (mut worst, mut sum, mut same, mut rows, mut count) = (0.0f32, 0.0f64, 0, 0, 0);
        for (ids, expected) in cases() {
            let got = logits_for(dir.path(), &ids, 32, true).expect("loads");
            let argmax = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            for (got, expected) in got.chunks(VOCAB).zip(expected.chunks(VOCAB)) {
                same += usize::from(argmax(got) == argmax(expected));
                rows += 1;
                for (got, expected) in got.iter().zip(expected) {
                    assert!(got.is_finite());
                    worst = worst.max((got - expected).abs());
                    sum += f64::from((got - expected).abs());
                    count += 1;
                }
            }
        }
        let mean = sum / f64::from(count);
        println!("{dtype:?}: deviation mean {mean:.2e}, largest {worst:.2e}; argmax equal in {same} of {rows} rows");
        // Random weights make near-ties and a router that tips over; a misread byte order would leave no row equal.
        assert!(same * 10 >= rows * 9 && mean < 0.1, "{dtype:?}: {same} of {rows}, mean {mean}");
    }
}

fn narrow_bf16(value: f32) -> [u8; 2] {
    half::bf16::from_f32(value).to_le_bytes()
}

fn narrow_f16(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}
