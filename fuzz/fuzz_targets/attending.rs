//! Attention of any shape, over panels in each form and windows of any length: every instruction set stays inside its
//! buffers, agrees with the plain code, and gives the same bits alone and shared out. A part of `shapes`.

use libfuzzer_sys::arbitrary;
use weir_kernels::packed::{Products, Team, best};
use weir_kernels::{AttentionShape, Kernels, KvPanel, PANEL, Strided, Visible, registry};

use super::Numbers;

#[derive(Debug, arbitrary::Arbitrary)]
pub struct Attending {
    kv_heads: u8,
    group: u8,
    head_dim: u8,
    kind: u8,
    panels: u8,
    /// What each token sees, and what lies between the queries of two.
    ends: Vec<u16>,
    apart: u8,
    window: Option<u16>,
    /// A number that is awkward, and where.
    odd: (u16, f32),
}

/// What is multiplied is copied out of so many numbers: making each anew takes longer than attention.
const POOL: usize = 1009;

/// Panels in one form, each in memory of its own, so that reading too far is seen.
enum Stored {
    F32(Vec<[Box<[f32]>; 2]>),
    Bf16(Vec<[Box<[half::bf16]>; 2]>),
    Int8(Vec<([Box<[i8]>; 2], [[f32; PANEL]; 2])>),
}

impl Stored {
    fn new(kind: u8, shape: AttentionShape, count: usize, next: &mut impl FnMut() -> f32) -> Stored {
        let sizes = [shape.key_panel(), shape.value_panel()];
        match kind % 3 {
            0 => Stored::F32((0..count).map(|_| sizes.map(|size| (0..size).map(|_| next()).collect())).collect()),
            1 => {
                let mut half = || half::bf16::from_f32(next());
                Stored::Bf16((0..count).map(|_| sizes.map(|size| (0..size).map(|_| half()).collect())).collect())
            }
            _ => {
                let mut one = || {
                    let numbers = sizes.map(|size| (0..size).map(|_| (next() * 127.0) as i8).collect());
                    (numbers, [0; 2].map(|_| [0; PANEL].map(|_| next().abs() / 127.0)))
                };
                Stored::Int8((0..count).map(|_| one()).collect())
            }
        }
    }

    fn views(&self) -> Vec<KvPanel<'_>> {
        match self {
            Stored::F32(all) => all.iter().map(|[keys, values]| KvPanel::F32 { keys, values }).collect(),
            Stored::Bf16(all) => all.iter().map(|[keys, values]| KvPanel::Bf16 { keys, values }).collect(),
            Stored::Int8(all) => {
                all.iter().map(|([keys, values], scales)| KvPanel::Int8 { keys, values, scales }).collect()
            }
        }
    }
}

pub fn attend(case: &Attending, team: &Team, seed: u64) {
    let kv_heads = usize::from(case.kv_heads % 4);
    let heads = kv_heads * usize::from(case.group % 9);
    // The largest is 256, one more is refused.
    let shape = AttentionShape { heads, kv_heads, head_dim: usize::from(case.head_dim) + 1 };
    let most = 8192 / (shape.head_dim * kv_heads.max(1));
    let count = usize::from(case.panels).min(most.max(1));
    let mut pool = Numbers(seed).take(POOL);
    let odd = !case.odd.1.is_finite() || case.odd.1.abs() > 1e3;
    pool[usize::from(case.odd.0) % POOL] = case.odd.1;
    let mut numbers = pool.iter().copied().cycle();
    let mut next = || numbers.next().unwrap_or_default();
    // 0 and one too many now and then: those must be refused.
    let tokens = case.ends.iter().take(50);
    let ends: Vec<usize> = tokens.map(|end| usize::from(*end) % (count * PANEL + 2)).collect();
    let stride = heads * shape.head_dim + usize::from(case.apart % 3);
    let length = ends.len().checked_sub(1).map_or(0, |last| last * stride + heads * shape.head_dim);
    let q: Box<[f32]> = (0..length).map(|_| next()).collect();
    let stored = Stored::new(case.kind, shape, count * kv_heads, &mut next);
    let visible = Visible { ends: &ends, window: case.window.map(usize::from) };
    let (q, views) = (Strided { elements: &q, stride }, stored.views());
    let mut memory = Vec::new();
    let run = |kernels: &Kernels| {
        let mut out = vec![0.0; ends.len() * heads * shape.head_dim].into_boxed_slice();
        let mut shared = out.clone();
        let done = kernels.attention(shape, q, &views, visible, &mut out).is_ok();
        let products = Products { kernels: best(), team };
        assert_eq!(products.attention(kernels, shape, q, &views, visible, &mut memory, &mut shared).is_ok(), done);
        let same = out.iter().zip(&shared).all(|(one, other)| one.to_bits() == other.to_bits() || one.is_nan());
        assert!(same, "shared out it is another");
        done.then_some(out)
    };
    let results: Vec<_> = registry::all().into_iter().filter_map(|entry| entry.kernels).map(run).collect();
    let Some((plain, others)) = results.split_last() else { return };
    for other in others {
        assert_eq!(other.is_some(), plain.is_some());
        let both = other.iter().flatten().zip(plain.iter().flatten());
        for (got, due) in both {
            assert!((got - due).abs() <= 2e-3 * due.abs().max(1.0) || odd, "{got} where the plain code has {due}");
        }
    }
}
