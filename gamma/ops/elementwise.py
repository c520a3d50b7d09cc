"""Elementwise functions: each is its formula, its curvature and its extremes; rules are shared.

Float64 evaluations err by a few units in the last place; `VALUE_ERROR` (2^-43 relative) covers
them with a wide margin. float32 loops of NumPy are never used for a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gamma.errors import UsageError
from gamma.ops import affine_interval
from gamma.ops.base import Array, Float64, Operator, Shape, shortened
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.charges import LinearCharge
from gamma.ops.execution import overflowed
from gamma.ops.relaxation import TINY, VALUE_ERROR, Lines, Piece, lines_with, relax
from gamma.ops.tables import Diagonal, NodeSlopes, Precision, diagonal
from gamma.tensor import kernels


@dataclass(frozen=True, eq=False)
class Elementwise(Operator):
    """y_i = f(x_i).

    Class data of a function:
        breaks, curvature: f is convex (1), concave (-1) or linear (0) between the breaks.
        stationary: points where an interior extremum can sit.
        image: the range of f; results are clamped into it.
        domain: where f is defined (closed or open: `open_domain`); outside it nothing is known.
        alike: whether f is the same for every neuron.
        jumps: f is not continuous.
        hinge: f is max(x, 0), whose tables the C library makes.
        absolute_error, slope_error: absolute errors of the evaluations, for cancelling formulas.
        float32_error: a float32 execution errs by at most first·|f(x)| + second + third·|x|
            (exact operations have zeros); see docs/numerics.md, "What a float32 execution is".
    """

    breaks: ClassVar[tuple[float, ...]] = ()
    curvature: ClassVar[tuple[int, ...]] = (0,)
    stationary: ClassVar[tuple[float, ...]] = ()
    image: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    alike: ClassVar[bool] = True
    jumps: ClassVar[bool] = False
    hinge: ClassVar[bool] = False
    diagonal: ClassVar[bool] = True
    absolute_error: ClassVar[float] = 0.0
    slope_error: ClassVar[float] = 0.0
    float32_error: ClassVar[tuple[float, float, float]] = (2.0**-20, 2.0**-20, 0.0)

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        return shape

    def mixes(self, rank: int) -> tuple[int, ...]:
        return ()

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Elementwise | None:
        found: Elementwise = shortened(self, len(shape) - dropped)
        return found

    def function(self, x: Array) -> Array:
        """f in the dtype of ``x``."""
        raise NotImplementedError

    def derivative(self, x: Array) -> Array:
        """f'; at a break, the side whose piece is not linear."""
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

    def lines_of(self, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """`lines` with these slopes; where a function has lines of its own, those."""
        if type(self).lines is not Elementwise.lines:
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
            lower, upper = affine_interval.float32_range(lower - noise, upper + noise)
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
        noise = self.float32_noise(x.lower, x.upper, *self.interval(x.lower, x.upper))
        reach = np.maximum(abs(x.lower), abs(x.upper))
        peak = np.where(np.isfinite(reach), self.float32_peak(reach), np.inf)
        return overflowed(noise, peak)

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


@dataclass(frozen=True, eq=False)
class Relu(Elementwise):
    breaks = (0.0,)
    curvature = (0, 0)
    image = (0.0, math.inf)
    hinge = True
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        result: Array = np.maximum(x, x.dtype.type(0))
        return result

    def derivative(self, x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
        return self._known(lower, upper, low, high)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Adaptive lower slope (1 where upper > -lower), chord above; closed forms."""
        unstable = (lower < 0) & (upper > 0)
        active = lower >= 0
        with np.errstate(all="ignore"):
            chord = upper / (upper - lower)
        unbounded = unstable & ~(np.isfinite(lower) & np.isfinite(upper))
        chord = np.where(unstable & ~unbounded, chord, active).astype(dtype)  # type: ignore[call-overload]
        slope = np.minimum(chord.astype(np.float64), 1.0)
        low, high = np.where(unstable, lower, 0.0), np.where(unstable, upper, 0.0)
        with np.errstate(invalid="ignore"):
            intercept = np.maximum(-slope * low, high - slope * high)
            intercept = intercept * (1 + 2.0**-40) + 2.0**-1000 + 2.0**-50 * slope * high
        intercept = np.where(unstable, np.where(unbounded, np.inf, intercept), 0.0)
        keep = active | (unstable & (upper > -lower))
        lower_slope = keep.astype(np.float64)
        return Lines(lower_slope, np.zeros_like(lower_slope), slope, intercept)

    def lines_of(self, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Given slopes for the neurons that cross 0; the others are exact.

        max(x, 0) - s·x is convex: it is least at 0 or an end, and greatest at an end.
        """
        own = self.lines(lower, upper, dtype)
        bounded = (lower < 0) & (upper > 0) & np.isfinite(lower) & np.isfinite(upper)
        low, high = np.where(bounded, lower, 0.0), np.where(bounded, upper, 0.0)
        found = [own.lower_slope, own.lower_intercept, own.upper_slope, own.upper_intercept]
        for at, given in ((0, slopes.lower), (2, slopes.upper)):
            if given is None:
                continue
            slope = np.asarray(given, np.float64).reshape(lower.shape).astype(dtype)  # type: ignore[call-overload]
            slope = slope.astype(np.float64)
            ends = -slope * low, high - slope * high
            error = 2.0**-50 * (abs(slope) * (high - low) + high) + TINY
            if at == 0:
                least = np.minimum(*ends)
                line = np.where(least < 0, least - error, 0.0)
            else:
                line = np.maximum(*ends) + error
            use = bounded & np.isfinite(line)
            found[at] = np.where(use, slope, found[at])
            found[at + 1] = np.where(use, line, found[at + 1])
        return Lines(*found)

    def contacts(self, lines: Lines, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        """Points (below, above) where the lines touch: an end of the interval, or 0."""
        slope = lines.lower_slope
        gaps = np.stack((-slope * lower, np.zeros_like(lower), upper - slope * upper))
        low = np.choose(gaps.argmin(axis=0), (lower, np.zeros_like(lower), upper))
        left = -lines.upper_slope * lower >= upper - lines.upper_slope * upper
        return low, np.where(left, lower, upper)


@dataclass(frozen=True, eq=False)
class LeakyRelu(Elementwise):
    alpha: float = 0.01
    breaks = (0.0,)
    curvature = (0, 0)
    float32_error = ROUNDED

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,)

    def function(self, x: Array) -> Array:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))

    def derivative(self, x: Array) -> Array:
        return np.where(x >= 0, 1.0, self.alpha).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class PRelu(Elementwise):
    """max(x, 0) + slope·min(x, 0); ``slope`` broadcasts to the node's shape."""

    slope: Array
    alike = False

    def shape(self, *inputs: Shape) -> Shape:
        try:
            fits = np.broadcast_shapes(self.slope.shape, inputs[0]) == inputs[0]
        except ValueError:
            fits = False
        if not fits:
            raise UsageError(f"PRelu: slope {self.slope.shape} does not broadcast to {inputs[0]}")
        return inputs[0]

    breaks = (0.0,)
    curvature = (0, 0)
    stationary = (0.0,)
    float32_error = ROUNDED

    def function(self, x: Array) -> Array:
        if x.ndim == 0:
            return x  # only asked at the stationary point 0
        return np.where(x >= 0, x, x * self.slope.astype(x.dtype))

    def derivative(self, x: Array) -> Array:
        return np.where(x >= 0, x.dtype.type(1), self.slope.astype(x.dtype))


