"""Generator of list transforms (sort, reverse, deduplicate) and field extraction."""

import json

import banks
from text import fill

SORT = [
    "(sort|order|alphabetize)( these words| this list| the words|)( alphabetically| from a to z| by name|): {x}",
    "put (these words|this list|the words) in (alphabetical|abc) order: {x}", "alphabetical order: {x}",
    "sort a to z: {x}", "(could|can) you sort (this list|these words)( alphabetically|): {x}",
    "arrange (these words |this list |)alphabetically: {x}", "(list|give) these words in alphabetical order: {x}",
    "sort alphabetically: {x}", "{x}. (Sort|Order) (them|this list|these words)( alphabetically|)", "{x} - (sort|order) (them|this list|these words)( alphabetically|)",
]
REVERSE = [
    "reverse( this list| these words| the list| the order|): {x}", "(write|say|list) (these words|this list) backwards: {x}",
    "(give|list) (these words|this list) in reverse order: {x}", "reverse the order of (these words|this list): {x}",
    "(could|can) you reverse (this list|these words): {x}", "last to first: {x}", "turn (this list|the list) around: {x}",
    "{x}. (Reverse|Turn around) (this list|them)", "{x} - (reverse|turn around) (this list|them)", "backwards: {x}",
]
UNIQUE = [
    "(remove|delete|drop) (the |)duplicates( from this list| in this list|): {x}", "deduplicate( this list| these words|): {x}",
    "(list|keep) (each|every) word (only |)once: {x}", "unique words( only|): {x}", "keep only the unique words: {x}",
    "(could|can) you remove (the |)duplicates: {x}", "drop the repeated words: {x}", "no repeats: {x}",
    "{x}. (Remove|Delete|Drop) (the |)duplicates", "{x} - (remove|delete|drop) (the |)duplicates", "without duplicates: {x}",
]
EXTRACT = [
    "extract (the |){f} as JSON: {x}", "(get|pull|find) (the |){f} as JSON: {x}", "{f} as JSON: {x}",
    "return (the |){f} as JSON: {x}", "turn this into JSON with {f}: {x}", "give me JSON with {f}: {x}",
    "JSON with {f}: {x}", "(could|can) you extract (the |){f} as JSON: {x}", "{x}. Extract {f} as JSON",
    "{x}. (Give|Return) {f} as JSON", "write (the |){f} as JSON: {x}", "parse {f} into JSON: {x}",
]
PEOPLE = [
    "{name}, {age}, lives in {city}", "{name} is {age} and lives in {city}", "{name}, {age}, {job}, lives in {city}",
    "{name}, {age}, works as a {job} in {city}", "{name} is a {job} in {city}, {age} years old",
    "{name} lives in {city}, is {age} and works as a {job}", "my friend {name}, {age}, is a {job} from {city}",
    "{name} from {city} is a {job}, {age} years old", "{name} ({age}) is a {job} in {city}", "{name}, {age}, from {city}",
]


def _join(fields):
    return fields[0] if len(fields) == 1 else ", ".join(fields[:-1]) + " and " + fields[-1]


def draw(rng, op=None):
    """One prompt: (operation, user text, answer text)."""
    op = op or rng.choices(["sort", "reverse", "unique", "extract"], [0.46, 0.2, 0.2, 0.14])[0]
    if op in ("extract", "extract_job"):  # the second always asks for the job
        with_job, op = op == "extract_job", "extract"
        person = {"name": rng.choice(banks.NAMES), "age": rng.randint(18, 79),
                  "city": rng.choice(banks.CITIES), "job": rng.choice(banks.JOBS)}
        sentence = rng.choice([p for p in PEOPLE if "{job}" in p] if with_job else PEOPLE)
        known = [k for k in person if "{" + k + "}" in sentence]
        fields = rng.sample(known, rng.choice([1, 2, 2, 2, 3]))
        if with_job and "job" not in fields:
            fields[rng.randrange(len(fields))] = "job"
        text = fill(rng.choice(EXTRACT), {"f": _join(fields)}, rng)
        for key, value in person.items():
            sentence = sentence.replace("{" + key + "}", str(value))
        answer = json.dumps({k: person[k] for k in fields}, ensure_ascii=False)
        text = text.replace("{x}", sentence)
    else:
        n = rng.choice([3, 4, 5, 6])
        if op == "unique":
            distinct = rng.sample(banks.WORDS, max(2, n - rng.choice([1, 1, 2])))
            words = distinct + [rng.choice(distinct) for _ in range(n - len(distinct))]
            rng.shuffle(words)
            result, patterns = list(dict.fromkeys(words)), UNIQUE
        else:
            words = rng.sample(banks.WORDS, n)
            result = sorted(words) if op == "sort" else words[::-1]
            patterns = SORT if op == "sort" else REVERSE
        text = fill(rng.choice(patterns), {"x": ", ".join(words)}, rng)
        answer = ", ".join(result)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:] if not text.split(",")[0] in banks.WORDS else text
    return op, text, answer
