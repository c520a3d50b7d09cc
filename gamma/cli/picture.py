"""Plain-text pictures: bars, intervals and tables that survive a pipe and a narrow terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence

from gamma.decimals import above as above
from gamma.decimals import below as below

EIGHTHS = " ▏▎▍▌▋▊▉█"


def unicode_output() -> bool:
    """Whether stdout can show block characters."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"


def width() -> int:
    """Columns to fill: the terminal's, at most 100, and 80 in a pipe."""
    return min(shutil.get_terminal_size((80, 24)).columns, 100)


def bar(share: float, cells: int, unicode: bool) -> str:
    """A horizontal bar of ``share`` (0 to 1) of so many cells."""
    share = min(max(share, 0.0), 1.0) if math.isfinite(share) else 1.0
    if not unicode:
        return "#" * round(share * cells)
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def signed(value: float, axis: tuple[float, float], cells: int, unicode: bool) -> str:
    """A bar from zero to ``value`` on ``axis``, which holds zero: to the left where negative."""
    low, high = axis
    if not math.isfinite(value) or not high > low:
        return ""
    zero = round(-low / (high - low) * cells)
    if value >= 0:
        return " " * zero + bar(value / (high - low), cells, unicode)
    length = max(round(-value / (high - low) * cells), 1)
    return " " * max(zero - length, 0) + ("▒" if unicode else "#") * min(length, max(zero, 1))


def aligned(numbers: Sequence[str]) -> list[str]:
    """Decimals under each other; other words at the right."""
    heads = [text.partition(".")[0] for text in numbers]
    tails = [text[len(head) :] for text, head in zip(numbers, heads, strict=True)]
    left, right = (max(map(len, part), default=0) for part in (heads, tails))
    return [h.rjust(left) + t.ljust(right) for h, t in zip(heads, tails, strict=True)]


def interval(
    lower: float, upper: float, span: tuple[float, float], cells: int, unicode: bool
) -> str:
    """An interval drawn on the axis ``span``, at least one character wide."""
    low, high = span
    extent = high - low
    if not (math.isfinite(lower) and math.isfinite(upper) and extent > 0):
        return ("─" if unicode else "-") * cells
    start = int((lower - low) / extent * (cells - 1))
    stop = int((upper - low) / extent * (cells - 1))
    inner = stop - start - 1
    if inner < 0:
        mark = "│" if unicode else "|"
        return " " * start + mark
    line = ("├" + "─" * inner + "┤") if unicode else ("|" + "-" * inner + "|")
    return " " * start + line


def table(rows: Sequence[Sequence[str]], head: Sequence[str], right: Sequence[bool]) -> list[str]:
    """Aligned columns, two spaces apart."""
    cells = [list(head), *[list(row) for row in rows]]
    sizes = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        parts = [
            text.rjust(size) if flush else text.ljust(size)
            for text, size, flush in zip(row, sizes, right, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def number(value: float) -> str:
    """Six significant digits; a result for people, never read back."""
    return f"{value:.6g}"


def seconds(value: float) -> str:
    """A duration."""
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
