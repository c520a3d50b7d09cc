"""RNN, GRU and LSTM written out, against onnxruntime; bounds over points of a box."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import gamma
from gamma.errors import FormatError, UnsupportedError
from gamma.propagate import METHODS
from tests.exact.oracle import violations
from tests.exact.search.onnx_truth import FileTruth
from tests.formats.onnx_models import assert_same, load, model, runtime

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, INPUT, HIDDEN = 3, 2, 4

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "RNN": ("RNN", {}, ("bias",)),
    "RNN of ReLUs": ("RNN", {"activations": ["Relu"]}, ("bias", "start")),
    "RNN from the end": ("RNN", {"direction": "reverse"}, ()),
    "RNN both ways": ("RNN", {"direction": "bidirectional"}, ("bias", "start")),
    "GRU": ("GRU", {}, ("bias",)),
    "GRU, plain": ("GRU", {}, ()),
    "GRU reset after": ("GRU", {"linear_before_reset": 1}, ("bias",)),
    "GRU reset after, started": ("GRU", {"linear_before_reset": 1}, ("bias", "start")),
    "GRU started": ("GRU", {"direction": "bidirectional"}, ("bias", "start")),
    "GRU reset after, plain": ("GRU", {"linear_before_reset": 1}, ()),
    "LSTM": ("LSTM", {}, ("bias",)),
    "LSTM started": ("LSTM", {}, ("bias", "start", "cell")),
    "LSTM both ways": ("LSTM", {"direction": "bidirectional"}, ("bias", "start", "cell")),
    "LSTM, its functions": ("LSTM", {"activations": ["Sigmoid", "Softplus", "Tanh"]}, ("bias",)),
}


def recurrent(
    name: str, output: int = 0, batch_first: bool = False, **more: Any
) -> onnx.ModelProto:
    op, attributes, given = CASES[name]
    rng = np.random.default_rng(5)
    attributes = {**attributes, "hidden_size": HIDDEN, **more}
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * HIDDEN

    def some(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    state = (1, ways, HIDDEN) if batch_first else (ways, 1, HIDDEN)
    constants = {"w": some(ways, rows, INPUT), "r": some(ways, rows, HIDDEN)}
    constants |= {"bias": some(ways, 2 * rows), "start": some(*state), "cell": some(*state)}
    inputs = ["x", "w", "r", *(n if n in given else "" for n in ("bias", "", "start", "cell"))]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["y" if k == output else "" for k in range(output + 1)]
    shape = (1, STEPS, INPUT) if batch_first else (STEPS, 1, INPUT)
    kept = {k: v for k, v in constants.items() if k in inputs}
    if batch_first:
        attributes["layout"] = 1
    return model([(op, inputs, outputs, attributes)], shape, kept, 14)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("output", [0, 1])
def test_equals_onnxruntime(name: str, output: int) -> None:
    assert_same(recurrent(name, output), (STEPS, 1, INPUT))


def test_the_cell_state_equals_onnxruntime() -> None:
    assert_same(recurrent("LSTM both ways", 2), (STEPS, 1, INPUT))


@pytest.mark.parametrize("name", ["RNN both ways", "GRU started", "LSTM both ways"])
def test_the_batch_may_come_first(name: str) -> None:
    """onnxruntime has no such layout: the same values as with the steps first."""
    x = np.random.default_rng(1).normal(size=(STEPS, INPUT))
    for output in range(3 if name.startswith("LSTM") else 2):
        first, usual = load(recurrent(name, output, True)), load(recurrent(name, output))
        found = first.forward(x.reshape(first.input_shape), np.float64)
        wanted = usual.forward(x.reshape(usual.input_shape), np.float64)
        assert found.shape[-1] == HIDDEN and (found.ravel() == wanted.ravel()).all()


@pytest.mark.parametrize("name", CASES)
def test_the_equations_are_the_standards(name: str) -> None:
    """`FileTruth`, which bounds are held against, is what onnxruntime computes."""
    proto = recurrent(name)
    x = np.random.default_rng(3).normal(size=(STEPS, 1, INPUT)).astype(np.float32)
    found = np.array([float(v) for v in FileTruth(proto)(x)["y"].ravel()])
    assert np.abs(found - runtime(proto, x).ravel()).max() < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_bounds_enclose_exact_values(name: str) -> None:
    proto, rng = recurrent(name), np.random.default_rng(2)
    network, truth = load(proto), FileTruth(proto)
    centre = rng.normal(size=network.input_shape)
    low, high = centre - 0.1, centre + 0.1
    corners = [np.where(rng.random(centre.shape) < 0.5, low, high) for _ in range(2)]
    values = [truth(point)["y"].ravel() for point in (low, high, *corners)]
    widths = {}
    for method in METHODS:
        found = gamma.bounds(network, gamma.Box(low, high), method=method, steps=1)
        for value in values:
            assert violations(found.lower.ravel(), found.upper.ravel(), value) == 0, method
        widths[method] = float((found.upper - found.lower).max())
    assert widths["crown"] < widths["ibp"]
    assert widths["alpha"] <= widths["crown"] and widths["forward+crown"] <= widths["ibp"]


def test_runtimes_gates_are_their_own() -> None:
    network = load(recurrent("LSTM"))
    point = np.zeros(network.input_shape)
    with pytest.raises(UnsupportedError, match="LSTM, whose steps every runtime chooses"):
        gamma.bounds(network, gamma.Box(point, point), guarantee="float32")


@pytest.mark.parametrize(
    ("name", "more", "error", "says"),
    [
        ("LSTM", {"clip": 1.0}, UnsupportedError, "export without clip"),
        ("LSTM", {"input_forget": 1}, UnsupportedError, "export without input_forget"),
        ("LSTM", {"direction": "up"}, FormatError, "direction 'up'"),
        ("LSTM", {"direction": "bidirectional", "hidden_size": 3}, FormatError, "hidden_size"),
        ("GRU", {"activations": ["Sigmoid"]}, FormatError, "names 1 activations, expected 2"),
        ("RNN", {"activations": ["ScaledTanh"]}, UnsupportedError, "gamma has sigmoid"),
        ("RNN", {"activation_alpha": [0.5]}, UnsupportedError, "parameters of their own"),
    ],
)
def test_what_is_not_written_out_is_refused(
    name: str, more: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        load(recurrent(name, **more))
    assert "node n0" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("constant", "shape"),
    [("w", (16, 2)), ("w", (1, 16)), ("r", ()), ("bias", (8,)), ("start", (0, 1, 4))],
)
def test_tensors_of_other_shapes_are_refused(constant: str, shape: tuple[int, ...]) -> None:
    proto = recurrent("LSTM started")
    for tensor in proto.graph.initializer:
        if tensor.name == constant:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(shape, np.float32), constant))
    with pytest.raises((FormatError, UnsupportedError), match="node n0"):
        load(proto)
