"""Linear relaxation of elementwise functions (CROWN: Zhang et al. 2018): one engine for all.

Any slope is a valid slope; only the intercept is proved. A line s·x + t lies below f on [l, u]
when t <= min f(x) - s·x. The engine splits [l, u] into pieces on which f is convex, concave or
linear. On a concave or linear piece the minimum sits at an end; on a convex piece every tangent
f(t) + f'(t)(x - t) lies below f, and the line's distance to a tangent is again least at an end.
So no equation has to be solved exactly: a bad tangent point costs tightness, never soundness.

Among valid lines the one highest at the midpoint has the smallest area between line and
function; the engine tries the chord, tangents, and tangents through the ends, and keeps the
best per neuron (for a convex f: the tangent at the midpoint, for ReLU: the adaptive slope).

Where rows bound all layers, lines are best a little aside of the midpoint. To first order a bound
by a row a changes by Σ a_i·(change of line i) at the input where the row's bound is attained, and
there neuron i is not at its midpoint: the row wants a_i·f low. With independent weights the neuron
is |a_i| ρ_i / ‖a∘ρ‖ of its radius away, to the side where a_i·f falls, ρ_i what f_i ranges over.
Lines below serve rows with a_i > 0, lines above the others; over normal a, weighted by |a_i|, the
mean of that is √(π/2)·ρ_i / ‖ρ‖ (`LEAN`). The same amount turned out best, layer by layer, in
random networks of all S-shaped functions. Lines on intervals wider than what rows know (IBP) would
lean too far: those of dense networks walked in one call do, by method crown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.frozen import Frozen
from gamma.runtime import workers
from gamma.tensor import kernels

if TYPE_CHECKING:
    from gamma.ops.tables import NodeSlopes

Float64 = npt.NDArray[np.float64]

# Bisection steps for a tangent through an end point: 2^-24 of its piece costs as much of the gap.
_TANGENT_STEPS = 24
# Neurons taken together: some forty arrays of them stay in the second level of the cache.
_CHUNK = 2048


class Piece(Frozen, eq=True):
    """A part [low, high] of each neuron's interval with one curvature (1 convex, -1 concave, 0)."""

    low: Float64
    high: Float64
    curvature: Float64


class Lines(Frozen, eq=True):
    """lower_slope·x + lower_intercept <= f(x) <= upper_slope·x + upper_intercept on [l, u].

    All float64 (batch, *shape); the slopes are numbers of the dtype the caller asked for.
    """

    lower_slope: Float64
    lower_intercept: Float64
    upper_slope: Float64
    upper_intercept: Float64


class Curve(Protocol):
    """What the engine reads of a function; errors are those of the float64 evaluation."""

    @property
    def absolute_error(self) -> float: ...

    @property
    def slope_error(self) -> float: ...

    @property
    def alike(self) -> bool: ...

    @property
    def breaks(self) -> tuple[float, ...]: ...

    @property
    def curvature(self) -> tuple[int, ...]: ...

    @property
    def stationary(self) -> tuple[float, ...]: ...

    @property
    def image(self) -> tuple[float, float]: ...

    @property
    def compiled(self) -> str:
        """The C library's name for this very function, or nothing."""

    def function(self, x: Float64) -> Float64: ...

    def derivative(self, x: Float64) -> Float64: ...

    def pieces(self, lower: Float64, upper: Float64) -> list[Piece]: ...

    def interval(self, lower: Float64, upper: Float64) -> tuple[Float64, Float64]: ...


# Relative errors of the float64 evaluation of a function and of its derivative.
VALUE_ERROR = 2.0**-43
SLOPE_ERROR = 2.0**-37
TINY = 2.0**-1000
# Neurons whose lines are worth a second thread.
_SHARED = 256
# Of what the functions of a layer range over in all: what slopes of its best lines may differ by,
# times radii, for parallel ones to be tried at all (those were found at up to half of it), and
# what the strips between these may be higher than the gaps of the best lines at the middle; with
# less, bounds of the layers behind it came out narrower.
PARALLEL = 0.02, 3e-4
# √(π/2); and the most that lines lean, as a share of the radius, where few neurons share.
LEAN = 1.25, 0.25


