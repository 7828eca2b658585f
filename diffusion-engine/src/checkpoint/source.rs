//! Where a checkpoint's bytes come from: a folder or the program itself. The only module that opens files of a
//! checkpoint. Must never look inside them, except for the list of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::Deserialize;

use crate::error::LoadError;
use crate::options::ModelFiles;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Everything but the weights.
pub(crate) const PAPERS: [&str; 3] = [CONFIG, TOKENIZER, TOKENIZER_CONFIG];
const WEIGHTS: &str = "model.safetensors";
const SHARDS: &str = "model.safetensors.index.json";
/// What `weir model pack` writes; where it lies, it is what is loaded.
pub(crate) const PACKED: &str = "model.weir";

/// Most bytes read of each JSON file; the real ones have 2 KB, 12 MB, 50 KB and 1.5 MB.
const SMALL_LIMIT: u64 = 4 << 20;
const TOKENIZER_LIMIT: u64 = 256 << 20;
const INDEX_LIMIT: u64 = 64 << 20;
const MOST_SHARDS: usize = 1024;

/// Bytes, wherever they lie.
pub(crate) enum Bytes {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A file of a checkpoint: the name errors use, and its bytes.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

/// `config.json`.
pub(crate) fn config(files: &ModelFiles) -> Result<Named, LoadError> {
    match files {
        ModelFiles::Dir(dir) => match gguf_inside(dir) {
            Some(inside) => {
                let message =
                    format!("has no `{CONFIG}` but GGUF files, each a model: name one, as {}", inside.display());
                Err(LoadError::Weights { file: display(dir), message })
            }
            None => read(dir, CONFIG, SMALL_LIMIT),
        },
        ModelFiles::Embedded { config, .. } => Ok(embedded(CONFIG, config)),
    }
}

/// `tokenizer.json`.
pub(crate) fn tokenizer(files: &ModelFiles) -> Result<Named, LoadError> {
    match files {
        ModelFiles::Dir(dir) => read(dir, TOKENIZER, TOKENIZER_LIMIT),
        ModelFiles::Embedded { tokenizer, .. } => Ok(embedded(TOKENIZER, tokenizer)),
    }
}

/// `tokenizer_config.json`.
pub(crate) fn tokenizer_config(files: &ModelFiles) -> Result<Named, LoadError> {
    match files {
        ModelFiles::Dir(dir) => read(dir, TOKENIZER_CONFIG, SMALL_LIMIT),
        ModelFiles::Embedded { tokenizer_config, .. } => Ok(embedded(TOKENIZER_CONFIG, tokenizer_config)),
    }
}

/// Files with tensors, and what an index says about them.
pub(crate) struct WeightFiles {
    pub(crate) files: Vec<Named>,
    pub(crate) index: Option<Index>,
}

/// `model.safetensors.index.json`.
pub(crate) struct Index {
    /// Name of the index file.
    pub(crate) name: String,
    /// Tensor, shard.
    pub(crate) shards: BTreeMap<String, String>,
}

/// The weights: one file, or the shards the index lists.
pub(crate) fn weights(files: &ModelFiles) -> Result<WeightFiles, LoadError> {
    match files {
        ModelFiles::Embedded { weights, .. } => {
            Ok(WeightFiles { files: vec![embedded(WEIGHTS, weights)], index: None })
        }
        ModelFiles::Dir(dir) if dir.join(PACKED).is_file() => {
            Ok(WeightFiles { files: vec![map(&dir.join(PACKED))?], index: None })
        }
        ModelFiles::Dir(dir) if dir.join(SHARDS).is_file() => {
            let index = index(&read(dir, SHARDS, INDEX_LIMIT)?)?;
            let names: BTreeSet<&String> = index.shards.values().collect();
            let missing: Vec<&str> =
                names.iter().filter(|name| !dir.join(name).is_file()).map(|name| name.as_str()).collect();
            if !missing.is_empty() {
                let message =
                    format!("{} of {} shards are missing: {}", missing.len(), names.len(), missing.join(", "));
                return Err(LoadError::Weights { file: index.name, message });
            }
            let files = names.iter().map(|shard| map(&dir.join(shard))).collect::<Result<_, LoadError>>()?;
            Ok(WeightFiles { files, index: Some(index) })
        }
        ModelFiles::Dir(dir) => Ok(WeightFiles { files: vec![map(&dir.join(WEIGHTS))?], index: None }),
    }
}

/// Where the sums of a packed file lie: `SHA-256  tensor`, a line each.
pub(crate) fn sums_of(packed: &Path) -> PathBuf {
    packed.with_extension("weir.sha256")
}

/// A sum as text.
pub(crate) fn hex(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sums beside a folder's packed weights; `None` where there is no such file.
pub(crate) fn sums(dir: &Path) -> Result<Option<BTreeMap<String, String>>, LoadError> {
    let path = sums_of(&dir.join(PACKED));
    let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file()) else {
        return Ok(None);
    };
    let file = read(dir, name, INDEX_LIMIT)?;
    let lines = String::from_utf8_lossy(&file.bytes).into_owned();
    let pairs = lines.lines().filter_map(|line| line.split_once("  "));
    Ok(Some(pairs.map(|(sum, tensor)| (tensor.to_owned(), sum.to_owned())).collect()))
}

/// What tells a checkpoint, a folder or a single file, from a later one at the same place without reading it: names, sizes
/// and times of its files, but for those that are still being written.
#[must_use]
pub fn fingerprint(path: &Path) -> String {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_path_buf()],
    };
    files.retain(|file| !file.to_string_lossy().contains(".partial"));
    files.sort();
    let told = files.iter().filter_map(|file| {
        let about = std::fs::metadata(file).ok().filter(|about| about.is_file())?;
        let time = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
        Some(format!("{} {} {time}", file.file_name()?.to_string_lossy(), about.len()))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// The first GGUF file of a folder that is no checkpoint itself: what was meant, most likely.
#[must_use]
pub fn gguf_inside(dir: &Path) -> Option<PathBuf> {
    if dir.join(CONFIG).exists() {
        return None;
    }
    let files = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "gguf")).min()
}

