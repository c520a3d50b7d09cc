"""A picture of how wide bounds become from block to block, of results of ``gamma bounds --json``.

    for e in 1e-5 5e-5 1e-4; do
      gamma bounds MiniLM/ --ids 101,7592,2088,102 --positions 1 --epsilon $e --json > $e.json
    done
    python -m benches.block_widths 1e-5.json 5e-5.json 1e-4.json -o docs/pictures/minilm-blocks.svg

One line a result: the mean width of each block's output over the radius. Above them stands what the
norms alone leave possible; dashes are first-order widths, which no sound bound can be far below.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from gamma.drawing import Drawing, Line, Rectangle, Text

WIDTH, HEIGHT = 640.0, 400.0
LEFT, TOP, RIGHT, BOTTOM = 64.0, 56.0, 500.0, 352.0
COLOURS = ("blue", "green", "orange", "red")
DOT = 3.2


class Axes:
    """Places of blocks, and of widths on a logarithmic scale."""

    def __init__(self, blocks: int, low: float, high: float) -> None:
        self.blocks = blocks
        self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))

    def x(self, block: int) -> float:
        return LEFT + (RIGHT - LEFT) * (block + 0.5) / self.blocks

    def y(self, width: float) -> float:
        share = (math.log10(width) - self.low) / (self.high - self.low)
        return BOTTOM - (BOTTOM - TOP) * share

    def draw(self, page: Drawing) -> None:
        for power in range(self.low, self.high + 1):
            y = self.y(10.0**power)
            page.add(Line(LEFT, y, RIGHT, y, "faint"))
            page.add(Text(LEFT - 8, y + 4, f"1e{power}", 12, "grey", "end"))
        for block in range(self.blocks):
            page.add(Text(self.x(block), BOTTOM + 20, str(block), 12, "grey", "middle"))
        page.add(Text((LEFT + RIGHT) / 2, BOTTOM + 40, "block", 12, "grey", "middle"))


def line(page: Drawing, axes: Axes, widths: list[float], colour: str, name: str, y: float) -> None:
    """Dots joined by lines, and the name beside the last one at height ``y``."""
    places = [(axes.x(i), axes.y(w)) for i, w in enumerate(widths)]
    for (x1, y1), (x2, y2) in zip(places, places[1:], strict=False):
        page.add(Line(x1, y1, x2, y2, colour, 2))
    for x, top in places:
        page.add(Rectangle(x - DOT, top - DOT, 2 * DOT, 2 * DOT, colour, radius=DOT))
    page.add(Text(RIGHT + 8, y + 4, name, 13, colour))


def spread(wanted: list[float], apart: float = 18.0) -> list[float]:
    """Heights near those ``wanted``, none closer than ``apart``."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    found = list(wanted)
    for before, after in zip(order, order[1:], strict=False):
        found[after] = max(found[after], found[before] + apart)
    return found


def picture(results: list[dict[str, Any]], names: list[str]) -> Drawing:
    """Of tables of blocks, the narrowest first; ``names`` are their radii."""
    tables = [r["blocks"] for r in results]
    count = len(tables[0])
    caps = [row["cap"] for row in tables[0]]
    widths = [[row["width"] for row in table] for table in tables]
    known = [w for each in (*widths, caps) for w in each if w and math.isfinite(w)]
    first = [[row["width"] / row["ratio"] if row["ratio"] else None for row in t] for t in tables]
    low = min(known + [w for each in first for w in each if w])
    axes = Axes(count, low, max(known))
    page = Drawing(WIDTH, HEIGHT, "Mean width of each block's output")
    page.add(Text(LEFT - 40, 28, "Mean width of each block's output, certified", 15, bold=True))
    axes.draw(page)
    lines = [*zip(widths, COLOURS, (f"± {n}" for n in names), strict=False)]
    lines.append((caps, "grey", "norms alone"))
    heights = spread([axes.y(each[-1]) for each, _, _ in lines])
    for (each, colour, name), y in zip(lines, heights, strict=True):
        line(page, axes, each, colour, name, y)
    for each, colour in zip(first, COLOURS, strict=False):
        for i, width in enumerate(each):
            if width:
                x, y = axes.x(i), axes.y(width)
                page.add(Line(x - 10, y, x + 10, y, colour, 1.6))
    page.add(Line(LEFT, 44, LEFT + 20, 44, "grey", 1.6))
    page.add(Text(LEFT + 26, 48, "first order (no bound)", 12, "grey"))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="named by their radius")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    results = [json.loads(path.read_text()) for path in asked.results]
    picture(results, [path.stem for path in asked.results]).save(asked.output)


if __name__ == "__main__":
    main()
