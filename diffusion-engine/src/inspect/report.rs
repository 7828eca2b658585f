//! What a checkpoint is, told from its config and the tensors' headers: fast for any size, because no weight is read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::elements::Element;
use crate::checkpoint::open::Checkpoint;
use crate::checkpoint::tensors::{Listed, Weights};
use crate::decode::published::{self, ChosenBy};
use crate::error::LoadError;
use crate::options::{EngineKind, ModelFiles};

/// Precisions whose size is told, and their names.
const PRECISIONS: [Element; 6] =
    [Element::F32, Element::Bf16, Element::Q8_0, Element::Q6K, Element::Q4K, Element::Q4_0];

/// What [`inspect`] found.
#[derive(Debug, Clone)]
pub struct ModelReport {
    /// How it writes.
    pub kind: EngineKind,
    /// `model_type` of its config (of a GGUF file: the Hugging Face name of its architecture).
    pub architecture: String,
    /// The shape in words, one fact a line.
    pub shape: Vec<String>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Elements that take part in one token: all but the experts it does not visit.
    pub active_parameters: u64,
    /// How the tensors are stored, by type.
    pub types: Vec<TypeShare>,
    /// Bytes of the weights at each precision.
    pub sizes: Vec<Precision>,
    /// Key and value elements of one token, over all layers.
    pub kv_elements: u64,
    /// Scales of these, where they are kept in 8 bits: four bytes each.
    pub kv_scales: u64,
    /// Most positions.
    pub context: u64,
    /// How tokens find their experts; `None` when every layer is dense.
    pub routing: Option<String>,
    /// Which decoder suits, and why nobody can tell more.
    pub decoder: String,
    /// What a reader would not expect.
    pub oddities: Vec<String>,
}

/// The tensors of one storage type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeShare {
    /// `BF16`, `Q4_K` and so on.
    pub name: &'static str,
    /// How many tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The size of the weights if they were stored so: vectors and routers in F32, matrices whose rows are not whole
/// blocks in F16, the rest at the precision (what `training/to_gguf.py` writes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precision {
    /// `F32`, `BF16`, `Q8_0` and so on.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// Reads config, tokenizer and the weights' headers of the folder or GGUF file at `path`.
///
/// # Errors
/// When the config or a header is wrong. A wrong tokenizer is an oddity, not an error.
pub fn inspect(path: &Path) -> Result<ModelReport, LoadError> {
    let checkpoint = Checkpoint::open(ModelFiles::Dir(path.to_path_buf()))?;
    let config = checkpoint.config()?;
    let mut oddities = Vec::new();
    match checkpoint.tokenizer(&config) {
        Ok(tokenizer) => {
            oddities.extend(checkpoint.template(&tokenizer).err().map(|error| format!("no chat: {error}")));
        }
        Err(error) => oddities.push(format!("no text: {error}")),
    }
    let weights = checkpoint.weights()?;
    let types = types(&weights);
    let parameters = types.iter().map(|share| share.elements).sum();
    if config.dense.is_none() {
        oddities.extend(odd_weights(&config, &weights, &types));
    }
    Ok(ModelReport {
        kind: config.kind,
        architecture: config.architecture.clone(),
        shape: shape(&config),
        parameters,
        active_parameters: active(&config, &weights, parameters),
        sizes: PRECISIONS
            .map(|precision| Precision { name: precision.name(), bytes: size_at(&weights, precision) })
            .into(),
        types,
        kv_elements: 2 * (config.layers * config.kv_heads * config.head_dim) as u64,
        kv_scales: 2 * (config.layers * config.kv_heads) as u64,
        context: config.context as u64,
        routing: routing(&config),
        decoder: decoder(path, &config, &weights),
        oddities,
    })
}

fn types(weights: &Weights) -> Vec<TypeShare> {
    let mut shares: BTreeMap<Element, TypeShare> = BTreeMap::new();
    for tensor in weights.list() {
        let name = tensor.element.name();
        let share = shares.entry(tensor.element).or_insert(TypeShare { name, tensors: 0, elements: 0, bytes: 0 });
        share.tensors += 1;
        share.elements += elements(&tensor);
        share.bytes += tensor.bytes;
    }
    shares.into_values().collect()
}

