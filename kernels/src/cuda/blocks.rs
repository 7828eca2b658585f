//! Everything of a layer that is not a product: embeddings, norms, the way of q, k and v into the pages, attention.

use super::device::{Argument, Device, DeviceError};
use super::format::LANES;
use super::gpu::{Gpu, Memory, int};
use crate::error::{KernelError, expect};
use crate::kernels::{AttentionShape, MAX_HEAD_DIM};

/// Rows of attention that one block of threads takes.
const TILE: usize = 16;
/// Positions after which attention is cut.
const CUT: usize = 8 * LANES;

/// Numbers stored as they are or rounded to bfloat16.
#[derive(Debug)]
pub enum Numbers<D: Device> {
    /// As they are.
    F32(Memory<D, f32>),
    /// Bits of bfloat16.
    Bf16(Memory<D, u16>),
}

impl<D: Device> Numbers<D> {
    /// Zeros.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn zeros(gpu: &Gpu<D>, bf16: bool, length: usize) -> Result<Self, DeviceError> {
        Ok(if bf16 { Numbers::Bf16(gpu.zeros(length)?) } else { Numbers::F32(gpu.zeros(length)?) })
    }

    /// `values`, rounded where they are stored so.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn upload(gpu: &Gpu<D>, bf16: bool, values: &[f32]) -> Result<Self, DeviceError> {
        if !bf16 {
            return Ok(Numbers::F32(gpu.upload(values)?));
        }
        let bits: Vec<u16> = values.iter().map(|value| half::bf16::from_f32(*value).to_bits()).collect();
        Ok(Numbers::Bf16(gpu.upload(&bits)?))
    }

    fn len(&self) -> usize {
        match self {
            Numbers::F32(memory) => memory.len(),
            Numbers::Bf16(memory) => memory.len(),
        }
    }

    fn argument(&self) -> Argument<'_, D::Buffer> {
        match self {
            Numbers::F32(memory) => memory.argument(),
            Numbers::Bf16(memory) => memory.argument(),
        }
    }

    /// `kernel` for this type.
    fn kernel(&self, kernel: &str) -> String {
        match self {
            Numbers::F32(_) => format!("{kernel}_f32"),
            Numbers::Bf16(_) => format!("{kernel}_bf16"),
        }
    }
}

/// Keys and values in pages of 32 positions, `[pages, layers, kv_heads, keys or values, 32, head_dim]`.
#[derive(Debug)]
pub struct Pages<D: Device> {
    numbers: Numbers<D>,
    shape: AttentionShape,
    layers: usize,
    count: usize,
}

impl<D: Device> Pages<D> {
    /// `count` pages.
    ///
    /// # Errors
    /// When the shape is not one attention takes, or there is not so much memory.
    pub fn new(
        gpu: &Gpu<D>,
        bf16: bool,
        shape: AttentionShape,
        layers: usize,
        count: usize,
    ) -> Result<Self, DeviceError> {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        if kv_heads == 0 || head_dim == 0 || head_dim > MAX_HEAD_DIM || !heads.is_multiple_of(kv_heads) {
            return Err(KernelError { what: "head_dim", expected: MAX_HEAD_DIM, got: head_dim }.into());
        }
        let page = [layers, kv_heads, 2, LANES, head_dim].iter().try_fold(1usize, |all, one| all.checked_mul(*one));
        let length = page.and_then(|page| page.checked_mul(count));
        let length = length.ok_or(KernelError { what: "pages", expected: usize::MAX, got: count })?;
        Ok(Pages { numbers: Numbers::zeros(gpu, bf16, length)?, shape, layers, count })
    }

    /// Pages there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// One request's part of a step.
#[derive(Debug)]
pub struct Span<'a> {
    /// The pages of its positions, from 0 on; nobody else's in this step where they are written.
    pub table: &'a [u32],
    /// Where each of its tokens lies.
    pub positions: &'a [usize],
    /// How many positions each of them sees, at least one.
    pub visible: &'a [usize],
}

/// Where the tokens of a step lie and what they see, on the device.
#[derive(Debug)]
pub struct Step<D: Device> {
    rows: usize,
    shape: AttentionShape,
    cuts: usize,
    tile_count: usize,
    half: usize,
    pages: usize,
    cos: Memory<D, f32>,
    sin: Memory<D, f32>,
    page_of: Memory<D, i32>,
    place_of: Memory<D, i32>,
    visible: Memory<D, i32>,
    tables: Memory<D, i32>,
    tiles: Memory<D, i32>,
}

