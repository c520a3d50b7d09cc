"""The plan counts the tables that a relaxation really has: lines, planes, slopes of rank one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec import Struct
from msgspec.structs import astuple

from gamma.network.graph import Builder, Network
from gamma.ops import (
    Gemm,
    Input,
    LogSoftmax,
    MatMul,
    Mul,
    Normalize,
    ReduceMax,
    Reshape,
    Sigmoid,
    Softmax,
    Transpose,
)
from gamma.propagate import Domain, StreamingConfig
from gamma.propagate.memory.planning import plan_memory
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor.box import Box

SHAPE, BOXES = (16, 24), 3


def layer(b: Builder) -> int:
    weight = np.random.default_rng(len(b.nodes)).normal(size=(SHAPE[1], SHAPE[1]))
    return b.add(Gemm(weight.astype(np.float32)), 0)


MAKERS: dict[str, Callable[[Builder], int]] = {
    "MatMul": lambda b: b.add(MatMul(), layer(b), b.add(Transpose((1, 0)), layer(b))),
    "Mul": lambda b: b.add(Mul(), layer(b), layer(b)),
    **{
        type(op).__name__: lambda b, op=op: b.add(op, layer(b))
        for op in (Softmax(), LogSoftmax(), Normalize(), ReduceMax(), Sigmoid())
    },
}


def network(name: str) -> tuple[Network, int]:
    b = Builder(Input(), SHAPE)
    made = MAKERS[name](b)
    return b.build(b.add(Reshape((b.nodes[made].size,)), made)), made


def held(value: Any) -> int:
    """Bytes of all arrays in a table."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sum(map(held, value))
    if isinstance(value, Struct):
        return sum(map(held, astuple(value)))
    return 0


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("name", MAKERS)
def test_no_table_is_larger_than_planned(name: str, dtype: type) -> None:
    net, index = network(name)
    kind: np.dtype[Any] = np.dtype(dtype)
    x = np.random.default_rng(1).normal(size=(BOXES, *SHAPE))
    made = walk(net, Domain(Box(x - 0.1, x + 0.1)), Options("crown-ibp", dtype=kind))
    real = held(made.descent.tables.relaxation(index))
    config = StreamingConfig(checkpoint_interval=1)
    parts = plan_memory(net, BOXES, 10**6, "crown-ibp", kind, config).parts
    assert real <= parts["tables"]
    # Radius and charge of a node are planned as well: no more than that and half of it beyond.
    assert parts["tables"] <= 1.5 * real + 16 * BOXES * max(n.size for n in net.nodes) or (
        name == "ReduceMax"
    )
