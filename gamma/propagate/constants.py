"""What the backward walk multiplies by: slopes and constants of nonlinear nodes, charges of
linear ones. Everything that does not depend on the rows is folded in here, once per box.

For a nonlinear node v of input p, with proved lines g·x + t_l <= f(x) <= s·x + t_u, a row entry
a of v becomes a·g (a >= 0) or a·s (a < 0) on p, and adds to the row's constant

    a·(g·c_p + t_l - c_v - charge)   or   a·(s·c_p + t_u - c_v + charge)

where charge covers, per unit of |a|: the float64 dot product, the rounding of a·slope (relative u
of |a·slope|, times the radius of p), and, when p is linear and read by v alone, everything p's own
product will cost (see `LinearCharge`). docs/numerics.md derives each term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops import Elementwise, Linear, ReduceMax, Relu, Reshape
from gamma.propagate.state import NodeBounds
from gamma.tensor import kernels, rounding

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

# Half the smallest positive number: the most a product can lose to underflow.
UNDERFLOW = {np.dtype(np.float32): 2.0**-150, np.dtype(np.float64): 2.0**-1075}
UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
_TINY = 2.0**-1000


@dataclass(frozen=True)
class Relaxation:
    """Tables of one nonlinear node: slopes in the rows' dtype, constants float64, (batch, size).

    ``loss`` float64 (batch,) is subtracted once per row: what underflow may cost.
    """

    lower_slope: Array
    upper_slope: Array
    lower_const: Float64
    upper_const: Float64
    loss: Float64

    def columns(self, keep: Array) -> Relaxation:
        """The tables of the neurons ``keep`` alone."""
        parts = (self.lower_slope, self.upper_slope, self.lower_const, self.upper_const)
        low, high, below, above = (np.ascontiguousarray(p[:, keep]) for p in parts)
        return Relaxation(low, high, below, above, self.loss)


@dataclass(frozen=True)
class LinearCharge:
    """Cost of passing a linear node: `inflated` weight (batch, size) per |a|, loss (batch,)."""

    weight: Float64
    loss: Float64


def inflated(weight: Float64) -> Float64:
    """A weight table that also covers the float64 sum over it."""
    g = rounding.gamma_factor(weight.shape[1] + 4, np.float64)
    return weight * ((1 + g) * (1 + 2.0**-50))


def linear_charge(
    op: Linear,
    bounds: NodeBounds,
    inputs: list[NodeBounds],
    dtype: np.dtype[Any],
    start: bool = False,
    at: tuple[Array, Array] | None = None,
) -> LinearCharge:
    """Charge of the product rows·L in ``dtype``; with ``start`` the rows are rows of L itself.

    With ``at`` (boxes, neurons) it is the charge of these neurons' unit rows: both (rows,), and no
    sum over neurons to cover.
    """
    batch = len(bounds.lower)
    if isinstance(op, Reshape):
        return LinearCharge(np.zeros((batch, bounds.lower[0].size)), np.zeros(batch))
    assert bounds.spread is not None and bounds.noise is not None
    key = f"charge.{dtype.char}.{start}"
    factor, steps, exact_weights = op.cached(key, lambda: charge_factor(op, dtype, start))
    spread, noise = bounds.spread.reshape(batch, -1), bounds.noise.reshape(batch, -1)
    if at is not None:
        spread, noise = spread[at], noise[at]
    weight = (factor * spread + noise) * (1 + 2.0**-50)
    loss = np.zeros(batch) if at is None else np.zeros(len(weight))
    if steps or not exact_weights:
        total = sum((b.mass for b in inputs[1:]), inputs[0].mass)
        total = total if at is None else total[at[0]]
        loss = 4 * (op.adjoint_products + 1) * UNDERFLOW[dtype] * total + _TINY
        if not exact_weights:
            # A coefficient below the range of dtype loses an absolute part, times |a|.
            flush = 2 * UNDERFLOW[dtype] * total
            weight = weight + flush.reshape(-1, *(1,) * (weight.ndim - 1))
    return LinearCharge(inflated(weight) if at is None else weight, loss)


def charge_factor(op: Linear, dtype: np.dtype[Any], start: bool) -> tuple[float, int, bool]:
    """What rows·L costs per |a| and spread; products summed; whether L is exact in ``dtype``."""
    m = 1 if start else op.adjoint_terms
    exact_weights = op.exact_in(dtype)
    # Start rows are no product: they cost their noise, and the narrowing of inexact weights.
    steps = 0 if start or (op.unit and m <= 1) else m
    factor = rounding.gamma_factor(steps, dtype) if steps else 0.0
    if not exact_weights:
        factor = factor + 2 * UNIT[dtype]
    factor = (factor + 2 * op.uncertainty) * (1 + 2.0**-20)
    return factor, steps, exact_weights


def relaxation(
    op: Elementwise,
    bounds: NodeBounds,
    inside: NodeBounds,
    dtype: np.dtype[Any],
    guarantee: str,
    fused: LinearCharge | None,
) -> Relaxation:
    """Tables of an elementwise node; ``inside`` are its input's bounds."""
    if isinstance(op, Relu) and tuning.enabled("fused_layers"):
        done = _relu_tables(bounds, inside, dtype, fused)
        if done is not None:
            return done
    lines = op.lines(inside.lower, inside.upper, dtype)
    low_intercept, high_intercept = lines.lower_intercept, lines.upper_intercept
    if guarantee == "float32":
        image = op.interval(inside.lower, inside.upper)
        noise = op.float32_noise(inside.lower, inside.upper, *image)
        low_intercept, high_intercept = low_intercept - noise, high_intercept + noise
    radius = inside.radius
    batch = len(radius)
    tables = []
    for slope, intercept, sign in (
        (lines.lower_slope, low_intercept, -1.0),
        (lines.upper_slope, high_intercept, 1.0),
    ):
        size = abs(slope)
        charge = np.where((size == 0) | (size == 1), 0.0, size * (1.01 * UNIT[dtype]) * radius)
        if fused is not None:
            charge = charge + size * 1.01 * fused.weight.reshape(radius.shape)
        tables.append(_constant(slope * inside.centre, intercept, bounds.centre, charge, sign))
    loss = 2 * UNDERFLOW[dtype] * _finite_sum(radius) + _TINY
    if fused is not None:
        loss = (
            loss
            + fused.loss
            + 2 * UNDERFLOW[dtype] * _finite_sum(fused.weight.reshape(radius.shape))
        )
    flat = [np.ascontiguousarray(t.reshape(batch, -1)) for t in tables]
    slopes = [
        np.ascontiguousarray(s.reshape(batch, -1), dtype=dtype)
        for s in (lines.lower_slope, lines.upper_slope)
    ]
    return Relaxation(slopes[0], slopes[1], flat[0], flat[1], loss)


