"""Where a bound became loose: the layer that is named is the one that did it, for every method."""

from __future__ import annotations

import numpy as np
import pytest

from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Relu
from gamma.ops.base import Input
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.specification import Specification
from gamma.tensor.box import Box
from gamma.verification.advice import advice


def network(loose: int) -> Network:
    """Two layers of ReLUs, of which only those of layer ``loose`` cross 0."""
    builder, rng = Builder(Input(), (3,)), np.random.default_rng(0)
    last, middle = 0, np.zeros(3)
    for layer in range(2):
        weight = rng.uniform(-1, 1, (4, len(middle))).astype(np.float32)
        # What arrives for the box's centre: hardly above 0, or far.
        arrives = 0.1 if layer == loose else 20.0
        bias = (arrives - weight @ middle).astype(np.float32)
        last = builder.add(Gemm(weight, bias), last, name=f"dense_{layer}")
        last = builder.add(Relu(), last, name=f"relu_{layer}")
        middle = np.full(4, arrives)
    return builder.build(builder.add(Gemm(np.ones((1, 4), np.float32)), last))


@pytest.mark.parametrize("method", ["crown-ibp", "crown", "alpha"])
@pytest.mark.parametrize("loose", [0, 1])
def test_the_layer_that_crosses_zero_is_named(loose: int, method: str) -> None:
    net = network(loose)
    box = Box(-np.ones((1, 3)), np.ones((1, 3)))
    asked = Specification(np.ones((1, 1)), None, np.array([-1000.0]), np.zeros(1, np.int64))
    found = lower_bounds(net, box, asked, method=method, explain=True)
    lost = {layer["name"]: layer.get("lost", 0.0) for layer in found.layers}
    assert lost[f"relu_{loose}"] > 0 and lost[f"relu_{1 - loose}"] <= 1e-9
    said = advice(found.layers, method)
    assert f"node relu_{loose} (Relu), 100 %" in said and "method=auto" in said
