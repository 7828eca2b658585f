//! Safetensors files, read by our own rules so that every error names the file and the tensor: offsets tile the data
//! without holes, shapes and bytes agree, numbers are finite, and at the end nothing is left unread. Must never
//! allocate by a number that the file's size does not cover.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::LoadError;

use super::source::{Bytes, Named};

/// Most bytes of a header; the 14,813 tensors of LLaDA2.0-mini need about 2 MB.
const HEADER_LIMIT: u64 = 64 << 20;
const MOST_DIMENSIONS: usize = 8;

/// Where one tensor lies.
struct Tensor {
    shard: usize,
    dtype: String,
    shape: Vec<usize>,
    bytes: Range<usize>,
    read: bool,
}

/// All tensors of a checkpoint; each is taken out once.
pub(crate) struct Weights {
    shards: Vec<(String, Bytes, usize)>,
    tensors: BTreeMap<String, Tensor>,
    parameters: u64,
    stored_bytes: u64,
}

impl Weights {
    /// Reads and checks the headers.
    pub(crate) fn open(files: Vec<Named>) -> Result<Self, LoadError> {
        let mut weights = Weights { shards: Vec::new(), tensors: BTreeMap::new(), parameters: 0, stored_bytes: 0 };
        for file in files {
            let data_start = weights.index(&file)?;
            weights.shards.push((file.name, file.bytes, data_start));
        }
        Ok(weights)
    }

    /// Adds one file's tensors; returns where its data starts.
    fn index(&mut self, file: &Named) -> Result<usize, LoadError> {
        let (header, data_start) = header(file)?;
        let data_length = file.bytes.len() - data_start;
        let mut ends = Vec::new();
        for (name, entry) in header.0 {
            let [begin, end] = entry.data_offsets;
            let wrong = |message: String| tensor_error(&file.name, &name, message);
            if begin > end || end > data_length {
                return Err(wrong(format!("bytes {begin}..{end} lie outside the file's {data_length}")));
            }
            if entry.shape.len() > MOST_DIMENSIONS {
                return Err(wrong(format!("{} dimensions, at most {MOST_DIMENSIONS}", entry.shape.len())));
            }
            let size = element_size(&entry.dtype)
                .ok_or_else(|| wrong("element type is not F32, F16, BF16, I32, I64 or U32".into()))?;
            let expected = entry.shape.iter().try_fold(size, |product, n| product.checked_mul(*n));
            if expected != Some(end - begin) {
                return Err(wrong(format!("shape {:?} does not fit {} bytes", entry.shape, end - begin)));
            }
            ends.push((begin, end, name.clone()));
            let tensor = Tensor {
                shard: self.shards.len(),
                dtype: entry.dtype,
                shape: entry.shape,
                bytes: data_start + begin..data_start + end,
                read: false,
            };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                return Err(tensor_error(&file.name, &name, "occurs in two files".into()));
            }
        }
        check_tiling(&file.name, ends, data_length)?;
        Ok(data_start)
    }

    /// The tensor as f32, which must have this shape and finite numbers only.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let (file, dtype, bytes) = self.claim(name, Some(shape))?;
        let values: Vec<f32> = match dtype.as_str() {
            "F32" => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            "F16" => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            "BF16" => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            other => return Err(tensor_error(&file, name, format!("expected F32, F16 or BF16, got {other}"))),
        };
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(tensor_error(&file, name, format!("element {index} is not a finite number")));
        }
        self.parameters += values.len() as u64;
        Ok(values)
    }

    /// A one-dimensional tensor of whole numbers, as used for token ids.
    pub(crate) fn take_ids(&mut self, name: &str) -> Result<Vec<i64>, LoadError> {
        let (file, dtype, bytes) = self.claim(name, None)?;
        match dtype.as_str() {
            "I32" => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()),
            "U32" => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from(u32::from_le_bytes(*bytes))).collect()),
            "I64" => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            other => Err(tensor_error(&file, name, format!("expected I32, I64 or U32, got {other}"))),
        }
    }

    /// Marks a tensor as read and returns its file, element type and bytes. Without a shape, one dimension is due.
    fn claim(&mut self, name: &str, shape: Option<&[usize]>) -> Result<(String, String, &[u8]), LoadError> {
        let all_files = || self.shards.iter().map(|(file, ..)| file.as_str()).collect::<Vec<_>>().join(", ");
        let Some(tensor) = self.tensors.get_mut(name) else {
            return Err(tensor_error(&all_files(), name, "is missing".into()));
        };
        let Some((file, bytes, _)) = self.shards.get(tensor.shard) else {
            return Err(tensor_error(&all_files(), name, "lost its file".into()));
        };
        let fits = match shape {
            Some(shape) => tensor.shape == shape,
            None => tensor.shape.len() == 1,
        };
        if !fits {
            let expected = shape.map_or("one dimension".to_owned(), |shape| format!("shape {shape:?}"));
            return Err(tensor_error(file, name, format!("expected {expected}, got {:?}", tensor.shape)));
        }
        let bytes = bytes.get(tensor.bytes.clone()).unwrap_or_default();
        tensor.read = true;
        self.stored_bytes += bytes.len() as u64;
        Ok((file.clone(), tensor.dtype.clone(), bytes))
    }

    /// Whether a tensor exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Ends the reading: `(parameters, bytes as stored)`, or an error naming a tensor that nothing asked for.
    pub(crate) fn finish(self) -> Result<(u64, u64), LoadError> {
        match self.tensors.iter().find(|(_, tensor)| !tensor.read) {
            None => Ok((self.parameters, self.stored_bytes)),
            Some((name, tensor)) => {
                let file = self.shards.get(tensor.shard).map_or("", |(file, ..)| file.as_str());
                Err(tensor_error(file, name, "is not part of this architecture".into()))
            }
        }
    }
}

