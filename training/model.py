"""The nano network: LLaDA2's mixture-of-experts transformer at toy size.

One network serves both kinds. It works on a flat list of tokens; who sees whom
is left to an `attend(q, k, v)` callback, so that the trainer can lay out a clean
prefix and several noisy copies of one block without padding.
"""

import os

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = dict(
    vocab_size=1280, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=32, hidden_act="silu",
    use_qkv_bias=False, use_qk_norm=True, use_bias=False, rms_norm_eps=1e-6,
    tie_word_embeddings=False, embedding_dropout=0.0, attention_dropout=0.0, output_dropout=0.0,
    initializer_range=0.02, max_position_embeddings=1024, rope_theta=64.0, use_cache=True,
    rope_scaling=None, pad_token_id=None, num_experts=8, num_shared_experts=1, num_experts_per_tok=2,
    n_group=4, topk_group=2, routed_scaling_factor=2.5, moe_intermediate_size=64,
    first_k_dense_replace=1, partial_rotary_factor=0.5, output_router_logits=False,
    norm_topk_prob=True, score_function="sigmoid", moe_router_enable_expert_bias=True, router_dtype="fp32",
)


FUSE = os.environ.get("WEIR_FUSE", "1") == "1"  # 0: run without a C++ compiler


def fused(function):
    """Let torch compile the small element-wise chains; a good third of a step."""
    return torch.compile(function, dynamic=True) if FUSE else function


@fused
def rms_norm(x, weight, eps=1e-6):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


@fused
def gated(a, b):
    return F.silu(a) * b


def _matrix(*shape, scale=1.0):
    return nn.Parameter(torch.randn(*shape) * scale * shape[-1] ** -0.5)


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        h, hd, self.heads, self.kv = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        self.hd, self.c = hd, c
        self.input_norm, self.post_norm = nn.Parameter(torch.ones(h)), nn.Parameter(torch.ones(h))
        self.q_norm, self.k_norm = nn.Parameter(torch.ones(hd)), nn.Parameter(torch.ones(hd))
        self.qkv = _matrix((self.heads + 2 * self.kv) * hd, h)
        self.out = _matrix(h, self.heads * hd, scale=0.3)
        self.dense = index < c["first_k_dense_replace"]
        width = c["intermediate_size"] if self.dense else c["moe_intermediate_size"] * c["num_shared_experts"]
        self.gate, self.up, self.down = _matrix(width, h), _matrix(width, h), _matrix(h, width, scale=0.3)
        if not self.dense:
            e, i = c["num_experts"], c["moe_intermediate_size"]
            self.router = _matrix(e, h, scale=0.5)
            self.register_buffer("expert_bias", torch.zeros(e))
            self.register_buffer("load", torch.zeros(e), persistent=False)
            self.e_gate, self.e_up = _matrix(e, i, h), _matrix(e, i, h)
            self.e_down = _matrix(e, h, i, scale=0.3)

    def attention(self, x, cos, sin, attend, rows):
        n = x.shape[0]
        qkv = F.linear(x, self.qkv).view(n, self.heads + 2 * self.kv, self.hd)
        q, k, v = qkv.split([self.heads, self.kv, self.kv], 1)
        q, k = normed_rotation(q, self.q_norm, cos, sin), normed_rotation(k, self.k_norm, cos, sin)
        seen = attend(q, k, v).reshape(n, -1)
        return F.linear(seen if rows is None else seen[rows], self.out)

    def route(self, x):
        """Grouped sigmoid routing: weights and indices of the chosen experts."""
        c = self.c
        with torch.autocast("cpu", enabled=False):
            score = torch.sigmoid(F.linear(x.float(), self.router))
        with torch.no_grad():
            rank = score + self.expert_bias
            groups = rank.view(-1, c["n_group"], c["num_experts"] // c["n_group"])
            best = groups.topk(2, -1).values.sum(-1).topk(c["topk_group"], -1).indices
            keep = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, best, True)
            rank = groups.masked_fill(~keep[..., None], float("-inf")).flatten(1)
            chosen = rank.topk(c["num_experts_per_tok"], -1).indices
            if self.training:
                self.load += torch.bincount(chosen.flatten(), minlength=c["num_experts"])
        weight = score.gather(1, chosen)
        return weight / (weight.sum(-1, keepdim=True) + 1e-20) * c["routed_scaling_factor"], chosen

    def feed_forward(self, x):
        y = F.linear(gated(F.linear(x, self.gate), F.linear(x, self.up)), self.down)
        if self.dense:
            return y
        weight, chosen = self.route(x)
        n, top = chosen.shape
        order = chosen.flatten().argsort()  # (token, slot) pairs grouped by expert
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(n * top)
        sizes = torch.bincount(chosen.flatten(), minlength=self.e_gate.shape[0]).tolist()
        x = x.to(y.dtype)
        parts = Permute.apply(x[:, None].expand(n, top, -1).reshape(n * top, -1), order, inverse).split(sizes)
        weights = zip(parts, self.e_gate.unbind(0), self.e_up.unbind(0), self.e_down.unbind(0))
        done = torch.cat([F.linear(gated(F.linear(t, g), F.linear(t, u)), d) for t, g, u, d in weights])
        done = Permute.apply(done, inverse, order).view(n, top, -1)
        return y + torch.bmm(weight.to(done.dtype)[:, None], done)[:, 0]

    def forward(self, x, cos, sin, attend, rows=None):
        update = self.attention(rms_norm(x, self.input_norm), cos, sin, attend, rows)
        x = (x if rows is None else x[rows]) + update
        return x + self.feed_forward(rms_norm(x, self.post_norm))