/// The header was checked against the file's size, so this cannot overflow.
fn elements(tensor: &Listed<'_>) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}

fn shape(config: &ModelConfig) -> Vec<String> {
    let ModelConfig { vocab, hidden, layers, dense_layers, heads, kv_heads, head_dim, rotary_dim, .. } = config;
    let mut shape = vec![
        format!("{layers} layers ({dense_layers} dense, {} with experts), hidden {hidden}", layers - dense_layers),
        format!("{heads} query heads over {kv_heads} key/value heads of {head_dim}"),
        format!("rotary: {rotary_dim} of {head_dim} dimensions, theta {}", config.rope_theta),
        format!("vocabulary {vocab}{}", if config.tied { ", head tied to the embedding" } else { "" }),
    ];
    shape.extend(config.moe.as_ref().map(|moe| {
        let shared = moe.shared_intermediate;
        format!(
            "{} experts of width {}, {} a token, shared expert of width {shared}",
            moe.experts, moe.intermediate, moe.routing.experts_kept
        )
    }));
    shape
}

fn active(config: &ModelConfig, weights: &Weights, parameters: u64) -> u64 {
    let Some(moe) = &config.moe else { return parameters };
    let routed: u64 =
        weights.list().filter(|tensor| tensor.name.contains(".mlp.experts.")).map(|tensor| elements(&tensor)).sum();
    let visited = u128::from(routed) * moe.routing.experts_kept as u128 / moe.experts as u128;
    parameters - routed + visited as u64
}

fn size_at(weights: &Weights, precision: Element) -> u64 {
    let size = |tensor: Listed<'_>| {
        let kept = tensor.shape.len() < 2 || tensor.name.ends_with("mlp.gate.weight");
        let element = if kept { Element::F32 } else { precision };
        let bytes = element.bytes(tensor.shape).or_else(|| Element::F16.bytes(tensor.shape));
        bytes.map_or(u64::MAX, |bytes| bytes as u64)
    };
    weights.list().map(size).fold(0, u64::saturating_add)
}

fn routing(config: &ModelConfig) -> Option<String> {
    let moe = config.moe.as_ref()?;
    let routing = &moe.routing;
    Some(match routing.capacity {
        Some(capacity) => format!(
            "by block: {capacity} of {} experts are admitted for a block, a token visits {} of them (LLaDA2.2)",
            moe.experts, routing.experts_kept
        ),
        None => format!(
            "by token: {} of {} groups, then {} experts of them (LLaDA2.0, 2.1, Ling-2.0)",
            routing.groups_kept, routing.groups, routing.experts_kept
        ),
    })
}

fn decoder(path: &Path, config: &ModelConfig, weights: &Weights) -> String {
    if config.kind == EngineKind::Autoregressive {
        return "none: it writes one token after the other".into();
    }
    let names = published::names(path);
    let has_control = config.delete_token.is_some() && config.split_token.is_some();
    let (decoder, by) = published::decoder(names.iter().map(String::as_str), has_control);
    let decoder = decoder.as_str();
    match by {
        ChosenBy::Tokens => {
            return format!("{decoder} (LLaDA2.2: it has DELETE and SPLIT); joint and threshold ignore the two");
        }
        ChosenBy::Name => return format!("{decoder}, by its name"),
        ChosenBy::Config | ChosenBy::Default => {}
    }
    let bias = weights.list().find(|tensor| tensor.name.ends_with("mlp.gate.expert_bias"));
    let hint = match bias.map(|tensor| tensor.element) {
        Some(Element::F32) => "; its routing bias is F32, as in the published 2.1",
        Some(Element::Bf16) => "; its routing bias is BF16, as in the published 2.0",
        _ => "",
    };
    format!(
        "{decoder}, unless you say another: it suits a LLaDA2.1, and threshold a LLaDA2.0 or 2.0-CAP, but both have the \
         same config and tensors, and its name does not tell{hint}"
    )
}

fn odd_weights(config: &ModelConfig, weights: &Weights, types: &[TypeShare]) -> Vec<String> {
    let mut odd = Vec::new();
    let merged = |tensor: &Listed<'_>| tensor.name.contains(".mlp.experts.") && tensor.shape.len() == 3;
    if weights.list().any(|tensor| merged(&tensor) && !tensor.file.ends_with(".gguf")) {
        odd.push("experts are merged into one tensor for each projection".to_owned());
    }
    if types.iter().any(|share| matches!(share.name, "I32" | "I64" | "U32")) {
        odd.push("holds tensors of whole numbers, which no LLaDA2 model has".to_owned());
    }
    if config.routes_by_block() && config.block_size.is_none() {
        odd.push("routes by block, but does not say how long a block is; 32 is usual".to_owned());
    }
    if config.delete_token.is_some() != config.split_token.is_some() {
        odd.push("has one of DELETE and SPLIT without the other".to_owned());
    }
    if config.vocab != 157_184 {
        odd.push(format!("vocabulary of {}, where every published LLaDA2 and Ling-2.0 has 157184", config.vocab));
    }
    odd
}
