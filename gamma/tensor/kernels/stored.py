"""Weights as files store them: decoded row by row, or multiplied without being decoded as a whole.

A stored matrix is uint8 (m, row bytes); a row of n weights is n / block blocks. A decoded value is
the float32 that ggml's reference computes, bit for bit. Both kernels return False when a weight
that they read is infinite or not a number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor import fallback
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check, refuse

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BLOCKS: dict[str, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
}
"""Kind -> weights and bytes of a block, for the kinds that have a compiled kernel."""

TILE = 256
"""Most terms that `stored_affine` sums in float32."""


def _columns(kind: str, raw: Bytes) -> int:
    if kind not in BLOCKS:
        raise refuse("kind", kind, f"one of {', '.join(BLOCKS)}")
    weights, size = BLOCKS[kind]
    if raw.ndim != 2 or raw.shape[1] % size:
        raise refuse("raw", raw.shape, f"(rows, a multiple of {size}) bytes of {kind}")
    check("raw", raw, np.dtype(np.uint8), raw.shape)
    return int(raw.shape[1]) // size * weights


def decode_rows(kind: str, raw: Bytes, out: Float32) -> bool:
    """The weights of ``raw`` in ``out``, float32 (m, n): the exact stored values."""
    n = _columns(kind, raw)
    check("out", out, np.dtype(np.float32), (len(raw), n))
    finite: bool = backend.current.decode_rows(kind, raw, out)
    return finite


def stored_affine(
    kind: str,
    raw: Bytes,
    centre: Float64,
    radius: Float32,
    z: Float64,
    spread: Float64,
    square: Float32 | None = None,
    power: Float64 | None = None,
) -> bool:
    """z = W·centre, spread = |W|·radius and power = (W∘W)·square, for a few rows of each (fast up
    to 16).

    Error: of z as every float64 sum of n terms; the others sum at most `TILE` terms in float32 and
    those sums in float64, so that spread is within a factor (1 ± γ32_256)(1 ± γ64_n) of |W|·radius
    and n·2⁻¹⁵⁰ (`gamma.tensor.weights` adds them); squares of weights are rounded once more, and
    below 2⁻¹²⁶ lose at most 2⁻¹⁵⁰. A row's result depends on no other row or box.

    Args:
        centre: float64 (C, n). radius: float32 (R, n), not negative; square: float32 (S, n), not
            negative, none without. z, spread, power: float64 (C, m), (R, m), (S, m).
    """
    n, m = _columns(kind, raw), len(raw)
    if square is None or power is None:
        square, power = np.empty((0, n), np.float32), np.empty((0, m))
    check("centre", centre, F64, (len(centre), n))
    check("radius", radius, np.dtype(np.float32), (len(radius), n))
    check("square", square, np.dtype(np.float32), (len(square), n))
    check("z", z, F64, (len(centre), m))
    check("spread", spread, F64, (len(radius), m))
    check("power", power, F64, (len(square), m))
    finite: bool = backend.current.stored_affine(
        kind, raw, centre, radius, square, z, spread, power
    )
    return finite


def decode_rare(kind: str, raw: Bytes, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """float32 weights of a kind without a kernel, by gguf-py; ``kind`` as ggml names it."""
    return fallback.dequantise(kind, raw).reshape(shape)