def _relu_tables(
    bounds: NodeBounds, inside: NodeBounds, dtype: np.dtype[Any], fused: LinearCharge | None
) -> Relaxation | None:
    """`relaxation` of a ReLU in one call of the C library."""
    batch = len(inside.lower)
    n = inside.lower[0].size
    dot = rounding.gamma_factor(n + 8, np.float64)
    flat = [
        np.ascontiguousarray(part).reshape(batch, n)
        for part in (inside.lower, inside.upper, inside.centre, bounds.centre)
    ]
    charge = None if fused is None else fused.weight
    done = kernels.relu_tables(
        flat[0], flat[1], flat[2], flat[3], charge, dtype, (dot, 1.01 * UNIT[dtype])
    )
    if done is None:
        return None
    slopes, constants, total = done
    loss = 2 * UNDERFLOW[dtype] * total + _TINY
    if fused is not None:
        loss = loss + fused.loss
    return Relaxation(slopes[0], slopes[1], constants[0], constants[1], loss)


def _constant(
    line: Float64, intercept: Float64, centre: Float64, charge: Float64, sign: float
) -> Float64:
    """line + intercept - centre moved outward by the charge and by the float64 dot product.

    _TINY pays for underflow in the products behind ``value`` and in the row's own product.
    """
    n = int(np.prod(line.shape[1:]))
    value = line + intercept - centre
    size = abs(line) + abs(intercept) + abs(centre)
    dot = rounding.gamma_factor(n + 8, np.float64)
    slack = size * 2.0**-50 + (abs(value) + charge) * (dot * (1 + 2.0**-20) + 2.0**-50)
    result: Float64 = value + sign * (charge + slack + _TINY)
    return result


def _finite_sum(values: Float64) -> Float64:
    result: Float64 = values.reshape(len(values), -1).sum(axis=1) * (1 + 2.0**-20)
    return result


@dataclass(frozen=True)
class MaxTables:
    """Tables of a maximum: see `gamma.ops.pooling.MaxLines`, constants as in `Relaxation`."""

    pick: Array  # int64 (batch, *outer)
    slope: Array  # (batch, *outer, k) in the rows' dtype
    lower_const: Float64  # (batch, outer size)
    upper_const: Float64
    loss: Float64


def max_tables(
    op: ReduceMax, bounds: NodeBounds, inside: NodeBounds, dtype: np.dtype[Any]
) -> MaxTables:
    """Tables of a ReduceMax node."""
    lines = op.lines(inside.lower, inside.upper, dtype)
    centre, radius = op._last(inside.centre), op._last(inside.radius)
    batch = len(centre)
    picked = np.take_along_axis(centre, lines.pick[..., None], axis=-1)[..., 0]
    zero = np.zeros_like(picked)
    lower = _constant(picked, zero, bounds.centre, zero, -1.0)
    k = lines.slope.shape[-1]
    heights = lines.slope * centre
    line = heights.sum(axis=-1)
    charge = (abs(lines.slope) * radius).sum(axis=-1) * (1.01 * UNIT[dtype])
    charge = charge + abs(heights).sum(axis=-1) * rounding.gamma_factor(k + 4, np.float64)
    upper = _constant(line, lines.intercept, bounds.centre, charge * (1 + 2.0**-40), 1.0)
    loss = 2 * UNDERFLOW[dtype] * _finite_sum(radius) * k + _TINY
    return MaxTables(
        lines.pick,
        np.ascontiguousarray(lines.slope, dtype=dtype),
        np.ascontiguousarray(lower.reshape(batch, -1)),
        np.ascontiguousarray(upper.reshape(batch, -1)),
        loss,
    )