def relax(curve: Curve, lower: Float64, upper: Float64, dtype: npt.DTypeLike) -> Lines:
    """Lines for every neuron; infinite intervals get the constant interval image."""
    name = curve.compiled
    if name and tuning.enabled("fused_lines"):
        made = _compiled(curve, name, lower, upper, dtype)
        if made is not None:
            return made
    if not curve.alike or lower.size <= _CHUNK:
        return Lines(*_lines(curve, lower, upper, dtype))
    found = np.empty((4, lower.size))
    low, high = lower.reshape(-1), upper.reshape(-1)
    for start in range(0, lower.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        found[:, part] = _lines(curve, low[part], high[part], dtype)
    return Lines(*found.reshape(4, *lower.shape))


def _compiled(
    curve: Curve,
    name: str,
    lower: Float64,
    upper: Float64,
    dtype: npt.DTypeLike,
    slopes: tuple[Float64 | None, Float64 | None] = (None, None),
) -> Lines | None:
    """`_lines` by the C library: what the engine does here for all neurons, neuron by neuron."""
    floor, ceiling = curve.interval(lower, upper)
    done = kernels.lines(
        described(curve, name, np.dtype(dtype) == np.float32),
        np.ascontiguousarray(lower),
        np.ascontiguousarray(upper),
        np.ascontiguousarray(floor),
        np.ascontiguousarray(ceiling),
        slopes,
        _threads(lower),
    )
    return None if done is None else Lines(*done)


def _threads(lower: Float64) -> int:
    """That share the lines of so many neurons."""
    return workers.sharing() if lower.size >= _SHARED else 1


def compiled_parallel(
    curve: Curve,
    lower: Float64,
    upper: Float64,
    after: tuple[Float64, Float64],
    dtype: npt.DTypeLike,
) -> Lines | None:
    """`relax`, parallel lines where these are as good (`gamma.ops.parallel`), by the C library."""
    name = curve.compiled
    if not name or not tuning.enabled("fused_lines"):
        return None
    low, high, least, most = (np.ascontiguousarray(end) for end in (lower, upper, *after))
    floor, ceiling = (np.ascontiguousarray(end) for end in curve.interval(lower, upper))
    done = kernels.parallel_lines(
        described(curve, name, np.dtype(dtype) == np.float32),
        (low, high),
        (floor, ceiling),
        (least, most),
        _threads(lower),
    )
    return None if done is None else Lines(*done)


def compiled_image(curve: Curve, lower: Float64, upper: Float64) -> tuple[Float64, Float64] | None:
    """`Curve.interval` by the C library, of a function that it has."""
    name = curve.compiled
    if not name or not tuning.enabled("fused_lines"):
        return None
    ends = np.ascontiguousarray(lower), np.ascontiguousarray(upper)
    return kernels.image(described(curve, name, False), *ends)


def described(
    curve: Curve, name: str, narrow: int, lean: tuple[float, float] = (0.0, 0.0)
) -> kernels.Curve:
    """The function as the C library takes it; ``narrow`` and ``lean`` as in `kernels.Curve`."""
    errors = (VALUE_ERROR, curve.absolute_error, SLOPE_ERROR, curve.slope_error, TINY)
    (extreme,) = curve.stationary or (np.nan,)
    return kernels.Curve(
        name, narrow, curve.breaks, curve.curvature, extreme, curve.image, errors, PARALLEL, lean
    )


def lines_with(
    curve: Curve, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: npt.DTypeLike
) -> Lines:
    """Lines with given slopes, (batch, size) or like ``lower``; None: the engine's own.

    The best intercept of a slope touches f where f' equals it, searched for on each piece.
    """
    name = curve.compiled
    if name and tuning.enabled("fused_lines"):
        given = (slopes.lower, slopes.upper)
        shaped = [s if s is None else np.reshape(s, lower.shape) for s in given]
        own = [s if s is None else np.ascontiguousarray(s, np.float64) for s in shaped]
        made = _compiled(curve, name, lower, upper, dtype, (own[0], own[1]))
        if made is not None:
            return made
    return _lines_with(curve, slopes, lower, upper, dtype)


def _lines_with(
    curve: Curve, slopes: NodeSlopes, lower: Float64, upper: Float64, dtype: npt.DTypeLike
) -> Lines:
    floor, ceiling = curve.interval(lower, upper)
    known = np.isfinite(floor) | np.isfinite(ceiling)
    usable = np.isfinite(lower) & np.isfinite(upper) & known
    low, high = np.where(usable, lower, 1.0), np.where(usable, upper, 1.0)
    found: list[Float64] = []
    missing: list[npt.NDArray[np.bool_]] = []
    for sign, given in ((1.0, slopes.lower), (-1.0, slopes.upper)):
        if given is None:
            found += [floor, floor]
            missing.append(np.ones(floor.shape, bool))
            continue
        with np.errstate(all="ignore"):
            values = _Signed(curve, sign)
            corners = [_Corner.at(values, p) for p in curve.pieces(low, high)]
            slope = _representable(np.reshape(given, lower.shape), dtype)
            line = sign * _least_gap(values, sign * slope, corners)
        found += [slope, line]
        missing.append(~(usable & np.isfinite(line)))
    if any(part.any() for part in missing):
        own = relax(curve, lower, upper, dtype)
        parts = (own.lower_slope, own.lower_intercept, own.upper_slope, own.upper_intercept)
        found = [np.where(missing[i // 2], p, found[i]) for i, p in enumerate(parts)]
    return Lines(*found)


def _least_gap(values: _Signed, slope: Float64, corners: list[_Corner]) -> Float64:
    """A proved lower bound of min sign·f(x) - slope·x, with a touching point for every piece."""
    result = np.full_like(slope, np.inf)
    for corner in corners:
        left, right = corner.low, corner.high
        if corner.convex.any():
            for _ in range(2 * _TANGENT_STEPS):
                middle = 0.5 * left + 0.5 * right
                below = values.slope(middle) < slope
                left, right = np.where(below, middle, left), np.where(below, right, middle)
        touch = 0.5 * left + 0.5 * right
        part = _intercept(values, slope[None], touch[None], [corner])[0]
        result = np.where(corner.exists, np.minimum(result, part), result)
    return result


def _lines(
    curve: Curve, lower: Float64, upper: Float64, dtype: npt.DTypeLike
) -> tuple[Float64, Float64, Float64, Float64]:
    floor, ceiling = curve.interval(lower, upper)
    # Outside the domain, across a pole and with an infinite end nothing linear is known: there the
    # engine works on the point 1 (inside every domain) and the interval image is returned.
    known = np.isfinite(floor) | np.isfinite(ceiling)
    usable = np.isfinite(lower) & np.isfinite(upper) & known
    low, high = np.where(usable, lower, 1.0), np.where(usable, upper, 1.0)
    with np.errstate(all="ignore"):
        below = _best_line(curve, low, high, 1.0, dtype)
        above = _best_line(curve, low, high, -1.0, dtype)
    return (
        *_or_constant(below[0], below[1], floor, usable, low, high, 1.0),
        *_or_constant(-above[0], -above[1], ceiling, usable, low, high, -1.0),
    )


def _or_constant(
    slope: Float64,
    intercept: Float64,
    image: Float64,
    usable: npt.NDArray[np.bool_],
    low: Float64,
    high: Float64,
    sign: float,
) -> tuple[Float64, Float64]:
    """The line, or the constant interval bound where that is nowhere worse or the line failed."""
    useless = ~(usable & np.isfinite(slope) & np.isfinite(intercept))
    # A line that is nowhere above the constant is dominated by it.
    peak = np.maximum(sign * slope * low, sign * slope * high) + sign * intercept
    useless |= peak <= sign * image
    return np.where(useless, 0.0, slope), np.where(useless, image, intercept)


def _best_line(
    curve: Curve, low: Float64, high: Float64, sign: float, dtype: npt.DTypeLike
) -> tuple[Float64, Float64]:
    """Slope and intercept of the line below sign·f with the highest midpoint."""
    pieces = curve.pieces(low, high)
    values = _Signed(curve, sign)
    middle = 0.5 * low + 0.5 * high
    corners = [_Corner.at(values, p) for p in pieces]
    # All candidates at once: (candidate, *shape).
    slopes, touches = (
        np.stack(each)
        for each in zip(*_candidates(values, low, high, middle, corners), strict=True)
    )
    slopes = _representable(slopes, dtype)
    intercepts = _intercept(values, slopes, touches, corners)
    heights = slopes * middle + intercepts
    best = np.argmax(np.where(np.isnan(heights), -np.inf, heights), axis=0)[None]
    return (
        np.take_along_axis(slopes, best, axis=0)[0],
        np.take_along_axis(intercepts, best, axis=0)[0],
    )


def _representable(slope: Float64, dtype: npt.DTypeLike) -> Float64:
    """The slope rounded to ``dtype``: any number is valid, its intercept is proved after."""
    return np.where(np.isfinite(slope), slope, 0.0).astype(dtype).astype(np.float64)


class _Signed:
    """sign·f with its derivative and the error of an evaluation."""

    def __init__(self, curve: Curve, sign: float) -> None:
        self.curve, self.sign = curve, sign

    def value(self, x: Float64) -> Float64:
        return self.sign * self.curve.function(x)

    def slope(self, x: Float64) -> Float64:
        return self.sign * self.curve.derivative(x)


class _Corner(Frozen, eq=True):
    """A piece with sign·f and its curvature at both ends."""

    low: Float64
    high: Float64
    convex: npt.NDArray[np.bool_]
    exists: npt.NDArray[np.bool_]
    value_low: Float64
    value_high: Float64
    slope_low: Float64
    slope_high: Float64

    @classmethod
    def at(cls, values: _Signed, piece: Piece) -> _Corner:
        low, high = piece.low, piece.high
        return cls(
            low,
            high,
            piece.curvature * values.sign > 0,
            low <= high,
            values.value(low),
            values.value(high),
            values.slope(low),
            values.slope(high),
        )


Candidate = tuple[Float64, Float64]


def _candidates(
    values: _Signed, low: Float64, high: Float64, middle: Float64, corners: list[_Corner]
) -> list[Candidate]:
    """Slopes worth trying, each with the point where the line is meant to touch."""
    value_low, value_high = values.value(low), values.value(high)
    width = high - low
    chord = np.where(width > 0, (value_high - value_low) / np.where(width > 0, width, 1.0), 0.0)
    steep = values.slope(middle)
    found: list[Candidate] = [(steep, middle), (chord, middle)]
    if len(corners) == 1:
        return found
    found += [(values.slope(low), low), (values.slope(high), high)]
    # Chords from an end to a break: the envelope of piecewise linear functions.
    for corner in corners[1:]:
        found.append((_secant(corner.low, corner.value_low, low, value_low), low))
        found.append((_secant(corner.low, corner.value_low, high, value_high), high))
    # Tangents of a convex piece through an end of the interval that lies beyond the piece.
    for corner in corners:
        convex = corner.convex & corner.exists
        for anchor, value, beyond in (
            (high, value_high, convex & (corner.high < high)),
            (low, value_low, convex & (low < corner.low)),
        ):
            if beyond.any():
                touch = middle.copy()
                touch[beyond] = _tangent_through(
                    values, corner.low[beyond], corner.high[beyond], anchor[beyond], value[beyond]
                )
                found.append((np.where(beyond, values.slope(touch), steep), touch))
    return found


def _secant(point: Float64, value: Float64, end: Float64, end_value: Float64) -> Float64:
    run = point - end
    return np.where(run != 0, (value - end_value) / np.where(run != 0, run, 1.0), 0.0)


def _tangent_through(
    values: _Signed, left: Float64, right: Float64, anchor: Float64, anchor_value: Float64
) -> Float64:
    """Where the tangent of a convex piece [left, right] passes through the anchor, or an end."""
    forward = anchor >= right  # the anchor lies to the right: the tangent's height there grows
    for _ in range(_TANGENT_STEPS):
        point = 0.5 * left + 0.5 * right
        height = values.value(point) + values.slope(point) * (anchor - point) - anchor_value
        move_right = np.where(forward, height < 0, height > 0)
        left, right = np.where(move_right, point, left), np.where(move_right, right, point)
    return 0.5 * left + 0.5 * right


def _intercept(values: _Signed, slope: Float64, touch: Float64, corners: list[_Corner]) -> Float64:
    """A proved lower bound of min sign·f(x) - slope·x over all pieces."""
    result = np.full_like(slope, np.inf)
    for corner in corners:
        ends = np.minimum(
            _gap(values, corner.low, corner.value_low, slope),
            _gap(values, corner.high, corner.value_high, slope),
        )
        if corner.convex.any():
            point = np.clip(touch, corner.low, np.maximum(corner.low, corner.high))
            tangent = _below_tangent(
                values, corner, slope, point, values.value(point), values.slope(point)
            )
            for at, value, steep in (
                (corner.low, corner.value_low, corner.slope_low),
                (corner.high, corner.value_high, corner.slope_high),
            ):
                tangent = np.fmax(tangent, _below_tangent(values, corner, slope, at, value, steep))
            ends = np.where(corner.convex, np.minimum(ends, tangent), ends)
        result = np.where(corner.exists, np.minimum(result, ends), result)
    return result


def _gap(values: _Signed, x: Float64, value: Float64, slope: Float64) -> Float64:
    """A lower bound of sign·f(x) - slope·x at one float64 point."""
    error = VALUE_ERROR * abs(value) + values.curve.absolute_error + 2.0**-50 * abs(slope * x)
    return value - slope * x - error - TINY


def _below_tangent(
    values: _Signed,
    corner: _Corner,
    slope: Float64,
    point: Float64,
    value: Float64,
    steep: Float64,
) -> Float64:
    """A lower bound of (tangent at ``point``) - slope·x over the piece."""
    result: Any = None
    for end in (corner.low, corner.high):
        run = end - point
        error = (
            VALUE_ERROR * abs(value)
            + values.curve.absolute_error
            + (SLOPE_ERROR * abs(steep) + values.curve.slope_error) * abs(run)
            + 2.0**-50 * (abs(slope * end) + abs(steep * run))
        )
        height = value + steep * run - slope * end - error - TINY
        result = height if result is None else np.minimum(result, height)
    return result  # type: ignore[no-any-return]
