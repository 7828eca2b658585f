//! Keys and values of one request's positions, in panels of 32 positions. Only committed positions are kept: what a
//! forward writes behind them is scratch, overwritten by the next forward.
//!
//! ```text
//! 0 ......... committed ............ written
//! final tokens' K/V     scratch of the last forward
//! ```
//! Commit rule: K/V of a token is committed only from a forward whose input was that token's final value and the
//! final values of all tokens it sees. The lane says so; the cache only counts. Must never hand out more than it has.

use weir_kernels::{AttentionShape, KvPanel, PANEL};

/// What every cache of a model has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) attention: AttentionShape,
}

impl KvShape {
    /// Elements of one head's keys and values in a panel.
    fn head(&self) -> usize {
        self.attention.key_panel() + self.attention.value_panel()
    }

    fn layer(&self) -> usize {
        self.head() * self.attention.kv_heads
    }
}

/// One request's keys and values.
pub(crate) struct KvCache {
    shape: KvShape,
    /// Each `[layers, kv_heads, keys then values]` for 32 positions.
    panels: Vec<Box<[f32]>>,
    committed: usize,
}

impl KvCache {
    pub(crate) fn new(shape: KvShape) -> Self {
        KvCache { shape, panels: Vec::new(), committed: 0 }
    }

    /// Positions that are final.
    pub(crate) fn committed(&self) -> usize {
        self.committed
    }

    /// Makes the next `count` positions final.
    pub(crate) fn commit(&mut self, count: usize) {
        self.committed = (self.committed + count).min(self.panels.len() * PANEL);
    }

    /// Makes room for positions below `end`.
    pub(crate) fn reserve(&mut self, end: usize) {
        while self.panels.len() * PANEL < end {
            self.panels.push(vec![0.0; self.shape.layers * self.shape.layer()].into_boxed_slice());
        }
    }

    /// Writes `keys` and `values`, each `[kv_heads, head_dim]`, of one reserved position.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let shape = self.shape;
        let d = shape.attention.head_dim;
        let lane = position % PANEL;
        let Some(panel) = self.panels.get_mut(position / PANEL) else {
            return;
        };
        let heads = panel.chunks_exact_mut(shape.head()).skip(layer * shape.attention.kv_heads);
        for ((head, keys), values) in heads.zip(keys.chunks_exact(d)).zip(values.chunks_exact(d)) {
            let (key_panel, value_panel) = head.split_at_mut(shape.attention.key_panel());
            for (row, key) in key_panel.chunks_exact_mut(PANEL).zip(keys) {
                row[lane] = *key;
            }
            for (square, values) in value_panel.chunks_exact_mut(PANEL * PANEL).zip(values.chunks(PANEL)) {
                square[lane * PANEL..][..values.len()].copy_from_slice(values);
            }
        }
    }

    /// The panels of one layer that hold positions below `end`, `[kv_heads, n]`.
    pub(crate) fn panels(&self, layer: usize, end: usize) -> Vec<KvPanel<'_>> {
        let shape = self.shape;
        let used = self.panels.iter().take(end.div_ceil(PANEL));
        let heads = (0..shape.attention.kv_heads).flat_map(|head| {
            let at = layer * shape.layer() + head * shape.head();
            used.clone().filter_map(move |panel| panel.get(at..at + shape.head()))
        });
        heads
            .map(|head| {
                let (keys, values) = head.split_at(shape.attention.key_panel());
                KvPanel { keys, values }
            })
            .collect()
    }
}
