"""Plain state_dicts: what is understood, what must be confirmed, what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gamma.architectures import mlp
from gamma.errors import FormatError, UsageError
from gamma.formats.detect import load

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def dense(*sizes: int, names: str = "{}") -> dict[str, np.ndarray]:
    """A state_dict of dense layers; ``names`` formats the layer's number."""
    tensors = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        tensors[f"{names.format(number)}.weight"] = weights(outputs, inputs)
        tensors[f"{names.format(number)}.bias"] = weights(outputs)
    return tensors


@pytest.mark.parametrize("names", ["{}", "fc{}", "layers.{}", "model.block{}.linear", "net.{}.0"])
def test_forward_is_the_sequential_network(tmp_path: Path, names: str) -> None:
    sizes = (5, *([4] * 11), 3)  # twelve layers: 10 sorts after 9, not after 1
    tensors = dense(*sizes, names=names)
    save_file(tensors, tmp_path / "net.safetensors")
    net = load(tmp_path / "net.safetensors", activation="relu")
    x = RNG.standard_normal((7, 5))
    y = x
    for number in range(12):
        name = names.format(number)
        y = y @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]
        y = np.maximum(y, 0) if number < 11 else y
    assert np.allclose(net.forward(x, np.float64), y, rtol=1e-12, atol=1e-12)
    assert net.input_shape == (5,) and net.output_shape == (3,)
    assert "layers in this order" in net.notes[0]
    assert net.notes[-1] == "no activation after the last layer"


def test_without_activation_it_says_what_was_understood(tmp_path: Path) -> None:
    save_file(dense(5, 4, 3, names="fc{}"), tmp_path / "net.safetensors")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "net.safetensors")
    message = str(caught.value)
    assert "fc0: Gemm 5 -> 4; fc1: Gemm 4 -> 3" in message
    assert 'activation="relu"' in message


def convolutional() -> dict[str, np.ndarray]:
    return {
        "conv1.weight": weights(4, 1, 3, 3),
        "conv1.bias": weights(4),
        "conv2.weight": weights(6, 2, 3, 3),  # two groups
        "fc1.weight": weights(5, 96),
        "fc1.bias": weights(5),
        "fc2.weight": weights(3, 5),
    }


OPTIONS: dict[str, Any] = {
    "activation": "relu",
    "input_shape": (1, 8, 8),
    "strides": {"conv1": 1, "conv2": (2, 2)},
    "pads": 1,
}


