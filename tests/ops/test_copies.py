"""What an operator says it keeps of its weights is what it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, ConvTranspose, Gemm, Relu, Reshape
from gamma.ops.base import Input
from gamma.ops.tables import Precision
from gamma.propagate import StreamingConfig, StreamingVerifier
from gamma.propagate.interval import input_bounds, interval_step
from gamma.propagate.memory.planning import plan_memory
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
SMALL = 1 << 12  # bytes of biases, sums of rows and the like

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="the ways of the C library")


def layer(dtype: type, order: str = "C", m: int = 70, n: int = 50) -> Gemm:
    weight = np.random.default_rng(0).standard_normal((m, n)).astype(np.float32).astype(dtype)
    return Gemm(np.asarray(weight, order=order), np.ones(m, np.float32))  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", [1e9, 0])  # in tiles, and by the BLAS
@pytest.mark.parametrize("boxes", [4, 5])
@pytest.mark.parametrize("shape", [(50,), (3, 50)])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_interval_step_keeps_what_it_says(
    limit: float, boxes: int, shape: tuple[int, ...], guarantee: str, kind: type, order: str
) -> None:
    for dtype in (np.float32, np.float64):
        op = layer(dtype, order)
        builder = Builder(Input(), shape)
        net = builder.build(builder.add(op, 0))
        x = np.random.default_rng(1).random((boxes, *shape))
        how = Precision(guarantee, np.dtype(kind))
        with choices.using({("interval.boxes", ""): limit}):
            interval_step(net.nodes[1], [input_bounds(Box(x - 0.1, x + 0.1))], guarantee, kind)
            said = op.copies(how, boxes, shape)
        held = {key: size for key, size in op.held().items() if size > SMALL}
        assert held.pop("dense.interval", 0) <= SMALL + said.get(
            f"weight.{op.weight.dtype.char}", 0
        )
        assert held == said


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_streamed_walk_keeps_no_more_than_it_says(
    method: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, kept, forget = network(), {}, Gemm.forget

    def seen(op: Gemm, least_bytes: int = 1 << 16) -> None:
        kept[id(op)] = max(kept.get(id(op), 0), sum(op.held().values()))
        forget(op, least_bytes)

    monkeypatch.setattr(Gemm, "forget", seen)
    box = Box(np.zeros((5, 50)), np.ones((5, 50)))
    gamma.bounds(net, box, method=method, dtype=dtype, streaming=StreamingConfig())
    how = Precision("real", np.dtype(dtype))
    layers = [node.op for node in net.nodes if isinstance(node.op, Gemm)]
    for op in layers:
        said = op.copies(how, 5) | op.copies(how)
        assert 0 < kept[id(op)] <= sum(said.values()) + 4 * SMALL
        assert not [size for size in op.held().values() if size >= 1 << 16]


def network() -> Network:
    builder = Builder(Input(), (50,))
    hidden = builder.add(Relu(), builder.add(layer(np.float32, m=400), 0))
    return builder.build(builder.add(layer(np.float32, m=300, n=400), hidden))


def residual(dtype: type) -> Network:
    """Strides, pads, groups, channels that fill no panel, and a sum of two images."""
    rng = np.random.default_rng(3)

    def kernel(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    builder = Builder(Input(), (3, 24, 24))
    start = Conv(kernel(16, 3, 3, 3), np.ones(16, np.float32), (2, 2), (1, 1, 1, 1))
    first = builder.add(Relu(), builder.add(start, 0))
    left = builder.add(Conv(kernel(16, 16, 3, 3), None, (1, 1), (1, 1, 1, 1)), first)
    right = builder.add(Conv(kernel(16, 8, 1, 1), np.ones(16, np.float32), group=2), first)
    last = builder.add(
        Conv(kernel(9, 16, 2, 2), np.ones(9, np.float32)), builder.add(Add(), left, right)
    )
    flat = builder.add(Reshape((9 * 11 * 11,)), builder.add(Relu(), last))
    return builder.build(builder.add(Gemm(kernel(20, 9 * 11 * 11)), flat))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("boxes", [1, 40])
def test_images_keep_what_they_say(kind: type, boxes: int) -> None:
    """Of convolutions and sums: the interval step's, and no more than those with what rows make."""
    net, how = residual(kind), Precision("real", np.dtype(kind))
    x = np.random.default_rng(1).random((boxes, 3, 24, 24))
    bounds = [input_bounds(Box(x - 0.1, x + 0.1))]
    images = [node for node in net.nodes[1:] if isinstance(node.op, (Conv, Add))]
    for node in net.nodes[1:]:
        bounds.append(interval_step(node, [bounds[i] for i in node.inputs], "real", kind))
    said = {}
    for node in images:
        shape = net.nodes[node.inputs[0]].shape
        said[node.name] = node.op.copies(how, boxes, shape)
        held = {key: size for key, size in node.op.held().items() if size >= 1000}
        assert held == {key: size for key, size in said[node.name].items() if size >= 1000}
    gamma.bounds(net, Box(x[:1] - 0.1, x[:1] + 0.1), method="crown-ibp", dtype=np.dtype(kind).name)
    for node in images:
        shape = net.nodes[node.inputs[0]].shape
        rows = node.op.copies(how, 0, shape)
        for key, size in node.op.held().items():
            assert size <= SMALL or size == (said[node.name] | rows)[key]
        node.op.forget(1000)
        assert not [size for size in node.op.held().values() if size >= 1000]


