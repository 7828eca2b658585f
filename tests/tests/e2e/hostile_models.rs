//! Model folders that are broken, or made to break us: `weir` does not start, names the file and the tensor or field,
//! and takes neither much time nor much memory for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_tests::binary::{Weir, repository, run};

/// A copy of the embedded diffusion model.
struct Model {
    folder: TempDir,
}

impl Model {
    fn copy() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let from = repository().join("models/nano/diffusion");
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(from.join(name), folder.path().join(name)).with_context(|| name.to_owned())?;
        }
        Ok(Model { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        format!(
            "[engine.diffusion]\nmodel = {:?}\n[engine.ar]\nenabled = false\n",
            self.folder.path().display().to_string()
        )
    }

    /// The start must fail and name all of `words`.
    #[track_caller]
    fn refused(&self, words: &[&str]) -> Result<()> {
        let file = self.path("weir.toml");
        std::fs::write(&file, self.config())?;
        for command in ["serve", "check"] {
            let output = run(
                self.folder.path(),
                &[command, "--listen", "127.0.0.1:0", "--config", &file.display().to_string()],
            )?;
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command}: {err}");
            assert!(!err.contains("panick"), "{err}");
            for word in words {
                assert!(err.contains(word), "{command}: no `{word}` in {err}");
            }
        }
        Ok(())
    }

    /// Rewrites the weights' header: the JSON, and what follows it stays.
    fn rewrite_header(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.path("model.safetensors");
        let bytes = std::fs::read(&path)?;
        let (length, rest) = bytes.split_first_chunk::<8>().context("a length")?;
        let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length))?);
        let mut header: Value = serde_json::from_slice(header)?;
        change(&mut header);
        let header = header.to_string().into_bytes();
        let length = u64::try_from(header.len())?.to_le_bytes();
        Ok(std::fs::write(path, [&length[..], &header, data].concat())?)
    }

    fn rewrite_json(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.path(name);
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        change(&mut value);
        Ok(std::fs::write(path, value.to_string())?)
    }
}

/// Some tensor's name.
fn a_tensor(header: &Value) -> String {
    let names = header.as_object().into_iter().flatten().map(|(name, _)| name);
    names.filter(|name| name.contains("layers.1.")).min().cloned().unwrap_or_default()
}

#[test]
fn the_copy_itself_is_fine() -> Result<()> {
    Weir::start(&Model::copy()?.config()).map(drop)
}

#[test]
fn weights_that_end_too_early() -> Result<()> {
    for keep in [0, 4, 8, 100, 100_000] {
        let model = Model::copy()?;
        let path = model.path("model.safetensors");
        let bytes = std::fs::read(&path)?;
        std::fs::write(&path, &bytes[..keep.min(bytes.len() / 2)])?;
        model.refused(&["model.safetensors"])?;
    }
    Ok(())
}

#[test]
fn weights_whose_header_lies() -> Result<()> {
    let model = Model::copy()?;
    std::fs::write(model.path("model.safetensors"), [&u64::MAX.to_le_bytes()[..], b"{}"].concat())?;
    model.refused(&["model.safetensors"])?;

    let changes: [fn(&mut Value); 4] = [
        |tensor| tensor["shape"] = json!([1, 1]),
        |tensor| tensor["shape"] = json!([u64::MAX, u64::MAX]),
        |tensor| tensor["data_offsets"] = json!([0, u64::MAX]),
        |tensor| tensor["dtype"] = json!("F128"),
    ];
    for change in changes {
        let model = Model::copy()?;
        model.rewrite_header(|header| {
            let name = a_tensor(header);
            change(&mut header[name]);
        })?;
        model.refused(&["model.safetensors"])?;
    }
    Ok(())
}

#[test]
fn a_missing_and_a_strange_tensor_are_named() -> Result<()> {
    let model = Model::copy()?;
    let mut missing = String::new();
    model.rewrite_header(|header| {
        missing = a_tensor(header);
        if let Some(map) = header.as_object_mut()
            && let Some(tensor) = map.remove(&missing)
        {
            map.insert("model.stranger.weight".into(), tensor);
        }
    })?;
    model.refused(&["model.safetensors", &missing])
}

#[test]
fn files_that_are_garbage_or_missing() -> Result<()> {
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        for garbage in [&b""[..], b"{", b"[]", b"\xff\xfe\x00", b"{}"] {
            // Some of the tokenizer's config may be left out.
            if name == "tokenizer_config.json" && garbage == b"{}" {
                continue;
            }
            let model = Model::copy()?;
            std::fs::write(model.path(name), garbage)?;
            model.refused(&[name])?;
        }
        let model = Model::copy()?;
        std::fs::remove_file(model.path(name))?;
        model.refused(&[name])?;
    }
    Ok(())
}

#[test]
fn absurd_sizes_in_the_config() -> Result<()> {
    for field in ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_experts", "vocab_size"] {
        for value in [json!(0), json!(-1), json!(4_000_000_000_u64), json!(1e30), json!("many")] {
            let model = Model::copy()?;
            model.rewrite_json("config.json", |config| config[field] = value.clone())?;
            // A size that only contradicts the weights may name them instead of the config.
            model.refused(&[]).with_context(|| format!("{field} = {value}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_folder_that_is_not_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("weir.toml");
    std::fs::write(&config, "[engine.diffusion]\nmodel = \"no/such/folder\"\n")?;
    let output = run(Path::new(folder.path()), &["check", "--config", &config.display().to_string()])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/folder"));
    Ok(())
}
