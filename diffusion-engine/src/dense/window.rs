//! Attention of one token that sees a window of positions only, over the panels of [`weir_kernels::KvPanel`]. Plain loops:
//! it serves the layers of Gemma 3 whose window is shorter than the prompt. Must never look outside the window.

use std::ops::Range;

use weir_kernels::{AttentionShape, KvPanel, PANEL};

/// `q[heads, head_dim]` → `out` of the same shape; `panels[kv_heads, n]`; `weights` is memory for one number for each
/// position seen.
pub(super) fn attention(
    shape: AttentionShape,
    q: &[f32],
    panels: &[KvPanel<'_>],
    seen: Range<usize>,
    weights: &mut [f32],
    out: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let (group, own) = (heads / kv_heads, panels.len() / kv_heads);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let weights = weights.get_mut(..seen.len()).unwrap_or_default();
    for (head, (q, out)) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)).enumerate() {
        let first = head / group * own;
        let panel = |position: usize| panels.get(first + position / PANEL).map(|panel| (panel, position % PANEL));
        for ((panel, at), weight) in seen.clone().filter_map(panel).zip(&mut *weights) {
            let keys = panel.keys.iter().skip(at).step_by(PANEL);
            *weight = q.iter().zip(keys).map(|(q, key)| q * key).sum::<f32>() * scale;
        }
        let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        let total: f32 = weights.iter().sum();
        out.fill(0.0);
        for ((panel, at), weight) in seen.clone().filter_map(panel).zip(&*weights) {
            for (block, out) in out.chunks_mut(PANEL).enumerate() {
                let values = panel.values.get((block * PANEL + at) * PANEL..).unwrap_or_default();
                out.iter_mut().zip(values).for_each(|(out, value)| *out += weight / total * value);
            }
        }
    }
}
