"""Replays decide without tolerance, by a pass that is independent of the attack's."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.errors import FormatError
from gamma.network.graph import Builder
from gamma.network.property import LinearConstraint, Property
from gamma.ops import Gemm, Input
from gamma.verification.exact import exact_output, fractions
from gamma.verification.replay import Replay, certainly_safe, certainly_unsafe
from tests.verify.known import (
    ONE,
    at_least,
    at_most,
    dense,
    hat,
    ramp,
    reaches,
    region,
    vast,
    verify,
)


def save_onnx(path: Path, weight: np.ndarray, bias: np.ndarray) -> None:
    """A one-layer ONNX network y = W x + b."""
    from onnx import TensorProto, helper, numpy_helper, save

    outputs, inputs = weight.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "w"),
            numpy_helper.from_array(bias.astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    save(model, path)


def test_touching_is_confirmed_and_missing_by_an_ulp_is_not() -> None:
    net = ramp()
    at = Replay(net, reaches(net, Fraction(1, 2)))
    found = at(0, np.array([0.5], np.float32))
    assert found is not None
    assert found.replayed_by == "exact arithmetic"
    assert found.y.tolist() == [0.5]
    assert at(0, np.nextafter(np.array([0.5], np.float32), np.float32(0))) is None
    strict = Replay(net, reaches(net, Fraction(1, 2), strict=True))
    assert strict(0, np.array([0.5], np.float32)) is None
    assert strict(0, np.nextafter(np.array([0.5], np.float32), np.float32(1))) is not None


def test_outputs_beyond_float64() -> None:
    """The witness is one all the same; its outputs are shown as infinite, in JSON as well."""
    net = vast()
    result = verify(net, reaches(net, Fraction(10) ** 320))
    assert result.verdict == "violated" and result.counterexample is not None
    assert result.counterexample.replayed_by == "exact arithmetic"
    assert result.counterexample.y.tolist() == [np.inf]
    assert json.loads(result.to_json())["counterexample"]["y"] == ["inf"]
    near = vast(10)  # its outputs are numbers of float64, but not their sum
    below = verify(near, reaches(near, Fraction(10) ** 299)).counterexample
    assert below is not None and np.isfinite(below.y).all()


def test_a_point_outside_the_region_is_no_witness() -> None:
    net = ramp()
    replay = Replay(net, reaches(net, Fraction(1, 2)))
    beyond = np.nextafter(np.array([1.0], np.float32), np.float32(2))
    assert replay(0, beyond) is None
    assert replay(0, np.array([1.0], np.float32)) is not None


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4028235e38])
def test_a_point_that_overflowed_is_outside(value: float) -> None:
    """Searches of large boxes make such points; no part of the program may end in an error."""
    net, x = ramp(), np.array([value], np.float32)
    for low, high in ((-(10**38), 10**38), (35 * 10**37, 36 * 10**37)):  # no float32 in the second
        asked = Property((region([low], [high], (at_least(0, Fraction(0)),)),), 1, 1)
        assert Replay(net, asked).enclosure(0, x) is None
        assert Replay(net, asked)(0, x) is None


def test_interval_outputs_are_judged_by_their_worst_end() -> None:
    x = np.zeros(1)
    unsafe = region([0], [1], (at_most(0, ONE), at_least(1, ONE)))
    one, two = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    assert certainly_unsafe(unsafe, x, two, one + [0, 0]) == 0
    assert certainly_unsafe(unsafe, x, np.array([0.0, 0.9]), np.array([1.0, 2.0])) is None
    assert not certainly_safe(unsafe, x, np.array([0.0, 0.9]), np.array([1.0, 2.0]))
    assert certainly_safe(unsafe, x, np.array([1.1, 0.0]), np.array([2.0, 5.0]))
    mixed = region([0], [1], (LinearConstraint(((0, ONE),), ((0, -ONE),), Fraction(0)),))
    assert certainly_unsafe(mixed, np.array([0.5]), np.array([0.5]), np.array([0.5])) == 0
    assert certainly_safe(mixed, np.array([0.5]), np.array([0.6]), np.array([0.7]))


def test_exact_output_is_exact() -> None:
    net = dense(([[0.1, 0.2], [0.3, -0.7]], [0.05, 0.01]), ([[1e8, -1e-8]], [1e-30]))
    x = np.array([0.3, 0.6], np.float32)
    hidden = [
        max(sum((a * b for a, b in zip(row, fractions(x), strict=True)), bias), Fraction(0))
        for row, bias in zip(
            fractions(np.array([[0.1, 0.2], [0.3, -0.7]], np.float32)),
            fractions(np.array([0.05, 0.01], np.float32)),
            strict=True,
        )
    ]
    last = fractions(np.array([1e8, -1e-8, 1e-30], np.float32))
    assert exact_output(net, x) == [hidden[0] * last[0] + hidden[1] * last[1] + last[2]]


def test_a_weight_known_within_an_error_has_no_exact_output() -> None:
    weight = np.array([[1.0, 2.0]])
    b = Builder(Input(), (2,))
    net = b.build(b.add(Gemm(weight, weight_error=np.full((1, 2), 2.0**-60)), 0))
    assert exact_output(net, np.ones(2)) is None


def test_onnxruntime_replays_the_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    save_onnx(path, np.array([[1.0], [-1.0]]), np.array([0.0, 0.5]))
    net = gamma.load(path)
    prop = Property((region([0], [1], (LinearConstraint(((0, ONE), (1, -ONE)), (), ONE),)),), 1, 2)
    result = verify(net, prop)  # y0 - y1 = 2x - 1/2 <= 1
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert result.counterexample.replayed_by == "onnxruntime"
    assert 2 * result.counterexample.x[0] - 0.5 <= 1


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    save_onnx(path, np.array([[1.0]]), np.array([0.0]))
    net = gamma.load(path)
    save_onnx(path, np.array([[2.0]]), np.array([0.0]))
    with pytest.raises(FormatError, match="changed"):
        Replay(net, reaches(net, ONE))(0, np.array([1.0], np.float32))


def test_real_guarantee_rejects_what_only_rounding_reaches(tmp_path: Path) -> None:
    # float32 loses the 2^-30 of 1 + 2^-30 x, the real network does not: y - 1 > 0 for x > 0.
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    save_onnx(path, np.array([[2.0**-30]]), np.array([1.0]))
    net = gamma.load(path)
    prop = Property((region([Fraction(1, 2)], [1], (at_most(0, ONE),)),), 1, 1)
    assert Replay(net, prop, "float32")(0, np.array([1.0], np.float32)) is not None
    assert Replay(net, prop, "real")(0, np.array([1.0], np.float32)) is None
    assert verify(net, prop, guarantee="real").verdict == "verified"
    assert verify(net, prop, guarantee="float32").verdict == "violated"


def test_hat_at_random_points_is_enclosed_by_its_exact_value() -> None:
    net = hat()
    rng = np.random.default_rng(5)
    for value in rng.uniform(-1, 1, 50).astype(np.float32):
        exact = exact_output(net, np.array([value]))
        assert exact == [1 - abs(Fraction(float(value)))]
