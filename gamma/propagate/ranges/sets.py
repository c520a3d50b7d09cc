"""What is known of a node for every input at once: an interval, and a ball it is a linear image of.

Arrays have the node's rank without a batch axis; where an array has length 1 and the node more, the
statement is the same all along that axis (positions of a sequence, usually). So the size of a set
does not depend on how long a prompt is.
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple, replace

from gamma.frozen import Frozen
from gamma.network.graph import Shape
from gamma.propagate.ranges.matrix import Matrix
from gamma.runtime import workers
from gamma.tensor import rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

SLACK = 1 + 2.0**-40
"""Of a few float64 operations on numbers >= 0."""
TINY = 2.0**-1000


class Sphere(Frozen):
    """y = gain∘(z + s) + bias ± error along ``axis``, a vector z of its own for every place.

    ‖z‖ <= radius, with Σ z = 0 where ``centred``; ‖s‖ <= stray. Layer normalisation is one with
    radius √d, centred; root mean square is not centred; what is only bounded in norm has gain 1.
    """

    axis: int
    gain: Float64
    bias: Float64
    error: Float64
    radius: float
    stray: float = 0.0
    centred: bool = False

    @classmethod
    def ball(cls, rank: int, axis: int, radius: float) -> Sphere:
        """Vectors along ``axis`` of at most this norm."""
        one = np.ones((1,) * rank)
        return cls(axis, one, 0 * one, 0 * one, radius)

    def vectors(self, n: int) -> tuple[Float64, Float64, Float64] | None:
        """Gain, bias and error along the last axis (n,), where they are the same at every place."""
        parts = (self.gain, self.bias, self.error)
        if self.axis != self.gain.ndim - 1 or any(p.size != p.shape[-1] for p in parts):
            return None
        gain, bias, error = (np.broadcast_to(p.reshape(-1), (n,)) for p in parts)
        return gain, bias, error

    def of(self, count: int) -> Sphere:
        """So many vectors as one: its square is the sum of theirs, its sum that of theirs."""
        factor = math.sqrt(count) * SLACK
        return replace(self, radius=self.radius * factor, stray=self.stray * factor)

    def norm(self, axis: int) -> Float64 | None:
        """At least ‖y‖ along ``axis``, where that is the sphere's own; its length becomes 1."""
        if axis % self.gain.ndim != self.axis:
            return None
        largest = abs(self.gain).max(axis=axis, keepdims=True)
        rest = norm_of(abs(self.bias) + self.error, axis)
        found: Float64 = (largest * (self.radius + self.stray) + rest) * SLACK + TINY
        return found

    def scaled(self, scale: Float64, shift: Float64, doubt: Float64) -> Sphere:
        """scale·y + shift, the true shift within ``doubt``; ``scale`` itself within 2^-52."""
        bias = self.bias * scale + shift
        lost = 2.0**-50 * (abs(self.bias * scale) + abs(shift) + abs(bias)) + TINY
        error = (self.error * abs(scale) + doubt + lost) * SLACK
        gain, stray = self.gain * scale, (self.stray + 2.0**-50 * self.radius) * SLACK
        return replace(self, gain=gain, bias=bias, error=error, stray=stray)

    def strayed(self, noise: Float64) -> Sphere:
        """With every entry moved by at most ``noise``."""
        parts = zip(self.gain.shape, self.bias.shape, self.error.shape, strict=True)
        alike = tuple(a for a, n in enumerate(parts) if n == (1, 1, 1) and a != self.axis)
        return replace(self, error=(self.error + noise.max(axis=alike, keepdims=True)) * SLACK)

    def rounded(self, unit: float, quantum: float, reach: Float64) -> Sphere:
        """With every entry rounded once: by ``unit`` of itself, and by ``quantum`` at least."""
        stray = (self.stray + unit * (self.radius + self.stray)) * SLACK
        error = (self.error + unit * (abs(self.bias) + self.error) + quantum) * SLACK
        return replace(self, stray=stray, error=error)


class Image(Frozen):
    """y = scale·(M x)[row] + shift ± error, x of ``source``; entries of one ``block`` share x.

    x is the source's gain∘(z + s): its bias and error are in ``shift`` and ``error``. Every place
    along the axes where ``row`` and ``block`` have length 1 has vectors x of its own.
    """

    matrix: Matrix
    source: Sphere
    row: npt.NDArray[np.int64]
    block: npt.NDArray[np.int64]
    scale: Float64
    shift: Float64
    error: Float64

    def scaled(self, scale: Float64, shift: Float64, doubt: Float64, reach: Float64) -> Image:
        """scale·y + shift; ``reach`` is at least |y|."""
        moved, reach = self.shift * scale + shift, self._places(reach)
        size = (reach + abs(self.shift)) * abs(scale) + abs(shift) + abs(moved)
        error = (self.error * abs(scale) + doubt + 2.0**-50 * size + TINY) * SLACK
        return replace(self, scale=self.scale * scale, shift=moved, error=error)

    def strayed(self, noise: Float64) -> Image:
        """With every entry moved by at most ``noise``."""
        return self.rounded(0.0, self._places(noise), noise)

    def rounded(self, unit: float, quantum: Float64 | float, reach: Float64) -> Image:
        """With every entry rounded once; ``reach`` is at least |y|."""
        return replace(self, error=(self.error + unit * self._places(reach) + quantum) * SLACK)

    def _places(self, reach: Float64) -> Float64:
        """The most of all places along axes that tell no rows and no blocks apart."""
        both = zip(self.row.shape, self.block.shape, strict=True)
        alike = tuple(a for a, n in enumerate(both) if n == (1, 1))
        return np.asarray(reach.max(axis=alike, keepdims=True))

    def norm(self, axis: int) -> Float64 | None:
        """At least ‖y‖ along ``axis``, whose length becomes 1; None where entries share no x."""
        if self.block.shape[axis] != 1 or self.row.shape[axis] == 1:
            return None
        size = abs(self.scale).max(axis=axis, keepdims=True)
        row = np.moveaxis(self.row, axis, -1)
        lead = row.reshape(-1, row.shape[-1])
        tasks = [partial(self.matrix.norm, self.source, rows) for rows in lead]
        found = np.array(workers.run(tasks) if len(tasks) > 1 else [tasks[0]()])
        linear = np.expand_dims(found.reshape(row.shape[:-1]), axis) * size
        rest = norm_of(abs(self.shift) + self.error, axis)
        result: Float64 = (linear + rest) * SLACK + TINY
        return result


