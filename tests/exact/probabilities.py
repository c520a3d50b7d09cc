"""Softmaxes of a few entries, exact values, boxes of these, and what rows over them must hold."""

from __future__ import annotations

from typing import Any

import flint
import numpy as np

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.rank_one import RankOne
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from tests.exact.boxes import between
from tests.exact.oracle import Truth, exact, q

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


BOTH = [ops.Softmax, ops.LogSoftmax]


def network(shape: tuple[int, ...], axis: int = -1, op: Any = ops.Softmax) -> Network:
    b = Builder(ops.Input(), shape)
    return b.build(b.add(op(axis), 0))


def truth(x: Array, axis: int = -1) -> Array:
    return Truth.__new__(Truth)._softmax(ops.Softmax(axis), exact(x))


def step(x: NodeBounds, axis: int = -1, guarantee: str = "real") -> NodeBounds:
    net = network(x.lower.shape[1:], axis)
    with np.errstate(all="ignore"):
        return interval_step(net.nodes[-1], [x], guarantee)


def table(x: NodeBounds, axis: int = -1, dtype: Any = F64, guarantee: str = "real") -> RankOne:
    with np.errstate(all="ignore"):
        how = Precision(guarantee, dtype)
        return ops.Softmax(axis).relax([x], step(x, axis, guarantee), how)


def rows_hold(
    x: NodeBounds,
    rows: Array,
    points: list[Array],
    dtype: Any = F64,
    axis: int = -1,
    guarantee: str = "real",
    values: list[Array] | None = None,
) -> int:
    """row·(p - c) >= what the row became, at the points, in balls; how many were compared."""
    after, made = step(x, axis, guarantee), table(x, axis, dtype, guarantee)
    rows = np.asarray(rows, dtype).reshape(-1, x.lower[0].size)
    d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    (part,) = made.back(rows.copy(), d, box)
    for k, point in enumerate(points):
        away = (exact(point) - exact(x.centre[0])).reshape(-1)
        p = (truth(point, axis) if values is None else values[k]) - exact(after.centre[0])
        for i, row in enumerate(rows):
            left = (exact(row) * p.reshape(-1)).sum()
            right = q(d[i]) - q(made.loss[0]) + (exact(part[i]) * away).sum()
            assert not left < right, float(flint.arb(left - right))
    return len(rows) * len(points)


def spread(r: np.random.Generator, n: int, scale: float) -> NodeBounds:
    centre, radius = r.normal(size=n) * scale, r.uniform(size=n) * scale
    return between(centre - radius, centre + radius)


def powers(x: Array) -> Array:
    return np.array([flint.arb(v).exp() for v in x], object)