def test_convolutions_with_confirmed_geometry() -> None:
    net = mlp.build(convolutional(), **OPTIONS)
    assert [node.op.name for node in net.nodes] == [
        *("Input", "Conv", "Relu", "Conv", "Relu", "Reshape", "Gemm", "Relu", "Gemm")
    ]
    assert net.nodes[3].shape == (6, 4, 4)
    assert any("strides (2, 2), pads (1, 1, 1, 1), group 2" in note for note in net.notes)
    assert net.forward(np.zeros((2, 1, 8, 8))).shape == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": None}, "input_shape="),
        ({"strides": None}, "strides are not in the file"),
        ({"pads": None}, "pads are not in the file"),
        ({"strides": {"conv1": 1}}, "conv2"),
        ({"strides": {"conv1": 1, "conv2": 1, "fc1": 1}}, "not a convolution"),
        ({"strides": 0}, "expected 2 numbers"),
        ({"pads": (1, 2, 3)}, "expected 2 numbers"),
        ({"pads": -1}, "expected 2 numbers"),
        ({"input_shape": (1, 8, 0)}, "positive sizes"),
        ({"input_shape": (1, 1 << 40, 8)}, "positive sizes"),
        ({"activation": "swish3"}, "expected one of relu"),
        ({"activation": "relu,relu"}, "2 names for 4 layers"),
        ({"activation": "leaky_relu"}, "leaky_relu:0.01"),
        ({"activation": "gelu:erf"}, "gelu:none"),
        ({"activation": "relu:1"}, "no parameter"),
        ({"order": ["conv1"]}, "order names"),
    ],
)
def test_missing_or_wrong_options(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mlp.build(convolutional(), "net.safetensors", **{**OPTIONS, **change})


def test_geometry_for_a_dense_network_is_refused() -> None:
    with pytest.raises(UsageError, match="no convolution"):
        mlp.build(dense(3, 2, 1), activation="relu", strides=1)


def test_shapes_that_do_not_chain() -> None:
    with pytest.raises(FormatError, match=r"net: fc1\.weight.*does not take \[150\]|\[6, 5, 5\]"):
        mlp.build(convolutional(), "net", **{**OPTIONS, "input_shape": (1, 9, 9)})
    tensors = dense(5, 4, 3)
    tensors["1.weight"] = weights(3, 5)
    with pytest.raises(FormatError, match=r"1\.weight: shape \[3, 5\] does not take \[4\]"):
        mlp.build(tensors, activation="relu")
    with pytest.raises(FormatError, match=r"0\.weight"):
        mlp.build(dense(5, 4, 3), activation="relu", input_shape=(6,))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("2.running_mean", weights(4), "batch normalisation"),
        ("1.gain", weights(4), "no layer uses this tensor"),
        ("scale", weights(4), "no layer uses this tensor"),
        ("7.bias", weights(4), "no layer uses this tensor"),
        ("1.weight", weights(4), "cannot be told from weights"),
        ("1.weight", weights(4, 3, 2, 2, 2), "neither a dense layer"),
        ("1.bias", weights(4), r"shape \[4\] of float32, expected \[3\]"),
        ("1.bias", np.zeros(3, np.int64), "of int64"),
        ("1.weight", np.zeros((3, 4), np.int64), "expected floating-point"),
    ],
)
def test_tensors_without_a_place(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        mlp.build({**dense(5, 4, 3), name: value}, activation="relu")


def test_no_layer_at_all() -> None:
    with pytest.raises(FormatError, match=r"no NAME\.weight"):
        mlp.build({}, activation="relu")


def test_order_by_letters_must_be_the_only_one_that_fits() -> None:
    named = {"hidden.weight": weights(4, 5), "out.weight": weights(3, 4)}
    assert mlp.build(named, activation="relu").output_shape == (3,)
    backwards = {"encoder.weight": weights(3, 4), "a.weight": weights(4, 5)}
    assert mlp.build(backwards, activation="relu").output_shape == (3,)
    square = {"a.weight": weights(4, 4), "b.weight": weights(4, 4)}
    with pytest.raises(UsageError, match="more than one order fits"):
        mlp.build(square, activation="relu")
    net = mlp.build(square, activation="relu", order=["b", "a"])
    assert [node.name for node in net.nodes[1:]] == ["b", "b.relu", "a"]
    with pytest.raises(UsageError, match="no order of the names fits"):
        mlp.build({"a.weight": weights(4, 5), "b.weight": weights(3, 2)}, activation="relu")


def test_interleaved_families_are_not_guessed() -> None:
    """a1, b1, a2, b2 may be meant as a1, a2, b1, b2: where both fit, it is asked."""
    sizes = {"a1": (4, 4), "b1": (4, 4), "a2": (4, 4), "b2": (4, 4)}
    with pytest.raises(UsageError, match="more than one order fits"):
        mlp.build({f"{k}.weight": weights(*v) for k, v in sizes.items()}, activation="relu")
    funnel = {"a1": (7, 8), "b1": (6, 7), "a2": (5, 6), "b2": (4, 5)}
    net = mlp.build({f"{k}.weight": weights(*v) for k, v in funnel.items()}, activation="tanh")
    assert [node.name for node in net.nodes[1::2]] == ["a1", "b1", "a2", "b2"]


def test_activation_lists() -> None:
    net = mlp.build(dense(5, 4, 3, 2), activation="relu, tanh")
    assert [n.op.name for n in net.nodes[2::2]] == ["Relu", "Tanh"]
    net = mlp.build(dense(5, 4, 3), activation=["leaky_relu:0.01", "sigmoid"])
    assert [n.op.name for n in net.nodes[2::2]] == ["LeakyRelu", "Sigmoid"]
    assert net.notes[-1] != "no activation after the last layer"
    net = mlp.build(dense(5, 4, 3, 2), activation="none,gelu:none")
    assert [n.op.name for n in net.nodes] == ["Input", "Gemm", "Gemm", "Gelu", "Gemm"]
    assert len(mlp.build(dense(5, 4), activation="relu").nodes) == 2
    assert len(mlp.build(dense(5, 4), activation=["relu"]).nodes) == 3