/// One tensor's line in the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header's tensors in file order. A name that occurs twice is an error, where a plain map would keep the last.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut names = BTreeSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else if names.insert(name.clone()) {
                        let entry = map.next_value::<Entry>();
                        entries.push((
                            name.clone(),
                            entry.map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?,
                        ));
                    } else {
                        return Err(A::Error::custom(format!("tensor `{name}` occurs twice")));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The header and where the data starts.
fn header(file: &Named) -> Result<(Header, usize), LoadError> {
    let wrong = |message: String| LoadError::Weights { file: file.name.clone(), message };
    let Some((length, rest)) = file.bytes.split_first_chunk::<8>() else {
        return Err(wrong(format!("{} bytes are too few for a header", file.bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT {
        return Err(wrong(format!("header of {length} bytes, at most {HEADER_LIMIT}")));
    }
    let text = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let text = text.ok_or_else(|| wrong(format!("header of {length} bytes in a file of {}", file.bytes.len())))?;
    let header = serde_json::from_slice(text).map_err(|error| wrong(format!("header: {error}")))?;
    Ok((header, 8 + text.len()))
}

/// Tensors must follow each other without hole or overlap and fill the file.
fn check_tiling(file: &str, mut ranges: Vec<(usize, usize, String)>, length: usize) -> Result<(), LoadError> {
    ranges.sort();
    let mut at = 0;
    for (begin, end, name) in ranges {
        if begin != at {
            return Err(tensor_error(file, &name, format!("starts at byte {begin} where {at} is due")));
        }
        at = end;
    }
    if at == length {
        return Ok(());
    }
    Err(LoadError::Weights { file: file.into(), message: format!("tensors end at byte {at}, the data at {length}") })
}

fn element_size(dtype: &str) -> Option<usize> {
    match dtype {
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" => Some(2),
        "I64" => Some(8),
        _ => None,
    }
}

fn tensor_error(file: &str, tensor: &str, message: String) -> LoadError {
    LoadError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), message }
}
