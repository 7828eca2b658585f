"""Scores a model directory (or a checkpoint) on held-out prompts.

    python evaluate.py MODEL_DIR|last.pt --kind diffusion|ar [--heldout FILE | --quick N] [--tokenizer T]

Prints, per task and decoder, exact matches in per cent and tokens per forward:
tokens up to and including the end token, divided by all forwards of the decode.
"""

import argparse
import collections
import json
import os

import torch

import data
import decode
import export
import make_heldout
import mix

torch.set_num_threads(1)


def load_rows(path):
    for line in open(path, encoding="utf-8"):
        r = json.loads(line)
        system = [m["content"] for m in r["messages"] if m["role"] == "system"]
        tools = [t["function"]["name"] for t in r.get("tools", [])]
        yield {"task": r["task"], "op": r["op"], "user": r["messages"][-1]["content"],
               "system": system[0] if system else None, "tools": tools or None, "answer": r["expected"]}


def score(model, kind, vocab, rows, decoders=None, show=0):
    """{(task or task/op, decoder): (per cent exact, tokens per forward, n)}."""
    model.eval()
    pairs = [vocab.sample(s) for s in rows]
    prompts = [p for p, _ in pairs]
    table = {}
    for name in decoders or (list(decode.PRESETS) if kind == "diffusion" else ["greedy"]):
        if kind == "diffusion":
            out = decode.diffusion(model, prompts, vocab, name)
        else:
            out = decode.greedy(model, prompts, vocab)
        sums = collections.defaultdict(lambda: [0, 0, 0, 0])
        for s, (_, answer), (got, forwards) in zip(rows, pairs, out):
            right = got == answer
            if not right and show > 0:
                show -= 1
                print(name, s["op"], repr(s["user"]), "|", s["answer"], "| got", vocab.tok.decode(got, skip_special_tokens=False))
            for key in {s["task"], f"{s['task']}/{s['op']}"}:
                entry = sums[key]
                entry[0] += right
                entry[1] += 1
                entry[2] += len(got)
                entry[3] += forwards
        for key, (ok, n, tokens, forwards) in sums.items():
            table[key, name] = (100 * ok / n, tokens / forwards, n)
    return table


def show_table(table):
    names = list(dict.fromkeys(n for _, n in table))
    for key in sorted({k for k, _ in table}, key=lambda k: (k.count("/"), k)):
        cells = [f"{n}: {table[key, n][0]:5.1f} % tpf {table[key, n][1]:5.2f}" for n in names if (key, n) in table]
        print(f"{key:28s} n={table[key, names[0]][2]:<4d}", " | ".join(cells), flush=True)


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("model")
    a.add_argument("--kind", required=True)
    a.add_argument("--heldout")
    a.add_argument("--tokenizer")
    a.add_argument("--quick", type=int, default=40, help="prompts a task when no held-out file is given")
    a.add_argument("--decoders", help="comma separated")
    a.add_argument("--tasks", help="comma separated, with --quick")
    a.add_argument("--show", type=int, default=0)
    o = a.parse_args()
    model = export.load(o.model)
    folder = o.model if os.path.isdir(o.model) else None
    vocab = data.Vocabulary(o.tokenizer or os.path.join(folder, "tokenizer.json"))
    rows = list(load_rows(o.heldout)) if o.heldout else list(
        make_heldout.rows(o.quick, 5, tuple(o.tasks.split(",")) if o.tasks else mix.TASKS))
    show_table(score(model, o.kind, vocab, rows, o.decoders.split(",") if o.decoders else None, o.show))