impl<D: Device> Step<D> {
    /// For the tokens of `spans`, one after the other; `cos` and `sin` are their angles, `[rows, half]` each.
    ///
    /// # Errors
    /// When a token sees nothing, lies or sees beyond its pages, or a page does not exist.
    pub fn new(
        gpu: &Gpu<D>,
        pages: &Pages<D>,
        spans: &[Span<'_>],
        (cos, sin): (&[f32], &[f32]),
    ) -> Result<Self, DeviceError> {
        let shape = pages.shape;
        let group = shape.heads / shape.kv_heads;
        let (mut page_of, mut place_of, mut visible) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tables, mut tiles, mut furthest) = (Vec::new(), Vec::new(), 0);
        for span in spans {
            let held = span.table.len().saturating_mul(LANES);
            let (first, count) = (int("rows", visible.len())?, span.visible.len());
            expect("positions", Some(count), span.positions.len())?;
            for (position, seen) in span.positions.iter().zip(span.visible) {
                let page = span.table.get(position / LANES);
                let page = page.ok_or(KernelError { what: "position", expected: held, got: *position })?;
                if *page as usize >= pages.count {
                    return Err(KernelError { what: "page", expected: pages.count, got: *page as usize }.into());
                }
                if *seen == 0 || *seen > held {
                    return Err(KernelError { what: "visible", expected: held, got: *seen }.into());
                }
                page_of.push(int("page", *page as usize)?);
                place_of.push((position % LANES) as i32);
                visible.push(int("visible", *seen)?);
                furthest = furthest.max(*seen);
            }
            let table = int("table", tables.len())?;
            for page in span.table {
                if *page as usize >= pages.count {
                    return Err(KernelError { what: "page", expected: pages.count, got: *page as usize }.into());
                }
                tables.push(*page as i32);
            }
            for row in (0..count.saturating_mul(group)).step_by(TILE) {
                tiles.extend([first, int("tokens", count)?, int("row", row)?, table]);
            }
        }
        let rows = visible.len();
        let half = cos.len().checked_div(rows).unwrap_or(0);
        expect("cos", rows.checked_mul(half), cos.len())?;
        expect("sin", Some(cos.len()), sin.len())?;
        if half * 2 > shape.head_dim {
            return Err(KernelError { what: "head_dim", expected: half * 2, got: shape.head_dim }.into());
        }
        Ok(Step {
            rows,
            shape,
            cuts: furthest.div_ceil(CUT),
            tile_count: tiles.len() / 4,
            half,
            pages: pages.count,
            cos: gpu.upload(cos)?,
            sin: gpu.upload(sin)?,
            page_of: gpu.upload(&page_of)?,
            place_of: gpu.upload(&place_of)?,
            visible: gpu.upload(&visible)?,
            tables: gpu.upload(&tables)?,
            tiles: gpu.upload(&tiles)?,
        })
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements [`Gpu::attention`] needs to work in.
    pub fn partial_len(&self) -> usize {
        self.rows * self.shape.heads * self.cuts * (self.shape.head_dim + 2)
    }
}

impl<D: Device> Gpu<D> {
    /// Rows `tokens` of `table[vocab, hidden]` into `x[rows, hidden]`.
    ///
    /// # Errors
    /// When a token is outside the table, or `x` is too small.
    pub fn embed(
        &self,
        table: &Numbers<D>,
        hidden: usize,
        tokens: &[u32],
        x: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        x.holds("x", tokens.len().checked_mul(hidden))?;
        let vocab = table.len().checked_div(hidden).unwrap_or(0);
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(KernelError { what: "token", expected: vocab, got: *token as usize }.into());
        }
        let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        let ids = self.upload(&ids)?;
        let arguments = [table.argument(), ids.argument(), Argument::Int(int("hidden", hidden)?), x.argument()];
        // SAFETY: every token is a row of the table, and x has as many rows.
        unsafe { self.launch(&table.kernel("embed"), [tokens.len(), 1, 1], 256, 0, &arguments) }
    }

