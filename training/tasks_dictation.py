"""Generator of tool calls whose text the user dictates: reminders, list items and messages in free words.

The wordings are those of `tasks_tools`; what is dictated is copied verbatim, so each request has one right answer.
"""

import banks
import free_text
from tasks_tools import LIST, MESSAGE, REMINDER, TIMER_LABEL, maybe_lower, when
from text import dress, fill

OPS = ["create_reminder", "add_to_list", "send_message", "set_timer"]
SHARES = [0.42, 0.2, 0.3, 0.08]


def draw(rng, name=None):
    """One request: (function name, user text, arguments)."""
    name = name or rng.choices(OPS, SHARES)[0]
    if name == "create_reminder":
        args = {"text": _errand(rng), "when": when(rng)}
        return name, dress(fill(rng.choice(REMINDER), args, rng), rng), args
    if name == "add_to_list":
        args = {"list": rng.choice(banks.LIST_NAMES), "item": free_text.words(rng, 1, 4, 0.75)}
        return name, dress(fill(rng.choice(LIST), args, rng), rng), args
    if name == "set_timer":
        args = {"minutes": rng.randint(2, 90), "label": free_text.words(rng, 1, 2, 0.7)}
        return name, dress(fill(rng.choice(TIMER_LABEL), {"n": str(args["minutes"]), "label": args["label"]}, rng), rng), args
    args = {"to": rng.choice(banks.PEOPLE), "text": free_text.words(rng, 2, 16)}
    text = fill(rng.choice(MESSAGE), {"to": maybe_lower(args["to"], rng), "text": args["text"]}, rng)
    # a message ends where the request ends: no trailing politeness or full stop
    return name, text[0].upper() + text[1:] if rng.random() < 0.5 else text, args


def _errand(rng):
    """A verb and what it is done to, half of the time with words of the banks in new company."""
    verbs, objects = rng.choice(banks.ERRANDS)
    roll = rng.random()
    if roll < 0.25:  # any verb with any object
        return f"{rng.choice(verbs.split())} {rng.choice(rng.choice(banks.ERRANDS)[1])}"
    if roll < 0.5:
        return f"{rng.choice(verbs.split())} {rng.choice(['', 'the ', 'my ', 'a '])}{free_text.words(rng, 1, 3, 0.75)}"
    if roll < 0.7:
        return f"{free_text.word(rng, 0.7)} {rng.choice(objects)}"
    return free_text.words(rng, 2, 6, 0.85)
