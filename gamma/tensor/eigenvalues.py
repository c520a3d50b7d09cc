"""Certified upper bounds on eigenvalues and Frobenius norms.

A Cholesky factorisation of θI - G that runs to its end in floating point proves λmax(G) <= θ + δ,
δ from its backward error (Rump 2006, "Verification of positive definiteness"; Higham 2002, theorem
10.5). Lanczos' method only proposes θ: what it returns is no bound and is never used as one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]

_SLACK = 1 + 2.0**-40
_ABOVE = 1 + 2.0**-6
"""What is proposed, over the guess: so much that the proof hardly ever fails."""
_STEPS = 20
_DIRECT = 48
"""Rows up to which LAPACK finds all eigenvalues sooner than Lanczos' method the largest."""
_GUESSES = 12


def frobenius(rows: Float64) -> float:
    """At least the Frobenius norm."""
    factor = (1 + rounding.gamma_factor(rows.size + 8, np.float64)) * _SLACK
    with np.errstate(over="ignore"):
        square = float(np.vdot(rows, rows))
    if 2.0**-900 < square < math.inf:
        return math.sqrt(square) * factor
    largest = float(abs(rows).max(initial=0.0))
    if not 0 < largest < math.inf:
        return largest
    unit = rows / largest
    return math.sqrt(float(np.vdot(unit, unit))) * largest * factor


def largest_eigenvalue(G: Float64) -> float:
    """At least the largest eigenvalue of a symmetric float64 matrix, and at least 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        trace = float(np.trace(G))
        most = frobenius(G)  # of a symmetric matrix: no eigenvalue is larger
    if not (math.isfinite(trace) and math.isfinite(most)):
        return math.inf
    theta = _guess(G) * _ABOVE
    for _ in range(_GUESSES):
        if not theta < most:
            break
        proved = _proved(G, theta)
        if proved is not None:
            return min(proved, most)
        theta *= 1.125
    return most


def largest_eigenvalues(G: Float64) -> Float64:
    """`largest_eigenvalue` of each matrix of a stack (V, d, d)."""
    if G.shape[-1] > _DIRECT or not np.isfinite(G).all():
        return np.array([largest_eigenvalue(one) for one in G])
    d = G.shape[-1]
    theta = np.linalg.eigvalsh(G)[:, -1] * _ABOVE
    A = -G
    diagonal = np.einsum("vii->vi", A)
    diagonal += theta[:, None]
    found = _ended(A, theta)
    if found is None:
        return np.array([largest_eigenvalue(one) for one in G])
    square = np.einsum("vij,vij->v", G, G)
    if not ((square > 2.0**-900) & (square < math.inf)).all():
        return np.minimum(found, [frobenius(one) for one in G])
    factor = (1 + rounding.gamma_factor(d * d + 8, np.float64)) * _SLACK
    most: Float64 = np.minimum(found, np.sqrt(square) * factor)
    return most


def _guess(G: Float64) -> float:
    """A number near the largest eigenvalue, by Lanczos' method; not a bound."""
    power = 2.0 ** math.frexp(float(np.trace(G)) or 1.0)[1]
    narrow = np.empty(G.shape, np.float32)
    np.divide(G, power, out=narrow, casting="same_kind")
    v = narrow[int(np.argmax(np.diag(narrow)))] + np.float32(1e-3) * np.cos(np.arange(len(G)))
    v, before, beta = (v / (math.sqrt(float(v @ v)) or 1.0)).astype(np.float32), 0.0 * v, 0.0
    steps = min(_STEPS, len(G))
    T = np.zeros((steps, steps))
    for k in range(steps):
        w = narrow @ v - np.float32(beta) * before
        T[k, k] = alpha = float(w @ v)
        w -= np.float32(alpha) * v
        beta = math.sqrt(float(w @ w))
        if not 0 < beta < math.inf or k + 1 == steps:
            T = T[: k + 1, : k + 1]
            break
        T[k + 1, k] = beta
        before, v = v, (w / np.float32(beta)).astype(np.float32)
    found = np.linalg.eigvalsh(T)[-1] if np.isfinite(T).all() else 0.0
    return float(max(found * power, np.diag(G).max()))


def _proved(G: Float64, theta: float) -> float | None:
    """θ + δ >= λmax(G), or None where the factorisation does not prove it."""
    k = len(G)
    A = -G
    A[np.arange(k), np.arange(k)] += theta
    found = _ended(A[None], np.array([theta]))
    return None if found is None else float(found[0])


def _ended(A: Float64, theta: npt.NDArray[Any]) -> Float64 | None:
    """θ + δ (V,) of the stack A = θI - G, or None where some factorisation does not end."""
    k, diagonal = A.shape[-1], np.einsum("vii->vi", A)
    trace = diagonal.sum(axis=1)
    if not ((trace > 0) & (trace < math.inf)).all():
        return None
    try:
        np.linalg.cholesky(np.swapaxes(A, 1, 2))  # the same, in the order that LAPACK takes
    except np.linalg.LinAlgError:
        return None
    # Backward error of the factorisation, and the rounding of the diagonal.
    g = rounding.gamma_factor(4 * k + 16, np.float64)
    lost = 2.0**-52 * abs(diagonal).max(axis=1)
    found: Float64 = (theta + g * trace + lost + 2.0**-1000) * _SLACK
    return found
