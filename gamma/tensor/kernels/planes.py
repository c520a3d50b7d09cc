"""Planes of normalisations (`gamma.ops.quotient`) as rows meet them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check
from gamma.tensor.kernels.rows import _boxes, _rows

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Planes(Frozen):
    """Tables of B boxes of G groups of n entries.

    With a the rows that a plane takes and A = Σ a·steep in each group, a row becomes
    root·(a - shared·Σ a) - A·tilt, and A meets the lower or the upper end of `gap`.

    Attributes:
        root: f (B, G). steep, tilt: f (B, G, n). shared: a number of float32, or 0.
        below, above: f (B, G·n), 1 where a positive and a negative entry takes a plane, else 0.
        gap: float64 (B, G) each. lower_const, upper_const: float64 (B, G·n).
        sums: what a float64 sum of G ends errs by, as a share of their sizes.
    """

    root: Array
    steep: Array
    tilt: Array
    shared: float
    below: Array
    above: Array
    gap: tuple[Float64, Float64]
    lower_const: Float64
    upper_const: Float64
    sums: float

    def __post_init__(self) -> None:
        shape, dtype = self.steep.shape, self.steep.dtype
        flat = shape[0], shape[1] * shape[2]
        check("root", self.root, dtype, shape[:2])
        check("tilt", self.tilt, dtype, shape)
        for name in ("below", "above"):
            check(name, getattr(self, name), dtype, flat)
        for name in ("lower_const", "upper_const"):
            check(name, getattr(self, name), F64, flat)
        for end in self.gap:
            check("gap", end, F64, shape[:2])


def pass_planes(planes: Planes, A: Array, d: Float64, box: Int64) -> None:
    """Replace rows over a normalisation's output by rows over its input, in place.

    `relax_rows` with the slopes ``below`` and ``above``; then, of the new entries, group by group,
    a step of the planes in A's dtype, n + 6 roundings of each term at most, and d is charged what
    sums of the ends err by. Groups of which a row has no entry are left alone.

    Args:
        A: f (N, G·n), overwritten. d: float64 (N,), overwritten. box: int64 (N,).
    """
    _, n = _rows(A, d, box)
    check("below", planes.below, A.dtype, (len(planes.below), n))
    _boxes(box, len(planes.root))
    backend.current.pass_planes(planes, A, d, box)


def plane_lines(planes: Planes, A: Array, x: Array, box: Int64) -> Array:
    """The planes and constants that rows A chose in `pass_planes`, at points x: f (N, G·n)."""
    check("x", x, A.dtype, A.shape)
    check("below", planes.below, A.dtype, (len(planes.below), A.shape[1]))
    check("box", box, np.dtype(np.int64), (len(A),))
    _boxes(box, len(planes.root))
    out = np.empty_like(A)
    backend.current.plane_lines(planes, A, x, box, out)
    return out
