//! The arguments of `weir generate`, and what they mean to an engine. Must never guess: what cannot be honoured is an
//! error that names the flag.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use weir_diffusion_engine::{Engine, EngineOptions, ModelFiles, Recipe};
use weir_protocol::{
    ChatRequest, DecodeMode, DecoderKind, DiffusionOptions, EngineError, Message, ResponseFormat, Role, Sampling,
};

use crate::config::EngineRole;
use crate::config::settings::ModelSource;
use crate::embedded;

/// What to answer, with which model, how.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What to answer. Without it: standard input, or on a terminal a conversation line by line.
    #[arg(value_name = "PROMPT")]
    pub(super) prompt: Option<String>,
    /// Checkpoint folder or .gguf file; `diffusion` and `ar` are the embedded models.
    #[arg(long, value_name = "PATH|diffusion|ar", default_value = "diffusion")]
    model: PathBuf,
    /// Preset of thresholds (diffusion).
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Which decoder fills a block (diffusion).
    #[arg(long, value_parser = decoder_words())]
    decoder: Option<DecoderKind>,
    /// Confidence above which a masked position is written, 0 to 1 (diffusion).
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<f32>,
    /// Confidence above which a written token is replaced, 0 to 1 (diffusion).
    #[arg(long, value_name = "P", value_parser = probability)]
    editing_threshold: Option<f32>,
    /// Most tokens of the answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Softmax temperature, 0 to 2; 0 always takes the likeliest token.
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f32>,
    /// Seed of the draws; the same seed gives the same bytes on the same machine.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// System text.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// JSON schema that the answer must fit; it is enforced, not asked for.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Print one JSON object: text, finish reason, usage.
    #[arg(long)]
    pub(super) json: bool,
    /// Show each denoise step on standard error, in colour on a terminal (diffusion).
    #[arg(long)]
    pub(super) trace: bool,
    /// Write the denoise steps as JSON, to be replayed (diffusion; docs/trace.md).
    #[arg(long, value_name = "FILE")]
    pub(super) trace_file: Option<PathBuf>,
}

/// Arguments that do not fit together; exit code 2, as for those that clap refuses.
#[derive(Debug, thiserror::Error)]
#[error("{0}; `weir generate --help` lists the flags")]
pub(in crate::cli) struct UsageError(pub(super) String);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Fewer steps: thresholds 0.5 and 0.0 for decoders that edit, 0.85 for those that do not.
    Speed,
    /// More care: 0.7 and 0.5, or 0.95.
    Quality,
}

/// A loaded model and what to call it.
pub(super) struct Model {
    pub(super) engine: Engine,
    pub(super) name: String,
}

impl Args {
    /// The request without the prompt.
    pub(super) fn request(&self) -> Result<ChatRequest> {
        let system = self.system.iter().map(|text| Message::text(Role::System, text.as_str()));
        let response_format = match &self.schema {
            Some(file) => ResponseFormat::JsonSchema(schema(file)?),
            None => ResponseFormat::Text,
        };
        Ok(ChatRequest {
            messages: system.collect(),
            response_format,
            sampling: Sampling { temperature: self.temperature, seed: self.seed, ..Sampling::default() },
            max_tokens: self.max_tokens,
            diffusion: DiffusionOptions {
                mode: self.mode.map(|mode| match mode {
                    Mode::Speed => DecodeMode::Speed,
                    Mode::Quality => DecodeMode::Quality,
                }),
                decoder: self.decoder,
                threshold: self.threshold,
                editing_threshold: self.editing_threshold,
                ..DiffusionOptions::default()
            },
            ..ChatRequest::default()
        })
    }

    /// A flag that only a diffusion model can honour, if one was given.
    pub(super) fn diffusion_flag(&self) -> Option<&'static str> {
        let given = [
            (self.mode.is_some(), "--mode"),
            (self.decoder.is_some(), "--decoder"),
            (self.threshold.is_some(), "--threshold"),
            (self.editing_threshold.is_some(), "--editing-threshold"),
            (self.trace, "--trace"),
            (self.trace_file.is_some(), "--trace-file"),
        ];
        given.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }

    /// Loads the model. Takes as long as reading its files.
    pub(super) fn load(&self) -> Result<Model> {
        let path = self.model.as_path();
        let roles = [EngineRole::Diffusion, EngineRole::Ar];
        let (files, name) = match roles.into_iter().find(|role| path.as_os_str() == role.as_str()) {
            Some(role) => (embedded::nano(role), format!("weir-nano-{}", role.as_str())),
            None if path.exists() => {
                let name = ModelSource::name_of(path).unwrap_or_else(|| path.display().to_string());
                (ModelFiles::Dir(path.to_owned()), name)
            }
            None => bail!(
                "--model: there is no {}; name a checkpoint folder, a .gguf file, `diffusion` or `ar`",
                path.display()
            ),
        };
        let is_nano = matches!(files, ModelFiles::Embedded { .. });
        let recipe = if is_nano { embedded::NANO_RECIPE } else { Recipe::EXACT };
        let decoder = is_nano.then_some(embedded::NANO_DECODER);
        let defaults = DiffusionOptions { decoder, ..DiffusionOptions::default() };
        let options = EngineOptions { max_running: 1, defaults, recipe, ..EngineOptions::default() };
        let engine = Engine::load(files, options).with_context(|| format!("--model {}", path.display()))?;
        Ok(Model { engine, name })
    }
}

fn schema(file: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(file).with_context(|| format!("--schema {}", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("--schema {}: no JSON", file.display()))
}

/// A refusal in the words of the command line.
pub(super) fn explained(error: &EngineError) -> anyhow::Error {
    match error {
        EngineError::InvalidRequest { field, message } | EngineError::Unsupported { field, message } => {
            anyhow!("{}: {message}", flag(field))
        }
        EngineError::ContextTooLong { limit, got } => anyhow!(
            "prompt and answer need {got} tokens, the model takes {limit}: shorten the prompt or lower --max-tokens"
        ),
        other => anyhow!("{other}"),
    }
}

/// The flag behind a request's field; the field itself where there is none.
fn flag(field: &str) -> &str {
    match field.split(['.', '[']).next() {
        Some("response_format") => "--schema",
        Some("messages") => "the prompt",
        Some("max_tokens") => "--max-tokens",
        Some("temperature") => "--temperature",
        Some("diffusion") => match field {
            "diffusion.decoder" => "--decoder",
            "diffusion.threshold" => "--threshold",
            "diffusion.editing_threshold" => "--editing-threshold",
            other => other,
        },
        _ => field,
    }
}

fn decoder_words() -> impl TypedValueParser<Value = DecoderKind> {
    PossibleValuesParser::new(DecoderKind::ALL.map(|(word, _)| word)).try_map(|given| {
        let known = DecoderKind::ALL.into_iter().find(|(word, _)| OsStr::new(word) == OsStr::new(&given));
        known.map(|(_, decoder)| decoder).ok_or("no decoder")
    })
}

fn probability(text: &str) -> Result<f32, String> {
    within(text, 1.0)
}

fn temperature(text: &str) -> Result<f32, String> {
    within(text, 2.0)
}

fn within(text: &str, most: f32) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from 0 to {most}"))
}