@dataclass(frozen=True, eq=False)
class Clip(Elementwise):
    min: float = -math.inf
    max: float = math.inf

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        stored = all(float(np.float32(e)) == e for e in (self.min, self.max))
        return EXACT if stored else ROUNDED  # a float32 execution rounds its constants

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        ends = (self.min, self.max)
        return tuple(sorted({e for e in ends if math.isfinite(e)}))

    @property
    def curvature(self) -> tuple[int, ...]:  # type: ignore[override]
        return (0,) * (len(self.breaks) + 1)

    def function(self, x: Array) -> Array:
        result: Array = np.minimum(np.maximum(x, x.dtype.type(self.min)), x.dtype.type(self.max))
        return result

    def derivative(self, x: Array) -> Array:
        return ((x > self.min) & (x < self.max)).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class Abs(Elementwise):
    breaks = (0.0,)
    curvature = (0, 0)
    stationary = (0.0,)
    image = (0.0, math.inf)
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        return abs(x)

    def derivative(self, x: Array) -> Array:
        return np.sign(x)


@dataclass(frozen=True, eq=False)
class Sign(Elementwise):
    jumps = True
    image = (-1.0, 1.0)
    float32_error = EXACT

    def function(self, x: Array) -> Array:
        return np.sign(x)

    def derivative(self, x: Array) -> Array:
        return np.zeros_like(x)

    def lines(self, lower: Float64, upper: Float64, dtype: object) -> Lines:
        """Constants: a jump has no slope worth having."""
        low, high = self.interval(lower, upper)
        zero = np.zeros_like(low)
        return Lines(zero, low, zero, high)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-abs(x))
    result: Array = np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)
    return result