class Permute(torch.autograd.Function):
    """Row permutation whose gradient is the inverse permutation (no scatter-add)."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


@fused
def normed_rotation(x, weight, cos, sin, eps=1e-6):
    """Per-head RMS norm, then half-rotate position encoding on the first part of the head."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight
    half = cos.shape[-1]
    a, b = y[..., :half], y[..., half : 2 * half]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, y[..., 2 * half :]], -1).to(x.dtype)


class Nano(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = dict(config)
        self.embed = nn.Parameter(torch.randn(c["vocab_size"], c["hidden_size"]) * 0.3)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(c["hidden_size"]))
        self.head = nn.Parameter(torch.randn(c["vocab_size"], c["hidden_size"]) * 0.02)
        dims = int(c["head_dim"] * c["partial_rotary_factor"])
        freq = c["rope_theta"] ** (-torch.arange(0, dims, 2).float() / dims)
        angle = torch.arange(c["max_position_embeddings"]).float()[:, None] * freq
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)

    def forward(self, ids, positions, attend, rows=None):
        """Hidden states (after the final norm) of the flat tokens `ids`.

        With `rows` only those tokens are carried through the last layer.
        """
        x = F.embedding(ids, self.embed)
        cos, sin = self.cos[positions], self.sin[positions]
        for layer in self.layers:
            x = layer(x, cos, sin, attend, rows if layer is self.layers[-1] else None)
        return rms_norm(x, self.norm)

    def logits(self, hidden):
        return F.linear(hidden, self.head).float()

    @torch.no_grad()
    def balance(self, rate):
        """Push the selection bias of each expert towards an even load."""
        for layer in self.layers:
            if not layer.dense:
                layer.expert_bias += rate * torch.sign(layer.load.mean() - layer.load)
                layer.expert_bias -= layer.expert_bias.mean()
                layer.load.zero_()


def sdpa(q, k, v, mask=None):
    """Attention over [batch, length, heads, dim] with grouped kv heads.

    The query heads of one kv head are folded into its length: one batched product
    of small bf16 matrices, several times faster here than the library's kernel.
    """
    b, t, h, d = q.shape
    g = k.shape[2]
    r = h // g
    q = q.view(b, t, g, r, d).permute(0, 2, 3, 1, 4).reshape(b * g, r * t, d)
    k = k.permute(0, 2, 3, 1).reshape(b * g, d, -1)
    v = v.permute(0, 2, 1, 3).reshape(b * g, -1, d)
    score = torch.bmm(q, k) * d**-0.5
    if mask is not None:
        score = score.masked_fill(~mask.repeat(r, 1), float("-inf"))
    out = torch.bmm(score.softmax(-1).to(v.dtype), v)
    return out.view(b, g, r, t, d).permute(0, 3, 1, 2, 4).reshape(b, t, h, d)


def block_causal(length, block):
    index = torch.arange(length) // block
    return index[:, None] >= index[None, :]


def dense_attend(batch, length, mask):
    """Callback for a rectangular batch (used for evaluation and for the AR twin)."""
    def attend(q, k, v):
        shape = lambda t: t.view(batch, length, t.shape[1], t.shape[2])
        return sdpa(shape(q), shape(k), shape(v), mask).flatten(0, 1)
    return attend
