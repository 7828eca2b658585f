"""Trains one nano model, diffusion or autoregressive, on the CPU.

    python train.py KIND RUN_DIR --tokenizer TOKENIZER.json --steps N [--seed 1] [--init MODEL_DIR --peak 0.5]

The run can be stopped at any time and is resumed from RUN_DIR/last.pt. The
learning rate warms up, stays flat for 40 % of the steps and decays linearly.
With `--init` it starts from a finished model and draws from the mix's last phase.
"""

import argparse
import json
import os
import time

import torch
import torch.nn.functional as F

import data
import export
import mix
from model import CONFIG, Nano, block_causal, sdpa
from optim import Optimizer

torch.set_num_threads(1)
WARM, FLAT, LAST = 50, 0.4, 0.02


def rate(step, steps, flat=FLAT):
    """Learning-rate factor at `step`."""
    if step < WARM:
        return (step + 1) / WARM
    left = (steps - step) / max(1, steps * (1 - flat))
    return LAST + (1 - LAST) * min(1.0, max(0.0, left))


def diffusion_loss(model, groups):
    """Cross entropy of the noisy blocks; each copy sees its prefix and itself."""
    ids, positions, layout, rows, targets, weights, at = [], [], [], [], [], [], 0
    for k, prefix, noisy, target, weight in groups:
        n, copies, b = noisy.shape
        ids += [prefix.flatten(), noisy.flatten()]
        p = k * data.BLOCK
        positions += [torch.arange(p).repeat(n), (torch.arange(b) + p).repeat(n * copies)]
        layout.append((at, n, p, copies, b))
        at += n * p
        use = (weight.flatten() > 0).nonzero()[:, 0]
        rows.append(use + at)
        targets.append(target[:, None].expand_as(noisy).flatten()[use])
        weights.append(weight.flatten()[use])
        at += n * copies * b

    def attend(q, k, v):
        parts = []
        for start, n, p, copies, b in layout:
            middle, end = start + n * p, start + n * p + n * copies * b
            clean = lambda t: t[start:middle].view(n, p, t.shape[1], t.shape[2])
            own = lambda t: t[middle:end].view(n * copies, b, t.shape[1], t.shape[2])
            keys, values = own(k), own(v)
            if p:
                mask = block_causal(p, data.BLOCK) if p > data.BLOCK else None
                parts.append(sdpa(clean(q), clean(k), clean(v), mask).flatten(0, 1))
                keys = torch.cat([clean(k).repeat_interleave(copies, 0), keys], 1)
                values = torch.cat([clean(v).repeat_interleave(copies, 0), values], 1)
            parts.append(sdpa(own(q), keys, values).flatten(0, 1))
        return torch.cat(parts)

    hidden = model(torch.cat(ids), torch.cat(positions), attend, torch.cat(rows))
    loss = F.cross_entropy(model.logits(hidden), torch.cat(targets), reduction="none")
    weight = torch.cat(weights)
    return (loss * weight).sum() / weight.sum()


def ar_loss(model, groups):
    """Next-token cross entropy on the answers, causal attention."""
    ids, positions, layout, rows, targets, at = [], [], [], [], [], 0
    for tokens, weight in groups:
        n, t = tokens.shape
        ids.append(tokens.flatten())
        positions.append(torch.arange(t).repeat(n))
        layout.append((at, n, t))
        use = (weight.flatten() > 0).nonzero()[:, 0]
        rows.append(use - 1 + at)  # the position before predicts the token
        targets.append(tokens.flatten()[use])
        at += n * t

    def attend(q, k, v):
        parts = []
        for start, n, t in layout:
            cut = lambda x: x[start : start + n * t].view(n, t, x.shape[1], x.shape[2])
            parts.append(sdpa(cut(q), cut(k), cut(v), block_causal(t, 1)).flatten(0, 1))
        return torch.cat(parts)

    hidden = model(torch.cat(ids), torch.cat(positions), attend, torch.cat(rows))
    return F.cross_entropy(model.logits(hidden), torch.cat(targets))


def train(kind, run_dir, tokenizer, steps, seed=1, per_step=32, weights=None, stop=None, init=None, flat=FLAT, peak=1.0, long_texts=0.0,
          muon_lr=0.02, adam_lr=3e-3, whole_blocks=0.3, save_every=250, log_every=100):
    """Run (or resume) one training; returns the list of logged losses."""
    os.makedirs(run_dir, exist_ok=True)
    torch.manual_seed(seed)
    vocab = data.Vocabulary(tokenizer)
    model = Nano(dict(CONFIG, vocab_size=vocab.size, pad_token_id=vocab.end))
    optimizer, gen = Optimizer(model, muon_lr, adam_lr), torch.Generator().manual_seed(seed)
    first, last = 0, os.path.join(run_dir, "last.pt")
    if os.path.exists(last):
        state = torch.load(last)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        gen.manual_seed(seed + first)
    elif init:
        model.load_state_dict(export.load(init).state_dict())
    source = data.batches(tokenizer, seed * 1000003 + first, weights, per_step, first + mix.SECOND * bool(init), long_texts)
    model.train()
    losses, total, count, begun = [], 0.0, 0, time.time()
    for step in range(first, steps):
        samples = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if kind == "diffusion":
                loss = diffusion_loss(model, data.diffusion_batch(samples, vocab, gen, whole_blocks=whole_blocks))
            else:
                loss = ar_loss(model, data.ar_batch(samples, vocab))
        loss.backward()
        factor = peak * rate(step, steps, flat)
        optimizer.step(factor)
        model.balance(0.003 * factor)
        total, count = total + loss.item(), count + 1
        done = step + 1
        if done % log_every == 0 or done == steps:
            losses.append(total / count)
            line = {"step": done, "loss": round(total / count, 5), "rate": round(factor, 4), "seconds": round(time.time() - begun, 1)}
            print(json.dumps(line), flush=True)
            total, count = 0.0, 0
        out_of_time = stop is not None and time.time() - begun > stop
        if done % save_every == 0 or done == steps or out_of_time:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done, "config": model.config}
            torch.save(state, last + ".new")
            os.replace(last + ".new", last)
        if out_of_time:
            break
    return losses


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("kind", choices=["diffusion", "ar"])
    a.add_argument("run_dir")
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--steps", type=int, required=True)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--per-step", type=int, default=32)
    a.add_argument("--weights", type=json.loads, help="task weights as JSON, otherwise mix.WEIGHTS")
    a.add_argument("--init", help="start from the weights of this model directory or checkpoint")
    a.add_argument("--peak", type=float, default=1.0, help="scales the learning rates")
    a.add_argument("--whole-blocks", type=float, default=0.3)
    a.add_argument("--flat", type=float, default=FLAT)
    a.add_argument("--long-texts", type=float, default=0.0, help="share of samples with a system text of pages")
    o = a.parse_args()
    train(o.kind, o.run_dir, o.tokenizer, o.steps, o.seed, o.per_step, o.weights, init=o.init, flat=o.flat,
          peak=o.peak, whole_blocks=o.whole_blocks, long_texts=o.long_texts)
