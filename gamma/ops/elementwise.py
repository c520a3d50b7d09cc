"""Elementwise functions: each is its formula, its curvature and its extremes; rules are shared.

Float64 evaluations err by a few units in the last place; `VALUE_ERROR` (2^-43 relative) covers
them with a wide margin. float32 loops of NumPy are never used for a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from msgspec.structs import replace

from gamma.ops import affine_interval
from gamma.ops.base import Array, Float64, Operator, Shape, shortened
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.charges import LinearCharge
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import through_lines
from gamma.ops.execution import overflowed
from gamma.ops.relaxation import (
    TINY,
    VALUE_ERROR,
    Lines,
    Piece,
    compiled_image,
    lines_with,
    relax,
)
from gamma.ops.tables import Diagonal, NodeSlopes, Precision, diagonal
from gamma.tensor import kernels


class Elementwise(Operator):
    """y_i = f(x_i).

    Class data of a function:
        breaks, curvature: f is convex (1), concave (-1) or linear (0) between the breaks.
        stationary: points where an interior extremum can sit.
        image: the range of f; results are clamped into it.
        floor: no float32 execution is below it.
        domain: where f is defined (closed or open: `open_domain`); outside it nothing is known.
        alike: whether f is the same for every neuron.
        jumps: f is not continuous.
        hinge: f is max(x, 0), whose tables the C library makes.
        c_name: of the function in the C library, which makes the lines of some.
        third: at least |f'''|, where `second` is defined.
        absolute_error, slope_error: absolute errors of the evaluations, for cancelling formulas.
        float32_error: a float32 execution errs by at most first·|f(x)| + second + third·|x|
            (exact operations have zeros); see docs/numerics.md, "What a float32 execution is".
    """

    breaks: ClassVar[tuple[float, ...]] = ()
    curvature: ClassVar[tuple[int, ...]] = (0,)
    stationary: ClassVar[tuple[float, ...]] = ()
    image: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    floor: ClassVar[float] = -math.inf
    alike: ClassVar[bool] = True
    jumps: ClassVar[bool] = False
    diagonal: ClassVar[bool] = True
    c_name: ClassVar[str] = ""
    third: ClassVar[float] = math.inf
    absolute_error: ClassVar[float] = 0.0
    slope_error: ClassVar[float] = 0.0
    float32_error: ClassVar[tuple[float, float, float]] = (2.0**-20, 2.0**-20, 0.0)

    @property
    def activation(self) -> Elementwise:
        return self

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        return shape

    def mixes(self, rank: int) -> tuple[int, ...]:
        return ()

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Elementwise | None:
        found: Elementwise = shortened(self, len(shape) - dropped)
        return found

    @property
    def compiled(self) -> str:
        """The C library's name for this function; a subclass may be another one."""
        return self.c_name if "c_name" in vars(type(self)) else ""

    def function(self, x: Array) -> Array:
        """f in the dtype of ``x``."""
        raise NotImplementedError

    def derivative(self, x: Array) -> Array:
        """f'; at a break, the side whose piece is not linear."""
        raise NotImplementedError

    def second(self, x: Float64) -> Float64:
        """f'', within 2^-41."""
        raise NotImplementedError

    def pieces(self, lower: Float64, upper: Float64) -> list[Piece]:
        """The parts of [lower, upper] with one curvature each."""
        edges = (-math.inf, *self.breaks, math.inf)
        found = []
        for left, right, bend in zip(edges[:-1], edges[1:], self.curvature, strict=True):
            low, high = np.clip(lower, left, None), np.clip(upper, None, right)
            if (low <= high).any():
                found.append(self._piece(low, high, bend))
        return found

    @staticmethod
    def _piece(low: Float64, high: Float64, bend: int) -> Piece:
        # Where a piece is empty its ends meet in a finite point; `low > high` still marks it.
        return Piece(low, high, np.full_like(low, bend))

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Float64 enclosure of f([lower, upper]), rounded outward."""
        made = compiled_image(self, lower, upper)
        if made is not None:
            return made
        with np.errstate(all="ignore"):
            ends = [self.function(lower), self.function(upper)]
            low, high = np.minimum(*ends), np.maximum(*ends)
            for point in self.stationary:
                inside = (lower < point) & (point < upper)
                value = float(self.function(np.asarray(point)))
                low = np.where(inside, np.minimum(low, value), low)
                high = np.where(inside, np.maximum(high, value), high)
            low = low - (VALUE_ERROR * abs(low) + self.absolute_error + TINY)
            high = high + (VALUE_ERROR * abs(high) + self.absolute_error + TINY)
        return self._known(lower, upper, low, high)

    def _known(
        self, lower: Float64, upper: Float64, low: Float64, high: Float64
    ) -> tuple[Float64, Float64]:
        """Clamp to the image; everything is possible outside the domain or after NaN."""
        low, high = np.maximum(low, self.image[0]), np.minimum(high, self.image[1])
        lost = np.isnan(low) | np.isnan(high) | np.isnan(lower) | np.isnan(upper)
        if self.domain != (-math.inf, math.inf):
            lost |= (lower <= self.domain[0]) | (upper >= self.domain[1])
        return np.where(lost, -np.inf, low), np.where(lost, np.inf, high)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Linear bounds on [lower, upper] with slopes representable in ``dtype``."""
        return relax(self, lower, upper, dtype)  # type: ignore[arg-type]

    @property
    def free_slopes(self) -> bool:
        """Whether lines with any slope can be had: not of functions with lines of their own."""
        own = type(self)
        return own.lines is Elementwise.lines or own.lines_of is not Elementwise.lines_of

    def own_slopes(self, lower: Float64, upper: Float64, dtype: object) -> NodeSlopes:
        """Those of `lines`, flat, that others can take the place of."""
        lines, flat = self.lines(lower, upper, dtype), (len(lower), -1)
        return NodeSlopes(lines.lower_slope.reshape(flat), lines.upper_slope.reshape(flat))

    def lines_of(self, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """`lines` with these slopes; without `free_slopes`, the function's own."""
        if not self.free_slopes:
            return self.lines(lower, upper, dtype)
        return lines_with(self, slopes, lower, upper, dtype)  # type: ignore[arg-type]

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        (x,) = inputs
        if self.hinge and (how.guarantee == "real" or not x.unbounded):
            lower, upper, centre, radius = kernels.relu(x.lower, x.upper)
            return NodeBounds(lower, upper, centre, _radius=radius)  # exact: clean ends stay clean
        lower, upper = self.interval(x.lower, x.upper)
        if how.guarantee == "float32":
            noise = self.stray(x)
            # Without noise an execution is within the ends themselves: a domain may begin there.
            exact, known = noise == 0, (lower, upper)
            lower, upper = affine_interval.float32_range(lower - noise, upper + noise)
            lower = np.where(np.isfinite(lower), np.maximum(lower, self.floor), lower)
            kept = exact & np.isfinite(lower)
            lower, upper = (
                np.where(kept, k, v) for k, v in zip(known, (lower, upper), strict=True)
            )
        return affine_interval.centred(*clean(lower, upper, self.name))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        (x,) = inputs
        if any(self.curvature):
            return (np.asarray(x.lower < x.upper),)
        crossing = np.zeros(x.lower.shape, bool)
        for edge in self.breaks:
            crossing |= (x.lower < edge) & (edge < x.upper)
        return (crossing,)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> Diagonal:
        return diagonal(self, after, inputs[0], how, carried, slopes)

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        (x,), (inside,), slopes = inputs, before, None
        if self.hinge:
            # Parallel lines leave the narrowest strip, and one affine map stands for both.
            chord = self.lines(inside.lower, inside.upper, how.dtype).upper_slope
            slopes = NodeSlopes(chord.reshape(len(chord), -1))
        made = through_lines(self.relax(before, after, how, None, slopes), x, inside, after)
        if how.guarantee != "real" or not made.known:
            return made
        from gamma.ops.squares import curved  # of networks with normalisations alone

        return replace(made, curved=curved(self, x, inside))

    def float32_noise(self, lower: Float64, upper: Float64, low: Float64, high: Float64) -> Array:
        """How far a float32 execution's f(x) may lie from f(x), x in [lower, upper]."""
        relative, absolute, input_relative = self.float32_error
        size = np.maximum(abs(low), abs(high)) * relative + absolute
        return size + input_relative * np.maximum(abs(lower), abs(upper))

    def stray(self, x: NodeBounds) -> Float64:
        """How far a float32 execution may be from the function's value, for inputs within ``x``.

        Infinite where the execution may overflow, and where its input may have: behind an infinity
        or a NaN nothing is known, not even of a bounded function (docs/numerics.md).
        """
        low, high = self.interval(x.lower, x.upper)
        noise = self.float32_noise(x.lower, x.upper, low, high)
        reach = np.maximum(abs(x.lower), abs(x.upper))
        # Values themselves are lost where `float32_range` loses them.
        peak = np.maximum(self.float32_peak(reach), 2 * np.maximum(abs(low), abs(high)))
        return overflowed(noise, np.where(np.isfinite(reach), peak, np.inf))

    def float32_peak(self, reach: Float64) -> Float64:
        """The largest number a float32 execution forms between x, |x| <= reach, and f(x)."""
        return np.zeros_like(reach)

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            return self.function(inputs[0])

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            slope = self.derivative(inputs[0])
        return (gradient * np.where(np.isfinite(slope), slope, 0).astype(gradient.dtype),)


EXACT = (0.0, 0.0, 0.0)
# One rounded operation, and one rounding of the constant it takes to float32.
ROUNDED = (2.0**-22, 2.0**-148, 0.0)
