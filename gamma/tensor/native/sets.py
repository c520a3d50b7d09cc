"""Sets with symbols: the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.runtime import pool
from gamma.tensor._simd import ffi, lib
from gamma.tensor.native.memory import pointer, scratch

Float64 = npt.NDArray[np.float64]


def reach(columns: Float64, each: int, factor: float, extra: float, out: Float64) -> None:
    k, n = columns.shape
    lib.gamma_reach(
        pointer(columns, k * n),
        k // each,
        each,
        n,
        factor,
        extra,
        pointer(out, n, True),
        pointer(np.empty(n), n, True),
    )


def blocks_of(
    parts: Sequence[tuple[Float64, int]], rest: Float64, shape: tuple[int, int], g: float
) -> tuple[Any, Any]:
    """The struct of some parts of (V, d) vectors, and what has to live as long as it does."""
    counts = [len(columns) for columns, _ in parts]
    held = [pointer(columns, columns.size) for columns, _ in parts]
    given = (
        ffi.new("double *[]", held),
        ffi.new("size_t[]", counts),
        ffi.new("size_t[]", [each for _, each in parts]),
        pointer(rest, rest.size),
    )
    made = ffi.new("struct gamma_blocks *", (len(parts), sum(counts), *shape, *given, g))
    return made, (held, given)


def swing(
    parts: Sequence[tuple[Float64, int, float, float]], rest: Float64, middle: Float64
) -> tuple[Float64, int]:
    n = len(rest)
    blocks, _held = blocks_of([part[:2] for part in parts], rest, (1, n), 0.0)
    out, room = np.empty((3, n)), scratch(2 * n)
    given = [ffi.new("double[]", [part[i] for part in parts]) for i in (2, 3)]
    lost = lib.gamma_swing(blocks, pointer(middle, n), *given, pointer(out, 3 * n, True), room)
    return out, lost


def layer_set(
    layer: Any,
    parts: Sequence[tuple[Float64, int, float, float]],
    more: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    middle: Float64,
    threads: int,
) -> tuple[Float64, int]:
    (V, d), m = layer.before.shape, layer.outputs
    weights = [pointer(part, part.size) for part in (layer.weight, layer.absolute)]
    inputs = [pointer(part, V * d) for part in (middle, layer.before, layer.drift)]
    noise = ffi.NULL if layer.noise is None else pointer(layer.noise, V * m)
    every = [*parts, *more]
    given = [ffi.new("double[]", [part[i] for part in every]) for i in (2, 3)]
    columns, after = layer.weight.shape[1], pointer(layer.after, V * m)
    fields = m, columns, *weights, *inputs, after, noise, layer.g, *given
    made = ffi.new("struct gamma_matrix *", fields)
    blocks, _held = blocks_of([part[:2] for part in parts], rest, (V, d), 0.0)
    # Their rest is none that is looked at.
    others, _too = blocks_of([part[:2] for part in more], rest, (1, V * m), 0.0)
    out = np.empty((5 + int(blocks.symbols), V * m))
    room = scratch(lib.gamma_layer_room(made, blocks, threads))
    place = pointer(out, out.size, True)
    return out, lib.gamma_layer_set(made, blocks, others, place, room, threads)


def strips_set(
    lines: Any,
    parts: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    middle: Float64,
) -> tuple[Float64, int]:
    n = len(middle)
    below, above, low, high, before, swing, lower, upper, after = (pointer(x, n) for x in lines)
    given = [ffi.new("double[]", [part[i] for part in parts]) for i in (2, 3)]
    ends = swing, lower, upper, after
    fields = below, above, low, high, pointer(middle, n), before, *ends, *given
    made = ffi.new("struct gamma_strips *", fields)
    blocks, _held = blocks_of([part[:2] for part in parts], rest, (1, n), 0.0)
    out, room = np.empty((5 + int(blocks.symbols), n)), scratch(3 * n)
    return out, lib.gamma_strips_set(made, blocks, pointer(out, out.size, True), room)


def balls(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float, backward: float, threads: int
) -> Float64:
    V, d = rest.shape
    blocks, _held = blocks_of(parts, rest, (V, d), g)
    out = np.empty((d, V * d))
    room = pool.empty(threads * lib.gamma_balls_room(blocks), np.float64)
    place = pointer(room, room.size, True)
    lib.gamma_balls(blocks, backward, pointer(out, out.size, True), place, threads)
    return out


def outer(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float
) -> tuple[Float64, Float64, Float64]:
    V, d = rest.shape
    blocks, _held = blocks_of(parts, rest, (V, d), g)
    symbols = sum(len(columns) for columns, _ in parts)
    matrix, error, scale = np.empty((V, d, d)), np.empty(V), np.empty((V, d))
    work = pool.empty(d + symbols * (d + 1), np.float64)
    lib.gamma_outer(
        blocks,
        pointer(matrix, matrix.size, True),
        pointer(error, V, True),
        pointer(scale, V * d, True),
        pointer(work, work.size, True),
    )
    return matrix, error, scale
