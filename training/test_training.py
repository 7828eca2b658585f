"""Two-minute check of the training code: both losses must fall below a third of their start.

    python test_training.py
"""

import os
import random
import tempfile

import build_tokenizer
import mix
import train


def main():
    for task in mix.SPLIT:  # the split holds on both sides
        for side in (True, False):
            s = mix.draw(random.Random(3), task, side)
            assert mix.is_held_out(s["answer"], s["op"], s["user"]) == side, s
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = os.path.join(folder, "tokenizer.json")
        build_tokenizer.build(samples=8000).save(tokenizer)
        for kind in ("ar", "diffusion"):
            losses = train.train(kind, os.path.join(folder, kind), tokenizer, steps=120, per_step=16, log_every=10)
            print(f"{kind}: loss {losses[0]:.2f} -> {losses[-1]:.2f}")
            assert losses[-1] < losses[0] / 3, kind
    print("ok")


if __name__ == "__main__":
    main()
