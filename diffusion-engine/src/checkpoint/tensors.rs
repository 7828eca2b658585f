//! A checkpoint's tensors, whatever file format they come from: each is asked for by its published name and its
//! shape, must hold finite numbers, and at the end nothing may be left unread. Must never allocate by a number that
//! the files' size does not cover.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use weir_kernels::packed::PackedWeights;

use crate::error::LoadError;

use super::elements::Element;
use super::source::{Bytes, Index, Named, WeightFiles};
use super::{gguf, gguf_names, safetensors};

/// Where one tensor lies. A reader of a format makes these; the byte range is inside the file and as long as `shape`
/// demands.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) element: Element,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file.
    pub(crate) bytes: Range<usize>,
}

struct Tensor {
    file: usize,
    place: Place,
    /// Somebody asked for it.
    read: bool,
}

/// A tensor as the header describes it.
#[derive(Debug, Clone)]
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a str,
    pub(crate) element: Element,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: u64,
}

/// All tensors of a checkpoint.
pub(crate) struct Weights {
    files: Vec<(String, Arc<Bytes>)>,
    /// Turns a published name into the file's own, for errors.
    stored: fn(&str) -> String,
    tensors: BTreeMap<String, Tensor>,
    parameters: u64,
    stored_bytes: u64,
}

impl Weights {
    /// Reads and checks the headers of safetensors files, and that their index agrees with them.
    pub(crate) fn open(WeightFiles { files, index }: WeightFiles) -> Result<Self, LoadError> {
        let mut weights = Weights::none();
        for file in files {
            let places = safetensors::places(&file)?;
            weights.add(file, places)?;
        }
        if let Some(index) = index {
            weights.check_index(&index)?;
        }
        Ok(weights)
    }

    /// Each tensor must lie where the index says, and nowhere else.
    fn check_index(&self, index: &Index) -> Result<(), LoadError> {
        for (name, shard) in &index.shards {
            let own = self.listed(name).and_then(|listed| Path::new(listed.file).file_name()?.to_str());
            let message = match own {
                Some(own) if own == shard => continue,
                Some(own) => format!("the index says {shard}, it lies in {own}"),
                None => format!("the index says {shard}, which does not hold it"),
            };
            return Err(tensor_error(&index.name, name, &message));
        }
        match self.tensors.keys().find(|name| !index.shards.contains_key(*name)) {
            Some(name) => Err(tensor_error(&index.name, name, "lies in a shard, but the index does not name it")),
            None => Ok(()),
        }
    }

    /// The tensors of a GGUF file, under the published names.
    pub(crate) fn of_gguf(file: gguf::Gguf) -> Result<Self, LoadError> {
        let mut weights = Weights::none();
        weights.stored = gguf_names::stored;
        let (file, places) = file.into_parts();
        weights.add(file, places.into_iter().map(|(name, place)| (gguf_names::published(&name), place)).collect())?;
        Ok(weights)
    }

    fn none() -> Self {
        Weights { files: Vec::new(), stored: str::to_owned, tensors: BTreeMap::new(), parameters: 0, stored_bytes: 0 }
    }

