"""A figure of matplotlib without a screen, and its bytes."""

from __future__ import annotations

import io
from typing import Any

from gamma.errors import missing

DARK = (
    b"<style>@media (prefers-color-scheme: dark) "
    b"{svg {filter: invert(1) hue-rotate(180deg)}}</style>"
)


def blank(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches and its axes. UsageError when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing("a picture", "matplotlib", "plot") from None
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def saved(figure: Any, kind: str) -> bytes:
    """The figure as "svg" or "png"; an SVG has no date, so that the same is the same file, and
    turns dark with the reader's colour scheme: light and dark change places, hues stay."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    data = stream.getvalue()
    if kind != "svg":
        return data
    end = data.index(b">", data.index(b"<svg")) + 1
    return data[:end] + DARK + data[end:]
