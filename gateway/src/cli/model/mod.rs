//! `weir model …`: fetches and looks at checkpoints without serving them. Must never be needed by a request.

mod pack;
mod progress;
mod pull;
mod show;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use weir_diffusion_engine::logits_file;

/// What can be done with a checkpoint.
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Tell what a checkpoint is: size, shape, precision, memory, routing, decoder, oddities. Reads headers only.
    Info {
        /// Checkpoint folder in the Hugging Face layout, or a .gguf file.
        path: PathBuf,
    },
    /// Read every number of a checkpoint once and list all that is wrong. Exit code 0: an engine can load it.
    Verify {
        /// Checkpoint folder in the Hugging Face layout, or a .gguf file.
        path: PathBuf,
    },
    /// Fetch a checkpoint from the Hugging Face hub; a cut download goes on where it was.
    ///
    /// Honours HF_ENDPOINT, and HF_TOKEN or the token file of `hf auth login`. Sizes and checksums are held against
    /// what the hub says; a file gets its name only when it is whole.
    Pull(pull::Args),
    /// Write a checkpoint's weights in few bits, as one file that is mapped to memory: starts in seconds, runs faster.
    ///
    /// Formats: q4 (4.5 bits a weight), q4m (as many, more accurate, a little slower), q4h (5), q8 (8.5), bf16, f32. A call that
    /// was cut off goes on where it was. docs/quantisation.md says what each costs.
    Pack(pack::Args),
    /// Write a checkpoint's logits for given token ids, to compare a conversion with its reference.
    ///
    /// IDS holds tensor `input_ids` (one dimension; i32, i64 or u32), OUT gets tensor `logits` ([tokens, vocab], f32).
    Logits {
        /// Checkpoint folder in the Hugging Face layout, or a .gguf file.
        path: PathBuf,
        /// Safetensors file with the token ids.
        ids: PathBuf,
        /// Safetensors file to write.
        out: PathBuf,
        /// Tokens of a block; blocks are tiled from position 0. An AR model ignores it.
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
        block_length: u32,
        /// Forward everything at once instead of block by block over the K/V cache.
        #[arg(long)]
        no_cache: bool,
    },
}

/// Runs the command.
pub(super) fn command(command: ModelCommand) -> Result<()> {
    match command {
        ModelCommand::Info { path } => show::info(&path),
        ModelCommand::Verify { path } => show::verify(&path),
        ModelCommand::Pack(args) => pack::command(&args),
        ModelCommand::Pull(args) => pull::command(args),
        ModelCommand::Logits { path, ids, out, block_length, no_cache } => {
            logits_file(&path, &ids, &out, block_length as usize, !no_cache)?;
            println!("wrote {}", out.display());
            Ok(())
        }
    }
}
