"""Both bounds of a row's neuron from one descent: lines that lie parallel to those it takes.

A row proves  f(x) >= A·(v - c) + d. With the same coefficients  -f(x) >= -A·(v - c) + e:  linear
nodes cost both sides alike, and a nonlinear one costs e the height of the strip, parallel to the
line that the row takes, in which its function lies. That is wider than a descent of the negated
row, which takes the better line of each neuron, and narrower than intervals.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamma.ops.charges import TINY, inflated
from gamma.ops.tables import Diagonal
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]


def known(d: Float64) -> Float64:
    """Bounds where NaN says that nothing is known."""
    return np.where(np.isnan(d), -np.inf, d)


def strips(table: Diagonal, radius: Float64, carried: Float64 | float, unit: float) -> Float64:
    """Heights (B, size) of the strips that hold the functions of ``table``, `inflated`.

    With lines low·t + below <= f <= high·t + above of t = x - c, |t| <= r (``radius``), f lies
    within above - below + |high - low|·r of either (STRIP.HEIGHT). The constants of both lines hold
    what products with their own slope cost; a row takes one slope for both sides: ``carried``, what
    a linear input costs a coefficient of size 1 (STRIP.CARRIED), and roundings by ``unit``
    (STRIP.SLOPE). The sum of constants errs on this side, too (STRIP.SUM).
    """
    low, high, below, above = (part.astype(np.float64) for part in table.parts)
    dot = rounding.gamma_factor(low.shape[1] + 8, np.float64)
    apart, steep = abs(high - low), np.maximum(abs(low), abs(high))
    height = above - below + apart * radius
    height += apart * carried * 1.01
    height += np.where(apart > 0, steep * (1.01 * unit) * radius, 0.0)
    height += np.maximum(abs(below), abs(above)) * (dot + 2.0**-48)
    return inflated((height + TINY) * (1 + 2.0**-48))


def turn(opposite: Float64, d: Float64, before: Float64) -> None:
    """Constants of negated rows lose what those of the rows gained from ``before`` to ``d``."""
    opposite -= d - before
    opposite -= (abs(opposite) + abs(d) + abs(before)) * 2.0**-50 + TINY


def follow(opposite: Float64, d: Float64, before: Float64) -> None:
    """Constants of negated rows are charged what those of the rows were."""
    opposite += d - before
    opposite -= (abs(opposite) + abs(d) + abs(before)) * 2.0**-50 + TINY
