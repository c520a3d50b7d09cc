"""Files that quantise values which depend on the input: a staircase, and bounds of it.

The truth is the standard's definition in fractions; onnxruntime's executions are compared with the
guarantee that covers them.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import gamma
from gamma.errors import UnsupportedError
from gamma.propagate import METHODS
from tests.formats.onnx_models import Node, assert_same, load, model, runtime

F = np.float32
RNG = np.random.default_rng(5)
WEIGHT = RNG.integers(-127, 128, (4, 3)).astype(np.int8)
SCALES = F([0.0113, 0.0071, 0.0207])
INT8, UINT8 = (-128, 127), (0, 255)


def step(x: Fraction, scale: Any, zero: Any, limits: tuple[int, int]) -> Fraction:
    """What saturate(round(x / scale) + zero) stands for; Python rounds halves to even too."""
    s, z = Fraction(float(scale)), int(zero)
    return (min(max(round(x / s) + z, limits[0]), limits[1]) - z) * s


def qdq(zero: Any) -> tuple[list[Node], dict[str, Any]]:
    """Quantised input, per-column weights, quantised sums."""
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["h"], {}),
        ("DequantizeLinear", ["w", "ws"], ["v"], {"axis": 1}),
        ("MatMul", ["h", "v"], ["m"], {}),
        ("QuantizeLinear", ["m", "t", "u"], ["p"], {}),
        ("DequantizeLinear", ["p", "t", "u"], ["y"], {}),
    ]
    constants = {"s": F(0.0371), "z": zero, "w": WEIGHT, "ws": SCALES, "t": F(0.0513)}
    return nodes, {**constants, "u": zero.dtype.type(5)}


def qoperator(zero: Any) -> tuple[list[Node], dict[str, Any]]:
    nodes, constants = qdq(zero)
    nodes[1:5] = [("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "t", "u"], ["p"], {})]
    return nodes, {**constants, "wz": np.zeros(3, np.int8)}


def truth(x: np.ndarray, constants: dict[str, Any]) -> list[Fraction]:
    limits = INT8 if constants["z"].dtype == np.int8 else UINT8
    inner = [step(Fraction(float(v)), constants["s"], constants["z"], limits) for v in x.ravel()]
    found = []
    for column, scale in zip(WEIGHT.T, SCALES, strict=True):
        total = sum(
            (v * int(w) * Fraction(float(scale)) for v, w in zip(inner, column, strict=True)),
            Fraction(0),
        )
        found.append(step(total, constants["t"], constants["u"], limits))
    return found


@pytest.mark.parametrize("zero", [np.uint8(113), np.int8(-7)], ids=["uint8", "int8"])
@pytest.mark.parametrize("form", [qdq, qoperator])
def test_bounds_enclose_the_staircase(form: Any, zero: Any) -> None:
    nodes, constants = form(zero)
    proto = model(nodes, (1, 4), constants)
    network = load(proto)
    rng = np.random.default_rng(1)
    # The last box saturates, the first is one point.
    for size, radius in itertools.product((1.0, 30.0), (0.0, 0.01, 0.6)):
        low = rng.normal(0, size, (1, 4)).astype(F)
        high = (low + F(radius)).astype(F)
        points = [low, high, *((low + (high - low) * rng.random((1, 4))).astype(F) for _ in "12")]
        for method in METHODS:
            out = gamma.bounds(network, gamma.Box(low[0], high[0]), method=method)
            for x in points:
                for a, exact, b in zip(out.lower, truth(x, constants), out.upper, strict=True):
                    assert Fraction(float(a)) <= exact <= Fraction(float(b))
        if form is qdq:
            out = gamma.bounds(network, gamma.Box(low[0], high[0]), guarantee="float32")
            for x in points:
                y = runtime(proto, x).ravel()
                assert ((out.lower <= y) & (y <= out.upper)).all()


def test_forward_agrees_with_the_runtime() -> None:
    for form, zero in itertools.product((qdq, qoperator), (np.uint8(113), np.int8(-7))):
        nodes, constants = form(zero)
        assert_same(model(nodes, (1, 4), constants), (1, 4))


def test_executions_of_joined_operators_are_not_covered_by_float32() -> None:
    nodes, constants = qoperator(np.uint8(113))
    network = load(model(nodes, (1, 4), constants))
    box = gamma.Box(np.zeros(4), np.ones(4))
    with pytest.raises(UnsupportedError, match="QLinearMatMul, whose steps every runtime chooses"):
        gamma.bounds(network, box, guarantee="float32")


def test_convolutions_of_bytes() -> None:
    """Padding stands for 0, and the bias has the scales' product."""
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        (
            "QLinearConv",
            ["q", "s", "z", "w", "ws", "wz", "t", "u", "b"],
            ["p"],
            {"pads": [1, 0, 1, 1], "strides": [2, 1], "group": 2},
        ),
        ("MaxPool", ["p"], ["o"], {"kernel_shape": [2, 2]}),
        ("DequantizeLinear", ["o", "t", "u"], ["y"], {}),
    ]
    constants = {
        "s": F(0.0371), "z": np.uint8(113), "ws": F(RNG.uniform(0.003, 0.02, 4)),
        "w": RNG.integers(-127, 128, (4, 1, 3, 2)).astype(np.int8), "wz": np.zeros(4, np.int8),
        "t": F(0.0613), "u": np.uint8(97), "b": RNG.integers(-999, 999, 4).astype(np.int32),
    }  # fmt: skip
    assert_same(model(nodes, (1, 2, 6, 5), constants), (1, 2, 6, 5))


