"""Sets with symbols (`gamma.ops.ellipsotope`): how far they reach, ellipsoids around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check, refuse

Float64 = npt.NDArray[np.float64]


def reach(columns: Float64, each: int, factor: float, extra: float) -> Float64:
    """Σ over blocks of ``each`` columns (k, n) of √(Σ squares), of sizes where blocks are single
    columns: (n,), times ``factor``, plus ``extra`` where squares of what moves may underflow.

    Sums of k terms in any order, and a root and a sum of each block.
    """
    check("columns", columns, F64, columns.shape)
    if columns.ndim != 2 or each < 1 or len(columns) % each:
        raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, n)")
    out = np.empty(columns.shape[1])
    backend.current.reach(columns, each, factor, extra, out)
    return out


def swing(
    parts: Sequence[tuple[Float64, int, float, float]], rest: Float64, middle: Float64
) -> tuple[Float64, int]:
    """How far values lie from ``middle`` (n,), and the box around them: (3, n): at least
    ``rest`` + Σ `reach` of each part, lower and upper ends; and how many are not finite."""
    for what, array in (("rest", rest), ("middle", middle)):
        check(what, array, F64, middle.shape)
    for columns, each, *_ in parts:
        check("columns", columns, F64, (len(columns), len(middle)))
        if each < 1 or len(columns) % each:
            raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, n)")
    found: tuple[Float64, int] = backend.current.swing(parts, rest, middle)
    return found


def balls(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float, backward: float, threads: int
) -> Float64 | None:
    """Columns (d, V·d) of `gamma.ops.ellipsoid.Ellipsoids.factors`, infinite where there are none,
    around what `outer` takes; None without the compiled library.

    ``backward``: of the factorisation's error.
    """
    if not backend.compiled:
        return None
    _fitting(parts, rest)
    made: Float64 = backend.current.balls(parts, rest, g, backward, threads)
    return made


def _fitting(parts: Sequence[tuple[Float64, int]], rest: Float64) -> None:
    """Refuse columns that are none of the vectors ``rest`` (V, d)."""
    check("rest", rest, F64, rest.shape)
    for columns, each in parts:
        check("columns", columns, F64, (len(columns), *rest.shape))
        if each < 1 or len(columns) % each:
            raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, V, d)")


def outer(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float
) -> tuple[Float64, Float64, Float64] | None:
    """Matrices (V, d, d), errors (V,) and scales (V, d) of `gamma.ops.ellipsoid.Ellipsoids`, term
    by term as `gamma.ops.ellipsoid.outer` makes them; None without the compiled library.

    Args:
        parts: columns (k, V, d) and the length of their blocks. rest: (V, d). g: of the sums.
    """
    if not backend.compiled:
        return None
    _fitting(parts, rest)
    made: Any = backend.current.outer(parts, rest, g)
    return made  # type: ignore[no-any-return]
