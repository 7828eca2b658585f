"""Writes the held-out prompts: 100 for every task, none of their answers ever trained.

    python make_heldout.py ../models/nano/heldout.jsonl
"""

import json
import random
import sys

import mix
import tasks_dictation
import tasks_tools

SEED = 20261124
OPS = {"tools": list(tasks_tools.TOOLS), "transforms": ["sort", "reverse", "unique", "extract"],
       "dictation": tasks_dictation.OPS}


def _schema(name):
    fallback = {"type": "function", "function": {
        "name": name, "description": name.replace("_", " "), "parameters": {"type": "object", "properties": {}}}}
    return tasks_tools.TOOLS.get(name, fallback)


def rows(per_task=100, seed=SEED, tasks=mix.TASKS):
    """Samples with distinct prompts; operations of a task take turns."""
    for task in tasks:
        rng, seen = random.Random(f"{seed}-{task}"), set()
        while len(seen) < per_task:
            ops = OPS.get(task)
            sample = mix.draw(rng, task, held_out=task in mix.SPLIT, op=ops[len(seen) % len(ops)] if ops else None)
            if sample["user"] not in seen:
                seen.add(sample["user"])
                yield sample


def as_json(s):
    messages = [{"role": "system", "content": s["system"]}] if s["system"] else []
    row = {"task": s["task"], "op": s["op"], "messages": messages + [{"role": "user", "content": s["user"]}]}
    if s["tools"]:
        row["tools"] = [_schema(n) for n in s["tools"]]
    return dict(row, expected=s["answer"])


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        for s in rows():
            f.write(json.dumps(as_json(s), ensure_ascii=False) + "\n")
