//! Which tensors a packed file holds, in what form and where: known from the headers alone, so that the file's own
//! header is written first and a cut-off file can be recognised. Must never read a number.

use serde_json::{Map, Value, json};
use weir_kernels::PackedMatrix;
use weir_kernels::packed::Format;

use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::elements::Element;
use crate::checkpoint::tensors::{Weights, tensor_error};
use crate::error::LoadError;
use crate::model::matrix::{Matrix, Table};
use crate::model::recipe::{Class, Recipe};
use crate::model::weights::{TensorSource, walk};

/// One tensor of the output.
pub(super) struct Item {
    pub(super) name: String,
    /// Its name in the source, the shape there, and which part of it.
    pub(super) source: (String, Vec<usize>, Option<usize>),
    pub(super) shape: Vec<usize>,
    /// `None` for f32.
    pub(super) format: Option<Format>,
    /// Bytes in the output.
    pub(super) bytes: usize,
}

/// All of them, in the order of the file.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// Length and text, as a safetensors file begins.
    pub(super) header: Vec<u8>,
}

impl Plan {
    pub(super) fn new(
        config: &ModelConfig,
        weights: &mut Weights,
        recipe: &Recipe,
        fingerprint: String,
    ) -> Result<Plan, LoadError> {
        let mut wanted = Wanted { weights, recipe, items: Vec::new() };
        walk(config, &mut wanted)?;
        let mut items = wanted.items;
        // Packed matrices are whole cache lines; what is not comes last, so that they stay so.
        items.sort_by_key(|item| item.format.is_none());
        let header = header(&items, recipe, &fingerprint)?;
        Ok(Plan { items, header })
    }

    /// Bytes of the whole file.
    pub(super) fn total(&self) -> u64 {
        self.header.len() as u64 + self.items.iter().map(|item| item.bytes as u64).sum::<u64>()
    }
}

fn header(items: &[Item], recipe: &Recipe, fingerprint: &str) -> Result<Vec<u8>, LoadError> {
    let mut entries = Map::new();
    let about =
        json!({"made_by": "weir model pack", "layout": "1", "recipe": recipe.to_string(), "source": fingerprint});
    entries.insert("__metadata__".into(), about);
    let mut at = 0;
    for item in items {
        let element = item.format.map_or(Element::F32, Element::Packed);
        let entry: Value = json!({"dtype": element.name(), "shape": item.shape, "data_offsets": [at, at + item.bytes]});
        if entries.insert(item.name.clone(), entry).is_some() {
            return Err(tensor_error("output", &item.name, "occurs twice"));
        }
        at += item.bytes;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(64) - 8, b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    Ok(header)
}

/// Takes part in the walk over the architecture as a model's load does, and keeps what was asked for.
struct Wanted<'a> {
    weights: &'a mut Weights,
    recipe: &'a Recipe,
    items: Vec<Item>,
}

impl Wanted<'_> {
    fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        part: Option<usize>,
        format: Option<Format>,
    ) -> Result<(), LoadError> {
        // Now, while nothing is written.
        if let Some(fault) = self.weights.fault(name, shape) {
            return Err(fault);
        }
        let own = if part.is_some() { shape.get(1..).unwrap_or_default() } else { shape };
        let element = format.map_or(Element::F32, Element::Packed);
        let bytes = element.bytes(own).ok_or_else(|| tensor_error("output", name, "is too large"))?;
        let source = (name.to_owned(), shape.to_vec(), part);
        let name = part.map_or_else(|| name.to_owned(), |part| single(name, part));
        self.items.push(Item { name, source, shape: own.to_vec(), format, bytes });
        Ok(())
    }
}

/// The name of one expert's matrix of a merged tensor: `a.experts.gate_proj` is `a.experts.7.gate_proj.weight`.
fn single(merged: &str, part: usize) -> String {
    let merged = merged.strip_suffix(".weight").unwrap_or(merged);
    match merged.split_once(".experts.") {
        Some((layer, projection)) => format!("{layer}.experts.{part}.{projection}.weight"),
        None => format!("{merged}.{part}.weight"),
    }
}

impl TensorSource for Wanted<'_> {
    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    fn values(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError> {
        self.add(name, shape, part, None)?;
        Ok(Vec::new())
    }

    fn matrix(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Matrix, LoadError> {
        self.add(name, shape, part, self.recipe.format(Class::of(name)))?;
        let nothing = PackedMatrix::pack(&[], 0, 0).map(Matrix::Exact);
        nothing.map_err(|error| tensor_error("output", name, &error.to_string()))
    }

    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Table, LoadError> {
        self.add(name, &shape, None, self.recipe.format(Class::Embedding))?;
        Ok(Table::Exact(Vec::new()))
    }
}
