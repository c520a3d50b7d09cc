"""Deadlines, the order of work, and what a verdict must survive."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder
from gamma.network.property import LinearConstraint, Property
from gamma.ops import Input, Relu
from gamma.propagate.facts import facts_of
from gamma.verification import run as verdicts
from tests.verify.known import at_least, dense, ramp, reaches, region, verify

onnx = pytest.importorskip("onnx")
F = Fraction


def hard(neurons: int = 64) -> tuple[gamma.Network, Property]:
    """A deep random network and thresholds that neither bounds nor points reach."""
    rng = np.random.default_rng(1)
    sizes = (neurons, 64, 64, 64, 4)
    layers = [
        ((rng.standard_normal((b, a)) * 2 / math.sqrt(a)).tolist(), [0.0] * b)
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    net = dense(*layers)
    attained = np.abs(net.forward(rng.uniform(-1, 1, (500, neurons)))).max()
    unsafe = tuple((at_least(i, F(float(attained) * 10)),) for i in range(4))
    return net, Property((region([-1] * neurons, [1] * neurons, *unsafe),), neurons, 4)


def test_bounds_come_first_and_the_search_ends_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "UNASKED_SECONDS", 0.05)
    result = verify(*hard())
    assert result.verdict == "unknown"
    assert list(result.seconds).index("bounds") < list(result.seconds).index("attack")
    assert any("timeout=" in note for note in result.notes)
    said: list[str] = []
    verify(*hard(), progress=said.append)
    assert any(s.startswith("crown: ") for s in said)
    assert any(s.startswith("attack: ") for s in said)


@pytest.mark.parametrize("timeout", [1e-9, 1e-4, 0.02])
def test_a_result_is_never_empty(timeout: float) -> None:
    """Interval bounds of such a network take less than a millisecond."""
    result = verify(*hard(), timeout=timeout)
    assert result.verdict in ("timeout", "unknown")
    assert len(result.margins) == 4 and all(math.isfinite(m.lower) for m in result.margins)
    easy = verify(ramp(), reaches(ramp(), F(2)), timeout=timeout)
    assert easy.verdict == "verified"


def test_the_attack_looks_at_the_clock_at_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    net, prop = hard()
    now = [0.0]
    monkeypatch.setattr("gamma.verification.attack.time.monotonic", lambda: now[0])
    from gamma.verification.attack import Attack
    from gamma.verification.effort import PATIENT
    from gamma.verification.targets import Targets

    search = Attack(net, prop, Targets.of(prop), lambda region, x: None)
    calls = [0]
    forward = type(net.nodes[2].op).forward

    def slow(self: Any, *inputs: Any) -> Any:
        calls[0] += 1
        now[0] += 1.0
        return forward(self, *inputs)

    monkeypatch.setattr(type(net.nodes[2].op), "forward", slow)
    assert search.run(np.arange(4), PATIENT, deadline=2.5) is None
    assert search.cut and calls[0] == 3


def test_nothing_to_attack_ends_at_once() -> None:
    far = Property((region([-1], [1], (LinearConstraint(((0, F(1)),), (), F(-(10**300))),)),), 1, 1)
    assert verify(ramp(), far).verdict in ("verified", "unknown")
    every = LinearConstraint(((0, F(1)),), (), F(10**2000))  # y <= 1e2000 holds everywhere
    result = verify(ramp(), Property((region([-1], [1], (every,)),), 1, 1))
    assert result.verdict == "violated"


@pytest.mark.parametrize("x", [-1.0, 1.0])
@pytest.mark.parametrize("power", [-600, -310, -300, -1, 0, 5, 299, 306, 600])
@pytest.mark.parametrize("digit", [1, 3])
def test_margins_are_bounds_in_the_units_of_the_property(x: float, power: int, digit: int) -> None:
    net = dense(([[1.0]], [0.0]))
    factor = digit * F(10) ** power
    asked = LinearConstraint(((0, factor),), (), F(0))
    result = verify(net, Property((region([F(x)], [F(x)], (asked,)),), 1, 1), attack=False)
    (margin,) = result.margins
    truth = factor * F(x)
    assert margin.lower == -math.inf or F(margin.lower) <= truth
    if 1e-300 < abs(truth) < 1e300:
        assert F(margin.lower) >= truth - abs(truth) / 10**6


def test_chains_are_planned_in_linear_time() -> None:
    builder = Builder(Input(), (1,))
    last = 0
    for _ in range(40_000):
        last = builder.add(Relu(), last)
    start = time.process_time()
    facts_of(builder.build(last))
    assert time.process_time() - start < 3.0  # the sum over a slice for every node alone took 6 s


def half_model(path: Path, cast: bool) -> Path:
    """y = (x0, x1) from a float16 input, in float16 or cast to float32 first."""
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.FLOAT if cast else TensorProto.FLOAT16
    dtype = np.float32 if cast else np.float16
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=kind)] if cast else []
    nodes.append(helper.make_node("MatMul", ["c" if cast else "x", "w"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 2])],
        [helper.make_tensor_value_info("y", kind, [1, 2])],
        [numpy_helper.from_array(np.eye(2, dtype=dtype), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("cast", [False, True])
def test_witnesses_of_float16_inputs_are_float16(tmp_path: Path, cast: bool) -> None:
    pytest.importorskip("onnxruntime")
    net = gamma.load(half_model(tmp_path / "h.onnx", cast))
    low, high = F(1, 3), F(2, 3)  # neither end is a float16 number, nor a float32 one
    prop = Property((region([low, 0], [high, 0], (at_least(0, F(665, 1000)),)),), 2, 2)
    result = verify(net, prop)
    assert result.verdict == "violated"
    found = result.counterexample
    assert found is not None and found.replayed_by == "onnxruntime"
    x = found.x.ravel()
    assert (x.astype(np.float16).astype(np.float32) == x).all()
    assert low <= F(float(x[0])) <= high


def test_a_runtime_that_refuses_to_run_is_no_error(tmp_path: Path) -> None:
    """onnxruntime opens this file and then cannot pad it."""
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 1, 4, 4]
    padded = {"auto_pad": "SAME_UPPER", "dilations": [2, 2], "kernel_shape": [3, 3]}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], **padded)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")],
    )
    path = tmp_path / "d.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )
    prop = Property((region([0] * 16, [1] * 16, (at_least(0, F(2)),)),), 16, 16)
    result = verify(gamma.load(path), prop)
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert result.counterexample.replayed_by != "onnxruntime"
    assert any("onnxruntime cannot run it" in note for note in result.notes)
