"""A function of one variable that a file spells in several operators, as one operator.

Exporters write activations as primitives: Where(x > 20, x, log(1 + exp(x))), x·tanh(softplus(x)),
x/(1 + |x|). Seen one operator at a time these are products and choices of values that depend on
each other; as a function of one number they are as easy as any activation. `Composite` keeps the
file's steps and bounds them together: [l, u] is cut into cells, and on each cell an interval
evaluation of value and derivative (mean value form) bounds f(x) - s·x for any slope s. The error
falls with the square of a cell's width. A Where whose condition a cell does not decide counts with
both its branches, so that jumps need no rule of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.base import Array, Float64, Operator
from gamma.ops.elementwise import Elementwise
from gamma.ops.enclosures import (
    ROUNDING,
    Enclosure,
    add,
    elementwise,
    fixed,
    inverse,
    negated,
    numbers,
    outward,
    product,
    scaled,
    through,
)
from gamma.ops.linear import Scale
from gamma.ops.relaxation import TINY, Lines
from gamma.ops.sums import Add

CELLS = 24
# Neurons taken together: a few dozen (cells, neurons) arrays stay in the cache.
_CHUNK = 1024


class Fixed(Frozen, eq=True):
    """A number, whatever the variable is."""

    value: float


class Times(Frozen, eq=True):
    """A product of two steps."""


class Over(Frozen, eq=True):
    """A quotient of two steps."""


class Choose(Frozen, eq=True):
    """Step 2 where step 0 > step 1 (>= unless ``strict``), step 3 elsewhere."""

    strict: bool


class Step(Frozen):
    """One operation on earlier values; value 0 is the variable itself."""

    op: Operator | Fixed | Times | Over | Choose
    inputs: tuple[int, ...]


class Composite(Elementwise):
    """y = f(x), f given by ``steps``; the last one is the result.

    Steps are `Elementwise` records that are alike for all neurons, `Scale` with single numbers,
    `Add`, `Fixed`, `Times`, `Over` and `Choose`. Inputs of a `Fixed` are (0,).
    """

    steps: tuple[Step, ...]
    curvature = (1,)  # any: where it bends is not known

    @property
    def composed(self) -> tuple[Step, ...]:
        return self.steps

    # --- point values ---------------------------------------------------------------------------

    def function(self, x: Array) -> Array:
        return self._pair(x)[0]

    def derivative(self, x: Array) -> Array:
        return self._pair(x)[1]

    def _pair(self, x: Array) -> tuple[Array, Array]:
        """Value and derivative in the dtype of ``x``."""
        pairs = [(x, np.ones_like(x))]
        with np.errstate(all="ignore"):
            for step in self.steps:
                pairs.append(_point(step.op, [pairs[i] for i in step.inputs], x))
        return pairs[-1]

    # --- bounds ---------------------------------------------------------------------------------

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = self._each(self._image, lower, upper, 2)
        return self._known(lower, upper, low, high)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        def best(low: Float64, high: Float64) -> Float64:
            return self._lines(low, high, dtype)

        return Lines(*self._each(best, lower, upper, 4))

    def float32_noise(self, lower: Float64, upper: Float64, low: Float64, high: Float64) -> Array:
        """The errors of the file's own operators, each carried to the result.

        Where rounding may decide a choice otherwise, the result strays by as much as the branches
        differ on that cell.
        """
        noise: Array = self._each(self._noise, lower, upper, 1)[0]
        return noise

    def _each(self, rule: Any, lower: Float64, upper: Float64, count: int) -> Float64:
        """``rule(low, high) -> (count, n)`` over chunks of neurons; shape (count, *shape)."""
        low, high = np.broadcast_arrays(lower, upper)
        found = np.empty((count, low.size))
        for start in range(0, low.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            with np.errstate(all="ignore"):
                found[:, part] = rule(low.reshape(-1)[part], high.reshape(-1)[part])
        return found.reshape(count, *low.shape)

    def _image(self, lower: Float64, upper: Float64) -> Float64:
        left, right = self._cells(lower, upper)
        middle = 0.5 * left + 0.5 * right
        floor, ceiling = np.full_like(lower, np.inf), np.full_like(lower, -np.inf)
        for value, centre, possible in self._branches(left, right, middle):
            run = _spread(left, right, middle)
            low = np.fmax(value.low, centre.low - _reach(value, run))
            high = np.fmin(value.high, centre.high + _reach(value, run))
            floor = np.minimum(floor, np.where(possible, low, np.inf).min(axis=0))
            ceiling = np.maximum(ceiling, np.where(possible, high, -np.inf).max(axis=0))
        return np.stack(outward(floor, ceiling))

    def _lines(self, lower: Float64, upper: Float64, dtype: Any) -> Float64:
        image = self._image(lower, upper)
        usable = np.isfinite(lower) & np.isfinite(upper)
        low, high = np.where(usable, lower, 1.0), np.where(usable, upper, 1.0)
        left, right = self._cells(low, high)
        middle = 0.5 * left + 0.5 * right
        branches = list(self._branches(left, right, middle))
        found = []
        for sign, bound in ((1.0, image[0]), (-1.0, image[1])):
            slope, intercept = np.zeros_like(low), sign * bound
            centre = 0.5 * low + 0.5 * high
            height = intercept.copy()
            for trial in self._slopes(low, high, centre, sign, dtype):
                rest = _least(branches, sign, trial, left, right, middle)
                at = trial * centre + rest
                better = usable & np.isfinite(rest) & (at > height)
                slope, intercept = np.where(better, trial, slope), np.where(better, rest, intercept)
                height = np.where(better, at, height)
            found += [sign * slope, sign * intercept]
        return np.stack(found)

    def _slopes(
        self, low: Float64, high: Float64, centre: Float64, sign: float, dtype: Any
    ) -> Iterator[Float64]:
        """Slopes of sign·f worth trying: of the chord, tangents, chords to the middle."""
        ends = [sign * self.function(v) for v in (low, centre, high)]
        width = np.where(high > low, high - low, 1.0)
        trials = [(ends[2] - ends[0]) / width, *(sign * self.derivative(v) for v in (centre,))]
        trials += [2 * (ends[1] - ends[0]) / width, 2 * (ends[2] - ends[1]) / width]
        trials += [sign * self.derivative(v) for v in (low, high)]
        for trial in trials:
            finite = np.where(np.isfinite(trial), trial, 0.0)
            yield finite.astype(dtype).astype(np.float64)

    def _noise(self, lower: Float64, upper: Float64) -> Float64:
        left, right = self._cells(lower, upper)
        floor, ceiling = np.full_like(left, np.inf), np.full_like(left, -np.inf)
        count, noise = np.zeros(left.shape, int), np.zeros_like(left)
        for chosen in self._assignments():
            value, possible = self._evaluate(left, right, chosen, rounded=True)
            floor = np.where(possible, np.minimum(floor, value.low), floor)
            ceiling = np.where(possible, np.maximum(ceiling, value.high), ceiling)
            noise = np.where(possible, np.maximum(noise, value.noise), noise)
            count = count + possible
        total = noise + np.where(count > 1, ceiling - floor, 0.0)
        total = np.where(np.isnan(total), np.inf, total)
        worst: Float64 = total.max(axis=0)[None] * (1 + 2.0**-40)
        return worst

    # --- cells and branches ---------------------------------------------------------------------

    def _cells(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Left and right ends (cells, n) that cover [lower, upper]; kinks lie at their ends."""
        width = upper - lower
        edges = [lower + width * (k / CELLS) for k in range(1, CELLS)]
        for kink in self._kinks():
            near = abs(kink) * 2.0**-45 + TINY
            edges += [np.full_like(lower, kink - near), np.full_like(lower, kink + near)]
        inner = np.sort(np.clip(np.stack(edges), lower, upper), axis=0)
        inner = np.where(np.isfinite(width), inner, lower)
        return np.concatenate([lower[None], inner]), np.concatenate([inner, upper[None]])

    def _kinks(self) -> list[float]:
        """Where steps that are multiples of x have their breaks: only tightness depends on it."""
        found: list[float] = self.cached("kinks", lambda: sorted(set(_kinks(self.steps)))[:16])
        return found

    def _assignments(self) -> Iterator[tuple[bool, ...]]:
        count = sum(isinstance(s.op, Choose) for s in self.steps)
        return itertools.product((True, False), repeat=count)

    def _branches(
        self, left: Float64, right: Float64, middle: Float64
    ) -> Iterator[tuple[Enclosure, Enclosure, npt.NDArray[np.bool_]]]:
        """For every way to decide the choices: the cells' enclosure, that of their middle as if
        decided in this way, and in which cells the way is possible."""
        for chosen in self._assignments():
            value, possible = self._evaluate(left, right, chosen)
            if possible.any():
                yield value, self._evaluate(middle, middle, chosen)[0], possible

    def _evaluate(
        self, low: Float64, high: Float64, chosen: Sequence[bool], rounded: bool = False
    ) -> tuple[Enclosure, npt.NDArray[np.bool_]]:
        one, zero = np.ones_like(low), np.zeros_like(low)
        values = [Enclosure(low, high, one, one, zero)]
        possible = np.ones(low.shape, bool)
        decisions = iter(chosen)
        for step in self.steps:
            given = [values[i] for i in step.inputs]
            if isinstance(step.op, Choose):
                first = next(decisions)
                possible &= _possible(given[0], given[1], first, step.op.strict)
                values.append(given[2] if first else given[3])
            else:
                values.append(_enclose(step.op, given, rounded))
        return values[-1], possible


