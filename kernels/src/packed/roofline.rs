//! What this machine can do at most: bytes read from memory and 8-bit operations, per second, on all threads. For
//! benches, which say how near a product comes. Must never be called while serving.

use std::time::Instant;

use super::product::Products;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct Roofline {
    /// Bytes read per second.
    pub read: f64,
    /// Multiplications and additions of bytes per second, two for each product.
    pub operations: f64,
}

impl Products<'_> {
    /// Measures for about a quarter of a second: the best of some walks over `memory`, which should be far larger than
    /// the caches, and of some loops over registers.
    pub fn roofline(&self, memory: &[u8]) -> Roofline {
        const WALKS: usize = 3;
        const PIECE: usize = 1 << 20;
        const LOOPS: usize = 1 << 16;
        let pieces: Vec<&[u8]> = memory.chunks(PIECE).collect();
        let mut best = Roofline { read: 0.0, operations: 0.0 };
        for _ in 0..WALKS {
            let began = Instant::now();
            self.team.run(pieces.len(), |part, _| {
                let words = pieces.get(part).map_or(&[][..], |piece| piece.as_chunks::<64>().0);
                let sum = words.iter().fold([0u64; 8], |sum, line| {
                    let words = line.as_chunks::<8>().0;
                    std::array::from_fn(|i| sum[i] ^ words.get(i).map_or(0, |word| u64::from_le_bytes(*word)))
                });
                std::hint::black_box(sum);
            });
            best.read = best.read.max(memory.len() as f64 / began.elapsed().as_secs_f64());
        }
        let parts = self.team.threads() * 8;
        for _ in 0..WALKS {
            let began = Instant::now();
            self.team.run(parts, |_, _| {
                // SAFETY: the registry saw the instruction set.
                std::hint::black_box(unsafe { (self.kernels.peak)(LOOPS) });
            });
            let done = parts as f64 * LOOPS as f64 * crate::ops::peak::PEAK_OPERATIONS as f64;
            best.operations = best.operations.max(done / began.elapsed().as_secs_f64());
        }
        best
    }
}