    fn add(&mut self, file: Named, places: Vec<(String, Place)>) -> Result<(), LoadError> {
        for (name, place) in places {
            let tensor = Tensor { file: self.files.len(), place, read: false };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                return Err(tensor_error(&file.name, &name, "occurs twice"));
            }
        }
        self.files.push((file.name, Arc::new(file.bytes)));
        Ok(())
    }

    /// The tensor as f32, which must have this shape and finite numbers only. With `part`, only that index of the
    /// outermost dimension.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError> {
        let (element, bytes, finite) = self.locate(name, shape, part)?;
        let values = element.decode(bytes);
        finite.check(&values, 0)?;
        let stored = bytes.len() as u64;
        self.parameters += values.len() as u64;
        self.stored_bytes += stored;
        Ok(values)
    }

    /// The tensor as it lies in its file, for who decodes it himself and looks at its numbers: file, type, bytes.
    pub(crate) fn take_stored(&mut self, name: &str, shape: &[usize]) -> Result<(&str, Element, &[u8]), LoadError> {
        self.parameters += shape.iter().product::<usize>() as u64;
        self.stored_bytes += self.listed(name).map_or(0, |listed| listed.bytes);
        let (element, bytes, finite) = self.locate(name, shape, None)?;
        Ok((finite.file, element, bytes))
    }

    /// Some rows of a matrix, or of one part of a tensor of matrices; of a vector, which is one row, all of it.
    pub(crate) fn rows(
        &mut self,
        name: &str,
        shape: &[usize],
        part: Option<usize>,
        rows: Range<usize>,
    ) -> Result<Vec<f32>, LoadError> {
        let (element, bytes, finite) = self.locate(name, shape, part)?;
        let k = shape.last().copied().unwrap_or(1);
        let row = if shape.len() < 2 { Some(bytes.len()) } else { element.bytes(&[k]) };
        let own = row.and_then(|row| bytes.get(rows.start.checked_mul(row)?..rows.end.checked_mul(row)?));
        let values = own.map(|bytes| element.decode(bytes)).unwrap_or_default();
        finite.check(&values, rows.start * k)?;
        Ok(values)
    }

    /// A tensor's bytes as they lie in the file.
    pub(crate) fn stored(&self, name: &str) -> Option<&[u8]> {
        let tensor = self.tensors.get(name)?;
        self.files.get(tensor.file)?.1.get(tensor.place.bytes.clone())
    }

    /// [`Weights::take`] a piece at a time, without keeping the numbers; gives the bytes read.
    pub(crate) fn check(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<u64, LoadError> {
        if let Some(packed) = self.take_packed(name, shape)? {
            let (file, _, _) = self.claim(name, Some(shape))?;
            let finite = Finite { file, tensor: name.to_owned(), first: 0 };
            let mut row = vec![0.0; packed.k()];
            for index in 0..packed.n() {
                packed.row(index, &mut row).map_err(|error| tensor_error(file, name, &error.to_string()))?;
                finite.check(&row, index * packed.k())?;
            }
            return Ok(packed.bytes().len() as u64);
        }
        /// Blocks of a piece; at most 64 MB as f32.
        const PIECE: usize = 1 << 16;
        let (element, bytes, finite) = self.locate(name, shape, part)?;
        let (elements, size) = element.block();
        for (index, piece) in bytes.chunks(PIECE * size).enumerate() {
            finite.check(&element.decode(piece), index * PIECE * elements)?;
        }
        Ok(bytes.len() as u64)
    }

    /// The tensor where it lies, if it is in one of the kernels' layouts and whole numbers of no other kind are due.
    /// Its numbers are not looked at: the file may be far larger than what is read of it.
    pub(crate) fn take_packed(&mut self, name: &str, shape: &[usize]) -> Result<Option<PackedWeights>, LoadError> {
        let Some(Tensor { place: Place { element: Element::Packed(format), bytes, .. }, file, .. }) =
            self.tensors.get(name)
        else {
            return Ok(None);
        };
        let (format, bytes, file) = (*format, bytes.clone(), *file);
        self.claim(name, Some(shape))?;
        let ([n, k], Some((file, owner))) = (shape, self.files.get(file)) else {
            return Err(tensor_error("weights", name, "is packed, where parts of it are due"));
        };
        let packed = PackedWeights::new(format, *n, *k, Arc::<Bytes>::clone(owner), bytes)
            .map_err(|error| tensor_error(file, name, &error.to_string()))?;
        self.parameters += (n * k) as u64;
        self.stored_bytes += packed.bytes().len() as u64;
        Ok(Some(packed))
    }

    /// Marks a tensor of weights as read; element type, bytes of the part, and the judge of its numbers.
    fn locate<'a>(
        &'a mut self,
        name: &str,
        shape: &[usize],
        part: Option<usize>,
    ) -> Result<(Element, &'a [u8], Finite<'a>), LoadError> {
        let shown = (self.stored)(name);
        let (file, element, bytes) = self.claim(name, Some(shape))?;
        if let Some(message) = not_numbers(element) {
            return Err(tensor_error(file, &shown, &message));
        }
        let (Some(part), Some(parts)) = (part, shape.first()) else {
            return Ok((element, bytes, Finite { file, tensor: shown, first: 0 }));
        };
        let length = bytes.len() / parts.max(&1);
        let own = part.checked_mul(length).and_then(|at| bytes.get(at..at.checked_add(length)?));
        let own = own.ok_or_else(|| tensor_error(file, &shown, &format!("has no part {part} of {parts}")))?;
        let (elements, size) = element.block();
        Ok((element, own, Finite { file, tensor: shown, first: part * length / size * elements }))
    }

    /// A one-dimensional tensor of whole numbers, as used for token ids.
    pub(crate) fn take_ids(&mut self, name: &str) -> Result<Vec<i64>, LoadError> {
        let (file, element, bytes) = self.claim(name, None)?;
        match element {
            Element::I32 => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()),
            Element::U32 => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from(u32::from_le_bytes(*bytes))).collect()),
            Element::I64 => Ok(bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            other => Err(tensor_error(file, name, &format!("expected I32, I64 or U32, got {}", other.name()))),
        }
    }

    /// Marks a tensor as read and returns its file, element type and bytes. Without a shape, one dimension is due.
    fn claim(&mut self, name: &str, shape: Option<&[usize]>) -> Result<(&str, Element, &[u8]), LoadError> {
        let shown = (self.stored)(name);
        let all_files = || self.files.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
        let Some(tensor) = self.tensors.get_mut(name) else {
            return Err(tensor_error(&all_files(), &shown, "is missing"));
        };
        let Some((file, bytes)) = self.files.get(tensor.file) else {
            return Err(tensor_error(&all_files(), &shown, "lost its file"));
        };
        tensor.read = true;
        let Place { element, shape: own, bytes: range } = &tensor.place;
        let fits = match shape {
            Some(shape) => own == shape,
            None => own.len() == 1,
        };
        if !fits {
            let expected = shape.map_or("one dimension".to_owned(), |shape| format!("shape {shape:?}"));
            return Err(tensor_error(file, &shown, &format!("expected {expected}, got {own:?}")));
        }
        Ok((file, *element, bytes.get(range.clone()).unwrap_or_default()))
    }

    /// Whether a tensor exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What the headers list, ascending by name.
    pub(crate) fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.tensors.iter().map(|(name, tensor)| self.describe(name, tensor))
    }

    /// One tensor as the header describes it.
    pub(crate) fn listed(&self, name: &str) -> Option<Listed<'_>> {
        self.tensors.get_key_value(name).map(|(name, tensor)| self.describe(name, tensor))
    }

    fn describe<'a>(&'a self, name: &'a str, tensor: &'a Tensor) -> Listed<'a> {
        Listed {
            name,
            file: self.files.get(tensor.file).map_or("", |(file, _)| file.as_str()),
            element: tensor.place.element,
            shape: &tensor.place.shape,
            bytes: tensor.place.bytes.len() as u64,
        }
    }

    /// Why a tensor's numbers cannot be read as those of this shape, told without reading them.
    pub(crate) fn fault(&self, name: &str, shape: &[usize]) -> Option<LoadError> {
        let shown = (self.stored)(name);
        let Some(tensor) = self.listed(name) else {
            return Some(tensor_error("source", &shown, "is missing"));
        };
        let message = if tensor.shape == shape {
            not_numbers(tensor.element)?
        } else {
            format!("expected shape {shape:?}, got {:?}", tensor.shape)
        };
        Some(tensor_error(tensor.file, &shown, &message))
    }

    /// Whether a tensor has this shape; `None` when there is none.
    pub(crate) fn has_shape(&self, name: &str, shape: &[usize]) -> Option<bool> {
        self.tensors.get(name).map(|tensor| tensor.place.shape == shape)
    }

    /// An error for each tensor that nothing asked for.
    pub(crate) fn unread(&self) -> impl Iterator<Item = LoadError> {
        let unread = self.tensors.iter().filter(|(_, tensor)| !tensor.read);
        unread.map(|(name, tensor)| {
            let file = self.files.get(tensor.file).map_or("", |(file, _)| file.as_str());
            tensor_error(file, &(self.stored)(name), "is not part of this architecture")
        })
    }

    /// Ends the reading: `(parameters, bytes as stored)`, or an error naming a tensor that nothing asked for.
    pub(crate) fn finish(self) -> Result<(u64, u64), LoadError> {
        match self.unread().next() {
            None => Ok((self.parameters, self.stored_bytes)),
            Some(error) => Err(error),
        }
    }
}

/// Why elements cannot be decoded one by one.
fn not_numbers(element: Element) -> Option<String> {
    match element {
        element if element.is_float() => None,
        Element::Packed(_) => Some("is packed for the CPU: take the checkpoint it was made from".to_owned()),
        _ => Some(format!("expected F32, F16, BF16 or a quantised type, got {}", element.name())),
    }
}

/// Judges the numbers of one tensor.
struct Finite<'a> {
    file: &'a str,
    tensor: String,
    /// Index of the part's first element in the tensor.
    first: usize,
}

impl Finite<'_> {
    /// Refuses a number that is not finite; `at` is the index of `values` in the part.
    fn check(&self, values: &[f32], at: usize) -> Result<(), LoadError> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => {
                let message = format!("element {} is not a finite number", self.first + at + index);
                Err(tensor_error(self.file, &self.tensor, &message))
            }
        }
    }
}

/// An error about one tensor of a file.
pub(crate) fn tensor_error(file: &str, tensor: &str, message: &str) -> LoadError {
    LoadError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), message: message.to_owned() }
}