def _point(op: Any, given: list[tuple[Array, Array]], x: Array) -> tuple[Array, Array]:
    if isinstance(op, Fixed):
        return np.full_like(x, op.value), np.zeros_like(x)
    (a, da), (b, db) = given[0], given[-1]
    if isinstance(op, Times):
        return a * b, a * db + b * da
    if isinstance(op, Over):
        return a / b, (da - a / b * db) / b
    if isinstance(op, Choose):
        first = a > given[1][0] if op.strict else a >= given[1][0]
        (u, du), (v, dv) = given[2], given[3]
        return np.where(first, u, v), np.where(first, du, dv)
    if isinstance(op, Add):
        signs = [x.dtype.type(s) for s in op.signs]
        return signs[0] * a + signs[1] * b, signs[0] * da + signs[1] * db
    if isinstance(op, Scale):
        scale, shift = (x.dtype.type(v) for v in numbers(op))
        return scale * a + shift, scale * da
    return op.function(a), op.derivative(a) * da


def _kinks(steps: Sequence[Step]) -> Iterator[float]:
    """Preimages of breaks and of thresholds under steps that are linear in x."""
    lines: list[tuple[float, float] | None] = [(1.0, 0.0)]
    for step in steps:
        given = [lines[i] for i in step.inputs]
        made: tuple[float, float] | None = None
        wanted: list[tuple[tuple[float, float], float]] = []
        if isinstance(step.op, Scale) and given[0] is not None:
            scale, shift = numbers(step.op)
            made = (given[0][0] * scale, given[0][1] * scale + shift)
        elif isinstance(step.op, Choose) and given[0] is not None and given[1] is not None:
            gap = (given[0][0] - given[1][0], given[0][1] - given[1][1])
            wanted = [(gap, 0.0)]
        elif isinstance(step.op, Elementwise) and given[0] is not None:
            wanted = [(given[0], b) for b in step.op.breaks]
        for (slope, shift), value in wanted:
            kink = (value - shift) / slope if slope else math.nan
            if math.isfinite(kink):
                yield kink
        lines.append(made)


