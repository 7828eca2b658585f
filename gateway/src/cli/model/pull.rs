//! `weir model pull`: which files of a repository an engine needs, and where they go. Must never speak HTTP itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::progress::{Told, bytes};
use crate::hub::{Hub, RemoteFile};

/// What to fetch.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Repository on the hub, for example inclusionAI/LLaDA2.1-mini.
    repo: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    revision: String,
    /// Folder to write into; without it one named like the repository, here.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fetch only this file; may be given several times. Needed where a repository holds several .gguf files.
    #[arg(long = "file", value_name = "NAME")]
    files: Vec<String>,
}

/// Fetches.
pub(super) fn command(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(pull(args))
}

async fn pull(args: Args) -> Result<()> {
    let hub = Hub::from_environment()?;
    let listing = hub.list(&args.repo, &args.revision).await?;
    let files = choose(&listing.files, &args.files)?;
    let name = args.repo.rsplit('/').next().unwrap_or(&args.repo);
    let dir = args.dir.unwrap_or_else(|| PathBuf::from(name));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let total = files.iter().map(|file| file.size.unwrap_or(0)).sum();
    let told = Told::new(total);
    let mut before = 0;
    for file in &files {
        let mut at = |done| told.at(before + done, &file.name);
        let fetched = hub.fetch(&args.repo, &listing.commit, file, &dir, &mut at).await;
        let fetched = fetched.with_context(|| file.name.clone())?;
        before += fetched.bytes;
        told.line(&format!("{:<40} {:>10}  {}", file.name, bytes(fetched.bytes), fetched.how));
    }
    drop(told);
    println!("{} files, {} in {} (commit {})", files.len(), bytes(before), dir.display(), listing.commit);
    Ok(())
}

/// The files an engine needs, or those that were named.
fn choose<'a>(all: &'a [RemoteFile], named: &[String]) -> Result<Vec<&'a RemoteFile>> {
    if !named.is_empty() {
        return named
            .iter()
            .map(|name| all.iter().find(|file| file.name == *name).with_context(|| format!("no file {name} in it")))
            .collect();
    }
    let needed = |file: &&RemoteFile| {
        let name = file.name.as_str();
        matches!(name, "config.json" | "generation_config.json" | "tokenizer.json" | "tokenizer_config.json")
            || matches!(name, "LICENSE" | "README.md" | "model.safetensors.index.json")
            || (!name.contains('/') && (name.ends_with(".safetensors") || name.ends_with(".gguf")))
    };
    let files: Vec<&RemoteFile> = all.iter().filter(needed).collect();
    let gguf: Vec<&str> = files.iter().map(|file| file.name.as_str()).filter(|name| name.ends_with(".gguf")).collect();
    if gguf.len() > 1 {
        bail!("it holds several .gguf files; name one with --file: {}", gguf.join(", "));
    }
    if !files.iter().any(|file| file.name.ends_with(".safetensors") || file.name.ends_with(".gguf")) {
        bail!("it holds no .safetensors and no .gguf file at its top level");
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(names: &[&str]) -> Vec<RemoteFile> {
        let file = |name: &&str| RemoteFile { name: (*name).to_owned(), size: None, digest: None };
        names.iter().map(file).collect()
    }

    #[test]
    fn what_an_engine_needs_is_taken_and_nothing_else() {
        let all =
            remote(&["config.json", "pytorch_model.bin", "a.safetensors", "x/b.safetensors", "run.py", "LICENSE"]);
        let names = |chosen: Vec<&RemoteFile>| chosen.iter().map(|file| file.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            choose(&all, &[]).map(names).ok(),
            Some(vec!["config.json".into(), "a.safetensors".into(), "LICENSE".into()])
        );
        assert_eq!(choose(&all, &["run.py".into()]).map(names).ok(), Some(vec!["run.py".into()]));
        assert!(choose(&all, &["no".into()]).is_err());
        assert!(choose(&remote(&["config.json"]), &[]).is_err());
        let many = choose(&remote(&["a.gguf", "b.gguf"]), &[]).map(names).map_err(|error| error.to_string());
        assert!(many.is_err_and(|error| error.contains("a.gguf, b.gguf")));
    }
}
