"""Pictures of bounds, layers and results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gamma.decimals import above, below
from gamma.drawing import Area, Drawing, Line, Rectangle, Text
from gamma.errors import UsageError
from gamma.propagate.layers import LayerBounds
from gamma.tensor.bounded import BoundedTensor
from gamma.verification.card import grey
from gamma.verification.result import Counterexample, Result

ROWS = 40
"""Intervals or margins drawn at most."""
_LEFT, _WIDTH, _ROW = 150.0, 470.0, 20.0
Plottable = BoundedTensor | LayerBounds | Result


def plot(
    value: Plottable, *, inside: BoundedTensor | npt.ArrayLike | None = None, title: str = ""
) -> Drawing:
    """A picture of bounds, of `gamma.layer_bounds` or of a result.

    A notebook shows it; ``.save("x.svg")`` needs nothing else, ``.save("x.png")`` and ``.figure()``
    need matplotlib.

    Args:
        value: bounds as intervals on one axis; layers as bands of widths; a result as its worst
            margins, or its witness.
        inside: of bounds, what is known to be reached: outputs (samples, *shape), or other bounds;
            drawn as a dark core, so that the rest is looseness at most.

    Raises:
        UsageError: a value of another kind, or shapes that do not fit.
    """
    if isinstance(value, BoundedTensor):
        return _intervals(value, inside, title)
    if isinstance(value, LayerBounds):
        return _layers(value, title)
    if isinstance(value, Result):
        if value.counterexample is not None:
            return _witness(value.counterexample, title)
        return _margins(value, title)
    raise UsageError(f"plot of {type(value).__name__}: expected bounds, layer_bounds or a result")


class _Axis:
    """Numbers to places along a line, with round ticks."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        if not low < high:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.stop = low, high, start, stop
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(low / step), math.floor(high / step)
        self.ticks = [k * step for k in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def _framed(rows: int, title: str, axis: _Axis, label: str) -> Drawing:
    """A page with a horizontal axis for so many rows."""
    bottom = 50 + rows * _ROW
    page = Drawing(_LEFT + _WIDTH + 110, bottom + 78, title)
    page.add(Text(20, 28, title, 15, bold=True))
    for tick in axis.ticks:
        zero = abs(tick) < 1e-12
        page.add(Line(axis(tick), 44, axis(tick), bottom + 4, "grey" if zero else "faint"))
        page.add(Text(axis(tick), bottom + 20, f"{tick:g}", 11, "grey", "middle"))
    page.add(Text(_LEFT + _WIDTH / 2, bottom + 40, label, 12, "grey", "middle"))
    return page


def _legend(page: Drawing, entries: Sequence[tuple[str, str]]) -> None:
    x, y = _LEFT, page.height - 20
    for color, word in entries:
        page.add(Rectangle(x, y, 12, 12, color, radius=2), Text(x + 18, y + 10, word, 11))
        x += 40 + 6.2 * len(word)


def _finite(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Least and greatest finite number."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _intervals(
    value: BoundedTensor, inside: BoundedTensor | npt.ArrayLike | None, title: str
) -> Drawing:
    flat, names = value.reshape(-1), [", ".join(map(str, i)) for i in np.ndindex(value.shape)]
    shown = min(flat.size, ROWS)
    low, high = flat.lower[:shown].astype(float), flat.upper[:shown].astype(float)
    axis = _Axis(*_finite(np.concatenate([low, high])), _LEFT, _LEFT + _WIDTH)
    page = _framed(shown, title or "Certified bounds", axis, "value")
    core = None if inside is None else _core(inside, value)
    for k in range(shown):
        y = 50 + k * _ROW
        tip = f"{names[k]}: [{below(low[k])}, {above(high[k])}]"
        start, stop = axis(low[k]), axis(high[k])
        fill = "blue" if core is None else "pale"
        page.add(Text(_LEFT - 12, y + 13, names[k] or "value", 11, "ink", "end"))
        page.add(Rectangle(start, y + 4, max(stop - start, 1.5), 11, fill, radius=2, tip=tip))
        if core is not None:
            start, stop = axis(core[0][k]), axis(core[1][k])
            page.add(Rectangle(start, y + 6, max(stop - start, 1.5), 7, "blue", radius=1.5))
        page.add(Text(axis.stop + 10, y + 13, f"±{(high[k] - low[k]) / 2:.3g}", 10, "grey"))
    entries = [("blue", "certified")]
    if core is not None:
        entries = [("blue", "reached"), ("pale", "certified, not reached")]
    if shown < flat.size:
        entries.append(("page", f"the first {shown} of {flat.size:,}"))
    _legend(page, entries)
    return page


def _core(
    inside: BoundedTensor | npt.ArrayLike, value: BoundedTensor
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Least and greatest value that is reached, entry by entry."""
    if isinstance(inside, BoundedTensor):
        lower, upper = inside
    else:
        samples = np.asarray(inside, np.float64)
        if samples.shape[1:] != value.shape:
            raise UsageError(
                f"inside has shape {samples.shape}, expected (samples, "
                f"{', '.join(map(str, value.shape))})"
            )
        lower, upper = samples.min(axis=0), samples.max(axis=0)
    if lower.shape != value.shape:
        raise UsageError(f"inside has shape {lower.shape}, expected {value.shape}")
    return lower.ravel().astype(np.float64), upper.ravel().astype(np.float64)


def _margins(result: Result, title: str) -> Drawing:
    known = sorted((m for m in result.margins if math.isfinite(m.lower)), key=lambda m: m.lower)
    if not known:
        raise UsageError("the result has no margins to draw: it was decided without bounds")
    shown = known[:ROWS]
    axis = _Axis(min(0.0, shown[0].lower), max(0.0, shown[-1].lower), _LEFT, _LEFT + _WIDTH)
    page = _framed(
        len(shown), title or f"{result.verdict}: worst margins", axis, "margin is at least"
    )
    for k, margin in enumerate(shown):
        y, ends = 50 + k * _ROW, sorted((axis(0.0), axis(margin.lower)))
        fill = "blue" if margin.proved else "orange"
        page.add(Text(_LEFT - 12, y + 13, margin.label[:22], 11, "ink", "end"))
        page.add(Rectangle(ends[0], y + 4, max(ends[1] - ends[0], 1.5), 11, fill, radius=2,
                           tip=f"{margin.label}: at least {below(margin.lower)}"))  # fmt: skip
        page.add(Text(axis.stop + 10, y + 13, below(margin.lower), 10, "grey"))
    _legend(page, [("blue", "proved"), ("orange", "open")])
    return page


def _witness(found: Counterexample, title: str) -> Drawing:
    """The witness as an image where it is one, and its outputs."""
    outputs = found.y.ravel().astype(float)[:ROWS]
    axis = _Axis(min(0.0, *_finite(outputs)), max(0.0, *_finite(outputs)), _LEFT, _LEFT + _WIDTH)
    page = _framed(len(outputs), title or "Outputs of the witness", axis, "output")
    for k, output in enumerate(outputs):
        y, ends = 50 + k * _ROW, sorted((axis(0.0), axis(output)))
        fill = "orange" if output == outputs.max() else "blue"
        page.add(Text(_LEFT - 12, y + 13, f"Y_{k}", 11, "ink", "end"))
        page.add(Rectangle(ends[0], y + 4, max(ends[1] - ends[0], 1.5), 11, fill, radius=2,
                           tip=f"Y_{k} = {output:.6g}"))  # fmt: skip
    _legend(page, [("blue", "output"), ("orange", "the greatest")])
    image = grey(found.x)
    if image is not None:
        _pixels(page, image, 14.0, 56.0, 76.0)
    return page


def _pixels(page: Drawing, image: npt.NDArray[np.float64], x: float, y: float, side: float) -> None:
    low, high = float(image.min()), float(image.max())
    step = side / max(image.shape)
    for i, j in np.ndindex(*image.shape):
        shade = round(255 * (1 - (float(image[i, j]) - low) / ((high - low) or 1.0)))
        color = f"#{shade:02x}{shade:02x}{shade:02x}"
        page.add(Rectangle(x + j * step, y + i * step, step, step, color))
    page.add(Rectangle(x, y, step * image.shape[1], step * image.shape[0], "none", "grey"))


def _layers(value: LayerBounds, title: str) -> Drawing:
    """Widths of all layers: from least to greatest and the middle half as bands, on a log axis."""
    widths = [np.asarray(value[layer.name].width, np.float64).ravel() for layer in value.layers]
    positive = [w[np.isfinite(w) & (w > 0)] for w in widths]
    low, high = _finite(np.log10(np.concatenate([*positive, np.zeros(0)])))
    left, top, height = 84.0, 54.0, 240.0
    axis = _Axis(math.floor(low), math.ceil(high) + (high == low), top + height, top)
    longest = max(min(len(layer.name), 18) for layer in value.layers)
    step = max(34.0, min(90.0, 560 / max(len(widths), 1)))
    right = left + step * len(widths)
    page = Drawing(max(right + 30, 560), top + height + 74 + 6.5 * longest, title or _WIDTHS)
    page.add(Text(20, 28, page.title, 15, bold=True))
    for tick in range(int(axis.low), int(axis.high) + 1):
        page.add(Line(left, axis(tick), right, axis(tick), "faint"))
        page.add(Text(left - 8, axis(tick) + 4, f"{10.0**tick:g}", 11, "grey", "end"))
    page.add(Text(24, top + height / 2, _AXIS, 12, "grey", "middle", turned=True))
    for k, layer in enumerate(value.layers):
        place = left + (k + 0.5) * step + 4, top + height + 12
        page.add(Text(*place, layer.name[:18], 11, "ink", "end", turned=True))
    columns = [_column(w, axis, left + (k + 0.5) * step) for k, w in enumerate(positive)]
    _bands(page, columns, step)
    for k, layer in enumerate(value.layers):
        tip = f"{layer.name} ({layer.operator}): mean width {layer.width:.4g}"
        page.add(Rectangle(left + k * step, top, step, height, "page", tip=tip, opacity=0.0))
    entries = [("pale", "least to greatest"), ("blue", "middle half"), ("ink", "mean")]
    _legend(page, entries)
    return page


_WIDTHS = "Width of the bounds, layer by layer"
_AXIS = "width: upper less lower bound"
_Column = tuple[float, list[float], float]


def _column(widths: npt.NDArray[np.float64], axis: _Axis, x: float) -> _Column | None:
    """A layer's place, the heights of its quartiles and of its mean; None where none is known."""
    if not widths.size:
        return None
    quarters = np.log10(np.percentile(widths, (0, 25, 75, 100)))
    return x, [axis(float(q)) for q in quarters], axis(math.log10(float(widths.mean())))


def _bands(page: Drawing, columns: Sequence[_Column | None], step: float) -> None:
    """Bands through neighbouring layers; a layer between unknown ones is a band of its own."""
    run: list[_Column] = []
    for column in (*columns, None):
        if column is not None:
            run.append(column)
            continue
        if run:
            first, last = run[0], run[-1]
            ends = [(first[0] - step / 3, *first[1:]), *run, (last[0] + step / 3, *last[1:])]
            for low, high, fill, opacity in ((0, 3, "pale", 0.55), (1, 2, "blue", 0.45)):
                there = [(x, heights[high]) for x, heights, _ in ends]
                back = [(x, heights[low]) for x, heights, _ in reversed(ends)]
                page.add(Area((*there, *back), fill, opacity))
            for one, two in pairwise(ends):
                page.add(Line(one[0], one[2], two[0], two[2], "ink", 1.5))
        run = []
