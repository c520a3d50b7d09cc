"""Entry by entry: arithmetic rounded outward, conversions, functions, sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, FLOATS, check, refuse

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def _map64(name: str, x: npt.ArrayLike) -> Float64:
    values = np.ascontiguousarray(x, dtype=np.float64)
    out: Float64 = getattr(backend.current, name)(values.reshape(-1)).reshape(np.shape(x))
    return out


def erf(x: npt.ArrayLike) -> Float64:
    """Error function of each entry in float64, by the C library (error under 2 ulp there)."""
    return _map64("erf", x)


def erfc(x: npt.ArrayLike) -> Float64:
    """1 − erf of each entry in float64, accurate in the right tail, by the C library."""
    return _map64("erfc", x)


class Curve(Frozen):
    """A smooth function as `lines` takes it; see ``struct gamma_curve``.

    Attributes:
        name: of the function, as in ``api.h``. narrow: what slopes must be: any number (0), one
            of float32 (1), or one in its range (2).
        breaks, curvature: of its pieces, at most 3, each convex (1) or concave (-1).
        stationary: where it has an extremum inside, or NaN. image: its range.
        errors: of the value, relative and absolute, of the slope alike, and of underflow.
        parallel: up to which shares of what the functions of a layer range over lines of one slope
            are tried, and taken (`gamma.ops.parallel`). lean: how far from the middle lines are
            to be best in `DenseNetwork`, and at most (`gamma.ops.relaxation`).
    """

    name: str
    narrow: int
    breaks: tuple[float, ...]
    curvature: tuple[int, ...]
    stationary: float
    image: tuple[float, float]
    errors: tuple[float, float, float, float, float]
    parallel: tuple[float, float] = (-1.0, -1.0)
    lean: tuple[float, float] = (0.0, 0.0)


def image(curve: Curve, lower: Float64, upper: Float64) -> tuple[Float64, Float64] | None:
    """An enclosure of the function on [lower, upper]; None without compiled kernels."""
    if not backend.compiled:
        return None
    check("lower", lower, F64, lower.shape)
    check("upper", upper, F64, lower.shape)
    floor, ceiling = np.empty_like(lower), np.empty_like(lower)
    backend.current.image(curve, lower, upper, floor, ceiling)
    return floor, ceiling


def lines(
    curve: Curve,
    lower: Float64,
    upper: Float64,
    floor: Float64,
    ceiling: Float64,
    slopes: tuple[Float64 | None, Float64 | None] = (None, None),
    threads: int = 1,
) -> Float64 | None:
    """Slope and intercept of a line below the function on [lower, upper], then above.

    [floor, ceiling] encloses the function there; ``slopes`` replace the lines' own; so many
    ``threads`` share the neurons. Returns float64 (4, *shape), None without compiled kernels.
    """
    if not backend.compiled:
        return None
    for name, array in zip(
        ("lower", "upper", "floor", "ceiling"), (lower, upper, floor, ceiling), strict=True
    ):
        check(name, array, F64, lower.shape)
    for slope in slopes:
        if slope is not None:
            check("slopes", slope, F64, lower.shape)
    fits(curve)
    out = np.empty((4, *lower.shape))
    backend.current.lines(curve, lower, upper, floor, ceiling, slopes, out, threads)
    return out


def fits(curve: Curve) -> None:
    """Raises UsageError where the library does not take so many pieces."""
    if not len(curve.curvature) == len(curve.breaks) + 1 <= 3:
        raise refuse("curve", curve, "up to 3 pieces, with the breaks between them")


def parallel_lines(
    curve: Curve,
    ends: tuple[Float64, Float64],
    image: tuple[Float64, Float64],
    after: tuple[Float64, Float64],
    threads: int = 1,
) -> Float64 | None:
    """`lines`, for each position (the last axis) parallel ones where these are as good.

    Lower and upper ``ends`` of the function's argument, an enclosure of its ``image``, and what is
    known of its values ``after``. Returns float64 (4, *shape), None without compiled
    kernels.
    """
    if not backend.compiled:
        return None
    parts, shape = (*ends, *image, *after), ends[0].shape
    for part in parts:
        check("ends", part, F64, shape)
    fits(curve)
    out = np.empty((4, *shape))
    backend.current.parallel_lines(curve, parts, out, threads)
    return out


def _same(names: tuple[str, ...], arrays: tuple[Array, ...]) -> None:
    dtype, shape = arrays[0].dtype, arrays[0].shape
    if dtype not in FLOATS:
        raise refuse(names[0], f"dtype {dtype}", "float32 or float64")
    for array in arrays:
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
            for name, given in zip(names, arrays, strict=True):
                check(name, given, dtype, shape)


def interval_mul(al: Array, au: Array, bl: Array, bu: Array) -> tuple[Array, Array]:
    """[al, au]·[bl, bu] entry by entry, one step outward; a NaN product gives (-inf, inf)."""
    _same(("al", "au", "bl", "bu"), (al, au, bl, bu))
    lower, upper = np.empty_like(al), np.empty_like(al)
    backend.current.interval_mul(al, au, bl, bu, lower, upper)
    return lower, upper


def safe_mul_add(
    al: Array, au: Array, bl: Array, bu: Array, cl: Array, cu: Array
) -> tuple[Array, Array]:
    """[al, au]·[bl, bu] + [cl, cu] entry by entry, one step outward after each operation."""
    _same(("al", "au", "bl", "bu", "cl", "cu"), (al, au, bl, bu, cl, cu))
    lower, upper = np.empty_like(al), np.empty_like(al)
    backend.current.safe_mul_add(al, au, bl, bu, cl, cu, lower, upper)
    return lower, upper


def pos_neg_split(x: Array) -> tuple[Array, Array]:
    """(max(x, 0), min(x, 0)) exactly; their sum is x, a NaN goes to both."""
    _same(("x",), (x,))
    positive, negative = np.empty_like(x), np.empty_like(x)
    backend.current.pos_neg_split(x, positive, negative)
    return positive, negative


def step_down(x: Array) -> Array:
    """The next number of x's dtype below each entry; NaN becomes -inf."""
    return _step(x, False)


