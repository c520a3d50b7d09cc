"""One operator at a time: forward, interval bounds, and one way back to the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.propagate import bounds
from gamma.tensor.box import Box


def _alone(shape: tuple[int, ...], *operators: Any) -> Network:
    """The operators in a chain, then one output: their sum."""
    builder = Builder(ops.Input(), shape)
    last = 0
    for op in operators:
        last = builder.add(op, last)
    size = builder.nodes[last].size
    last = builder.add(ops.Reshape((size,)), last)
    return builder.build(builder.add(ops.Gemm(np.ones((1, size), np.float32), None), last))


def _weight(*shape: int) -> Any:
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype(np.float32)


NETWORKS = {
    "Gemm 256": _alone((256,), ops.Gemm(_weight(256, 256), None)),
    "Conv 16 32x32": _alone(
        (16, 32, 32),
        ops.Conv(_weight(16, 16, 3, 3), np.zeros(16, np.float32), pads=(1, 1, 1, 1)),
    ),
    "Relu 4096": _alone((4096,), ops.Relu()),
    "Sigmoid 4096": _alone((4096,), ops.Sigmoid()),
    "Tanh 4096": _alone((4096,), ops.Tanh()),
}


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("walk", ["forward", "ibp", "crown-ibp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_operator(benchmark: Any, name: str, walk: str, batch: int) -> None:
    network = NETWORKS[name]
    x = np.random.default_rng(0).standard_normal((batch, *network.input_shape))
    benchmark.group = f"{name}, batch {batch}"
    if walk == "forward":
        single = x.astype(np.float32)
        assert benchmark(network.forward, single).shape == (batch, 1)
        return
    found = benchmark(lambda: bounds(network, Box.linf(x, 0.01), method=walk, dtype="float32"))
    y = network.forward(x, np.float64)
    assert (found.lower <= y).all() and (y <= found.upper).all()