def _possible(a: Enclosure, b: Enclosure, first: bool, strict: bool) -> npt.NDArray[np.bool_]:
    """Where a > b (>=) may come out as ``first``, in reals or with the operands' noise."""
    room = a.noise + b.noise
    slack = np.where(room > 0, room * (1 + 2.0**-40) + 2.0**-50 * (abs(a.high) + abs(b.high)), 0)
    if first:
        beyond = a.high + slack > b.low if strict else a.high + slack >= b.low
    else:
        beyond = a.low - slack <= b.high if strict else a.low - slack < b.high
    return beyond | np.isnan(slack) | ~np.isfinite(a.low + a.high + b.low + b.high)


def _spread(left: Float64, right: Float64, middle: Float64) -> Float64:
    return np.maximum(right - middle, middle - left) * (1 + 2.0**-50)


def _reach(value: Enclosure, run: Float64) -> Float64:
    """How far f moves from its value at the middle; NaN (unbounded) where the derivative is."""
    steep = np.maximum(abs(value.steep_low), abs(value.steep_high))
    moved = steep * run * (1 + 2.0**-50) + TINY
    return np.where(np.isfinite(moved), moved, np.nan)


def _least(
    branches: list[Any],
    sign: float,
    slope: Float64,
    left: Float64,
    right: Float64,
    middle: Float64,
) -> Float64:
    """A lower bound of sign·f(x) - slope·x over all cells and possible branches."""
    result = np.full_like(slope, np.inf)
    for value, centre, possible in branches:
        low = value.low if sign > 0 else -value.high
        high = centre.low if sign > 0 else -centre.high
        ends = (value.steep_low, value.steep_high) if sign > 0 else (
            -value.steep_high, -value.steep_low)  # fmt: skip
        # On the right of the middle the least derivative counts, on the left the largest.
        right_part = (ends[0] - slope) * (right - middle)
        left_part = (ends[1] - slope) * (left - middle)
        loss = np.minimum(np.minimum(right_part, left_part), 0.0)
        mean = high - slope * middle + loss
        size = abs(high) + abs(slope) * (abs(middle) + abs(left) + abs(right)) + abs(loss)
        size = size + np.maximum(abs(ends[0]), abs(ends[1])) * (right - left)
        mean = np.where(np.isfinite(mean), mean - size * ROUNDING - TINY, -np.inf)
        plain = low - np.maximum(slope * left, slope * right)
        plain = plain - (abs(low) + abs(slope) * np.maximum(abs(left), abs(right))) * ROUNDING
        best = np.fmax(mean, plain - TINY)
        best = np.where(np.isnan(best), -np.inf, best)
        result = np.minimum(result, np.where(possible, best, np.inf).min(axis=0))
    return result


def _enclose(op: Any, given: list[Enclosure], rounded: bool) -> Enclosure:
    """One operation's enclosure from those of its operands."""
    a, b = given[0], given[-1]
    if isinstance(op, Fixed):
        return fixed(op.value, a.low, rounded)
    if isinstance(op, Times):
        return product(a, b, rounded)
    if isinstance(op, Over):
        return product(a, through(b, *inverse(b), rounded), rounded)
    if isinstance(op, Add):
        parts = [a if op.signs[0] > 0 else negated(a), b if op.signs[1] > 0 else negated(b)]
        return add(parts[0], parts[1], rounded)
    if isinstance(op, Scale):
        return scaled(op, a, rounded)
    return elementwise(op, a, rounded)
