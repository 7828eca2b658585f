"""Helpers shared by the generators: random expansion of sentence patterns.

A pattern such as "(turn|switch) off the {room} (light|lights)" stands for every
sentence one gets by choosing one alternative in each bracket; brackets may nest
and an alternative may be empty. Braces are filled afterwards by the caller.
"""


def expand(pattern, rng):
    """Choose one alternative for every bracket of `pattern` and tidy the blanks."""
    return " ".join(_choose(pattern, rng).split())


def _choose(pattern, rng):
    out, i = [], 0
    while i < len(pattern):
        ch = pattern[i]
        if ch != "(":
            out.append(ch)
            i += 1
            continue
        depth, start, options, j = 1, i + 1, [], i + 1
        while depth:
            c = pattern[j]
            if c == "(":
                depth += 1
            elif c == ")":
                depth -= 1
            if (c == "|" and depth == 1) or depth == 0:
                options.append(pattern[start:j])
                start = j + 1
            j += 1
        out.append(_choose(rng.choice(options), rng))
        i = j
    return "".join(out)


def fill(pattern, values, rng):
    """Expand `pattern` and put `values` into its braces."""
    text = expand(pattern, rng)
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text


def dress(text, rng, question=False):
    """Add the small variations of how people type: politeness, case, full stop."""
    roll = rng.random()
    if question:
        end = rng.choice(["", "?", "?"])
    else:
        if roll < 0.12:
            text = "please " + text
        elif roll < 0.2:
            text = text + " please"
        elif roll < 0.25:
            text = "hey, " + text
        end = rng.choice(["", "", "", "."])
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + end
