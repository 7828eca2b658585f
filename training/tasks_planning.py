"""Generators of the two planning tasks: 4x4 sudoku and paths in a small graph.

Sudoku is written as four rows joined by "/", an empty cell is a dot:
"1.3./..2./4..1/.3.."; the answer is the full grid in the same form.
A graph is a list of directed edges "A>B" separated by blanks; the answer is the
one path from start to goal, "A>C>D".
"""

import itertools

SUDOKU = [
    "solve this sudoku: {x}", "sudoku: {x}", "solve the 4x4 sudoku: {x}", "solve this 4x4 sudoku: {x}",
    "fill in this sudoku: {x}", "complete the sudoku: {x}",
]
PATH = [
    "find the path from {a} to {b}: {x}", "path from {a} to {b}: {x}", "how do I get from {a} to {b}: {x}",
    "what is the path from {a} to {b}: {x}", "route from {a} to {b}: {x}",
]
LETTERS = "ABCDEFGHJKLM"


def _all_grids():
    rows = list(itertools.permutations("1234"))
    for quad in itertools.product(rows, repeat=4):
        if any(len({r[c] for r in quad}) < 4 for c in range(4)):
            continue
        if all(len({quad[r + i][c + j] for i in (0, 1) for j in (0, 1)}) == 4 for r in (0, 2) for c in (0, 2)):
            yield "".join("".join(r) for r in quad)


GRIDS = list(_all_grids())
_WITH = [[{g for g in GRIDS if g[cell] == d} for d in "1234"] for cell in range(16)]


def _rows(cells):
    return "/".join("".join(cells[i : i + 4]) for i in range(0, 16, 4))


def sudoku(rng, grid=None):
    """(user text, answer): 6 to 9 clues that leave exactly one solution."""
    grid = grid or rng.choice(GRIDS)
    while True:
        clues = rng.sample(range(16), rng.randint(6, 9))
        if len(set.intersection(*(_WITH[c][int(grid[c]) - 1] for c in clues))) == 1:
            break
    cells = [grid[i] if i in clues else "." for i in range(16)]
    text = rng.choice(SUDOKU).replace("{x}", _rows(cells))
    return (text[0].upper() + text[1:] if rng.random() < 0.5 else text), _rows(grid)


def _count_paths(edges, a, b, depth=8):
    if a == b:
        return 1
    return 0 if depth == 0 else sum(_count_paths(edges, y, b, depth - 1) for x, y in edges if x == a)


def path(rng):
    """(user text, answer): a path of 2 or 3 edges beside 1 to 3 misleading edges."""
    while True:
        nodes = rng.sample(LETTERS, 7)
        n = rng.choice([2, 2, 3])
        route, rest = nodes[: n + 1], nodes[n + 1 :]
        edges = list(zip(route, route[1:]))
        edges.append((route[0], rest[0]))  # a dead end at the start
        for _ in range(rng.choice([0, 1, 2])):
            x, y = rng.choice(route[:-1] + rest[:2]), rng.choice(rest)
            if x != y:
                edges.append((x, y))
        edges = list(dict.fromkeys(edges))
        if _count_paths(edges, route[0], route[-1]) == 1:
            break
    rng.shuffle(edges)
    text = rng.choice(PATH).replace("{x}", " ".join(f"{x}>{y}" for x, y in edges))
    text = text.replace("{a}", route[0]).replace("{b}", route[-1])
    return (text[0].upper() + text[1:] if rng.random() < 0.5 else text), ">".join(route)
