//! A checkpoint's weights, rounded and written again in F32. Must never touch the original.

use std::path::Path;

use anyhow::{Context, Result, bail};
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::rounding::Format;

/// Writes `model` into `folder` with its matrices rounded to `format` (vectors and the router keep their numbers);
/// gives the bits a weight takes on average.
pub(super) fn rounded(model: &Path, folder: &Path, format: Format) -> Result<f64> {
    std::fs::copy(model.join("config.json"), folder.join("config.json")).context("config.json")?;
    let bytes = std::fs::read(model.join("model.safetensors")).context("model.safetensors")?;
    let (mut bits, mut count) = (0.0, 0.0);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
        let mut numbers = numbers(&view)?;
        let kept = view.shape().len() < 2 || name.ends_with("mlp.gate.weight");
        if !kept {
            format.round(&mut numbers);
        }
        bits += numbers.len() as f64 * if kept { 32.0 } else { format.bits() };
        count += numbers.len() as f64;
        let data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        tensors.push((name, view.shape().to_vec(), data));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    Ok(bits / count)
}

fn numbers(view: &TensorView<'_>) -> Result<Vec<f32>> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        other => bail!("a tensor of {other:?}"),
    })
}
