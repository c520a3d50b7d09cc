"""Numbers that kernels are tried on, exact values, and what float64 sums may err by."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from gamma.tensor.rounding import U64

Array = npt.NDArray[np.generic]
LENGTHS = (0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 97, 4099)
TYPES = (np.float32, np.float64)


def charge(n: int, size: Fraction) -> Fraction:
    """γ_n of float64 times the sum of sizes, plus the underflow of n products."""
    u = Fraction(U64)
    return n * u / (1 - n * u) * size + n * Fraction(2) ** -1074


def exact(values: npt.ArrayLike) -> list[Fraction]:
    return [Fraction(float(v)) for v in np.ravel(np.asarray(values))]


def mixed(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> Array:
    """Numbers over sixty binades, both signs, with zeros of both signs among them."""
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 30, shape)
    x[rng.random(shape) < 0.1] = 0.0
    x[rng.random(shape) < 0.05] = -0.0
    return x.astype(dtype)
