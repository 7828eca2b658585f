//! GGUF files (version 2 and 3, little-endian), read by our own rules: every count is compared with the bytes that are
//! left before anything is kept, keys and tensors are unique, tensors lie one after the other without hole or overlap.
//! Keeps places, not copies. Must never know what a key or tensor means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::error::LoadError;

use super::elements::Element;
use super::gguf_cursor::{Cursor, Wrong};
use super::source::Named;
use super::tensors::{Place, tensor_error};

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// As ggml has it.
const MOST_DIMENSIONS: u32 = 4;
/// A key has at least a length, a type and one byte; a tensor a length, dimensions, a type and an offset.
const LEAST_KEY: u64 = 13;
const LEAST_TENSOR: u64 = 24;

/// One metadata value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Whole(i128),
    Number(f64),
    Flag(bool),
    /// Bytes of the file.
    Text(Range<usize>),
    List(List),
}

/// An array, not yet read: its elements lie in the file.
#[derive(Debug, Clone)]
pub(crate) struct List {
    kind: u32,
    count: usize,
    bytes: Range<usize>,
}

/// A checked file.
pub(crate) struct Gguf {
    file: Named,
    values: BTreeMap<String, Value>,
    /// In file order, dimensions outermost first.
    tensors: Vec<(String, Place)>,
}

impl Gguf {
    /// Reads header, metadata and tensor list.
    pub(crate) fn parse(file: Named) -> Result<Self, LoadError> {
        let name = file.name.clone();
        let whole = |message: String| LoadError::Weights { file: name.clone(), message };
        let mut cursor = Cursor::new(&file.bytes);
        let (tensor_count, key_count) = header(&mut cursor).map_err(|wrong| whole(wrong.0))?;

        let mut values = BTreeMap::new();
        for index in 0..key_count {
            let key = cursor.text().map_err(|wrong| whole(format!("name of key {index}: {wrong}")))?.to_owned();
            let value = value(&mut cursor).map_err(|wrong| whole(format!("key `{key}`: {wrong}")))?;
            if values.insert(key.clone(), value).is_some() {
                return Err(whole(format!("key `{key}` occurs twice")));
            }
        }
        let alignment = alignment(&values).map_err(|wrong| whole(format!("key `{ALIGNMENT}`: {wrong}")))?;

        let mut unplaced = Vec::new();
        let mut names = BTreeSet::new();
        for index in 0..tensor_count {
            let tensor = cursor.text().map_err(|wrong| whole(format!("name of tensor {index}: {wrong}")))?.to_owned();
            let entry = Entry::read(&mut cursor).map_err(|wrong| tensor_error(&name, &tensor, &wrong.0))?;
            if !names.insert(tensor.clone()) {
                return Err(tensor_error(&name, &tensor, "occurs twice"));
            }
            unplaced.push((tensor, entry));
        }
        let tensors = place(&name, unplaced, cursor.at(), file.bytes.len(), alignment)?;
        Ok(Gguf { file, values, tensors })
    }

    /// Name for errors.
    pub(crate) fn name(&self) -> &str {
        &self.file.name
    }