def turned(kind: type, group: int, known: bool) -> Network:
    """Transposed convolutions and what they end in; ``known``: the weights have no errors."""
    rng = np.random.default_rng(4)

    def weighted(op: type, *shape: int, **more: Any) -> Any:
        weight = rng.standard_normal(shape).astype(kind)
        return op(weight, **more, weight_error=None if known else abs(weight) * 2.0**-30)

    sides = {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1), "group": group}
    builder, bias = Builder(Input(), (4, 3, 3)), np.ones(24, np.float32)
    up = weighted(ConvTranspose, 4, 24 // group, 3, 3, bias=bias, **sides)
    node = builder.add(Relu(), builder.add(up, 0))
    node = builder.add(weighted(ConvTranspose, 24, 24 // group, 3, 3, **sides), node)
    node = builder.add(Relu(), builder.add(weighted(Conv, 4, 24, 3, 3), node))
    return builder.build(builder.add(weighted(Gemm, 60, 400), builder.add(Reshape((400,)), node)))


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_transposed_convolutions_keep_what_they_say(
    guarantee: str, group: int, known: bool, kind: type
) -> None:
    net, how = turned(kind, group, known), Precision(guarantee, np.dtype(np.float32))
    x = np.random.default_rng(1).random((40, 4, 3, 3))
    box = Box(x - 0.01, x + 0.01)
    gamma.bounds(net, box, method="ibp", guarantee=guarantee, dtype="float32")
    layers = [node for node in net.nodes if node.op.dense or hasattr(node.op, "weight")]
    before = {node.name: net.nodes[node.inputs[0]].shape for node in layers}
    for node in layers:
        said = node.op.copies(how, 40, before[node.name])
        held = {key: size for key, size in node.op.held().items() if size > SMALL}
        assert held.pop("dense.interval", 0) <= SMALL + said.get("weight.d", 0)
        assert held == {key: said[key] for key in held}
        assert {key for key, size in said.items() if size > 2 * SMALL} <= {*held, "weight.d"}
    gamma.bounds(net, box.slice(0, 1), method="crown-ibp", guarantee=guarantee, dtype="float32")
    for node in layers:
        shape = before[node.name]
        for key, size in node.op.held().items():
            said = {k: v for n in (0, 1, 40) for k, v in node.op.copies(how, n, shape).items()}
            assert size <= SMALL or size == said[key], key


@pytest.mark.parametrize("method", ["crown", "alpha", "forward+crown"])
def test_forgetting_leaves_nothing(method: str) -> None:
    """Copies of copies, such as those of a weight's errors, among it."""
    net = turned(np.float32, 2, False)
    x = np.random.default_rng(1).random((4, 3, 3))
    gamma.bounds(net, Box(x - 0.01, x + 0.01), method=method, guarantee="float32", steps=1)
    for node in net.nodes:
        assert node.op.dense is None or node.op.held()
        node.op.forget(1000)
        own = getattr(node.op, "weight", None)
        kept = [reached(v, own) for v in node.op.__dict__.get("_derived", {}).values()]
        assert not [size for size in kept if size >= 1000]


def reached(value: Any, own: Any) -> int:
    """Bytes of all derived arrays that a constant holds, whatever it is made of."""
    if isinstance(value, np.ndarray):
        return 0 if value is own else int(value.nbytes)
    if not isinstance(value, tuple | list):
        value = list(getattr(value, "__dict__", {}).get("_derived", {}).values())
    return sum(reached(part, own) for part in value)


def test_a_streamed_walk_copies_no_weight_to_choose_its_way() -> None:
    net = network()
    box = Box(np.zeros((1, 50)), np.ones((1, 50)))
    gamma.bounds(net, box, method="ibp", streaming=StreamingConfig())
    for node in net.nodes:
        assert not [key for key in node.op.held() if str(key).startswith("padded")]


def test_output_rows_of_float64_are_planned() -> None:
    """Those of few outputs: weights are copied for them, twice as large as for hidden rows."""
    builder = Builder(Input(), (50,))
    hidden = builder.add(Relu(), builder.add(layer(np.float32, m=700), 0))
    hidden = builder.add(Relu(), builder.add(layer(np.float32, m=800, n=700), hidden))
    net = builder.build(builder.add(layer(np.float32, m=3, n=800), hidden))
    single, config = np.dtype(np.float32), StreamingConfig()
    in_use = [
        plan_memory(net, 1, 6, "crown", kind, config, row_bytes=1, wide=wide).parts[
            "weights in use"
        ]
        for kind, wide in ((single, False), (single, True), (np.dtype(np.float64), False))
    ]
    assert in_use[1] == in_use[2] >= in_use[0] + 8 * 700 * 800
    assert StreamingVerifier(dtype="auto").plan(net, method="crown").predicted >= in_use[1]
