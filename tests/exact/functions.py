"""Every elementwise operator with attributes worth testing, and intervals that hurt."""

from __future__ import annotations

import math
from typing import Any

import flint
import numpy as np
from flint import arb
from msgspec.structs import astuple

from gamma import ops
from gamma.ops import Elementwise
from gamma.ops.tables import NodeSlopes
from tests.exact.oracle import BITS, elementwise, exact, q

OPERATORS: tuple[Any, ...] = (
    ops.Relu(),
    ops.LeakyRelu(0.01),
    ops.LeakyRelu(0.3),
    ops.LeakyRelu(-0.5),
    ops.LeakyRelu(1.7),
    ops.PRelu(np.array([0.25, -0.75, 1.5], np.float32)),
    ops.Clip(0.0, 6.0),
    ops.Clip(-1.0, 1.0),
    ops.Clip(-0.1),
    ops.Clip(max=0.7),
    ops.Abs(),
    ops.Sign(),
    ops.HardSigmoid(),
    ops.HardSigmoid(1 / 6, 0.5),
    ops.HardSigmoid(-0.3, 0.2),
    ops.HardSigmoid(3.0, 1e6),
    ops.HardSwish(),
    ops.Sigmoid(),
    ops.Tanh(),
    ops.Elu(),
    ops.Elu(0.3),
    ops.Elu(2.5),
    ops.Elu(-0.5),
    ops.Softplus(),
    ops.Exp(),
    ops.Log(),
    ops.Sqrt(),
    ops.Reciprocal(),
    ops.Pow(2.0),
    ops.Pow(3.0),
    ops.Pow(4.0),
    ops.Pow(5.0),
    ops.Pow(0.5),
    ops.Pow(1.5),
    ops.Pow(2.5),
    ops.Pow(-1.0),
    ops.Pow(-2.0),
    ops.Pow(-0.5),
    ops.Erf(),
    ops.Gelu(),
    ops.Gelu("tanh"),
    ops.Silu(),
    ops.Sin(),
    ops.Cos(),
    ops.Tan(),
    ops.Asin(),
    ops.Acos(),
    ops.Atan(),
    ops.Sinh(),
    ops.Cosh(),
    ops.Asinh(),
    ops.Acosh(),
    ops.Atanh(),
    ops.Floor(),
    ops.Ceil(),
    ops.Round(),
)


def label(op: Any) -> str:
    """A test id."""
    parts = [str(v) for v in astuple(op) if np.ndim(v) == 0]
    return "-".join([type(op).__name__, *parts])


def domain(op: Elementwise) -> tuple[float, float]:
    """Where the function is defined as a real function (ends possibly excluded)."""
    if isinstance(op, ops.Asin | ops.Acos | ops.Atanh):
        return -1.0, 1.0
    if isinstance(op, ops.Acosh):
        return 1.0, math.inf
    if isinstance(op, ops.Log):
        return 0.0, math.inf
    if isinstance(op, ops.Sqrt) or (
        isinstance(op, ops.Pow) and not float(op.exponent).is_integer()
    ):
        return 0.0, math.inf
    return -math.inf, math.inf


def landmarks(op: Elementwise) -> list[float]:
    """Breaks, extremes and the zeros of periodic functions."""
    if isinstance(op, ops.Sin):
        return [k * math.pi / 2 for k in (-400001, -9, -3, -2, -1, 0, 1, 2, 3, 4, 1000, 600000)]
    if isinstance(op, ops.Tan):
        return [k * math.pi / 2 for k in (-400001, -3, -2, -1, 0, 1, 2, 3, 1000)]
    if op.jumps:
        return [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 2.0**52 + 1]
    return [0.0, *op.breaks, *op.stationary, *filter(math.isfinite, domain(op))]