    /// The `rows` of `from[…, width]`, one after the other, into `to`.
    ///
    /// # Errors
    /// When a row is not there, or `to` is too small.
    pub fn gather(
        &self,
        from: &Memory<D, f32>,
        width: usize,
        rows: &[usize],
        to: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        to.holds("gathered", rows.len().checked_mul(width))?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            from.holds("rows", row.checked_add(1).and_then(|rows| rows.checked_mul(width)))?;
            ids.push(int("row", *row)?);
        }
        let ids = self.upload(&ids)?;
        let arguments = [from.argument(), ids.argument(), Argument::Int(int("width", width)?), to.argument()];
        // SAFETY: every row is in `from`, and `to` has room for all.
        unsafe { self.launch("embed_f32", [rows.len(), 1, 1], 256, 0, &arguments) }
    }

    /// `x[rows, d] += delta`, then `normed[rows, d]`: its RMSNorm, `d` being the length of `weight`.
    ///
    /// # Errors
    /// When some memory is too small.
    pub fn add_rms_norm(
        &self,
        x: &mut Memory<D, f32>,
        delta: Option<&Memory<D, f32>>,
        (weight, eps): (&Memory<D, f32>, f32),
        rows: usize,
        normed: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        let d = weight.len();
        let elements = rows.checked_mul(d);
        x.holds("x", elements)?;
        delta.map_or(Ok(()), |delta| delta.holds("delta", elements))?;
        normed.holds("normed", elements)?;
        let arguments = [
            x.argument(),
            delta.map_or(Argument::Null, Memory::argument),
            weight.argument(),
            Argument::Float(eps),
            Argument::Int(int("d", d)?),
            normed.argument(),
        ];
        // SAFETY: lengths are checked above.
        unsafe { self.launch("add_rms_norm", [rows, 1, 1], 256, 256, &arguments) }
    }

    /// Norms and rotates the heads of `qkv[rows, (heads + 2 kv_heads) * d]`: queries go to `q[rows, heads, d]`, keys and
    /// values of `layer` into their pages.
    ///
    /// # Errors
    /// When `step` was made for other pages, or some memory is too small.
    pub fn place_qkv(
        &self,
        qkv: &Memory<D, f32>,
        (query_norm, key_norm, eps): (&Memory<D, f32>, &Memory<D, f32>, f32),
        step: &Step<D>,
        layer: usize,
        q: &mut Memory<D, f32>,
        pages: &mut Pages<D>,
    ) -> Result<(), DeviceError> {
        let AttentionShape { heads, kv_heads, head_dim: d } = step.shape;
        step.fits(pages, layer)?;
        let all = heads + 2 * kv_heads;
        qkv.holds("qkv", step.rows.checked_mul(all * d))?;
        q.holds("q", step.rows.checked_mul(heads * d))?;
        expect("query_norm", Some(d), query_norm.len())?;
        expect("key_norm", Some(d), key_norm.len())?;
        let [half, heads, kv_heads, width] = [step.half, heads, kv_heads, d].map(|value| int("heads", value));
        let [layer, layers] = [layer, pages.layers].map(|value| int("layers", value));
        let arguments = [
            qkv.argument(),
            query_norm.argument(),
            key_norm.argument(),
            Argument::Float(eps),
            step.cos.argument(),
            step.sin.argument(),
            Argument::Int(half?),
            step.page_of.argument(),
            step.place_of.argument(),
            Argument::Int(heads?),
            Argument::Int(kv_heads?),
            Argument::Int(width?),
            Argument::Int(layer?),
            Argument::Int(layers?),
            q.argument(),
            pages.numbers.argument(),
        ];
        let kernel = pages.numbers.kernel("place_qkv");
        // SAFETY: lengths are checked above; `Step::new` saw that pages and places exist.
        unsafe { self.launch(&kernel, [step.rows, all.div_ceil(8), 1], 256, 8 * d, &arguments) }
    }

    /// Attention of `q[rows, heads, d]` over the pages of `layer` into `out` of the same shape. `partial` is memory to
    /// work in, [`Step::partial_len`].
    ///
    /// # Errors
    /// When `step` was made for other pages, or some memory is too small.
    pub fn attention(
        &self,
        q: &Memory<D, f32>,
        pages: &Pages<D>,
        step: &Step<D>,
        layer: usize,
        partial: &mut Memory<D, f32>,
        out: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        let AttentionShape { heads, kv_heads, head_dim: d } = step.shape;
        step.fits(pages, layer)?;
        let elements = step.rows.checked_mul(heads * d);
        q.holds("q", elements)?;
        out.holds("out", elements)?;
        partial.holds("partial", Some(step.partial_len()))?;
        let numbers = [heads, kv_heads, d, layer, pages.layers, step.cuts].map(|value| int("heads", value));
        let mut arguments = vec![
            q.argument(),
            pages.numbers.argument(),
            step.tables.argument(),
            step.tiles.argument(),
            step.visible.argument(),
        ];
        for number in numbers {
            arguments.push(Argument::Int(number?));
        }
        arguments.push(partial.argument());
        let shared = LANES * (d + 1) + TILE * d + TILE * LANES;
        let blocks = [step.tile_count, kv_heads, step.cuts];
        // SAFETY: lengths are checked above; `Step::new` saw that what is visible lies in pages that exist.
        unsafe { self.launch(&pages.numbers.kernel("attention"), blocks, 128, shared, &arguments)? };
        let arguments =
            [partial.argument(), Argument::Int(int("cuts", step.cuts)?), Argument::Int(int("d", d)?), out.argument()];
        // SAFETY: lengths are checked above; every row and cut of `partial` was written by the launch before.
        unsafe { self.launch("attention_merge", [step.rows * heads, 1, 1], 128, 0, &arguments) }
    }
}

impl<D: Device> Step<D> {
    fn fits(&self, pages: &Pages<D>, layer: usize) -> Result<(), KernelError> {
        let (own, its) = (self.shape, pages.shape);
        expect("heads", Some(own.heads), its.heads)?;
        expect("kv_heads", Some(own.kv_heads), its.kv_heads)?;
        expect("head_dim", Some(own.head_dim), its.head_dim)?;
        expect("pages", Some(self.pages), pages.count)?;
        if layer >= pages.layers {
            return Err(KernelError { what: "layer", expected: pages.layers, got: layer });
        }
        Ok(())
    }
}
