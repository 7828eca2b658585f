//! The recipes of `weir model pack`, through the real kernels: each class of tensors alone in each format, whole recipes,
//! and pools of experts. What docs/quantisation.md quotes.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use weir_diffusion_engine::pack::pack;
use weir_diffusion_engine::{Class, LogitsModel, Recipe};

use super::samples::Sample;
use super::{difference, predictions, predictions_of, row};

/// Whole recipes.
const WHOLE: [&str; 9] = [
    "bf16",
    "q8",
    "q4m",
    "q4h",
    "q4",
    "default",
    "q4,head=q8",
    "q4m,head=q8",
    "q4,embedding=q8,head=q8,attention=q8,shared=q8,dense=q8",
];

/// A line for each.
pub(super) fn rows(model: &Path, samples: &[Sample], exact: &[Vec<f32>]) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for format in ["q4", "q4m", "q4h", "q8"] {
        for (class, name) in Class::ALL {
            let text = format!("f32,{name}={format}");
            let recipe = recipe(&text)?;
            debug_assert!(recipe.format(class).is_some());
            rows.push(packed(model, samples, exact, &text, &recipe)?);
        }
    }
    for text in WHOLE {
        rows.push(packed(model, samples, exact, text, &recipe(text)?)?);
    }
    for pool in [2, 3, 4, 5, 6, 8] {
        let own = LogitsModel::open(model)?.with_pool(Some(pool));
        rows.push(row(
            &format!("pool of {pool} experts, f32"),
            32.0,
            &difference(exact, &predictions_of(&own, samples)?)?,
        ));
    }
    Ok(rows)
}

fn recipe(text: &str) -> Result<Recipe> {
    Recipe::parse(text).map_err(anyhow::Error::msg)
}

fn packed(model: &Path, samples: &[Sample], exact: &[Vec<f32>], name: &str, recipe: &Recipe) -> Result<Value> {
    let folder = tempfile::tempdir().context("a folder")?;
    let packed = pack(model, folder.path(), recipe, |_| {})?;
    let report = weir_diffusion_engine::inspect::inspect(folder.path())?;
    let bits = 8.0 * packed.bytes as f64 / report.parameters.max(1) as f64;
    Ok(row(name, bits, &difference(exact, &predictions(folder.path(), samples)?)?))
}
