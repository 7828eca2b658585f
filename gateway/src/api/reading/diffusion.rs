//! The `diffusion` object: how a diffusion engine should decode this one request. Ranges are those of the engine, so
//! that a wrong value is refused whoever answers.

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
    "seed",
    "start_from",
    "drafts",
];
const MODES: &[(&str, DecodeMode)] =
    &[("speed", DecodeMode::Speed), ("quality", DecodeMode::Quality), ("custom", DecodeMode::Custom)];
const MAX_BLOCK_LENGTH: u32 = 256;

/// The settings in the body. `diffusing: true` beside the object is Mercury's name for `drafts`.
pub(crate) fn options(body: &Members<'_, '_>) -> Result<DiffusionOptions, EngineError> {
    let mut options = body.read("diffusion", object)?.unwrap_or_default();
    options.drafts |= body.read("diffusing", fields::boolean)?.unwrap_or(false);
    Ok(options)
}

fn object(path: &Path<'_>, value: &Value) -> Result<DiffusionOptions, EngineError> {
    let members = Members::of(path, value)?;
    members.only(KEYS)?;
    let share = |path: &Path<'_>, value: &Value| fields::number(path, value, 0.0, 1.0);
    let steps = |path: &Path<'_>, value: &Value| fields::whole(path, value, 1, MAX_BLOCK_LENGTH);
    Ok(DiffusionOptions {
        mode: members.read("mode", |path, value| fields::word(path, value, MODES))?,
        decoder: members.read("decoder", |path, value| fields::word(path, value, &DecoderKind::ALL))?,
        threshold: members.read("threshold", share)?,
        editing_threshold: members.read("editing_threshold", share)?,
        max_post_steps: members.read("max_post_steps", |path, value| fields::whole(path, value, 0, 64))?,
        block_length: members.read("block_length", block_length)?,
        max_steps: members.read("max_steps", steps)?,
        multi_block_window: members.read("multi_block_window", |path, value| fields::whole(path, value, 2, 4))?,
        repeat_penalty: members.read("repeat_penalty", |path, value| fields::number(path, value, 0.0, 10.0))?,
        seed: members.read("seed", seed)?,
        start_from: members.read("start_from", fields::string)?.map(str::to_owned),
        drafts: members.read("drafts", fields::boolean)?.unwrap_or(false),
    })
}

fn block_length(path: &Path<'_>, value: &Value) -> Result<u32, EngineError> {
    let length = fields::whole(path, value, 1, MAX_BLOCK_LENGTH)?;
    match length.is_power_of_two() {
        true => Ok(length),
        false => Err(path.wrong(format!("must be a power of two from 1 to {MAX_BLOCK_LENGTH}"))),
    }
}
