"""Matrix products of intervals in midpoint–radius form (Rump), every error charged.

With centre c, radius r and a point matrix W of n rows: |x·W − fl(c·W)| is at most
|W|-weighted radius + γ_n |c||W| + underflow. Everything is computed in float64; S and M below are
the computed r·|W| and |c|·|W|, each at least (1 − γ_{n+3}) of its true value, so that
(S + γ_{n+2} M)(1 + γ_{2n+16}) + n·2⁻¹⁰⁷⁰ bounds the radius, the four roundings of this very line
included, for every n with 2n·u < 1/2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.tensor.rounding import down, gamma_factor, midpoint, next_up, radius_about, up

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def _close(centre: Float64, spread: Float64, size: Float64, n: int) -> tuple[Float64, Float64]:
    """Ends of centre ± the charged radius of a product with n terms."""
    inflate = next_up(1.0 + gamma_factor(2 * n + 16, np.float64))
    radius = (spread + gamma_factor(n + 2, np.float64) * size) * inflate + n * 2.0**-1070
    # γ_{n+2} already pays for rounding centre ∓ radius; the step also turns NaN into infinity.
    return down(centre - radius), up(centre + radius)


def _terms(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    inner = right[-2] if len(right) > 1 else right[-1]
    if not left or not right or left[-1] != inner:
        raise UsageError(f"matrix product of shapes {left} and {right}: inner sizes differ")
    return int(inner)


def matmul_point(lower: Array, upper: Array, weight: Array) -> tuple[Float64, Float64]:
    """[lower, upper] (..., n) times a point matrix (n, k); float64 ends of shape (..., k)."""
    n = _terms(lower.shape, weight.shape)
    W = np.asarray(weight, dtype=np.float64)
    size = np.abs(W)
    centre = midpoint(lower, upper)
    radius = radius_about(lower, upper, centre)
    with np.errstate(all="ignore"):
        return _close(centre @ W, radius @ size, np.abs(centre) @ size, n)


def matmul_interval(
    lower: Array, upper: Array, other_lower: Array, other_upper: Array
) -> tuple[Float64, Float64]:
    """Product of two interval matrices (..., n) and (n, k); float64 ends."""
    n = _terms(lower.shape, other_lower.shape)
    c, e = midpoint(lower, upper), midpoint(other_lower, other_upper)
    r, s = radius_about(lower, upper, c), radius_about(other_lower, other_upper, e)
    with np.errstate(all="ignore"):
        # |xy − ce| <= |c|s + r(|e| + s): two products and two sums, within γ_{n+3} of the truth.
        spread = np.abs(c) @ s + r @ (np.abs(e) + s)
        return _close(c @ e, spread, np.abs(c) @ np.abs(e), n)