    /// A metadata value.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The text at `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(range) => std::str::from_utf8(self.file.bytes.get(range.clone())?).ok(),
            _ => None,
        }
    }

    /// The texts at `key`, or what is wrong.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<&str>, String> {
        let list = self.list(key)?;
        let mut cursor = Cursor::new(self.file.bytes.get(list.bytes.clone()).unwrap_or_default());
        if list.kind != kind::TEXT {
            return Err("expected a list of texts".into());
        }
        let element = |index| cursor.text().map_err(|wrong| format!("element {index}: {wrong}"));
        (0..list.count).map(element).collect()
    }

    /// The whole numbers at `key`, or what is wrong.
    pub(crate) fn wholes(&self, key: &str) -> Result<Vec<i128>, String> {
        let list = self.list(key)?;
        let mut cursor = Cursor::new(self.file.bytes.get(list.bytes.clone()).unwrap_or_default());
        let element = |index| match scalar(&mut cursor, list.kind) {
            Ok(Value::Whole(whole)) => Ok(whole),
            _ => Err(format!("element {index}: expected a whole number")),
        };
        (0..list.count).map(element).collect()
    }

    /// The numbers at `key`, or what is wrong.
    pub(crate) fn numbers(&self, key: &str) -> Result<Vec<f64>, String> {
        let list = self.list(key)?;
        let mut cursor = Cursor::new(self.file.bytes.get(list.bytes.clone()).unwrap_or_default());
        let element = |index| match scalar(&mut cursor, list.kind) {
            Ok(Value::Number(number)) if number.is_finite() => Ok(number),
            _ => Err(format!("element {index}: expected a finite number")),
        };
        (0..list.count).map(element).collect()
    }

    fn list(&self, key: &str) -> Result<&List, String> {
        match self.values.get(key) {
            Some(Value::List(list)) => Ok(list),
            Some(_) => Err("expected a list".into()),
            None => Err("is missing".into()),
        }
    }

    /// Names and shapes of the tensors, in file order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), place.shape.as_slice()))
    }

    /// The file and where each tensor lies.
    pub(crate) fn into_parts(self) -> (Named, Vec<(String, Place)>) {
        (self.file, self.tensors)
    }
}

/// Numbers of the value types.
mod kind {
    pub(super) const TEXT: u32 = 8;
    pub(super) const LIST: u32 = 9;
}

/// Magic, version and the two counts.
fn header(cursor: &mut Cursor<'_>) -> Result<(u64, u64), Wrong> {
    if cursor.bytes(4).ok() != Some(MAGIC) {
        return Err(Wrong("does not begin with GGUF".into()));
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err(Wrong("is big-endian; this engine reads little-endian files only".into()));
        }
        version => return Err(Wrong(format!("is of GGUF version {version}; versions 2 and 3 are known"))),
    }
    let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
    cursor.room(tensors, LEAST_TENSOR, "tensors")?;
    cursor.room(keys, LEAST_KEY, "keys")?;
    Ok((tensors, keys))
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, Wrong> {
    let kind = cursor.u32()?;
    if kind != kind::LIST {
        return scalar(cursor, kind);
    }
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    let size = size(kind).ok_or_else(|| Wrong(format!("a list of value type {kind} is not known")))?;
    cursor.room(count, size as u64, "elements")?;
    let begin = cursor.at();
    match kind {
        kind::TEXT => (0..count).try_for_each(|_| cursor.skip_text())?,
        // `room` has seen that the product fits.
        _ => cursor.bytes(count as usize * size).map(|_| ())?,
    }
    Ok(Value::List(List { kind, count: count as usize, bytes: begin..cursor.at() }))
}

fn scalar(cursor: &mut Cursor<'_>, kind: u32) -> Result<Value, Wrong> {
    Ok(match kind {
        0 => Value::Whole(u8::from_le_bytes(cursor.array()?).into()),
        1 => Value::Whole(i8::from_le_bytes(cursor.array()?).into()),
        2 => Value::Whole(u16::from_le_bytes(cursor.array()?).into()),
        3 => Value::Whole(i16::from_le_bytes(cursor.array()?).into()),
        4 => Value::Whole(u32::from_le_bytes(cursor.array()?).into()),
        5 => Value::Whole(i32::from_le_bytes(cursor.array()?).into()),
        6 => Value::Number(f32::from_le_bytes(cursor.array()?).into()),
        7 => match cursor.array::<1>()? {
            [0] => Value::Flag(false),
            [1] => Value::Flag(true),
            [other] => return Err(Wrong(format!("{other} is neither true nor false"))),
        },
        kind::TEXT => {
            let length = cursor.text()?.len();
            Value::Text(cursor.at() - length..cursor.at())
        }
        10 => Value::Whole(u64::from_le_bytes(cursor.array()?).into()),
        11 => Value::Whole(i64::from_le_bytes(cursor.array()?).into()),
        12 => Value::Number(f64::from_le_bytes(cursor.array()?)),
        _ => return Err(Wrong(format!("value type {kind} is not known"))),
    })
}