def _bell(x: Array) -> Array:
    """The sigmoid's derivative."""
    small = np.exp(-abs(x))
    result: Array = small / ((1 + small) * (1 + small))
    return result


@dataclass(frozen=True, eq=False)
class Sigmoid(Elementwise):
    breaks = (0.0,)
    curvature = (1, -1)
    image = (0.0, 1.0)

    def function(self, x: Array) -> Array:
        return _sigmoid(x)

    def derivative(self, x: Array) -> Array:
        return _bell(x)


@dataclass(frozen=True, eq=False)
class Tanh(Elementwise):
    breaks = (0.0,)
    curvature = (1, -1)
    image = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        return np.tanh(x)

    def derivative(self, x: Array) -> Array:
        return 4 * _bell(2 * x)


@dataclass(frozen=True, eq=False)
class Elu(Elementwise):
    alpha: float = 1.0
    breaks = (0.0,)
    curvature = (1, 0)

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,)

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        return (2.0**-20, 2.0**-20 * max(1.0, abs(self.alpha)), 0.0)

    def pieces(self, lower: Float64, upper: Float64) -> list[Piece]:
        sign = 1.0 if self.alpha >= 0 else -1.0
        return [Piece(p.low, p.high, p.curvature * sign) for p in super().pieces(lower, upper)]

    def function(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, x.dtype.type(0))))

    def derivative(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, x.dtype.type(0)))).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class Softplus(Elementwise):
    curvature = (1,)
    image = (0.0, math.inf)
    float32_error = (2.0**-20, 2.0**-20, 2.0**-22)

    def float32_peak(self, reach: Float64) -> Float64:
        return np.exp(reach)  # the standard spells it out: log(exp(x) + 1)

    def function(self, x: Array) -> Array:
        result: Array = np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-abs(x)))
        return result

    def derivative(self, x: Array) -> Array:
        return _sigmoid(x)


@dataclass(frozen=True, eq=False)
class Exp(Elementwise):
    curvature = (1,)
    image = (0.0, math.inf)
    float32_error = (2.0**-20, 2.0**-125, 0.0)

    def function(self, x: Array) -> Array:
        return np.exp(x)

    def derivative(self, x: Array) -> Array:
        return np.exp(x)


@dataclass(frozen=True, eq=False)
class Log(Elementwise):
    curvature = (-1,)
    domain = (0.0, math.inf)

    def function(self, x: Array) -> Array:
        return np.log(x)

    def derivative(self, x: Array) -> Array:
        return 1 / x


@dataclass(frozen=True, eq=False)
class Sqrt(Elementwise):
    curvature = (-1,)
    image = (0.0, math.inf)
    domain = (-TINY, math.inf)
    float32_error = ROUNDED

    def function(self, x: Array) -> Array:
        return np.sqrt(x)

    def derivative(self, x: Array) -> Array:
        return 0.5 / np.sqrt(x)


