//! The file the model is shipped in, written by `cargo xtask router-train` and read here. Reading is total: whatever the
//! bytes are, the result is a model or a reason, never a panic. Must never allocate more than the file's own length asks.
//!
//! All numbers little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `WEIRCLS1` |
//! | 4 × 3 | rows of the three parts (u32), as in [`super::grams::ROWS`] |
//! | 1 | number of families, at most 16 |
//! | each 1 + n | the length of a family's word, and the word |
//! | 4 × families | bias (f32) |
//! | 4 × families × 3 | what one unit of a weight means, part by part (f32) |
//! | 4 | temperature (f32) |
//! | 4 | the probability below which the family is `unsure` (f32) |
//! | rows × families | weights (i8), row by row |
//! | 8 | FNV-1a of everything before |

use super::family::Family;
use super::grams::{ROWS, ROWS_ALL};

const MAGIC: &[u8; 8] = b"WEIRCLS1";
/// Families a row has room for.
pub const WIDTH: usize = 16;

/// A model as it lies in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The families, in the order of the columns.
    pub families: Vec<Family>,
    /// A family's score before anything was read.
    pub bias: [f32; WIDTH],
    /// What one unit of a weight means.
    pub scale: [[f32; WIDTH]; 3],
    /// Scores are divided by it before they become probabilities.
    pub temperature: f32,
    /// Below it the family is `unsure`.
    pub floor: f32,
    /// A row for each gram, wider than there are families so that a row is one load.
    pub rows: Vec<[i8; WIDTH]>,
}

/// Why a file is no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// It does not begin as one.
    #[error("it does not begin with WEIRCLS1")]
    Magic,
    /// It ends too early, or goes on after its end.
    #[error("it has {got} bytes, {need} are needed")]
    Length {
        /// Bytes there are.
        got: usize,
        /// Bytes it says it has.
        need: usize,
    },
    /// It was made for another table.
    #[error("its table has other parts than this program's")]
    Rows,
    /// A family is unknown, there twice, or there are none or too many.
    #[error("its families are not this program's")]
    Families,
    /// A number that cannot be one.
    #[error("a bias, scale, temperature or floor is out of range")]
    Number,
    /// The sum at its end does not fit.
    #[error("its bytes are damaged: the sum at its end does not fit")]
    Sum,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(file: &[u8]) -> Result<Weights, WeightsError> {
        let mut reader = Reader { file, at: 0 };
        if reader.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(WeightsError::Magic);
        }
        for rows in ROWS {
            if u32::from_le_bytes(reader.four()?) as usize != rows {
                return Err(WeightsError::Rows);
            }
        }
        let count = usize::from(reader.take(1)?[0]);
        let mut families = Vec::with_capacity(count.min(WIDTH));
        for _ in 0..count {
            let length = usize::from(reader.take(1)?[0]);
            let word = std::str::from_utf8(reader.take(length)?).ok();
            match word.and_then(Family::named) {
                Some(family) if family != Family::Unsure && families.len() < WIDTH && !families.contains(&family) => {
                    families.push(family);
                }
                _ => return Err(WeightsError::Families),
            }
        }
        if families.is_empty() {
            return Err(WeightsError::Families);
        }
        let mut bias = [0.0; WIDTH];
        reader.numbers(&mut bias[..count])?;
        let mut scale = [[0.0; WIDTH]; 3];
        for part in &mut scale {
            reader.numbers(&mut part[..count])?;
        }
        let mut rest = [0.0; 2];
        reader.numbers(&mut rest)?;
        let [temperature, floor] = rest;
        if temperature <= 0.0 || !(0.0..=1.0).contains(&floor) {
            return Err(WeightsError::Number);
        }
        let rows = reader.take(ROWS_ALL * count)?;
        let rows = rows.chunks_exact(count).map(|row| {
            let mut wide = [0; WIDTH];
            wide.iter_mut().zip(row).for_each(|(wide, byte)| *wide = i8::from_le_bytes([*byte]));
            wide
        });
        let rows: Vec<[i8; WIDTH]> = rows.collect();
        let sum = sum(&file[..reader.at]);
        let said = reader.take(8)?;
        if reader.at != file.len() {
            return Err(WeightsError::Length { got: file.len(), need: reader.at });
        }
        if said != sum.to_le_bytes() {
            return Err(WeightsError::Sum);
        }
        Ok(Weights { families, bias, scale, temperature, floor, rows })
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.families.len().min(WIDTH);
        let mut file = MAGIC.to_vec();
        ROWS.iter().for_each(|rows| file.extend((*rows as u32).to_le_bytes()));
        file.push(count as u8);
        for family in &self.families {
            file.push(family.as_str().len() as u8);
            file.extend(family.as_str().as_bytes());
        }
        let numbers = self.bias[..count].iter().chain(self.scale.iter().flat_map(|part| &part[..count]));
        numbers.chain([&self.temperature, &self.floor]).for_each(|number| file.extend(number.to_le_bytes()));
        for row in &self.rows {
            file.extend(row[..count].iter().map(|weight| weight.to_le_bytes()[0]));
        }
        file.extend(sum(&file).to_le_bytes());
        file
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WeightsError> {
        let need = self.at.saturating_add(count);
        let taken = self.file.get(self.at..need).ok_or(WeightsError::Length { got: self.file.len(), need })?;
        self.at = need;
        Ok(taken)
    }

    fn four(&mut self) -> Result<[u8; 4], WeightsError> {
        let mut four = [0; 4];
        four.copy_from_slice(self.take(4)?);
        Ok(four)
    }

    fn numbers(&mut self, numbers: &mut [f32]) -> Result<(), WeightsError> {
        for number in numbers {
            *number = f32::from_le_bytes(self.four()?);
            if !number.is_finite() {
                return Err(WeightsError::Number);
            }
        }
        Ok(())
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
