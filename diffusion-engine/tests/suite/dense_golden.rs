//! The dense families against transformers: `training/dense_golden.py` made tiny random checkpoints with its classes, wrote
//! them as GGUF (bf16) by the rules of llama.cpp's converter, and kept some rows of its logits.

use std::path::Path;

use safetensors::SafeTensors;
use weir_diffusion_engine::LogitsModel;
use weir_diffusion_engine::inspect::verify;

const VOCAB: usize = 300;
/// Positions whose logits were kept: around the window of Gemma 3 (8), and where Llama 3's slow pairs have turned.
const ROWS: [usize; 7] = [0, 1, 7, 8, 9, 30, 47];

#[test]
fn every_family_gives_the_logits_of_transformers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dense");
    let expected = std::fs::read(fixtures.join("expected.safetensors")).expect("fixture");
    let expected = SafeTensors::deserialize(&expected).expect("safetensors");
    let read = |name: String| expected.tensor(&name).expect("present").data().as_chunks::<4>().0.to_vec();
    for family in ["llama", "qwen2", "qwen3", "gemma", "gemma3"] {
        let ids: Vec<u32> = read(format!("{family}.ids")).into_iter().map(u32::from_le_bytes).collect();
        let due: Vec<f32> = read(format!("{family}.logits")).into_iter().map(f32::from_le_bytes).collect();
        assert_eq!((ids.len(), due.len()), (48, ROWS.len() * VOCAB), "{family}");
        let file = fixtures.join(format!("{family}.gguf"));
        let faults: Vec<String> = verify(&file, |_| {}).iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{family}: {faults:?}");
        let model = LogitsModel::open(&file).expect("loads");
        for use_cache in [false, true] {
            let got = model.logits(&ids, 1, use_cache).expect("runs");
            let rows = ROWS.iter().flat_map(|row| &got[row * VOCAB..(row + 1) * VOCAB]);
            let worst = rows.zip(&due).map(|(got, due)| (got - due).abs()).fold(0.0f32, f32::max);
            println!("{family} cache {use_cache}: largest deviation {worst:e}");
            assert!(worst < 5e-5, "{family}: {worst}");
        }
    }
}