@dataclass(frozen=True, eq=False)
class Reciprocal(Elementwise):
    breaks = (0.0,)
    curvature = (-1, 1)
    float32_error = (2.0**-22, 2.0**-148, 0.0)

    def function(self, x: Array) -> Array:
        return 1 / x

    def derivative(self, x: Array) -> Array:
        return -1 / (x * x)

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = super().interval(lower, upper)
        pole = (lower <= 0) & (upper >= 0)
        return np.where(pole, -np.inf, low), np.where(pole, np.inf, high)


@dataclass(frozen=True, eq=False)
class Pow(Elementwise):
    """x ** exponent with a constant exponent, not 0, 1."""

    exponent: float = 2.0
    stationary = (0.0,)
    float32_error = (2.0**-20, 2.0**-125, 0.0)

    @property
    def _whole(self) -> bool:
        return float(self.exponent).is_integer()

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,) if self._whole else ()

    @property
    def curvature(self) -> tuple[int, ...]:  # type: ignore[override]
        p = self.exponent
        if not self._whole:
            return (-1,) if 0 < p < 1 else (1,)
        return (1, 1) if p % 2 == 0 else (-1, 1)

    def function(self, x: Array) -> Array:
        if self.exponent == 2.0:
            return x * x
        result: Array = np.power(x, x.dtype.type(self.exponent))
        return result

    def derivative(self, x: Array) -> Array:
        p = x.dtype.type(self.exponent)
        result: Array = p * np.power(x, p - x.dtype.type(1))
        return result

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
        low, high = super().interval(lower, upper)
        if not self._whole:
            lost = lower < 0 if self.exponent > 0 else lower <= 0
        elif self.exponent < 0:
            lost = (lower <= 0) & (upper >= 0)
        else:
            lost = np.zeros(lower.shape, bool)
            low = np.maximum(low, 0.0) if self.exponent % 2 == 0 else low
        return np.where(lost, -np.inf, low), np.where(lost, np.inf, high)


@dataclass(frozen=True, eq=False)
class Erf(Elementwise):
    breaks = (0.0,)
    curvature = (1, -1)
    image = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        return kernels.erf(np.ascontiguousarray(x, np.float64)).reshape(x.shape).astype(x.dtype)

    def derivative(self, x: Array) -> Array:
        result: Array = x.dtype.type(2 / math.sqrt(math.pi)) * np.exp(-x * x)
        return result


@dataclass(frozen=True, eq=False)
class Gelu(Elementwise):
    """x·Φ(x); ``approximate`` "none" (exact, by erfc) or "tanh" (its usual tanh formula)."""

    approximate: str = "none"
    slope_error = 2.0**-44
    # The rounded argument of erfc (and of the sigmoid) costs 2z²u relatively: past VALUE_ERROR
    # from x = -22 on, where the function is below 2^-360.
    absolute_error = 2.0**-300
    # The gate's absolute error is multiplied by x, and so are the roundings around it.
    float32_error = (2.0**-20, 2.0**-126, 2.0**-19)
    curvature = (-1, 1, -1)

    def float32_peak(self, reach: Float64) -> Float64:
        return reach if self.approximate == "none" else reach * reach * reach + reach

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        edge = math.sqrt(2.0) if self.approximate == "none" else _TANH_GELU_INFLECTION
        return (-edge, edge)

    @property
    def stationary(self) -> tuple[float, ...]:  # type: ignore[override]
        return (_GELU_MINIMUM if self.approximate == "none" else _TANH_GELU_MINIMUM,)

    @property
    def image(self) -> tuple[float, float]:  # type: ignore[override]
        return (-0.16997121 if self.approximate == "none" else -0.1700408, math.inf)

    def function(self, x: Array) -> Array:
        wide = np.asarray(x, np.float64)
        if self.approximate == "tanh":
            return (wide * _sigmoid(2 * _tanh_gelu_argument(wide))).astype(x.dtype)
        tail = kernels.erfc(np.ascontiguousarray(wide * -math.sqrt(0.5))).reshape(x.shape)
        return (0.5 * wide * tail).astype(x.dtype)

    def derivative(self, x: Array) -> Array:
        wide = np.asarray(x, np.float64)
        if self.approximate == "tanh":
            inner = 2 * _tanh_gelu_argument(wide)
            steep = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * wide * wide)
            low, high = _sigmoid(inner), _sigmoid(-inner)
            return (low + wide * low * high * steep).astype(x.dtype)
        cdf = 0.5 * kernels.erfc(np.ascontiguousarray(wide * -math.sqrt(0.5))).reshape(x.shape)
        density = np.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
        return (cdf + wide * density).astype(x.dtype)


