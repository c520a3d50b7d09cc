"""Affine networks: at the exact minimiser, a corner, their bounds have no slack but the charges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.checking import Config, Count, check

Array = Any


def chain(shape: tuple[int, ...], *operators: Any) -> Network:
    builder = Builder(ops.Input(), shape)
    for i, op in enumerate(operators):
        builder.add(op, i)
    return builder.build(len(operators))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(r: np.random.Generator, *shape: int) -> Array:
    return r.normal(size=shape).astype(np.float32)


def cancelling(r: np.random.Generator, m: int, n: int, dtype: Any = np.float64) -> Array:
    half = r.normal(size=(m, n // 2)) * 1e6
    return np.concatenate((half, -half * (1 + 2.0**-30 * r.normal(size=half.shape))), 1).astype(
        dtype
    )


def around(centre: Array, radius: Array) -> Box:
    c, r = np.broadcast_arrays(np.asarray(centre, np.float64), np.asarray(radius, np.float64))
    return Box((c - r)[None], (c + r)[None])


def holds(net: Network, box: Box, *configs: Config, **options: Any) -> None:
    count = Count()
    for config in configs:
        config = replace(config, isa=kernels.isa)
        check(net, box, config, rng(1), count, inner=1, **options)
    assert not count.wrong, count.wrong[:3]
    assert count.bounds > 0


IBP, ROWS32, ROWS64 = Config("ibp"), Config("crown"), Config("crown", dtype="float64")
EXECUTED = (Config("ibp", "float32"), Config("crown", "float32"), Config("crown-ibp", "float32"))