/// Maps one file.
pub(crate) fn map(path: &Path) -> Result<Named, LoadError> {
    let failed = |cause| LoadError::Read { file: path.to_path_buf(), cause };
    // Asked for first: to open a pipe waits for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("is no file")));
    }
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() == 0 {
        return Ok(Named { name: display(path), bytes: Bytes::Static(&[]) });
    }
    // SAFETY: the map is read-only. It is dropped after the load, or with the model where its packed weights are used
    // in place. A file that another process cuts meanwhile would fault; `weir model pack` gives a file its name when it
    // is whole and never writes to it again, and a checkpoint is not written while it is loaded.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    // Pages of 2 MB where the file system has them for files (ext4 since Linux 6.16, XFS since 5.18): products then wait
    // less for where a page lies. Refused elsewhere, which costs nothing.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(Named { name: display(path), bytes: Bytes::Mapped(map) })
}

fn embedded(name: &str, bytes: &'static [u8]) -> Named {
    Named { name: format!("embedded {name}"), bytes: Bytes::Static(bytes) }
}

fn read(dir: &Path, name: &str, limit: u64) -> Result<Named, LoadError> {
    let path = dir.join(name);
    let failed = |cause| LoadError::Read { file: path.clone(), cause };
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(std::io::Error::other(format!("larger than {limit} bytes"))));
    }
    Ok(Named { name: display(&path), bytes: Bytes::Owned(bytes) })
}

/// An index whose shards are plain file names.
fn index(file: &Named) -> Result<Index, LoadError> {
    #[derive(Deserialize)]
    struct Written {
        weight_map: BTreeMap<String, String>,
    }
    let wrong = |message: String| LoadError::Weights { file: file.name.clone(), message };
    let written: Written = serde_json::from_slice(&file.bytes).map_err(|error| wrong(error.to_string()))?;
    let names: BTreeSet<&String> = written.weight_map.values().collect();
    if names.is_empty() || names.len() > MOST_SHARDS {
        return Err(wrong(format!("names {} shards, expected 1 to {MOST_SHARDS}", names.len())));
    }
    let plain = |name: &String| Path::new(name).file_name().is_some_and(|file| file == name.as_str());
    match names.iter().find(|name| !plain(name)) {
        Some(_) => Err(wrong("`weight_map` names a file outside the folder".into())),
        None => Ok(Index { name: file.name.clone(), shards: written.weight_map }),
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
