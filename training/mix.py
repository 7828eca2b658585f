"""Draws whole samples: task, wording, offered tools, system prompt, answer.

The held-out split is made on the *answer*: a fixed twentieth of all answers
(by hash) never occurs in training, and held-out prompts use only those. So no
combination of values that is tested was ever trained, whatever the wording.
"""

import random
import zlib

import banks
import tasks_chat
import tasks_planning
import tasks_tools
import tasks_transforms

WEIGHTS = {"tools": 0.31, "transforms": 0.42, "sudoku": 0.13, "paths": 0.07, "no_tool": 0.03, "chat": 0.04}
SPLIT = ("tools", "transforms", "sudoku", "paths")


def is_held_out(answer):
    """True for the twentieth of all answers that is kept out of training."""
    return zlib.crc32(("weir-nano:" + answer).encode()) % 20 == 0


def _offer(rng, needed=None, without=None):
    """A random list of offered tool names."""
    names = [n for n in tasks_tools.TOOLS if n not in (needed, without)]
    size = 8 if rng.random() < 0.12 else rng.choice([0, 1, 2, 2, 3, 3, 4, 5, 6])
    chosen = rng.sample(names, min(size, len(names)))
    chosen = [rng.choice(tasks_tools.DECOYS) if rng.random() < 0.06 else n for n in chosen]
    if needed:
        chosen.append(needed)
    chosen = chosen or [rng.choice(names)]
    rng.shuffle(chosen)
    return list(dict.fromkeys(chosen))


def _system(rng):
    if rng.random() > 0.15:
        return None
    text = rng.choice(banks.SYSTEM_PROMPTS)
    for key, bank in (("day", banks.DAYS), ("name", banks.NAMES), ("city", banks.CITIES)):
        text = text.replace("{" + key + "}", rng.choice(bank))
    return text


def draw(rng, task, held_out=False, op=None):
    """One sample of `task` from the wanted side of the split."""
    while True:
        tools = None
        kind = op or task
        if task in ("tools", "no_tool"):
            kind, user, args = tasks_tools.draw(rng, op)
            if task == "tools":
                tools, answer = _offer(rng, needed=kind), tasks_tools.call_text(kind, args)
            else:
                tools, answer = _offer(rng, without=kind), tasks_chat.NO_TOOL
        else:
            if task == "transforms":
                kind, user, answer = tasks_transforms.draw(rng, op)
            elif task == "chat":
                user, answer = tasks_chat.draw(rng), tasks_chat.INTRODUCTION
            else:
                user, answer = tasks_planning.sudoku(rng) if task == "sudoku" else tasks_planning.path(rng)
            if rng.random() < 0.35:
                tools = _offer(rng)
        if task not in SPLIT or is_held_out(answer) == held_out:
            break
    return {"task": task, "op": kind, "user": user, "system": _system(rng), "tools": tools, "answer": answer}


def stream(seed, weights=None):
    """Endless training samples."""
    rng = random.Random(seed)
    weights = weights or WEIGHTS
    names = list(weights)
    while True:
        yield draw(rng, rng.choices(names, list(weights.values()))[0])
