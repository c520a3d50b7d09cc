"""Linear and cubic Resize: one matrix of weights per axis, computed exactly.

The weights are rational; stored rounded to float64, with their error. A float32 execution computes
coordinates in float32: near a grid point it may even read another neighbour. Kernels are
continuous, so that moves each weight by at most (Lipschitz constant) · (error of the coordinate).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from gamma.formats.onnx.values import Constant
from gamma.frozen import Frozen

Coordinate = Callable[[int], Fraction]


class Kernel(Frozen, eq=True):
    """An interpolation kernel: its weight at a distance, half its width, its Lipschitz constant."""

    weight: Callable[[Fraction], Fraction]
    reach: int
    lipschitz: float


def linear_kernel() -> Kernel:
    return Kernel(lambda d: max(Fraction(0), 1 - abs(d)), 1, 1.0)


def cubic_kernel(a: Fraction) -> Kernel:
    """Keys' kernel (IEEE Trans. ASSP 29(6), 1981), equations (5)-(6) with parameter ``a``."""

    def weight(distance: Fraction) -> Fraction:
        d = abs(distance)
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        if d < 2:
            return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return Fraction(0)

    steep = float(max(3 * abs(a + 2) + 2 * abs(a + 3), 40 * abs(a)))
    return Kernel(weight, 2, steep)


def axis_matrix(
    n: int,
    length: int,
    place: Coordinate,
    slack: Callable[[int], float],
    kernel: Kernel,
    stretch: Fraction,
    exclude_outside: bool,
) -> Constant:
    """Weights (length, n) by which output entries read input entries.

    Args:
        place: where an output entry lies in the input. slack: how far a float32 execution may
            compute it from there.
        stretch: by how much the kernel is widened (antialiasing when it is over 1).
        exclude_outside: entries outside have weight 0 and the others are made to sum to 1; else
            the border's entries are read instead.
    """
    values, error, noise = (np.zeros((length, n)) for _ in range(3))
    wide = math.ceil(kernel.reach * stretch)
    normalises = exclude_outside or stretch != 1
    for i in range(length):
        centre = place(i)
        first = math.floor(centre) - wide
        terms = [
            (j, kernel.weight((j - centre) / stretch)) for j in range(first, first + 2 * wide + 2)
        ]
        if exclude_outside:
            terms = [(j, w) for j, w in terms if 0 <= j < n]
        whole = sum((w for _, w in terms), Fraction(0))
        moved = kernel.lipschitz * slack(i) / float(stretch)
        row: dict[int, Fraction] = {}
        noise_row: dict[int, float] = {}
        for j, w in terms:
            at = min(max(j, 0), n - 1)
            row[at] = row.get(at, Fraction(0)) + w / whole
            each = _normalised(float(w), float(whole), moved, len(terms)) if normalises else moved
            noise_row[at] = noise_row.get(at, 0.0) + each
        for at, weight in row.items():
            nearest = float(weight)
            values[i, at] = nearest
            error[i, at] = 0.0 if Fraction(nearest) == weight else abs(nearest) * 2.0**-52
            noise[i, at] = 1.01 * noise_row[at] + abs(nearest) * 2.0**-20
    return Constant(values, error if error.any() else 0.0, "float32", noise)


def _normalised(weight: float, whole: float, moved: float, count: int) -> float:
    """How far weight/whole moves when each of the ``count`` weights in ``whole`` moves by
    ``moved``."""
    room = abs(whole) - count * moved
    return (
        moved * (abs(whole) + abs(weight) * count) / (abs(whole) * room) if room > 0 else math.inf
    )
