"""Small ONNX models for tests, and what onnxruntime says about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gamma.formats.onnx import network_of, parse_model
from gamma.network.graph import Network

Node = tuple[str, list[str], list[str], dict[str, Any]]
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}


def model(
    nodes: Sequence[Node],
    shape: Sequence[int | str | None],
    constants: dict[str, Any] | None = None,
    opset: int = 13,
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of one input "x" of ``shape``; constants become initialisers."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    made = []
    for k, (op, i, o, a) in enumerate(nodes):
        domain, _, name = op.rpartition(".")
        made.append(helper.make_node(name, i, o, name=f"n{k}", domain=domain, **a))
    graph = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(o, dtype, None) for o in outputs],
        tensors,
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in made} - {""})]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSIONS.get(opset, 10))


def load(proto: onnx.ModelProto, **options: Any) -> Network:
    """The network gamma makes of a model."""
    return network_of(parse_model(proto.SerializeToString(), Path("test.onnx")), **options)


def runtime(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output onnxruntime computes for one input (without its optimisations)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


def assert_same(proto: onnx.ModelProto, shape: Sequence[int], positive: bool = False) -> Network:
    """gamma's float64 forward pass equals onnxruntime's float32 one, to float32 accuracy."""
    network = load(proto)
    rng = np.random.default_rng(7)
    for _ in range(2):
        x = rng.normal(0, 1.5, shape).astype(np.float32)
        x = np.abs(x) + np.float32(0.1) if positive else x
        expected = runtime(proto, x)
        found = network.forward(x.reshape(network.input_shape), np.float64)
        assert found.size == expected.size, (found.shape, expected.shape)
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        assert np.abs(found.reshape(-1) - expected.reshape(-1)).max() <= 2e-5 * scale
    return network
