//! `weir model pack`: what to pack, where to, and how far it is. Must never touch a weight itself.

use std::path::PathBuf;

use anyhow::Result;
use weir_diffusion_engine::Recipe;
use weir_diffusion_engine::pack::pack;

use super::progress::{Told, bytes};

/// What to pack.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Checkpoint folder in the Hugging Face layout, or a .gguf file.
    from: PathBuf,
    /// Folder to write into: model.weir, its checksums, config and tokenizer.
    to: PathBuf,
    /// Format of the weights, then exceptions by kind of tensor, for example `q4m,head=q8,attention=q8`. Kinds:
    /// embedding, head, attention, router, shared, experts, dense.
    #[arg(long, default_value = "default", value_parser = Recipe::parse)]
    recipe: Recipe,
}

/// Packs.
pub(super) fn command(args: &Args) -> Result<()> {
    let mut told: Option<Told> = None;
    let mut last = None;
    let packed = pack(&args.from, &args.to, &args.recipe, |progress| {
        let told = told.get_or_insert_with(|| Told::new(progress.total));
        told.at(progress.done, progress.tensor);
        // Plain lines only now and then: a model has thousands of tensors.
        let tenth = progress.done * 10 / progress.total.max(1);
        if last.replace(tenth).is_some_and(|last| last < tenth) {
            let how = if progress.kept { "was there already" } else { "written" };
            told.line(&format!("{tenth}0 % of {} {how}", bytes(progress.total)));
        }
    })?;
    drop(told);
    println!("{}: {} tensors, {} ({})", packed.file.display(), packed.tensors, bytes(packed.bytes), args.recipe);
    Ok(())
}