/// Least bytes of a list's element; a list of lists is not known.
fn size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        kind::TEXT | 10..=12 => Some(8),
        _ => None,
    }
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64, Wrong> {
    match values.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Whole(whole)) => match u32::try_from(*whole) {
            Ok(alignment) if alignment.is_power_of_two() => Ok(alignment.into()),
            _ => Err(Wrong(format!("{whole} is not a power of two below 2^32"))),
        },
        Some(_) => Err(Wrong("expected a whole number".into())),
    }
}

/// One tensor's line in the list.
struct Entry {
    element: Element,
    shape: Vec<usize>,
    size: usize,
    offset: u64,
}

impl Entry {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let count = cursor.u32()?;
        if !(1..=MOST_DIMENSIONS).contains(&count) {
            return Err(Wrong(format!("{count} dimensions, expected 1 to {MOST_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..count {
            let n = cursor.u64()?;
            let n = usize::try_from(n).ok().filter(|n| *n > 0);
            shape.push(n.ok_or_else(|| Wrong("a dimension is 0 or too large".into()))?);
        }
        shape.reverse(); // GGUF writes the row's length first.
        let kind = cursor.u32()?;
        let element = element(kind).ok_or_else(|| {
            Wrong(format!(
                "element type {kind} is not F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K"
            ))
        })?;
        let size = element.bytes(&shape).ok_or_else(|| {
            let block = element.block().0;
            Wrong(format!("shape {shape:?} is not rows of {} blocks of {block}, or overflows", element.name()))
        })?;
        Ok(Entry { element, shape, size, offset: cursor.u64()? })
    }
}

/// Numbers of the element types this engine has.
fn element(kind: u32) -> Option<Element> {
    Some(match kind {
        0 => Element::F32,
        1 => Element::F16,
        2 => Element::Q4_0,
        3 => Element::Q4_1,
        6 => Element::Q5_0,
        7 => Element::Q5_1,
        8 => Element::Q8_0,
        12 => Element::Q4K,
        13 => Element::Q5K,
        14 => Element::Q6K,
        30 => Element::Bf16,
        _ => return None,
    })
}

/// Places in the file. The data begins at the next multiple of `alignment` after `list_end`, and each tensor at the
/// next multiple after the one before it.
fn place(
    file: &str,
    tensors: Vec<(String, Entry)>,
    list_end: usize,
    length: usize,
    alignment: u64,
) -> Result<Vec<(String, Place)>, LoadError> {
    let next = |at: u64| at.checked_next_multiple_of(alignment);
    let data = next(list_end as u64).and_then(|data| usize::try_from(data).ok());
    let data_length = data.and_then(|data| length.checked_sub(data)).unwrap_or(0);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|index| tensors.get(*index).map(|(_, entry)| entry.offset));
    let mut due = 0u64;
    let mut end = 0u64;
    for (name, entry) in order.iter().filter_map(|index| tensors.get(*index)) {
        if entry.offset != due {
            return Err(tensor_error(file, name, &format!("starts at byte {} where {due} is due", entry.offset)));
        }
        let fits = entry.offset.checked_add(entry.size as u64).filter(|end| *end <= data_length as u64);
        let outside = || format!("{} bytes from {} lie outside the data's {data_length}", entry.size, entry.offset);
        end = fits.ok_or_else(|| tensor_error(file, name, &outside()))?;
        due = next(end).unwrap_or(u64::MAX);
    }
    if (data_length as u64).saturating_sub(end) >= alignment {
        let message = format!("tensors end at byte {end}, the data at {data_length}");
        return Err(LoadError::Weights { file: file.to_owned(), message });
    }
    let data = data.unwrap_or(length);
    // No sum can overflow: each tensor was seen to lie in the file.
    let places = tensors.into_iter().map(|(name, entry)| {
        let begin = data + entry.offset as usize;
        (name, Place { element: entry.element, shape: entry.shape, bytes: begin..begin + entry.size })
    });
    Ok(places.collect())
}
