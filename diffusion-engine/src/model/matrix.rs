//! Weights behind one face, f32 or packed, and the products with them. Must never know which layer they belong to.

use weir_kernels::packed::{Alone, Format, Inputs, PackedWeights, Products};
use weir_kernels::{KernelError, Kernels, PackedMatrix};

/// Packed bytes up to which weights fit a thread's second cache, so that all threads may read all of them: quicker than
/// what meeting takes.
pub(super) const SMALL: usize = 512 << 10;

/// A weight matrix `[n, k]`.
pub(crate) enum Matrix {
    /// f32, as the golden logits are made.
    Exact(PackedMatrix),
    /// In few bits, perhaps in a file mapped to memory.
    Packed(PackedWeights),
}

impl Matrix {
    /// Outputs.
    pub(crate) fn n(&self) -> usize {
        match self {
            Matrix::Exact(weights) => weights.n(),
            Matrix::Packed(weights) => weights.n(),
        }
    }

    /// Inputs.
    pub(crate) fn k(&self) -> usize {
        match self {
            Matrix::Exact(weights) => weights.k(),
            Matrix::Packed(weights) => weights.k(),
        }
    }

    /// The packed form, if it is one.
    pub(crate) fn packed(&self) -> Option<&PackedWeights> {
        match self {
            Matrix::Exact(_) => None,
            Matrix::Packed(weights) => Some(weights),
        }
    }

    /// Whether every thread should read all of it for rows of its own, instead of sharing it out.
    pub(crate) fn is_small(&self) -> bool {
        self.packed().is_none_or(|packed| packed.bytes().len() <= SMALL)
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Matrix::Exact(weights) => weights.n().saturating_mul(weights.k()).saturating_mul(4),
            Matrix::Packed(weights) => weights.bytes().len(),
        }
    }
}

/// The embeddings, `[vocab, hidden]`, of which single rows are read.
pub(crate) enum Table {
    Exact(Vec<f32>),
    Packed(PackedWeights),
}

impl Table {
    /// Row `row` into `out`.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) -> Result<(), KernelError> {
        match self {
            Table::Packed(weights) => weights.row(row, out),
            Table::Exact(numbers) => {
                let wrong = KernelError { what: "token", expected: numbers.len() / out.len().max(1), got: row };
                let at = row.checked_mul(out.len()).ok_or(wrong)?;
                out.copy_from_slice(numbers.get(at..at.saturating_add(out.len())).ok_or(wrong)?);
                Ok(())
            }
        }
    }
}

/// What computes: the f32 loops and the packed ones on their threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute {
    pub(crate) kernels: &'static Kernels,
    pub(crate) products: Products<'static>,
}

impl Compute {
    /// `y[m, n] = x[m, k] · wᵀ`; `inputs` is memory for quantised activations.
    pub(crate) fn linear(
        &self,
        x: &[f32],
        m: usize,
        w: &Matrix,
        inputs: &mut Inputs,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        self.linears(x, m, inputs, [(w, y)])
    }

    /// [`Compute::linear`] with several matrices, for which the rows are taken in once.
    pub(crate) fn linears<const N: usize>(
        &self,
        x: &[f32],
        m: usize,
        inputs: &mut Inputs,
        outputs: [(&Matrix, &mut [f32]); N],
    ) -> Result<(), KernelError> {
        let needs = needs(&outputs);
        if let (Some((w, _)), true) = (outputs.first(), needs.0 || needs.1) {
            self.products.fill(inputs, x, m, w.k(), needs)?;
        }
        for (w, y) in outputs {
            match w {
                Matrix::Exact(weights) => self.products.exact(self.kernels, x, m, weights, y)?,
                Matrix::Packed(weights) => self.products.linear(inputs, weights, y)?,
            }
        }
        Ok(())
    }

    /// [`Compute::linears`] by the calling thread alone, inside a section.
    pub(crate) fn alone<const N: usize>(
        &self,
        x: &[f32],
        m: usize,
        memory: &mut Alone,
        outputs: [(&Matrix, &mut [f32]); N],
    ) -> Result<(), KernelError> {
        let (needs, packed) = (needs(&outputs), self.products.kernels);
        if let (Some((w, _)), true) = (outputs.first(), needs.0 || needs.1) {
            memory.fill(packed, x, m, w.k(), needs)?;
        }
        for (w, y) in outputs {
            match w {
                Matrix::Exact(weights) => self.kernels.linear(x, m, weights, y)?,
                Matrix::Packed(weights) => memory.linear(packed, weights, y)?,
            }
        }
        Ok(())
    }
}

/// Whether products with these want integers, and f32.
fn needs(outputs: &[(&Matrix, &mut [f32])]) -> (bool, bool) {
    let formats = || outputs.iter().filter_map(|(w, _)| w.packed()).map(PackedWeights::format);
    (formats().any(|format| format != Format::Bf16), formats().any(|format| format == Format::Bf16))
}

/// `length` elements of memory that is kept, holding anything.
pub(crate) fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    buffer.get_mut(..length).unwrap_or_default()
}
