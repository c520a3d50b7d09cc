"""Planes of normalisations: the calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor._simd import ffi
from gamma.tensor.native.memory import pick, pointer
from gamma.tensor.native.rows import _inside

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def described(planes: Any) -> tuple[Any, list[Any]]:
    """The struct of some planes, and what has to live as long as it does."""
    B, G, n = planes.steep.shape
    root, low, high = (pointer(part, B * G) for part in (planes.root, *planes.gap))
    four = planes.steep, planes.tilt, planes.below, planes.above
    lines = [pointer(part, B * G * n) for part in four]
    constants = [pointer(part, B * G * n) for part in (planes.lower_const, planes.upper_const)]
    parts = root, *lines, low, high, *constants
    made = ffi.new("struct gamma_planes *", (G, n, planes.shared, planes.sums, *parts))
    return made, [planes, made, *parts]


def pass_planes(planes: Any, A: Array, d: Float64, box: Int64) -> None:
    (N, n), B = A.shape, len(planes.root)
    made, _held = described(planes)
    status = pick("pass_planes", A)(
        made, pointer(A, N * n, True), pointer(d, N, True), pointer(box, N), B, N
    )
    _inside(status, box, B)


def plane_lines(planes: Any, A: Array, x: Array, box: Int64, out: Array) -> None:
    (N, n), B = A.shape, len(planes.root)
    made, _held = described(planes)
    status = pick("plane_lines", A)(
        made,
        pointer(A, N * n),
        pointer(x, N * n),
        pointer(box, N),
        pointer(out, N * n, True),
        B,
        N,
    )
    _inside(status, box, B)
