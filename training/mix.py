"""Draws whole samples: task, wording, offered tools, system prompt, answer.

The held-out split is made on the *answer*: a fixed twentieth of all answers
(by hash) never occurs in training, and held-out prompts use only those. So no
combination of values that is tested was ever trained, whatever the wording.
"""

import random
import zlib

import banks
import free_text
import tasks_chat
import tasks_dictation
import tasks_planning
import tasks_tools
import tasks_transforms

# The mix in phases: from the given step on, lean to what was learned slowest.
# Each phase: first step, task weights, weights of the operations (missing: 1).
WEIGHTS = {"tools": 0.31, "transforms": 0.42, "sudoku": 0.13, "paths": 0.07, "no_tool": 0.03, "chat": 0.04}
_TOOL_OPS = {"play_music": 3, "get_weather": 1.3, "add_to_list": 1.3, "create_reminder": 1.3}
SECOND = 10900
PHASES = [
    (0, WEIGHTS, None),
    (8000, {"tools": 0.3, "transforms": 0.54, "sudoku": 0.06, "paths": 0.04, "no_tool": 0.03, "chat": 0.03},
     {"tools": _TOOL_OPS, "transforms": {"sort": 0.36, "reverse": 0.06, "unique": 0.32, "extract": 0.26}}),
    (9250, {"tools": 0.26, "transforms": 0.61, "sudoku": 0.05, "paths": 0.03, "no_tool": 0.025, "chat": 0.025},
     {"tools": _TOOL_OPS, "transforms": {"sort": 0.27, "reverse": 0.04, "unique": 0.48, "extract": 0.21}}),
    (10400, {"tools": 0.18, "transforms": 0.71, "sudoku": 0.05, "paths": 0.02, "no_tool": 0.02, "chat": 0.02},
     {"transforms": {"sort": 0.13, "reverse": 0.04, "unique": 0.49, "extract_job": 0.34}}),
    # The second run, from the weights of the first: everything again, with what still failed drawn most.
    (SECOND, {"tools": 0.2, "transforms": 0.52, "sudoku": 0.08, "paths": 0.1, "no_tool": 0.07, "chat": 0.03},
     {"transforms": {"sort": 0.2, "reverse": 0.11, "unique": 0.4, "extract": 0.09, "extract_job": 0.2}}),
]
TASKS = (*WEIGHTS, "dictation")
SPLIT = ("tools", "transforms", "sudoku", "paths", "dictation")


def is_held_out(answer, op=None, user=""):
    """True for the twentieth of all answers that is kept out of training.

    play_music has a single argument, so holding out its answers would hold out
    artists as such; of those, a third of the wordings is held out instead.
    """
    if zlib.crc32(("weir-nano:" + answer).encode()) % 20:
        return False
    return op != "play_music" or zlib.crc32(user.lower().strip(" .?!").encode()) % 3 == 0


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


def _system(rng, long_texts):
    if long_texts and rng.random() < long_texts:
        return free_text.page(rng)
    if rng.random() > 0.15:
        return None
    text = rng.choice(banks.SYSTEM_PROMPTS)
    for key, bank in (("day", banks.DAYS), ("name", banks.NAMES), ("city", banks.CITIES)):
        text = text.replace("{" + key + "}", rng.choice(bank))
    return text


def draw(rng, task, held_out=False, op=None, long_texts=0.0):
    """One sample of `task` from the wanted side of the split; a share of `long_texts` has a system text of pages."""
    while True:
        tools = None
        kind = op or task
        if task in ("tools", "no_tool"):
            kind, user, args = tasks_tools.draw(rng, op)
            if task == "tools":
                tools, answer = _offer(rng, needed=kind), tasks_tools.call_text(kind, args)
            else:
                tools, answer = _offer(rng, without=kind), tasks_chat.NO_TOOL
        elif task == "dictation":
            kind, user, args = tasks_dictation.draw(rng, op)
            tools, answer = _offer(rng, needed=kind), tasks_tools.call_text(kind, args)
        else:
            if task == "transforms":
                kind, user, answer = tasks_transforms.draw(rng, op)
            elif task == "chat":
                user, answer = tasks_chat.draw(rng), tasks_chat.INTRODUCTION
            else:
                user, answer = tasks_planning.sudoku(rng) if task == "sudoku" else tasks_planning.path(rng)
            if rng.random() < 0.35:
                tools = _offer(rng)
        if task not in SPLIT or is_held_out(answer, kind, user) == held_out:
            break
    return {"task": task, "op": kind, "user": user, "system": _system(rng, long_texts), "tools": tools, "answer": answer}


def stream(seed, weights=None, phase=0, long_texts=0.0):
    """Endless training samples of one phase."""
    rng = random.Random(seed)
    _, own, shares = PHASES[phase]
    weights = weights or own
    names = list(weights)
    while True:
        task, op = rng.choices(names, list(weights.values()))[0], None
        if shares and task in shares:
            share = shares[task]
            ops = list(tasks_tools.TOOLS) if task == "tools" else list(share)
            op = rng.choices(ops, [share.get(o, 1) for o in ops])[0]
        yield draw(rng, task, op=op, long_texts=long_texts)
