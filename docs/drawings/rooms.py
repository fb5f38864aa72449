"""Draws which room of nmtr imports from which, from the imports themselves: `rooms.svg`.

python docs/drawings/rooms.py writes it; a test compares what is written with what would be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parents[1] / "src" / "nmtr"
ANYWHERE = ("cache", "errors", "files", "options", "presets")  # used by all, or by none
ORDER = ("pages", "data", "models", "evaluation", "training", "serving", "estimator", "cli")

LEFT, TOP, WIDTH, HEIGHT, GAP, SLOT = 30, 24, 150, 64, 30, 7
STYLE = """
    .card { fill: #f7f8fc; stroke: #d5d9e6; }
    .box { fill: #ffffff; stroke: #5b6478; stroke-width: 1.5; }
    text { fill: #1f2430; }
    path { stroke: #3949ab; stroke-width: 1.7; fill: none; }
    .head { fill: #3949ab; stroke: none; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #1d2029; stroke: #3a4050; }
      .box { fill: #272b36; stroke: #a9b1c6; }
      text { fill: #eceff7; }
      path { stroke: #9fa8da; }
      .head { fill: #9fa8da; }
    }"""


def edges(home: Path = HOME) -> set[tuple[str, str]]:
    """(importing, imported) rooms, imports inside functions and for types among them."""
    found = set()
    for path in home.rglob("*.py"):
        room = path.relative_to(home).parts[0].removesuffix(".py")
        if room.startswith("__") or room in ANYWHERE:
            continue
        for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            if name not in (room, *ANYWHERE):
                found.add((room, name))
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "nmtr":
                names = [f"nmtr.{each.name}" for each in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "nmtr" and rest and not rest[0].startswith("__"):
                yield rest[0]


def draw(found: set[tuple[str, str]]) -> str:
    """The drawing: rooms from the last at the top to the first; an arrow down for each edge."""
    rooms = [*ORDER, *sorted({each for edge in found for each in edge} - set(ORDER))]
    rooms = [each for each in rooms if any(each in edge for edge in found)][::-1]
    place = {room: TOP + at * (HEIGHT + GAP) for at, room in enumerate(rooms)}
    height = TOP + len(rooms) * (HEIGHT + GAP) - GAP + TOP
    farthest = max(abs(rooms.index(one) - rooms.index(two)) for one, two in found)
    width = LEFT + WIDTH + 40 * farthest + 30
    arrows = "\n".join(_arrow(one, two, found, rooms, place) for one, two in sorted(found))
    middle, baseline = LEFT + WIDTH // 2, HEIGHT // 2 + 5
    boxes = "\n".join(
        f'  <rect class="box" x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle}" y="{top + baseline}" text-anchor="middle">{room}</text>'
        for room, top in place.items()
    )
    marker = (
        '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" '
        'orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        'role="img" font-family="system-ui, sans-serif" font-size="15">\n'
        f"  <title>Which room imports from which</title>\n  <style>{STYLE}\n  </style>\n"
        f"  <defs>{marker}</defs>\n"
        f'  <rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
        f"{arrows}\n{boxes}\n</svg>\n"
    )


def _arrow(
    one: str, two: str, found: set[tuple[str, str]], rooms: list[str], place: dict[str, int]
) -> str:
    """Straight down to the next room; around, on the right, to one farther away."""
    far = {edge: abs(rooms.index(edge[1]) - rooms.index(edge[0])) for edge in found}
    apart = far[one, two]
    if apart == 1:
        line = f"M{LEFT + WIDTH // 2} {place[one] + HEIGHT} V{place[two] - 1}"
    else:
        # Each has a slot of its own: leaving from below, arriving from above, nearer ones outside.
        leaving = sum(edge[0] == one and 1 < far[edge] < apart for edge in found)
        arriving = sum(edge[1] == two and 1 < far[edge] < apart for edge in found)
        edge, out = LEFT + WIDTH, LEFT + WIDTH + 40 * apart
        start = place[one] + HEIGHT - SLOT * (leaving + 1)
        end = place[two] + SLOT * (arriving + 1)
        line = f"M{edge} {start} C{out} {start} {out} {end} {edge + 1} {end}"
    return f'  <path data-from="{one}" data-to="{two}" marker-end="url(#a)" d="{line}"/>'


if __name__ == "__main__":
    (HERE / "rooms.svg").write_text(draw(edges()), encoding="utf-8")