Form = Sphere | Image


class Known(Frozen):
    """What is known of one node.

    Attributes:
        shape: of the node. lower, upper: ends of every entry.
        form: the ball behind it, where there is one.
        excess: entries are >= 0 and sum to 1 along the last axis, within this; None: not known.
    """

    shape: Shape
    lower: Float64
    upper: Float64
    form: Form | None = None
    excess: float | None = None

    @property
    def reach(self) -> Float64:
        """The largest size of every entry."""
        return np.maximum(abs(self.lower), abs(self.upper))

    @property
    def largest(self) -> float:
        """The largest size of all entries."""
        return float(self.reach.max())

    @property
    def finite(self) -> bool:
        """Whether every end is."""
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    def norm(self, axis: int) -> Float64:
        """At least the norm along ``axis``, whose length becomes 1."""
        plain = self.plain_norm(axis)
        known = None if self.form is None else self.form.norm(axis)
        return plain if known is None else np.minimum(plain, known)

    def plain_norm(self, axis: int) -> Float64:
        """At least the norm along ``axis``, from the ends alone."""
        return norm_of(np.broadcast_to(self.reach, self._full(self.reach, axis)), axis)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        held = [self.lower, self.upper, *(astuple(self.form) if self.form else ())]
        return sum(array.nbytes for array in held if isinstance(array, np.ndarray))

    @cached_property
    def ends(self) -> tuple[Float64, Float64] | None:
        """`ends_over` its own shape."""
        return self.ends_over(self.shape)

    def ends_over(self, shape: Shape) -> tuple[Float64, Float64] | None:
        """Both ends (1, *shape), as of one box; None where they do not fit it or are not finite."""
        pairs = [*zip(self.lower.shape, shape, strict=False)]
        pairs += zip(self.upper.shape, shape, strict=False)
        fits = self.lower.ndim == self.upper.ndim == len(shape)
        if not (fits and all(n in (1, size) for n, size in pairs) and self.finite):
            return None
        return np.broadcast_to(self.lower, shape)[None], np.broadcast_to(self.upper, shape)[None]

    def _full(self, array: Float64, axis: int) -> Shape:
        lengths = list(array.shape)
        lengths[axis] = self.shape[axis]
        return tuple(lengths)

    def strayed(self, noise: Float64) -> Known:
        """With every entry moved by at most ``noise`` (of the node's rank)."""
        form = self.form
        form = None if form is None or not np.isfinite(noise).all() else form.strayed(noise)
        lower, upper = rounding.down(self.lower - noise), rounding.up(self.upper + noise)
        return replace(self, lower=lower, upper=upper, form=form)

    def within(self, lower: Float64, upper: Float64) -> Known:
        """With other proved ends as well; NaN ones say nothing."""
        lower = np.where(np.isnan(lower), -np.inf, lower)
        upper = np.where(np.isnan(upper), np.inf, upper)
        return replace(
            self, lower=np.maximum(self.lower, lower), upper=np.minimum(self.upper, upper)
        )

    @property
    def bounds(self) -> tuple[Float64, Float64]:
        """Both ends in the node's full shape (views)."""
        return np.broadcast_to(self.lower, self.shape), np.broadcast_to(self.upper, self.shape)


def norm_of(sizes: Float64, axis: int) -> Float64:
    """At least the norm of vectors of at most these ``sizes``."""
    n = sizes.shape[axis]
    factor = 1 + rounding.gamma_factor(n + 8, np.float64)
    with np.errstate(over="ignore"):
        largest = sizes.max(axis=axis, keepdims=True)
        unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        parts = sizes / unit
        total = np.sqrt((parts * parts).sum(axis=axis, keepdims=True)) * unit
    found: Float64 = total * factor + TINY
    return found


class Storage(Frozen, eq=True):
    """A format that activations are kept in between operators, rounded to nearest.

    Attributes:
        unit: largest relative error of a rounding. quantum: largest error of one near 0.
        largest: up to where nothing overflows; inf for real numbers.
    """

    name: str
    unit: float = 0.0
    quantum: float = 0.0
    largest: float = float("inf")

    def stored(self, known: Known, terms: int = 0) -> Known:
        """The set of what is kept; of chances there are at most ``terms``, or the shape's."""
        if not self.unit:
            return known
        reach = known.reach
        lost = reach * self.unit * SLACK + self.quantum
        form = known.form and known.form.rounded(self.unit, self.quantum, reach)
        excess = known.excess
        if excess is not None:
            excess = (
                excess + (1 + excess) * self.unit + max(known.shape[-1], terms) * self.quantum
            ) * SLACK
        return replace(
            known,
            lower=rounding.down(known.lower - lost),
            upper=rounding.up(known.upper + lost),
            form=form,
            excess=excess,
        )
