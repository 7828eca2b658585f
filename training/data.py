"""Turns samples into token batches for the two kinds of training.

Both kinds read the same stream of samples in the same order. Encoded samples
come from a background process, so that training does not wait for text work.
"""

import multiprocessing as mp
import os

import torch
from tokenizers import Tokenizer

import mix
import template

BLOCK = 32


class Vocabulary:
    def __init__(self, path):
        self.tok = Tokenizer.from_file(path)
        self.end, self.mask = self.tok.token_to_id(template.END), self.tok.token_to_id(template.MASK)
        self.role_end, self.size = self.tok.token_to_id(template.ROLE_END), self.tok.get_vocab_size()

    def sample(self, s):
        """(prompt ids, answer ids with the closing token)."""
        prompt = self.tok.encode(template.render(s["user"], s["system"], s["tools"])).ids
        return prompt, self.tok.encode(s["answer"]).ids + [self.role_end]


def _produce(queue, path, seed, weights, per_step):
    os.nice(1)
    vocab, samples = Vocabulary(path), mix.stream(seed, weights)
    while True:
        queue.put([vocab.sample(next(samples)) for _ in range(per_step)])


def batches(path, seed, weights, per_step):
    """Endless lists of `per_step` encoded samples."""
    context = mp.get_context("fork")
    queue = context.Queue(64)
    context.Process(target=_produce, args=(queue, path, seed, weights, per_step), daemon=True).start()
    while True:
        yield queue.get()


def diffusion_batch(samples, vocab, gen, copies=4, noise=0.1, full=0.15):
    """Clean prefixes and noisy copies of one answer block per sample.

    Returns groups by prefix length k (in blocks): (k, prefix [n, 32k], noisy
    [n, copies, 32], target [n, 32], weight [n, copies, 32]).
    """
    by_prefix = {}
    for prompt, answer in samples:
        whole = prompt + answer
        whole += [vocab.end] * (-len(whole) % BLOCK)
        first, last = len(prompt) // BLOCK, (len(prompt) + len(answer) - 1) // BLOCK
        k = first
        if last > first:  # choose the block in proportion to the answer tokens it holds
            at = len(prompt) + int(torch.randint(len(answer), (1,), generator=gen))
            k = at // BLOCK
        free = [k * BLOCK + i >= len(prompt) for i in range(BLOCK)]
        by_prefix.setdefault(k, []).append((whole[: k * BLOCK], whole[k * BLOCK : (k + 1) * BLOCK], free))
    out = []
    for k, rows in sorted(by_prefix.items()):
        n = len(rows)
        prefix = torch.tensor([r[0] for r in rows], dtype=torch.long).view(n, k * BLOCK)
        target = torch.tensor([r[1] for r in rows])
        free = torch.tensor([r[2] for r in rows])[:, None].expand(n, copies, BLOCK)
        # copies 2i and 2i+1 are masked in complementary places
        rate = torch.rand(n, copies // 2, 1, generator=gen)
        rate = torch.where(torch.rand(rate.shape, generator=gen) < full, torch.ones_like(rate), rate)
        draw = torch.rand(n, copies // 2, BLOCK, generator=gen) < rate
        masked = torch.stack([draw, ~draw], 2).view(n, copies, BLOCK) & free
        # token-to-token noise on what stays visible: half from the same block, half random
        wide = target[:, None].expand(n, copies, BLOCK)
        swap = (torch.rand(masked.shape, generator=gen) < noise) & free & ~masked
        pick = torch.randint(BLOCK, masked.shape, generator=gen)
        same = wide.gather(2, pick)
        other = torch.randint(vocab.size, masked.shape, generator=gen)
        wrong = torch.where(torch.rand(masked.shape, generator=gen) < 0.5, same, other)
        noisy = torch.where(swap, wrong, wide).masked_fill(masked, vocab.mask)
        hard = masked | (noisy != wide)
        # clean tokens and padding are easy: a quarter of them is enough
        easy = ~hard | (wide == vocab.end)
        kept = torch.rand(masked.shape, generator=gen) < 0.25
        weight = torch.where(easy, torch.where(hard, 0.8, 0.4) * kept, 1.0) * free
        out.append((k, prefix, noisy, target, weight))
    return out


def ar_batch(samples, vocab):
    """Groups by padded length: (ids [n, T], weight [n, T]); weight 1 on answer tokens."""
    by_length = {}
    for prompt, answer in samples:
        t = -(-(len(prompt) + len(answer)) // 16) * 16
        pad = t - len(prompt) - len(answer)
        by_length.setdefault(t, []).append(
            (prompt + answer + [vocab.end] * pad, [0.0] * len(prompt) + [1.0] * len(answer) + [0.0] * pad))
    return [(torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])) for _, rows in sorted(by_length.items())]