def intervals(op: Elementwise, rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Ends (count,): ordinary, wide, tiny, at landmarks, subnormal, far out, and points."""
    marks = np.array(landmarks(op))
    centre = rng.normal(size=count) * rng.choice([0.5, 2.0, 8.0, 30.0], count)
    near = rng.random(count) < 0.4
    centre = np.where(near, rng.choice(marks, count), centre)
    radius = 10.0 ** rng.uniform(-17, 1.3, count)
    radius = np.where(rng.random(count) < 0.15, 0.0, radius)
    shift = rng.uniform(-1, 1, count) * radius
    low, high = centre + shift - radius, centre + shift + radius
    step = rng.random(count)
    low = np.where(step < 0.1, np.nextafter(centre, -np.inf), low)
    high = np.where((0.05 < step) & (step < 0.15), np.nextafter(centre, np.inf), high)
    far = rng.random(count) < 0.1
    scale = 2.0 ** rng.uniform(-1070, 60, count)
    low, high = np.where(far, low * scale, low), np.where(far, high * scale, high)
    low, high = np.minimum(low, high), np.maximum(low, high)
    start, end = domain(op)
    if start in (-1.0, 1.0):
        low, high = np.clip(low, start, end), np.clip(high, start, end)
        if isinstance(op, ops.Atanh):
            low, high = low * (1 - 2.0**-53), high * (1 - 2.0**-53)
    elif np.isfinite(start):
        low, high = np.abs(low), np.abs(high)
        low, high = np.minimum(low, high), np.maximum(low, high)
        if isinstance(op, ops.Log) or getattr(op, "exponent", 1.0) < 0:
            low, high = np.maximum(low, 2.0**-1060), np.maximum(high, 2.0**-1060)
    return low, high


def probes(
    op: Elementwise, low: float, high: float, rng: np.random.Generator, slopes: tuple[float, ...]
) -> list[float]:
    """Points of [low, high] where a wrong line is most likely to show."""
    found = [low, high, np.nextafter(low, np.inf), np.nextafter(high, -np.inf)]
    found += [0.5 * low + 0.5 * high, *rng.uniform(size=3) * (high - low) + low]
    for mark in landmarks(op):
        found += [mark, np.nextafter(mark, -np.inf), np.nextafter(mark, np.inf)]
    grid = np.linspace(low, high, 65)
    with np.errstate(all="ignore"):
        values = op.function(grid) if not isinstance(op, ops.PRelu) else np.zeros(65)
        for slope in slopes:
            gap = values - slope * grid
            if np.isfinite(gap).all():
                found += [float(grid[gap.argmin()]), float(grid[gap.argmax()])]
    return [float(v) for v in found if low <= v <= high]


def defined(op: Elementwise, x: float) -> bool:
    """Whether f(x) is a number."""
    start = domain(op)[0]
    if isinstance(op, ops.Log) or (start == 0.0 and getattr(op, "exponent", 1.0) < 0):
        return x > 0
    if isinstance(op, ops.Reciprocal) or (isinstance(op, ops.Pow) and op.exponent < 0):
        return x != 0
    if isinstance(op, ops.Atanh):
        return abs(x) < 1
    return start <= x <= domain(op)[1]


def broken(
    op: Any,
    low: float,
    high: float,
    dtype: Any,
    rng: np.random.Generator,
    slopes: NodeSlopes | None = None,
) -> list[str]:
    """What the operator's interval image and lines, with ``slopes``, get wrong on [low, high]."""
    previous = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        return _broken(op, low, high, dtype, rng, slopes)
    finally:
        flint.ctx.prec = previous


def _broken(
    op: Any,
    low: float,
    high: float,
    dtype: Any,
    rng: np.random.Generator,
    slopes: NodeSlopes | None,
) -> list[str]:
    k = len(op.slope) if isinstance(op, ops.PRelu) else 1
    l, u = np.full((1, k), low), np.full((1, k), high)
    floor, ceiling = op.interval(l, u)
    with np.errstate(all="ignore"):
        lines = op.lines(l, u, dtype) if slopes is None else op.lines_of(slopes, l, u, dtype)
    ends = zip(
        *(
            np.ravel(a).tolist()
            for a in (
                floor,
                ceiling,
                lines.lower_slope,
                lines.lower_intercept,
                lines.upper_slope,
                lines.upper_intercept,
            )
        ),
        strict=True,
    )
    wrong = []
    for j, (bottom, top, g, t, s, v) in enumerate(ends):
        assert float(np.dtype(dtype).type(g)) == g and float(np.dtype(dtype).type(s)) == s
        for x in probes(op, low, high, rng, (g, s)):
            if not defined(op, x):
                continue
            value = elementwise(op, exact(np.full(k, x)))[j]
            value = value if isinstance(value, arb) else arb(value)
            at = f"{label(op)} [{low!r}, {high!r}] x={x!r}"
            if not math.isinf(bottom) and arb(q(bottom)) > value:
                wrong.append(f"{at} image below")
            if not math.isinf(top) and arb(q(top)) < value:
                wrong.append(f"{at} image above")
            if bottom == math.inf or top == -math.inf:
                wrong.append(f"{at} impossible image")
            if not math.isinf(t) and arb(q(g)) * arb(q(x)) + arb(q(t)) > value:
                wrong.append(f"{at} lower line")
            if not math.isinf(v) and arb(q(s)) * arb(q(x)) + arb(q(v)) < value:
                wrong.append(f"{at} upper line")
    return wrong
