"""Turns samples into token batches for the two kinds of training.

Both kinds read the same stream of samples in the same order. Encoded samples
come from a background process, so that training does not wait for text work.
"""

import itertools
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


def _produce(queue, path, seed, weights, per_step, first, long_texts):
    os.nice(1)
    vocab = Vocabulary(path)
    streams = [mix.stream(seed + i, weights, i, long_texts) for i in range(len(mix.PHASES))]
    for step in itertools.count(first):
        samples = streams[sum(step >= start for start, _, _ in mix.PHASES) - 1]
        queue.put([vocab.sample(next(samples)) for _ in range(per_step)])


def batches(path, seed, weights, per_step, first=0, long_texts=0.0):
    """Endless lists of `per_step` encoded samples."""
    context = mp.get_context("fork")
    queue = context.Queue(64)
    context.Process(target=_produce, args=(queue, path, seed, weights, per_step, first, long_texts), daemon=True).start()
    while True:
        yield queue.get()


def diffusion_batch(samples, vocab, gen, copies=4, noise=0.1, full=0.15, whole_blocks=0.3):
    """Clean prefixes and noisy copies of one answer block per sample.

    Most blocks are mostly padding after the answer. To save time only a share
    (`whole_blocks`) of the samples keeps all 32 positions; the others end a few
    positions after the answer, at a multiple of 8.

    Returns groups by prefix length k (in blocks) and block length b: (k, prefix
    [n, 32k], noisy [n, copies, b], target [n, b], weight [n, copies, b]).
    """
    by_shape = {}
    chance = torch.rand(len(samples), generator=gen).tolist()
    for (prompt, answer), luck in zip(samples, chance):
        tokens = prompt + answer
        end = len(tokens)
        tokens = tokens + [vocab.end] * (-end % BLOCK)
        first, last = len(prompt) // BLOCK, (end - 1) // BLOCK
        k = first
        if last > first:  # choose the block in proportion to the answer tokens it holds
            k = (len(prompt) + int(torch.randint(len(answer), (1,), generator=gen))) // BLOCK
        b = BLOCK
        if k == last and luck > whole_blocks:
            b = min(BLOCK, -(-(end - k * BLOCK) // 8) * 8)
        free = [k * BLOCK + i >= len(prompt) for i in range(b)]
        by_shape.setdefault((k, b), []).append((tokens[: k * BLOCK], tokens[k * BLOCK : k * BLOCK + b], free))
    out = []
    for (k, b), rows in sorted(by_shape.items()):
        n = len(rows)
        prefix = torch.tensor([r[0] for r in rows], dtype=torch.long).view(n, k * BLOCK)
        target = torch.tensor([r[1] for r in rows])
        free = torch.tensor([r[2] for r in rows])[:, None].expand(n, copies, b)
        # copies 2i and 2i+1 are masked in complementary places
        rate = torch.rand(n, copies // 2, 1, generator=gen)
        rate = torch.where(torch.rand(rate.shape, generator=gen) < full, torch.ones_like(rate), rate)
        draw = torch.rand(n, copies // 2, b, generator=gen) < rate
        masked = torch.stack([draw, ~draw], 2).view(n, copies, b) & free
        # token-to-token noise on what stays visible: half from the same block, half random
        wide = target[:, None].expand(n, copies, b)
        swap = (torch.rand(masked.shape, generator=gen) < noise) & free & ~masked
        pick = torch.randint(b, masked.shape, generator=gen)
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
