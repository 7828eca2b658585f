//! Random weights of a given shape, made in memory: what a forward costs does not depend on what the weights say, as
//! long as routing is as even as a trained router's. Reproducible. Must never be served.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use weir_kernels::PackedMatrix;
use weir_kernels::packed::{Bytes, Format, PackedWeights, STRIP};

use crate::checkpoint::tensors::tensor_error;
use crate::error::LoadError;

use super::matrix::{Matrix, Table};
use super::recipe::{Class, Recipe};
use super::weights::TensorSource;

/// Rows that are made at random and packed; the others of a matrix repeat them in another order.
const ROWS: usize = 4 * STRIP;
/// The same of the embeddings: tokens must differ, or they would all go to the same experts.
const EMBEDDED_ROWS: usize = 64 * STRIP;

/// Matrices lie behind each other in pieces of memory of this size, as in a file: a lone matrix of an expert is smaller
/// than a large page.
const PIECE: usize = 256 << 20;
/// Where a matrix may begin.
const LINE: usize = 64;

/// What a tile depends on: format, row length, rows, size of the numbers.
type Tile = (Format, usize, usize, Size);

/// How large a product is beside its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Size {
    /// As large.
    Equal,
    /// Rows of the embedding: numbers of about 1, so that what the layers add does not drown which token it was. Where
    /// it does, all tokens go to the same few experts, and the bench flatters itself.
    Row,
    /// What a layer adds: a twentieth.
    Added,
}

impl Size {
    fn of(name: &str) -> Size {
        match Class::of(name) {
            Class::Embedding => Size::Row,
            _ if name.ends_with("down_proj.weight") || name.ends_with("attention.dense.weight") => Size::Added,
            _ => Size::Equal,
        }
    }
}

/// A part of a piece of memory, which nobody writes to any more.
struct Place {
    piece: Arc<MmapRaw>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Place {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range lies inside the piece, was filled before the place was made, and is written no more.
        unsafe { std::slice::from_raw_parts(self.piece.as_ptr().add(self.range.start), self.range.len()) }
    }
}

/// The source. No two matrices share bytes.
pub(crate) struct Random {
    recipe: Recipe,
    state: u64,
    /// Packed strips.
    tiles: BTreeMap<Tile, Vec<u8>>,
    pub(crate) bytes: u64,
    pub(crate) parameters: u64,
    /// Whether to ask for large pages.
    large_pages: bool,
    /// The piece of memory that is filled, and how much of it is.
    piece: Option<(Arc<MmapRaw>, usize)>,
}

impl Random {
    pub(crate) fn new(recipe: Recipe, seed: u64, large_pages: bool) -> Self {
        Random { recipe, state: seed, tiles: BTreeMap::new(), bytes: 0, parameters: 0, large_pages, piece: None }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers of mean 0.
    fn numbers(&mut self, count: usize, k: usize, size: Size) -> Vec<f32> {
        let deviation = match size {
            Size::Row => 1.0,
            Size::Equal => 1.0 / (k.max(1) as f32).sqrt(),
            Size::Added => 0.05 / (k.max(1) as f32).sqrt(),
        };
        let width = 12.0f32.sqrt() * deviation;
        (0..count).map(|_| ((self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * width).collect()
    }

    fn packed(&mut self, name: &str, format: Format, n: usize, k: usize) -> Result<PackedWeights, LoadError> {
        let failed = |message: String| tensor_error("random weights", name, &message);
        let rows = if Class::of(name) == Class::Embedding { EMBEDDED_ROWS } else { ROWS };
        let key = (format, k, rows, Size::of(name));
        if !self.tiles.contains_key(&key) {
            let numbers = self.numbers(rows * k, k, key.3);
            let tile = PackedWeights::pack(format, &numbers, rows, k).map_err(|error| failed(error.to_string()))?;
            self.tiles.insert(key, tile.bytes().to_vec());
        }
        let length = format.bytes(n, k).ok_or_else(|| failed("is too large".into()))?;
        let owner = self.memory(length, key).map_err(|error| failed(error.to_string()))?;
        self.bytes += length as u64;
        self.parameters += (n * k) as u64;
        PackedWeights::new(format, n, k, owner, 0..length).map_err(|error| failed(error.to_string()))
    }

    /// Room for `length` bytes that nobody else has.
    fn room(&mut self, length: usize) -> std::io::Result<Place> {
        let fits =
            |(piece, used): &(Arc<MmapRaw>, usize)| piece.len().checked_sub(*used).is_some_and(|left| left >= length);
        let (piece, start) = match self.piece.take().filter(fits) {
            Some(piece) => piece,
            None => {
                let piece = MmapRaw::from(MmapOptions::new().len(PIECE.max(length)).map_anon()?);
                if self.large_pages {
                    // Without large pages it is only slower.
                    let _ = piece.advise(Advice::HugePage);
                }
                (Arc::new(piece), 0)
            }
        };
        let end = start + length;
        self.piece = Some((Arc::clone(&piece), end.next_multiple_of(LINE)));
        Ok(Place { piece, range: start..end })
    }

    /// `length` bytes of strips.
    fn memory(&mut self, length: usize, key: Tile) -> std::io::Result<Bytes> {
        let place = self.room(length)?;
        let mut state = self.next();
        if let Some(tile) = self.tiles.get(&key) {
            // SAFETY: the range lies inside the piece, and only this place has it, which nobody else has seen yet.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(place.piece.as_mut_ptr().add(place.range.start), place.range.len())
            };
            let strips = key.2 / STRIP;
            let strip = tile.len() / strips;
            for place in bytes.chunks_mut(strip) {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let from = (state >> 40) as usize % strips * strip;
                place.copy_from_slice(tile.get(from..from + place.len()).unwrap_or_default());
            }
        }
        Ok(Arc::new(place))
    }
}

impl TensorSource for Random {
    fn has(&self, _: &str) -> bool {
        false
    }

    fn values(&mut self, name: &str, shape: &[usize], _: Option<usize>) -> Result<Vec<f32>, LoadError> {
        let count = shape.iter().product();
        self.bytes += 4 * count as u64;
        self.parameters += count as u64;
        // Norms are about one, biases about nothing.
        let middle = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        Ok((0..count).map(|_| middle + ((self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.02).collect())
    }

    fn matrix(&mut self, name: &str, shape: &[usize], _: Option<usize>) -> Result<Matrix, LoadError> {
        let [.., n, k] = *shape else { return Err(tensor_error("random weights", name, "is not a matrix")) };
        match self.recipe.format(Class::of(name)) {
            Some(format) => Ok(Matrix::Packed(self.packed(name, format, n, k)?)),
            None => {
                let numbers = self.numbers(n * k, k, Size::of(name));
                self.bytes += 4 * (n * k) as u64;
                self.parameters += (n * k) as u64;
                let packed = PackedMatrix::pack(&numbers, n, k);
                packed.map(Matrix::Exact).map_err(|error| tensor_error("random weights", name, &error.to_string()))
            }
        }
    }

    fn table(&mut self, name: &str, [n, k]: [usize; 2]) -> Result<Table, LoadError> {
        match self.recipe.format(Class::Embedding) {
            Some(format) => Ok(Table::Packed(self.packed(name, format, n, k)?)),
            None => Ok(Table::Exact(self.numbers(n * k, k, Size::Row))),
        }
    }
}
