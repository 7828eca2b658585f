//! How packed weights lie in memory. A matrix `w[n, k]` is cut into strips of 16 rows; a strip into groups of 64
//! inputs, two blocks of 32. What belongs to 16 rows lies side by side, so that one 64-byte load serves all of them:
//!
//! ```text
//! q4    group: 2 blocks × [16 × f16 scale]          then 2 blocks × 4 × [16 rows × 4 bytes]      = 576 bytes
//! q4m   group: 2 blocks × [16 × u8 scale, 16 × u8 min], then as q4                               = 576 bytes
//!       strip: in front [16 × f32 scale of scales, 16 × f32 scale of minima]                     + 128 bytes
//! q4h   group: 2 blocks × [16 × f16 scale], 2 blocks × [16 × f16 minimum], then as q4           = 640 bytes
//! q8    group: 2 blocks × [16 × f16 scale]          then 2 blocks × 8 × [16 rows × 4 × i8]       = 1088 bytes
//! bf16  group: 32 × [16 rows × 2 × bf16]                                                         = 2048 bytes
//! ```
//! Of a byte of q4, q4m and q4h the low nibble belongs to inputs `8 j .. 8 j + 4` of the block, the high one to the four after
//! them (`j` is which of the four 64-byte pieces). Rows that fill up the last strip and inputs that fill up the last
//! group are zero. Everything is a multiple of 64 bytes. Numbers are little-endian.

/// Rows in a strip.
pub const STRIP: usize = 16;
/// Inputs that share a scale, weights and activations alike.
pub const BLOCK: usize = 32;
/// Inputs in a group.
pub(crate) const GROUP: usize = 64;

/// How the numbers of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// 4 bits, `w = d (q - 8)`, an f16 `d` for 32 weights: 4.5 bits a weight.
    Q4,
    /// 4 bits and a minimum, `w = D s q - M m`, 8-bit `s` and `m` for 32 weights, f32 `D` and `M` for a row:
    /// 4.5 bits a weight, more accurate than [`Format::Q4`] and a little slower.
    Q4m,
    /// 4 bits and a minimum, `w = d q + m`, f16 `d` and `m` for 32 weights: 5 bits a weight. GGUF's Q4_1 to the bit, and its
    /// Q4_K but for the rounding of its products of scales.
    Q4h,
    /// 8 bits, `w = d q`, an f16 `d` for 32 weights: 8.5 bits a weight.
    Q8,
    /// bfloat16, multiplied in f32.
    Bf16,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] = [Format::Q4, Format::Q4m, Format::Q4h, Format::Q8, Format::Bf16];

    /// Its name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Q4 => "q4",
            Format::Q4m => "q4m",
            Format::Q4h => "q4h",
            Format::Q8 => "q8",
            Format::Bf16 => "bf16",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bytes in front of a strip's groups.
    pub(crate) fn strip_header(self) -> usize {
        match self {
            Format::Q4m => 2 * STRIP * 4,
            Format::Q4 | Format::Q4h | Format::Q8 | Format::Bf16 => 0,
        }
    }

    /// Bytes of a group in front of its numbers.
    pub(crate) fn group_header(self) -> usize {
        match self {
            Format::Q4 | Format::Q4m | Format::Q8 => 64,
            Format::Q4h => 128,
            Format::Bf16 => 0,
        }
    }

    /// Bytes of a group.
    pub(crate) fn group_bytes(self) -> usize {
        let numbers = match self {
            Format::Q4 | Format::Q4m | Format::Q4h => STRIP * GROUP / 2,
            Format::Q8 => STRIP * GROUP,
            Format::Bf16 => STRIP * GROUP * 2,
        };
        self.group_header() + numbers
    }

    /// Bytes of a strip of rows of `k` inputs; `None` when that overflows.
    pub fn strip_bytes(self, k: usize) -> Option<usize> {
        k.div_ceil(GROUP).checked_mul(self.group_bytes())?.checked_add(self.strip_header())
    }

    /// Bytes of a matrix `[n, k]`; `None` when that overflows.
    pub fn bytes(self, n: usize, k: usize) -> Option<usize> {
        self.strip_bytes(k)?.checked_mul(n.div_ceil(STRIP))
    }

    /// Whether the product quantises its activations.
    pub(crate) fn is_integer(self) -> bool {
        !matches!(self, Format::Bf16)
    }
}