def _tanh_gelu_argument(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


# Extremes and inflections, to float64 accuracy (tests check the sign changes around them).
_GELU_MINIMUM = -0.7517915246935645
_TANH_GELU_MINIMUM = -0.7524614220710162
_TANH_GELU_INFLECTION = 1.4185040087908284
_SILU_MINIMUM = -1.2784645427610738
_SILU_INFLECTION = 2.3993572805154676


@dataclass(frozen=True, eq=False)
class Silu(Elementwise):
    """x·sigmoid(x), also called Swish."""

    breaks = (-_SILU_INFLECTION, _SILU_INFLECTION)
    curvature = (-1, 1, -1)
    stationary = (_SILU_MINIMUM,)
    image = (-0.27846455, math.inf)
    slope_error = 2.0**-44
    # x·sigmoid(x) multiplies the sigmoid's absolute error by x (onnxruntime's is 0 below -18);
    # x/(1 + exp(-x)) is -0 as soon as exp overflows, where the function is still -2^-121.
    float32_error = (2.0**-20, 2.0**-119, 2.0**-19)

    def function(self, x: Array) -> Array:
        return x * _sigmoid(x)

    def derivative(self, x: Array) -> Array:
        result: Array = _sigmoid(x) + x * _sigmoid(x) * _sigmoid(-x)
        return result


@dataclass(frozen=True, eq=False)
class HardSigmoid(Elementwise):
    """max(0, min(1, alpha·x + beta))."""

    alpha: float = 0.2
    beta: float = 0.5
    image = (0.0, 1.0)
    curvature = (0, 0, 0)

    # Where the result is between 0 and 1, |alpha·x| is at most 1 + |beta|: errors scale with it.
    @property
    def absolute_error(self) -> float:  # type: ignore[override]
        return 2.0**-45 * (1.0 + abs(self.beta))

    @property
    def float32_error(self) -> tuple[float, float, float]:  # type: ignore[override]
        return (2.0**-22, 2.0**-21 * (1.0 + abs(self.beta)), 0.0)

    @property
    def breaks(self) -> tuple[float, ...]:  # type: ignore[override]
        if self.alpha == 0:  # a constant: the breaks only have to be in order
            return (0.0, 1.0)
        return tuple(sorted((-self.beta / self.alpha, (1 - self.beta) / self.alpha)))

    def function(self, x: Array) -> Array:
        line = x.dtype.type(self.alpha) * x + x.dtype.type(self.beta)
        result: Array = np.clip(line, x.dtype.type(0), x.dtype.type(1))
        return result

    def derivative(self, x: Array) -> Array:
        line = self.alpha * x + self.beta
        return np.where((line > 0) & (line < 1), self.alpha, 0.0).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class HardSwish(Elementwise):
    """x·max(0, min(1, x/6 + 1/2))."""

    breaks = (-3.0, 3.0)
    curvature = (0, 1, 0)
    stationary = (-1.5,)
    image = (-0.375, math.inf)
    slope_error = 2.0**-48
    float32_error = (2.0**-22, 2.0**-126, 2.0**-22)

    def float32_peak(self, reach: Float64) -> Float64:
        return 6 * reach + 3  # x·min(max(x + 3, 0), 6)/6: the product comes before the division

    def function(self, x: Array) -> Array:
        result: Array = (
            x * np.clip(x + x.dtype.type(3), x.dtype.type(0), x.dtype.type(6)) / x.dtype.type(6)
        )
        return result

    def derivative(self, x: Array) -> Array:
        middle = (2 * x + 3) / 6
        return np.where(x < -3, 0.0, np.where(x > 3, 1.0, middle)).astype(x.dtype)
