"""What floating point costs a row on its way down, as tables made once per box.

For a nonlinear node v of input p, with proved lines g·x + t_l <= f(x) <= s·x + t_u, a row entry
a of v becomes a·g (a >= 0) or a·s (a < 0) on p, and adds to the row's constant

    a·(g·c_p + t_l - c_v - charge)   or   a·(s·c_p + t_u - c_v + charge)

where charge covers, per unit of |a|: the float64 dot product, the rounding of a·slope (relative u
of |a·slope|, times the radius of p), and, when p is linear and read by v alone, everything p's own
product will cost (see `LinearCharge`). docs/numerics.md derives each term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.tensor import rounding

if TYPE_CHECKING:
    from gamma.ops.affine import Linear

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

# The most a product can lose to underflow: half the smallest positive number. Half of float64's
# is no float64, so a whole one stands for it.
UNDERFLOW = {np.dtype(np.float32): 2.0**-150, np.dtype(np.float64): 2.0**-1074}
UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
TINY = 2.0**-1000


class LinearCharge(Frozen, eq=True):
    """Cost of passing a linear node: `inflated` weight (batch, size) per |a|, loss (batch,)."""

    weight: Float64
    loss: Float64

    def take(self, box: Array) -> LinearCharge:
        """The charge of one row each for the boxes ``box``."""
        return LinearCharge(self.weight[box], self.loss[box])


def inflated(weight: Float64) -> Float64:
    """A weight table that also covers the float64 sum over it."""
    g = rounding.gamma_factor(weight.shape[1] + 4, np.float64)
    return weight * ((1 + g) * (1 + 2.0**-50))


def linear_charge(
    op: Linear,
    bounds: NodeBounds,
    inputs: Sequence[NodeBounds],
    dtype: np.dtype[Any],
    start: bool = False,
    at: tuple[Array, Array] | None = None,
) -> LinearCharge:
    """Charge of the product rows·L in ``dtype``; with ``start`` the rows are rows of L itself.

    With ``at`` (boxes, neurons) it is the charge of these neurons' unit rows: both (rows,), and no
    sum over neurons to cover.
    """
    batch = len(bounds.lower)
    if bounds.spread is None or bounds.noise is None:  # a change of shape
        return LinearCharge(np.zeros((batch, bounds.lower[0].size)), np.zeros(batch))
    key = "charge", dtype.char, start
    factor, steps, exact_weights = op.cached(key, lambda: charge_factor(op, dtype, start))
    spread, noise = bounds.spread.reshape(batch, -1), bounds.noise.reshape(batch, -1)
    if at is not None:
        spread, noise = spread[at], noise[at]
    weight = (factor * spread + noise) * (1 + 2.0**-50)
    if steps or not exact_weights:
        total = inputs[0].mass
        for more in inputs[1:]:
            total = total + more.mass
        total = total if at is None else total[at[0]]
        loss = 4 * (op.adjoint_products + 1) * UNDERFLOW[dtype] * total + TINY
        if not exact_weights:
            # A coefficient below the range of dtype loses an absolute part, times |a|.
            flush = 2 * UNDERFLOW[dtype] * total
            weight = weight + flush.reshape(-1, *(1,) * (weight.ndim - 1))
    else:
        loss = np.zeros(len(weight))
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


def outward_constant(
    line: Float64, intercept: Float64, centre: Float64, charge: Float64, sign: float
) -> Float64:
    """line + intercept - centre moved outward by the charge and by the float64 dot product.

    TINY pays for underflow in the products behind ``value`` and in the row's own product.
    """
    n = int(np.prod(line.shape[1:]))
    value = line + intercept - centre
    size = abs(line) + abs(intercept) + abs(centre)
    dot = rounding.gamma_factor(n + 8, np.float64)
    slack = size * 2.0**-50 + (abs(value) + charge) * (dot * (1 + 2.0**-20) + 2.0**-50)
    result: Float64 = value + sign * (charge + slack + TINY)
    return result


def sum_up(values: Float64) -> Float64:
    """At least the sum over each box, of terms >= 0: (batch, ...) -> (batch,)."""
    result: Float64 = values.reshape(len(values), -1).sum(axis=1) * (1 + 2.0**-20)
    return result
