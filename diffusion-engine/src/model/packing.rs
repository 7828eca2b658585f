//! A checkpoint's matrices packed while they are read, for models that are small enough to be packed at each start. What
//! is packed in the file stays as it is. Must never change what a recipe leaves out.

use weir_kernels::packed::PackedWeights;

use crate::checkpoint::tensors::{Weights, tensor_error};
use crate::error::LoadError;

use super::matrix::{Matrix, Table};
use super::recipe::{Class, Recipe};
use super::weights::TensorSource;

/// `weights`, in the formats of `recipe`.
pub(super) struct Packing<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) recipe: Recipe,
}

impl Packing<'_> {
    /// The matrix in its format; `None` where the recipe has none for it.
    fn packed(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Option<PackedWeights>, LoadError> {
        let (Some(format), [.., n, k]) = (self.recipe.format(Class::of(name)), shape) else { return Ok(None) };
        if let Some(packed) = self.weights.take_packed(name, shape)? {
            return Ok(Some(packed));
        }
        let packed = PackedWeights::pack(format, &self.weights.take(name, shape, part)?, *n, *k);
        packed.map(Some).map_err(|error| tensor_error("weights", name, &error.to_string()))
    }
}

impl TensorSource for Packing<'_> {
    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    fn values(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError> {
        self.weights.values(name, shape, part)
    }

    fn matrix(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Matrix, LoadError> {
        match self.packed(name, shape, part)? {
            Some(packed) => Ok(Matrix::Packed(packed)),
            None => self.weights.matrix(name, shape, part),
        }
    }

    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Table, LoadError> {
        match self.packed(name, &shape, None)? {
            Some(packed) => Ok(Table::Packed(packed)),
            None => self.weights.table(name, shape),
        }
    }
}
