"""Attention, masks of minus infinity and losses, against onnx's reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator

import gamma
from gamma.errors import FormatError, UnsupportedError

INF = np.float32(np.inf)


def load(
    tmp_path: Path, nodes: list[Any], shape: tuple[int, ...], output: str, **constants: Any
) -> tuple[gamma.Network, ReferenceEvaluator]:
    """The network of a graph, and its reference."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 24)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    save(model, tmp_path / "net.onnx")
    return gamma.load(tmp_path / "net.onnx"), ReferenceEvaluator(model)


def agree(
    net: gamma.Network, reference: ReferenceEvaluator, shape: tuple[int, ...], method: str = "crown"
) -> None:
    """Values at points, and bounds of boxes over the reference at many points of them."""
    rng = np.random.default_rng(3)
    for radius in (0.0, 0.3):
        centre = rng.normal(size=shape).astype(np.float32)
        flat = centre.reshape(net.input_shape)
        out = gamma.bounds(net, gamma.Box(flat - radius, flat + radius), method=method)
        for _ in range(20):
            x = centre + rng.uniform(-radius, radius, shape).astype(np.float32)
            (wanted,) = reference.run(None, {"x": x})
            found = net.forward(x.reshape(net.input_shape), np.float64)
            room = 1e-5 * (1 + abs(found))
            assert (abs(found - wanted.reshape(found.shape)) <= room).all()
            assert (out.lower <= found + room).all() and (found - room <= out.upper).all()


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "scaled and capped": ({"scale": 0.3, "softcap": 1.5}, {}),
    "causal": ({"is_causal": 1}, {}),
    "truth values": ({}, {"mask": np.array([[1, 0, 1], [0, 1, 1]], bool)}),
    "minus infinity": ({}, {"mask": np.array([[0.5, -INF, 1], [-INF, -INF, 2]], np.float32)}),
    "short": ({}, {"mask": np.array([[0.5, 0.1], [-INF, 2]], np.float32)}),
    "nothing": ({}, {"mask": np.array([[0, 0, 0], [0, 1, 1]], bool)}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("heads", [1, 2])
def test_attention(name: str, heads: int, tmp_path: Path) -> None:
    options, more = CASES[name]
    rng = np.random.default_rng(1)
    shape = (1, 2, 2, 4)
    constants = {k: rng.normal(size=(1, 2 // heads, 3, 4)).astype(np.float32) for k in "kv"}
    inputs = ["x", "k", "v", *("mask" for _ in more)]
    node = helper.make_node("Attention", inputs, ["y"], name="a", **options)
    net, reference = load(tmp_path, [node], shape, "y", **constants, **more)
    agree(net, reference, shape)
    with pytest.raises(UnsupportedError, match=r"Attention.*does not cover"):
        gamma.bounds(net, gamma.Box(np.zeros(shape[1:]), np.ones(shape[1:])), guarantee="float32")


def test_self_attention_of_three_axes(tmp_path: Path) -> None:
    node = helper.make_node(
        "Attention", ["x", "x", "x"], ["y"], name="a", q_num_heads=2, kv_num_heads=2, is_causal=1
    )
    net, reference = load(tmp_path, [node], (1, 3, 4), "y")
    agree(net, reference, (1, 3, 4))


@pytest.mark.parametrize("axis", [-1, 1])
def test_masked_scores(axis: int, tmp_path: Path) -> None:
    mask = np.zeros((1, 3, 3), np.float32)
    mask[0, [0, 0, 1], [1, 2, 2]] = -INF
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["s"], name="s"),
        helper.make_node("Softmax", ["s"], ["y"], name="y", axis=axis),
    ]
    net, reference = load(tmp_path, nodes, (1, 3, 3), "y", mask=mask)
    agree(net, reference, (1, 3, 3))
    named = gamma.bounds(net, gamma.Box(-np.ones((3, 3)), np.ones((3, 3))), intermediate=True)
    assert "s" not in named  # the file's value is infinite
    masked = np.isneginf(mask[0])
    assert (np.asarray(named["y"].lower)[masked] == 0).all()
    assert (np.asarray(named["y"].upper)[masked] == 0).all()


def test_scores_replaced_by_minus_infinity(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Where", ["c", "x", "low"], ["s"], name="s"),
        helper.make_node("Softmax", ["s"], ["y"], name="y"),
    ]
    c = np.array([[1, 0, 1], [1, 1, 1]], bool)
    net, reference = load(tmp_path, nodes, (1, 2, 3), "y", c=c, low=-INF)
    agree(net, reference, (1, 2, 3))


def test_minus_infinity_is_read_by_a_softmax_alone(tmp_path: Path) -> None:
    mask = np.array([[0, -INF, 0]], np.float32)
    add = helper.make_node("Add", ["x", "mask"], ["s"], name="s")
    for reader in ("Relu", "Exp", "Neg"):
        last = helper.make_node(reader, ["s"], ["y"], name="y")
        with pytest.raises(UnsupportedError, match="only a Softmax may"):
            load(tmp_path, [add, last], (1, 3), "y", mask=mask)
    with pytest.raises(UnsupportedError, match="holds minus infinity"):
        load(tmp_path, [add], (1, 3), "s", mask=mask)
    last = helper.make_node("Softmax", ["s"], ["y"], name="y")
    with pytest.raises(UnsupportedError, match="masked out as a whole"):
        load(tmp_path, [add, last], (1, 3), "y", mask=np.full((1, 3), -INF))
    for bad in (INF, np.float32(np.nan)):
        with pytest.raises(FormatError, match=r"mask: entry \[0, 1\] is (inf|nan)"):
            load(tmp_path, [add, last], (1, 3), "y", mask=np.array([[0, bad, 0]], np.float32))
    with pytest.raises(FormatError, match=r"mask: entry \[0, 1\] is -inf"):
        last = helper.make_node("MatMul", ["x", "mask"], ["y"], name="y")
        load(tmp_path, [last], (1, 1), "y", mask=mask)


@pytest.mark.parametrize("kind", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(kind: str, reduction: str, tmp_path: Path) -> None:
    options = {"reduction": reduction, "ignore_index": 5}
    node = helper.make_node(kind, ["x", "target", "weight"], ["y"], name="y", **options)
    target = np.array([[0, 2], [5, 1]])
    weight = np.array([0.3, 1.7, 2.0], np.float32)
    net, reference = load(tmp_path, [node], (2, 3, 2), "y", target=target, weight=weight)
    agree(net, reference, (2, 3, 2))
    with pytest.raises(FormatError, match="none of 3 classes"):
        load(tmp_path, [node], (2, 3, 2), "y", target=target + 4, weight=weight)