def test_zero_points_for_each_channel_and_a_stated_type() -> None:
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {"axis": -1}),
        ("DequantizeLinear", ["q", "s", "z"], ["h"], {"axis": 1}),
        ("QuantizeLinear", ["h", "t"], ["p"], {"output_dtype": TensorProto.INT8}),
        ("DequantizeLinear", ["p", "t"], ["y"], {}),
    ]
    constants = {"s": F([0.013, 0.031, 0.057]), "z": np.array([3, 128, 250], np.uint8)}
    assert_same(model(nodes, (1, 3), {**constants, "t": F(0.0217)}, 21), (1, 3))
    # Of a constant too, the type that the attribute names has its own ends.
    nodes = [
        ("QuantizeLinear", ["w", "t"], ["p"], {"output_dtype": TensorProto.INT8}),
        ("DequantizeLinear", ["p", "t"], ["v"], {}),
        ("MatMul", ["x", "v"], ["y"], {}),
    ]
    weight = F(RNG.normal(0, 2, (3, 2)))
    assert (weight < 0).any()
    assert_same(model(nodes, (1, 3), {"w": weight, "t": F(0.0217)}, 21), (1, 3))


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT2", "UINT2"])
@pytest.mark.parametrize("raw", [True, False])
def test_small_integers(kind: str, raw: bool) -> None:
    """Several to a byte, the first in its lowest bits; an odd number of them."""
    bits = int(kind[-1])
    span = 1 << bits
    values = np.arange(15) * 7 % span - (0 if kind.startswith("U") else span // 2)
    nodes: list[Node] = [
        ("DequantizeLinear", ["w", "s"], ["v"], {}), ("MatMul", ["x", "v"], ["y"], {}),
    ]  # fmt: skip
    proto = model(nodes, (1, 5), {"s": F(0.25)}, 25)
    packed = np.zeros(-(-15 * bits // 8), np.uint8)
    for k, value in enumerate(values.tolist()):
        packed[k * bits // 8] |= (value % span) << (k * bits % 8)
    tensor = onnx.TensorProto(name="w", dims=[5, 3], data_type=getattr(TensorProto, kind))
    if raw:
        tensor.raw_data = packed.tobytes()
    else:
        tensor.int32_data.extend(packed.tolist())
    proto.graph.initializer.append(tensor)
    x = np.arange(1, 6, dtype=F)[None]
    assert np.array_equal(load(proto).forward(x, np.float64), x @ values.reshape(5, 3) * 0.25)
    if bits == 4:
        proto.opset_import[0].version = 21
        assert np.array_equal(load(proto).forward(x), runtime(proto, x)[0][None])


def test_quantising_to_small_integers_saturates_at_their_ends() -> None:
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["y"], {}),
    ]
    proto = model(nodes, (1, 3), {"s": F(0.5)}, 21)
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.INT4, [], [1]))
    x = F([[-100, 0.6, 100]])
    assert load(proto).forward(x, np.float64).tolist() == [[-4.5, 0.5, 3.0]]
    assert np.array_equal(load(proto).forward(x), runtime(proto, x))
    nodes[0][1][0] = "w"
    nodes.append(("Add", ["x", "y"], ["o"], {}))
    proto = model(nodes, (1, 3), {"s": F(0.5), "w": x}, 21, outputs=("o",))
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.INT4, [], [1]))
    assert load(proto).forward(np.zeros((1, 3), F)).tolist() == [[-4.5, 0.5, 3.0]]


def test_what_is_refused() -> None:
    nodes, constants = qdq(np.uint8(113))
    with pytest.raises(UnsupportedError, match="computes with integers that depend on the input"):
        load(model([nodes[0], ("Add", ["q", "q"], ["y"], {})], (1, 4), constants))
    nodes = [("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], {})]
    with pytest.raises(UnsupportedError, match="a scale that depends on the input: quantise"):
        load(model(nodes, (1, 4)))
    wide: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("QLinearMatMul", ["q", "s", "z", "w", "s", "z", "s", "z"], ["p"], {}),
        ("DequantizeLinear", ["p", "s", "z"], ["y"], {}),
    ]
    count = (1 << 15) + 1
    weights = {"s": F(0.1), "z": np.uint8(0), "w": np.ones((count, 1), np.uint8)}
    with pytest.raises(UnsupportedError, match="sums 32769 products"):
        load(model(wide, (1, count), weights))
