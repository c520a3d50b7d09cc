"""How far from a point the outputs of an input set can be, in the Euclidean norm.

Linear bounds say v - p = M·δ + e for every input x = c + δ of the set, with one matrix and a box of
remainders e. The remainders are small to second order, and the length of M·δ is at most the
spectral norm of M·diag(r) times √m, where |δ_j| <= r_j for m entries: less than the diagonal of the
box of outputs, whose entries no single input makes largest at once.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.propagate.linear import LinearBounds
from gamma.propagate.ranges.spectral import FULL, gram, read
from gamma.tensor import rounding
from gamma.tensor.box import Box
from gamma.tensor.eigenvalues import frobenius

Float64 = npt.NDArray[np.float64]
_SLACK = 1 + 2.0**-40


def farthest(forms: LinearBounds, box: Box, centre: Float64, point: Float64) -> tuple[float, float]:
    """At least the distance from ``point`` of all outputs, and of the one at ``centre``.

    Args:
        forms: of the single ``box``, in the inputs. centre: one of its inputs. point: (outputs,).

    Both are infinite where a bound is.
    """
    c = centre.ravel()
    reach = rounding.radius_about(box.lower.ravel(), box.upper.ravel(), c)
    low, high = (
        rows.reshape(point.size, -1)
        for rows in (forms.lower_coefficients, forms.upper_coefficients)
    )
    ends = (low, forms.lower_constant, -1.0), (high, forms.upper_constant, 1.0)
    with np.errstate(all="ignore"):
        matrix = 0.5 * low + 0.5 * high
        remainder = np.zeros(len(matrix))
        for rows, constant, sign in ends:
            above = _sum_above(sign * rows, c, sign * constant.ravel(), -sign * point)
            apart = abs(rows - matrix) @ reach
            remainder = np.maximum(remainder, above + apart * _factor(2 * len(c)))
        spread = abs(matrix) @ reach * _factor(2 * len(c))
        error = _length(np.where(np.isnan(remainder), np.inf, remainder) * _SLACK + 2.0**-1000)
        moved = min(_length(spread * _SLACK + 2.0**-1000), _image(matrix, reach, box, c))
        return rounding.next_up((moved + error) * _SLACK), error


def box_distance(lower: Float64, upper: Float64, point: Float64) -> float:
    """At least the distance from ``point`` of everything between ``lower`` and ``upper``."""
    return _length(rounding.radius_about(lower.ravel(), upper.ravel(), point.ravel()))


def _factor(terms: int) -> float:
    """By how much a sum of so many rounded terms of one sign may be too small."""
    return (1 + rounding.gamma_factor(terms + 8, np.float64)) * _SLACK


def _sum_above(rows: Float64, c: Float64, constant: Float64, shift: Float64) -> Float64:
    """At least rows·c + constant + shift."""
    terms = abs(rows) @ abs(c) + abs(constant) + abs(shift)
    total = rows @ c + constant + shift
    result: Float64 = total + terms * (2 * rounding.gamma_factor(len(c) + 8, np.float64))
    return result


def _image(matrix: Float64, reach: Float64, box: Box, c: Float64) -> float:
    """At least the length of M·δ for every δ = x - c of the set."""
    round_set = box.norm != "inf" and box.center is not None and (box.center.ravel() == c).all()
    moves = reach > 0
    gain = np.ones(int(moves.sum())) if round_set else reach[moves]
    if not len(gain) or not np.isfinite(matrix).all():
        return math.inf if len(gain) else 0.0
    if round_set and box.norm == "1":
        longest = max(_length(column) for column in matrix[:, moves].T)
        return longest * float(box.radius or 0.0) * _SLACK
    found = read(matrix[:, moves], gain, centred=False)
    if len(found.rows) > len(gain):
        found = replace(found, rows=np.ascontiguousarray(found.rows.T))
    norm = gram(found).norm() if min(found.rows.shape) <= FULL else found.size + found.lost
    length = float(box.radius or 0.0) if round_set else math.sqrt(len(gain))
    return norm * length * _SLACK


def _length(x: Float64) -> float:
    """At least the Euclidean norm; infinite for what is not finite."""
    return frobenius(x) if np.isfinite(x).all() else math.inf
