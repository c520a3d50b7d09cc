"""The picture of ``gamma verify --picture``: an input space cut into proved and open boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.cli.figure import blank, saved
from gamma.errors import UsageError
from gamma.verification.result import Result

PROVED, CUT, OPEN, WITNESS, EDGE = "#7fb3e6", "#d6e6f5", "#f0a13c", "#c21f3a", "#2b4a6b"
MOST = 4000
"""Boxes that are drawn one by one; of more an SVG has an image."""
SUFFIXES = (".svg", ".png")


def check_suffix(path: str | None) -> None:
    """Refuse another kind of file before the work."""
    if path and Path(path).suffix not in SUFFIXES:
        raise UsageError(f"--picture {path}: expected a name that ends in .svg or .png")


def draw(result: Result, kind: str) -> bytes:
    """The boxes of a result of two inputs as "svg" or "png".

    Raises UsageError when matplotlib is not installed.
    """
    found = result.partition
    assert found is not None
    figure, axes = blank(6.4, 6.0)
    _fill(axes, found.regions, CUT, EDGE, "proved: cut off by a linear bound")
    _fill(axes, found.closed, PROVED, EDGE, "proved: a bound on the box")
    _fill(axes, found.open, OPEN, EDGE, "open")
    if result.counterexample is not None:
        x = result.counterexample.x.ravel()[list(found.inputs)]
        axes.plot(*x, "*", color=WITNESS, markersize=17, markeredgecolor="white", label="witness")
    _frame(axes, found.regions)
    axes.set_xlabel(f"X_{found.inputs[0]}")
    axes.set_ylabel(f"X_{found.inputs[1]}")
    axes.set_title(_title(result), loc="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return saved(figure, kind)


def _fill(axes: Any, boxes: npt.NDArray[Any], face: str, edge: str, label: str) -> None:
    from matplotlib.collections import PolyCollection

    if not len(boxes):
        return
    low, high = boxes[:, 0], boxes[:, 1]
    corners = [np.where(which, high, low) for which in ((0, 0), (1, 0), (1, 1), (0, 1))]
    width = 0.6 if len(boxes) <= 300 else 0.25 if len(boxes) <= MOST else 0.05
    shown: Any = PolyCollection(
        list(np.stack(corners, axis=1)),
        facecolor=face,
        edgecolor=edge,
        linewidth=width,
        label=f"{label} ({len(boxes):,})" if face != CUT else label,
        rasterized=len(boxes) > MOST,
    )
    axes.add_collection(shown)


def _frame(axes: Any, regions: npt.NDArray[Any]) -> None:
    """Axes a little wider than the input set."""
    low, high = regions[:, 0].min(axis=0), regions[:, 1].max(axis=0)
    room = np.maximum((high - low) * 0.03, 1e-12)
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])


def _title(result: Result) -> str:
    if result.branched is None or not result.branched.open or result.verdict == "violated":
        return result.verdict
    share = math.floor(result.branched.proved_share * 1000) / 10
    return f"{result.verdict}: proved on {share:.1f} % of the area"
