"""Plain decoders used to judge the models: threshold, joint threshold, greedy.

They follow the published LLaDA2.0 / 2.1 procedures at temperature 0, several
prompts of equal block layout at a time, without any key/value cache.
"""

import torch

from data import BLOCK
from model import block_causal, dense_attend

# name: (threshold, editing threshold or None for the plain threshold decoder)
PRESETS = {"t95": (0.95, None), "S": (0.5, 0.0), "Q": (0.7, 0.5)}
MAX_POST_STEPS = 16


@torch.no_grad()
def _block_logits(model, x, vocab):
    """Probabilities of the last block of x [n, T] under the block-causal mask."""
    n, t = x.shape
    positions = torch.arange(t).repeat(n)
    hidden = model(x.flatten(), positions, dense_attend(n, t, block_causal(t, BLOCK)))
    logits = model.logits(hidden.view(n, t, -1)[:, -BLOCK:])
    logits[..., vocab.mask] = float("-inf")  # a mask is never written
    return logits.softmax(-1)


def _block(model, x, fixed, vocab, threshold, editing):
    """Fill the last block of x in place; returns the forwards used by each row."""
    n = x.shape[0]
    forwards, post = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    live = torch.arange(n)
    while len(live):
        block = x[live, -BLOCK:]
        masked = block == vocab.mask
        prob, best = _block_logits(model, x[live], vocab).max(-1)
        forwards[live] += 1
        conf = prob.masked_fill(~masked, -1.0)
        write = conf > threshold
        none = masked.any(-1) & ~write.any(-1)
        write[none, conf[none].argmax(-1)] = True
        if editing is None:
            edit = torch.zeros_like(masked)
        else:
            edit = ~masked & ~fixed[live] & (best != block) & (prob > editing)
        had_mask = masked.any(-1)
        block = torch.where(write | edit, best, block)
        x[live, -BLOCK:] = block
        still = (block == vocab.mask).any(-1)
        if editing is None:
            keep = still
        else:
            done = ~had_mask & ~edit.any(-1)
            post[live] += ~still  # the coming step would be a post step
            keep = still | (~done & (post[live] <= MAX_POST_STEPS))
        live = live[keep]
    return forwards


def diffusion(model, prompts, vocab, preset, max_blocks=5):
    """Decode all prompts; returns [(answer ids with the end token, forwards)]."""
    threshold, editing = PRESETS[preset]
    result = [None] * len(prompts)
    work = {}
    for i, p in enumerate(prompts):
        work.setdefault(len(p) // BLOCK, []).append((i, list(p), 0))
    while work:
        k = min(work)
        rows = work.pop(k)
        t = (k + 1) * BLOCK
        x = torch.tensor([tokens + [vocab.mask] * (t - len(tokens)) for _, tokens, _ in rows])
        start = torch.tensor([len(prompts[i]) for i, _, _ in rows])
        fixed = (torch.arange(k * BLOCK, t)[None] < start[:, None])
        used = _block(model, x, fixed, vocab, threshold, editing)
        for (i, _, before), out, f in zip(rows, x.tolist(), used.tolist()):
            answer, total = out[len(prompts[i]) :], before + f
            ends = [j for j, token in enumerate(answer) if token in (vocab.end, vocab.role_end)]
            if ends:
                result[i] = (answer[: ends[0] + 1], total)
            elif k + 1 - len(prompts[i]) // BLOCK >= max_blocks:
                result[i] = (answer, total)
            else:
                work.setdefault(k + 1, []).append((i, out, total))
    return result


@torch.no_grad()
def greedy(model, prompts, vocab, limit=128):
    """Greedy next-token decoding; one forward a token."""
    result = [None] * len(prompts)
    work = {}
    for i, p in enumerate(prompts):
        work.setdefault(len(p), []).append((i, list(p)))
    while work:
        t = min(work)
        rows = work.pop(t)
        x = torch.tensor([tokens for _, tokens in rows])
        n = len(rows)
        attend = dense_attend(n, t, block_causal(t, 1))
        hidden = model(x.flatten(), torch.arange(t).repeat(n), attend).view(n, t, -1)[:, -1]
        for (i, tokens), token in zip(rows, model.logits(hidden).argmax(-1).tolist()):
            tokens.append(token)
            made = len(tokens) - len(prompts[i])
            if token in (vocab.end, vocab.role_end) or made >= limit:
                result[i] = (tokens[len(prompts[i]) :], made)
            else:
                work.setdefault(t + 1, []).append((i, tokens))
    return result
