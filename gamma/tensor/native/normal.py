"""Normalisations: the calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pointer, scratch
from gamma.tensor.native.sets import blocks_of

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@lru_cache(maxsize=256)
def _gammas(n: int, rows: float, dot: float) -> Any:
    """γ of float64 sums, as the library names them."""
    from gamma.tensor.rounding import gamma_factor  # which asks for kernels

    counts = n + 4, n + 8, n + 16, 2 * n + 16, 2 * n + 32, 4 * n + 16, n * n + 8
    sums = [gamma_factor(count, np.float64) for count in counts]
    return ffi.new("double[]", [*sums, rows, dot])


def _described(x: Any) -> tuple[Any, list[Any]]:
    """The struct of some groups, and what has to live as long as it does."""
    (G, n), held = x.lower.shape, []
    for part in (x.lower, x.upper, x.centre, x.radius):
        held.append(ffi.NULL if part is None else pointer(part, G * n))
    held.append(_gammas(n, x.rows, x.dot))
    return ffi.new("struct gamma_normal *", (G, n, x.centred, x.single, x.epsilon, *held)), held


def normal_image(x: Any, threads: int) -> tuple[Float64, Float64]:
    G, n = x.lower.shape
    made, _held = _described(x)
    out = np.empty((2, G, n))
    lower = pointer(out, out.size, True)
    lib.gamma_normal_image(made, lower, lower + G * n, scratch(10 * n * threads), threads)
    return out[0], out[1]


def _ends(ends: tuple[Float64, Float64] | None, G: int) -> Any:
    """Ends (G, K) of linear forms side by side, in memory for C."""
    if ends is None:
        return ffi.NULL
    both = np.stack([end.reshape(G, -1) for end in ends], axis=-1)
    return pointer(both, both.size)


def groups(
    x: Any,
    weights: Array,
    ends: tuple[Float64, Float64] | None,
    square: Float64 | None,
    threads: int,
) -> tuple[Float64, Float64]:
    G, n = x.lower.shape
    made, _held = _described(x)
    out = np.empty(5 * G * (n + 1))
    lib.gamma_groups(
        made,
        pointer(weights, weights.size),
        _ends(ends, G),
        ffi.NULL if square is None else pointer(square, G),
        pointer(out, out.size, True),
        scratch(11 * n * threads),
        threads,
    )
    return out[: 5 * G * n].reshape(5, G, n), out[5 * G * n :].reshape(5, G)


def quotients(
    x: Any,
    weights: Array,
    ends: tuple[Float64, Float64] | None,
    image: tuple[Float64, Float64],
    after: Float64,
    threads: int,
) -> tuple[Float64, Float64]:
    G, n = x.lower.shape
    made, _held = _described(x)
    out = np.empty(6 * G * n + 4 * G)
    lib.gamma_quotients(
        made,
        pointer(weights, weights.size),
        _ends(ends, G),
        *(pointer(part, G * n) for part in (*image, after)),
        pointer(out, out.size, True),
        scratch(12 * n * threads),
        threads,
    )
    return out[: 6 * G * n].reshape(6, G, n), out[6 * G * n :].reshape(4, G)


def normal_sets(
    x: Any,
    parts: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    swing: Float64,
    g: float,
    threads: int,
) -> Float64:
    G, n = x.lower.shape
    made, _held = _described(x)
    blocks, _kept = blocks_of([part[:2] for part in parts], rest, (G, n), g)
    out = np.empty((blocks.symbols + n + 3, G * n))
    sums = ffi.new("double[]", [number for part in parts for number in part[2:]])
    given = made, blocks, pointer(swing, G * n), sums, pointer(out, out.size, True)
    job = ffi.new("struct gamma_normal_set *", given)
    lib.gamma_normal_sets(job, scratch(threads * lib.gamma_normal_set_room(blocks)), threads)
    return out
