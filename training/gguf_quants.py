"""Numbers to GGUF's storage types. gguf-py encodes all but the K types, whose layout is written out here as ggml
documents it: 256 numbers of a row are a block."""

import gguf
import numpy as np

Type = gguf.GGMLQuantizationType
TYPES = {t.name: t for t in (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_K, Type.Q6_K)}


def fits(row, kind):
    """Whether a row of this length is whole blocks."""
    return row % gguf.GGML_QUANT_SIZES[kind][0] == 0


def encode(x, kind):
    """`x[..., row]` f32 as the type's bytes (or as numbers for F32 and F16)."""
    if kind == Type.F32:
        return np.ascontiguousarray(x, np.float32)
    if kind == Type.F16:
        return x.astype(np.float16)
    k = {Type.Q4_K: q4_k, Type.Q6_K: q6_k}.get(kind)
    if k is None:
        return gguf.quants.quantize(x, kind)
    blocks = k(x.reshape(-1, 256).astype(np.float64))
    return blocks.reshape(*x.shape[:-1], -1)


def _halves(x):
    """f16 bytes of `x[n]`, and the value they stand for."""
    half = x.astype(np.float16)
    return half.view(np.uint8).reshape(-1, 2), half.astype(np.float64)


def _over(a, b):
    """`a / b`, 0 where `b` is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def q4_k(x):
    """8 runs of 32: 6-bit scale and minimum each, 4-bit numbers. `y = d s q - dmin m`."""
    runs = x.reshape(-1, 8, 32)
    low, high = np.minimum(runs.min(-1), 0), runs.max(-1)
    scale = np.maximum(high - low, 0) / 15
    d_bytes, d = _halves(scale.max(-1) / 63)
    m_bytes, d_min = _halves((-low).max(-1) / 63)
    s = np.clip(np.rint(_over(scale, d[:, None] + 0 * scale)), 0, 63).astype(np.uint8)
    m = np.clip(np.rint(_over(-low, d_min[:, None] + 0 * low)), 0, 63).astype(np.uint8)
    step, minimum = d[:, None] * s, d_min[:, None] * m
    q = np.rint(_over(runs + minimum[..., None], step[..., None] + 0 * runs))
    q = np.clip(q, 0, 15).astype(np.uint8)
    packed = np.empty((len(x), 12), np.uint8)
    packed[:, 0:4] = s[:, :4] | (s[:, 4:] >> 4) << 6
    packed[:, 4:8] = m[:, :4] | (m[:, 4:] >> 4) << 6
    packed[:, 8:12] = s[:, 4:] & 15 | (m[:, 4:] & 15) << 4
    nibbles = (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)
    return np.concatenate([d_bytes, m_bytes, packed, nibbles], 1)


def q6_k(x):
    """16 runs of 16: 8-bit scale each, 6-bit numbers. `y = d s (q - 32)`."""
    runs = x.reshape(-1, 16, 16)
    scale = np.abs(runs).max(-1) / 31
    d_bytes, d = _halves(scale.max(-1) / 127)
    s = np.clip(np.rint(_over(scale, d[:, None] + 0 * scale)), 0, 127).astype(np.int8)
    step = (d[:, None] * s)[..., None]
    q = np.clip(np.rint(_over(runs, step + 0 * runs)), -32, 31) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 4, 32)  # half, k, l
    lower = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], 2)
    upper = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return np.concatenate(
        [lower.reshape(-1, 128), upper.reshape(-1, 64), s.view(np.uint8).reshape(-1, 16), d_bytes], 1
    )
