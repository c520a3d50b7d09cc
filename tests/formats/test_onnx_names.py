"""Bounds under a name of the file enclose the value that the file gives this name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import gamma
from tests.formats.onnx_models import load, model
from tests.formats.test_onnx_operators import CASES, IN_FLOAT32, POSITIVE

ort = pytest.importorskip("onnxruntime")


def values(proto: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """What onnxruntime computes for every one of these values."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def check(proto: onnx.ModelProto, x: np.ndarray, names: list[str]) -> set[str]:
    """Names that bounds are given for; each holds the file's value of this name."""
    network = load(proto)
    assert len({node.name for node in network.nodes}) == len(network.nodes)
    point = x.astype(np.float64).reshape(network.input_shape)
    known: Any = gamma.bounds(
        network, gamma.Box(point, point), guarantee="float32", intermediate=True
    )
    truth = values(proto, names, x)
    for name in set(known) - {"x"}:
        lower, upper = known[name]
        value = truth[name].reshape(-1).astype(np.float64)
        assert (lower.reshape(-1) <= value).all() and (value <= upper.reshape(-1)).all(), name
    return set(known)


@pytest.mark.parametrize("case", IN_FLOAT32)
def test_the_value_keeps_its_name(case: str) -> None:
    """Each operator of the table, in front of nodes that fuse with what it is made of."""
    op, shape, extra, attributes, opsets = CASES[case]
    constants = {f"c{i}": v for i, v in enumerate(extra) if not isinstance(v, str)}
    inputs = ["x", *("" if isinstance(v, str) else f"c{i}" for i, v in enumerate(extra))]
    constants["two"] = np.float32(2).reshape(())
    nodes = [
        (op, inputs, ["a"], attributes),
        ("Neg", ["a"], ["b"], {}),
        ("Mul", ["b", "two"], ["y"], {}),
    ]
    x = np.random.default_rng(3).normal(0, 1.5, shape).astype(np.float32)
    x = abs(x) + np.float32(0.9) if op in POSITIVE else x
    found = check(model(nodes, shape, constants, opsets[-1]), x, ["a", "b", "y"])
    assert found & {"a", "b", "y"}


def test_an_operator_in_two_steps_keeps_its_name_where_its_value_is_read() -> None:
    nodes = [("Selu", ["x"], ["a"], {}), ("Neg", ["a"], ["b"], {}), ("Add", ["a", "b"], ["y"], {})]
    x = np.array([[2.0, -1.0]], np.float32)
    assert check(model(nodes, (1, 2), {}, 13), x, ["a", "b", "y"]) == {"x", "a", "b", "y"}
    # A reader that fused with the second step would leave nothing that is Selu of x.
    alone = model([("Selu", ["x"], ["a"], {}), ("Neg", ["a"], ["y"], {})], (1, 2), {}, 13)
    assert check(alone, x, ["a", "y"]) == {"x", "a", "y"}


def test_made_up_names_avoid_those_of_the_file() -> None:
    nodes = [("Selu", ["x"], ["a/1"], {}), ("Selu", ["a/1"], ["a"], {}), ("Relu", ["a"], ["y"], {})]
    x = np.array([[2.0, -1.0]], np.float32)
    assert check(model(nodes, (1, 2), {}, 13), x, ["a/1", "a", "y"]) == {"x", "a/1", "a", "y"}
