"""HTML for notebooks: tables, bars and grids of pixels that follow the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

from gamma.decimals import above, below

ROWS = 50
"""Rows shown at most; the rest is counted."""
BLUE, ORANGE = "#3b82c4", "#d9730d"
_WIDTH = 220
_CELL = "padding:1px 8px;text-align:right;font-variant-numeric:tabular-nums"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", count: int = 0
) -> str:
    """A table of the first rows, of ``count``; cells that start with ``<svg`` are no text."""
    shown = list(islice(rows, ROWS))
    lines = [f"<div><code>{escape(caption)}</code></div>"] if caption else []
    cells = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in head)
    lines += [f'<table style="border-collapse:collapse"><tr>{cells}</tr>']
    for row in shown:
        cells = "".join(f'<td style="{_CELL}">{_cell(text)}</td>' for text in row)
        lines.append(f"<tr>{cells}</tr>")
    lines.append("</table>")
    if count > len(shown):
        lines.append(f"<div>… {count:,} rows in all</div>")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text if text.startswith("<svg ") else escape(text)


def intervals(caption: str, rows: Iterable[tuple[str, float, float]], count: int) -> str:
    """The first of ``count`` intervals by name, as numbers and as bars on one axis."""
    shown = [(name, float(low), float(high)) for name, low, high in islice(rows, ROWS)]
    ends = [v for _, low, high in shown for v in (low, high) if math.isfinite(v)]
    axis = min(ends, default=0.0), max(ends, default=1.0)
    cells = [(name, below(lo), above(hi), bar(lo, hi, axis)) for name, lo, hi in shown]
    return table(("", "lower", "upper", ""), cells, caption, count)


def bar(low: float, high: float, axis: tuple[float, float], color: str = BLUE) -> str:
    """The interval [low, high] as a bar on ``axis``, with a line at zero where that is inside."""
    start, stop = axis
    span = (stop - start) or 1.0

    def place(value: float) -> float:
        share = (value / span - start / span) if math.isfinite(value) else math.copysign(2, value)
        return 2 + (_WIDTH - 4) * min(max(share, 0.0), 1.0)

    left, right = place(low), place(high)
    zero = ""
    if start < 0 < stop:
        x = place(0.0)
        zero = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="14" stroke="currentColor" opacity=".4"/>'
        )
    return (
        f'<svg width="{_WIDTH}" height="14" role="img">{zero}<rect x="{left:.1f}" y="3" '
        f'width="{max(right - left, 1.5):.1f}" height="8" rx="2" fill="{color}"/></svg>'
    )


def pixels(values: Sequence[Sequence[float]], span: tuple[float, float], title: str) -> str:
    """A grid of numbers as grey squares, ``span[0]`` white."""
    side = max(1, 112 // max(len(values), 1))
    low, high = span
    squares = []
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)
            grey = round(255 * (1 - share))
            squares.append(
                f'<rect x="{x * side}" y="{y * side}" width="{side}" height="{side}" '
                f'fill="rgb({grey},{grey},{grey})"/>'
            )
    size = f'width="{side * len(values[0])}" height="{side * len(values)}"'
    return f'<svg {size} role="img"><title>{escape(title)}</title>{"".join(squares)}</svg>'


def card(title: str, facts: Sequence[tuple[str, str]], color: str, body: str = "") -> str:
    """A titled list of facts with a coloured edge."""
    lines = "".join(
        f'<tr><td style="padding:1px 12px 1px 0;opacity:.7">{escape(name)}</td>'
        f"<td>{escape(value)}</td></tr>"
        for name, value in facts
    )
    return (
        f'<div style="border-left:4px solid {color};padding:2px 0 2px 12px"><b>{escape(title)}</b>'
        f"<table>{lines}</table>{body}</div>"
    )
