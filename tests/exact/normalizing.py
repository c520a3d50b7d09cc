"""Normalisations of a few entries, their exact values, and boxes of these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.interval import interval_step
from tests.exact.boxes import between
from tests.exact.oracle import Truth, exact

Array = Any
KINDS = [ops.Normalize(-1, 1e-5, True), ops.Normalize(-1, 1e-6, False)]
each_kind = pytest.mark.parametrize("op", KINDS, ids=("layer", "rms"))


def network(op: ops.Normalize, shape: tuple[int, ...]) -> Network:
    b = Builder(ops.Input(), shape)
    return b.build(b.add(op, 0))


def truth(op: ops.Normalize, x: Array) -> Array:
    return Truth.__new__(Truth)._normalize(op, exact(x))


def step(op: ops.Normalize, x: NodeBounds, guarantee: str = "real") -> NodeBounds:
    net = network(op, x.lower.shape[1:])
    with np.errstate(all="ignore"):
        return interval_step(net.nodes[-1], [x], guarantee)


def a_box(r: np.random.Generator, d: int, wide: float, scale: float, far: float) -> NodeBounds:
    middle = (r.normal(size=d) + far) * scale
    reach = r.uniform(size=d) * scale * wide
    return between(middle - reach, middle + reach)


def onnxruntime(op: ops.Normalize, x: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in "xy"]
    weight = [helper.make_tensor("w", TensorProto.FLOAT, x.shape[-1:], np.ones(x.shape[-1]))]
    name = "LayerNormalization" if op.centred else "SimplifiedLayerNormalization"
    nodes = [helper.make_node(name, ["x", "w"], ["y"], axis=-1, epsilon=op.epsilon)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], weight)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"x": x})[0]
