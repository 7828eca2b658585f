//! `weir model …`: looks at checkpoints without serving them. Must never be needed by a request.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use weir_diffusion_engine::logits_file;

/// What can be done with a checkpoint.
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Write a checkpoint's logits for given token ids, to compare a conversion with its reference.
    ///
    /// IDS holds tensor `input_ids` (one dimension; i32, i64 or u32), OUT gets tensor `logits` ([tokens, vocab], f32).
    Logits {
        /// Checkpoint folder in the Hugging Face layout (config.json, *.safetensors).
        dir: PathBuf,
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
        ModelCommand::Logits { dir, ids, out, block_length, no_cache } => {
            logits_file(&dir, &ids, &out, block_length as usize, !no_cache)?;
            println!("wrote {}", out.display());
            Ok(())
        }
    }
}
