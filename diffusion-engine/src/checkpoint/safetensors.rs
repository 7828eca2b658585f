//! Safetensors files, read by our own rules so that every error names the file and the tensor: offsets tile the data
//! without holes, shapes and bytes agree. Must never allocate by a number that the file's size does not cover.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use weir_kernels::packed::Format;

use crate::error::LoadError;

use super::elements::Element;
use super::source::Named;
use super::tensors::{Place, tensor_error};

/// Most bytes of a header; the 14,813 tensors of LLaDA2.0-mini need about 2 MB.
const HEADER_LIMIT: u64 = 64 << 20;
const MOST_DIMENSIONS: usize = 8;

/// Reads and checks the header: every tensor's place, in file order.
pub(super) fn places(file: &Named) -> Result<Vec<(String, Place)>, LoadError> {
    let (header, data_start) = header(file)?;
    let data_length = file.bytes.len() - data_start;
    let mut places = Vec::new();
    let mut ranges = Vec::new();
    for (name, entry) in header.0 {
        let [begin, end] = entry.data_offsets;
        let wrong = |message: String| tensor_error(&file.name, &name, &message);
        if begin > end || end > data_length {
            return Err(wrong(format!("bytes {begin}..{end} lie outside the file's {data_length}")));
        }
        if entry.shape.len() > MOST_DIMENSIONS {
            return Err(wrong(format!("{} dimensions, at most {MOST_DIMENSIONS}", entry.shape.len())));
        }
        let element = element(&entry.dtype).ok_or_else(|| wrong(unknown(&entry.dtype)))?;
        if element.bytes(&entry.shape) != Some(end - begin) {
            return Err(wrong(format!("shape {:?} does not fit {} bytes", entry.shape, end - begin)));
        }
        // What its bytes do not bound where another dimension is 0.
        if entry.shape.iter().try_fold(1usize, |count, n| count.checked_mul(*n)).is_none() {
            return Err(wrong(format!("shape {:?} is too large", entry.shape)));
        }
        ranges.push((begin, end, name.clone()));
        places.push((name, Place { element, shape: entry.shape, bytes: data_start + begin..data_start + end }));
    }
    check_tiling(&file.name, ranges, data_length)?;
    Ok(places)
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
            return Err(tensor_error(file, &name, &format!("starts at byte {begin} where {at} is due")));
        }
        at = end;
    }
    if at == length {
        return Ok(());
    }
    Err(LoadError::Weights { file: file.into(), message: format!("tensors end at byte {at}, the data at {length}") })
}

fn element(dtype: &str) -> Option<Element> {
    let plain = [Element::F32, Element::F16, Element::Bf16, Element::I32, Element::I64, Element::U32];
    let packed = Format::ALL.map(Element::Packed);
    plain.into_iter().chain(packed).find(|element| element.name() == dtype)
}

fn unknown(dtype: &str) -> String {
    // A file may hold anything in its place.
    let shown: String = dtype.chars().take(16).flat_map(char::escape_debug).collect();
    if dtype.starts_with("WEIR_") {
        return format!(
            "packed as {shown} by another version of Weir: run that one, or `weir model pack` the source anew"
        );
    }
    format!("element type {shown} is not F32, F16, BF16, I32, I64 or U32")
}
