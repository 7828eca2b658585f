//! A model that knows nothing: the embedded model's files with every weight drawn at random. What holds for it holds
//! whatever a model says.

use std::path::Path;

use anyhow::{Context, Result};

use crate::schemas::Dice;

/// Writes a copy of the model in `from` with random weights into `to`.
pub fn write(from: &Path, to: &Path, seed: u64) -> Result<()> {
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name)).with_context(|| name.to_owned())?;
    }
    let mut bytes = std::fs::read(from.join("model.safetensors"))?;
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length) as usize).context("no header")?;
    let text = bytes.get(8..8 + header).context("a header cut short")?;
    let tensors: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)?;
    let mut dice = Dice::new(seed);
    for (name, tensor) in &tensors {
        let offsets = (tensor["data_offsets"][0].as_u64(), tensor["data_offsets"][1].as_u64());
        let (Some(begin), Some(end)) = offsets else { continue };
        let data = bytes.get_mut(8 + header + begin as usize..8 + header + end as usize).context("data cut short")?;
        // Norms stay near 1, the rest is of the size that training starts from; the head is wide, so that the model
        // is sure of its nonsense.
        let (around, spread) = match () {
            () if name.contains("norm") => (1.0, 0.05),
            () if name.contains("lm_head") => (0.0, 0.5),
            () => (0.0, 0.08),
        };
        let mut draw = || around + spread * ((dice.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 1.7;
        match tensor["dtype"].as_str() {
            Some("BF16") => data.as_chunks_mut::<2>().0.iter_mut().for_each(|place| {
                let [_, _, low, high] = draw().to_bits().to_le_bytes();
                *place = [low, high];
            }),
            Some("F32") => data.as_chunks_mut::<4>().0.iter_mut().for_each(|place| *place = draw().to_le_bytes()),
            other => anyhow::bail!("tensor {name} has type {other:?}"),
        }
    }
    std::fs::write(to.join("model.safetensors"), bytes).context("model.safetensors")
}
