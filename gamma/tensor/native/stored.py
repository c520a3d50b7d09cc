"""Stored weights: the calls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamma.tensor._simd import lib
from gamma.tensor.native.memory import pointer

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def _kind(kind: str) -> int:
    number: int = getattr(lib, f"GAMMA_{kind.upper()}")
    return number


def decode_rows(kind: str, raw: Bytes, out: Float32) -> bool:
    m, n = out.shape
    where, to = pointer(raw, raw.size), pointer(out, m * n, True)
    return bool(lib.gamma_decode_rows(_kind(kind), where, raw.shape[1], to, m, n) == 0)


def stored_affine(
    kind: str,
    raw: Bytes,
    centre: Float64,
    radius: Float32,
    square: Float32,
    z: Float64,
    spread: Float64,
    power: Float64,
) -> bool:
    m, n = raw.shape[0], centre.shape[1]
    status = lib.gamma_stored_affine(
        _kind(kind),
        pointer(raw, raw.size),
        raw.shape[1],
        *(pointer(rows, rows.size) for rows in (centre, radius, square)),
        *(pointer(out, out.size, True) for out in (z, spread, power)),
        [len(centre), len(radius), len(square)],
        m,
        n,
    )
    return bool(status == 0)