def step_up(x: Array) -> Array:
    """The next number of x's dtype above each entry; NaN becomes +inf."""
    return _step(x, True)


def _step(x: Array, up: bool) -> Array:
    _same(("x",), (x,))
    out = np.empty_like(x)
    backend.current.step(x, out, up)
    return out


def narrow_down(x: Float64) -> npt.NDArray[np.float32]:
    """The greatest float32 <= each float64 entry (itself if representable); NaN becomes -inf."""
    return _narrow(x, False)


def narrow_up(x: Float64) -> npt.NDArray[np.float32]:
    """The least float32 >= each float64 entry (itself if representable); NaN becomes +inf."""
    return _narrow(x, True)


def _narrow(x: Float64, up: bool) -> npt.NDArray[np.float32]:
    check("x", x, F64, x.shape)
    out = np.empty(x.shape, np.float32)
    backend.current.narrow(x, out, up)
    return out


def midpoint(lower: Float64, upper: Float64) -> Float64:
    """A finite point of each interval, near its middle, or near 0 where it is unbounded."""
    check("lower", lower, F64, lower.shape)
    check("upper", upper, F64, lower.shape)
    out = np.empty_like(lower)
    backend.current.midpoint(lower, upper, out)
    return out


def radius_about(lower: Float64, upper: Float64, centre: Float64) -> Float64:
    """At least max(upper − centre, centre − lower, 0); exactly 0 for a point, inf for NaN."""
    for name, array in (("lower", lower), ("upper", upper), ("centre", centre)):
        check(name, array, F64, lower.shape)
    out = np.empty_like(lower)
    backend.current.radius_about(lower, upper, centre, out)
    return out


def dot(x: Array, y: Array) -> float:
    """Σ x·y in float64 (charge g64_n Σ|x||y|); x and y of one shape, f."""
    _same(("x", "y"), (x, y))
    return float(backend.current.dot(x.reshape(-1), y.reshape(-1)))


def sum(x: Array) -> float:
    """Σ x in float64 (charge g64_n Σ|x|)."""
    _same(("x",), (x,))
    return float(backend.current.sum(x.reshape(-1)))


def _half(name: str, x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    check("x", x, FLOATS[0], x.shape)
    out = np.empty(x.shape, np.uint16)
    getattr(backend.current, name)(x, out)
    return out


def f16_down(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the greatest float16 <= x; NaN becomes -inf, overflow the last finite one or -inf."""
    return _half("f16_down", x)


def f16_up(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the least float16 >= x; NaN becomes +inf, overflow +inf or the last finite one."""
    return _half("f16_up", x)


def f16_to_f32(x: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 value of float16 bits, exact."""
    check("x", x, np.dtype(np.uint16), x.shape)
    out = np.empty(x.shape, np.float32)
    backend.current.f16_to_f32(x, out)
    return out
