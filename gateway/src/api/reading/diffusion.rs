//! The `diffusion` object: how a diffusion engine should decode this one request. Must never have ranges of its own: a
//! value no engine takes ([`DiffusionOptions::out_of_range`]) is refused whoever answers.

use serde_json::Value;
use weir_protocol::{DecodeMode, DecoderKind, DiffusionOptions, EngineError};

use super::fields::{self, Members, Path};
use super::sampling::seed;

const KEYS: &[&str] = &[
    "mode",
    "decoder",
    "threshold",
    "editing_threshold",
    "max_post_steps",
    "block_length",
    "max_steps",
    "multi_block_window",
    "repeat_penalty",
    "refresh_every",
    "seed",
    "start_from",
    "drafts",
];

/// The settings in the body. `diffusing: true` beside the object is Mercury's name for `drafts`.
pub(crate) fn options(body: &Members<'_, '_>) -> Result<DiffusionOptions, EngineError> {
    let mut options = body.read("diffusion", object)?.unwrap_or_default();
    options.drafts |= body.read("diffusing", fields::boolean)?.unwrap_or(false);
    Ok(options)
}

fn object(path: &Path<'_>, value: &Value) -> Result<DiffusionOptions, EngineError> {
    let members = Members::of(path, value)?;
    members.only(KEYS)?;
    let options = DiffusionOptions {
        mode: members.read("mode", |path, value| fields::word(path, value, &DecodeMode::ALL))?,
        decoder: members.read("decoder", |path, value| fields::word(path, value, &DecoderKind::ALL))?,
        threshold: members.read("threshold", fields::any_number)?,
        editing_threshold: members.read("editing_threshold", fields::any_number)?,
        max_post_steps: members.read("max_post_steps", fields::any_whole)?,
        block_length: members.read("block_length", fields::any_whole)?,
        max_steps: members.read("max_steps", fields::any_whole)?,
        multi_block_window: members.read("multi_block_window", fields::any_whole)?,
        repeat_penalty: members.read("repeat_penalty", fields::any_number)?,
        refresh_every: members.read("refresh_every", fields::any_whole)?,
        seed: members.read("seed", seed)?,
        start_from: members.read("start_from", fields::string)?.map(str::to_owned),
        drafts: members.read("drafts", fields::boolean)?.unwrap_or(false),
    };
    match options.out_of_range().into_iter().next() {
        Some(wrong) => Err(path.key(wrong.field).wrong(wrong.message)),
        None => Ok(options),
    }
}
