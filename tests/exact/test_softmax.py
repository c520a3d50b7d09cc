"""Softmax: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder
from gamma.ops import softmax
from gamma.ops.bounds import NodeBounds
from gamma.ops.evaluate import gradient
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.boxes import between, inside
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.oracle import exact, q, violations
from tests.exact.probabilities import BOTH, network, rows_hold, spread, step, table, truth

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("precise")


def test_images_are_those_of_corners() -> None:
    """Entry k at its own end and the others' other ends: within 2^-38 of the exact extremes."""
    r = np.random.default_rng(0)
    for n, scale in itertools.product((1, 2, 3, 9), (1e-9, 0.1, 3.0, 300.0)):
        x = spread(r, n, scale)
        found = step(x)
        for k in range(n):
            for own, others, bound in (
                (x.lower[0], x.upper[0], found.lower[0, k]),
                (x.upper[0], x.lower[0], found.upper[0, k]),
            ):
                p = truth(np.where(np.arange(n) == k, own, others))[k]
                assert abs(float(p) - bound) <= 2.0**-38 * float(p) + 2.0**-900
        for point in inside(x, r, 20):
            assert not violations(found.lower[0], found.upper[0], truth(point))


def test_images_of_points() -> None:
    """SOFTMAX.IMAGE: nothing but the evaluation's error lies between both ends."""
    r = np.random.default_rng(1)
    for scale in (1.0, 30.0, 300.0):
        for _ in range(40):
            x = r.normal(size=6) * scale
            found = step(between(x, x))
            assert not violations(found.lower[0], found.upper[0], truth(x))


@pytest.mark.parametrize("apart", [0.0, 12.0])
def test_images_where_one_entry_leads(apart: float) -> None:
    """SOFTMAX.REST: the others' sum is far below the total, whose rounding would hide it."""
    r = np.random.default_rng(2)
    for lead in (5.0, 20.0, 35.0):
        low = np.append(r.normal(size=40), lead)
        high = low + apart * r.uniform(0.9, 1.0, size=41)
        found = step(between(low, high))
        for own, others, end, sign in (
            (low, high, found.lower[0, 40], 1),
            (high, low, found.upper[0, 40], -1),
        ):
            p = truth(np.append(others[:40], own[40]))[40]
            assert not sign * q(end) > sign * p
            assert abs(float(p - q(end))) <= 2.0**-30 * float(1 - p) + 2.0**-49


def test_images_near_and_far_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same corners by quotients of powers and by powers of differences."""
    r = np.random.default_rng(3)
    for n, scale in itertools.product((2, 3, 30), (1e-3, 1.0, 60.0)):
        x = spread(r, n, scale)
        near = step(x)
        with monkeypatch.context() as changed:
            changed.setattr(softmax, "NEAR", -1.0)
            far = step(x)
        for a, b in ((near.lower, far.lower), (near.upper, far.upper)):
            assert (abs(a - b) <= 2.0**-36 * b + 2.0**-900).all()


@pytest.mark.parametrize("wide", [800.0, 1e5, 1e300])
def test_images_beyond_the_range_of_exp(wide: float) -> None:
    for x in ([wide, 0.0, -wide], [0.0, wide - 1e-3 * wide, wide], [-wide, -wide, -wide]):
        low, high = np.array(x), np.array(x) + 0.25 * wide * np.array([0, 1, 0])
        found = step(between(low, high))
        assert (found.lower >= 0).all() and (found.upper <= 1).all()
        for point in (low, high):
            p = truth(np.clip(point, -1e6, 1e6)) if wide < 1e6 else None
            assert p is None or not violations(found.lower[0], found.upper[0], p)


def test_infinite_entries() -> None:
    """POISON.SOFTMAX: NaN in a float32 execution, some number of [0, 1] in the reals."""
    x = NodeBounds(*(np.array([[[e, 0.0], [1.0, 2.0]]]) for e in (-np.inf, np.inf, 0.0)))
    found = step(x, guarantee="float32")
    assert np.isinf(found.lower[0, 0]).all() and np.isinf(found.upper[0, 0]).all()
    assert np.isfinite(found.lower[0, 1]).all()
    real = step(x)
    assert (real.lower >= 0).all() and (real.upper <= 1).all()
    for guarantee in ("real", "float32"):
        made = table(x, guarantee=guarantee)
        assert made.loss[0] == np.inf and not np.isnan(made.lower.value).any()


def onnxruntime(x: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in "xy"]
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=-1)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 90.0, 1e4, 5e37])
def test_executions_of_points(scale: float) -> None:
    """SOFTMAX.FLOAT32 and SOFTMAX.FLUSHED: onnxruntime and NumPy, rows that select each entry."""
    r = np.random.default_rng(2)
    x = (r.normal(size=(64, 40)) * scale).astype(np.float32)
    with np.errstate(all="ignore"):
        runs = [onnxruntime(x), ops.Softmax().forward(x)]
    found = step(between(x, x), guarantee="float32")
    for run in runs:
        assert (found.lower[0] <= run).all() and (run <= found.upper[0]).all()
    if scale <= 90.0:
        one = x[0]
        rows = np.concatenate((np.eye(40), -np.eye(40)))
        values = [exact(run[0]) for run in runs]
        rows_hold(between(one, one), rows, [one, one], guarantee="float32", values=values)


def test_an_assumption_without_error_would_be_false() -> None:
    """The comparison above can fail: float32 strays from the real softmax."""
    r = np.random.default_rng(3)
    x = r.normal(size=(16, 40)).astype(np.float32) * 20
    found, run = step(between(x, x)), ops.Softmax().forward(x)
    assert ((run < found.lower[0]) | (run > found.upper[0])).any()


# -- networks ----------------------------------------------------------------------------------


def test_networks() -> None:
    """All methods, both guarantees, executions, boxes of unlike scale."""
    r = np.random.default_rng(11)
    b = Builder(ops.Input(), (3, 2))
    scores = b.add(ops.MatMul(), 0, b.add(ops.Transpose((1, 0)), 0))
    net = b.build(b.add(ops.MatMul(), b.add(ops.Softmax(), scores), 0))
    centre = r.normal(size=(2, 3, 2)).astype(np.float32)
    radius = r.uniform(size=(2, 3, 2)) * np.array([0.3, 2.0**-30])[:, None, None]
    box, count = Box(centre - radius, centre + radius), Count()
    truths = exact_values(net, box, r, 1)
    for method, guarantee in itertools.product(METHODS, ("real", "float32")):
        config = Config(method, guarantee, isa=kernels.isa)
        check(net, box, config, r, count, truths=truths, executions=guarantee == "float32")
    assert not count.wrong, count.wrong[:3]


@pytest.mark.parametrize("op", BOTH)
def test_gradient(op: Any) -> None:
    r = np.random.default_rng(12)
    net, x = network((3, 4), 0, op), r.normal(size=(1, 3, 4))
    seed, away = r.normal(size=(1, 3, 4)), r.normal(size=(1, 3, 4)) * 1e-6
    _, slope = gradient(net, x, seed)
    change = (seed * (net.forward(x + away, F64) - net.forward(x - away, F64))).sum() / 2
    assert abs((slope * away).sum() - change) <= 1e-6 * abs(change)


@pytest.mark.parametrize("op", BOTH)
def test_an_axis_that_is_not_there(op: Any) -> None:
    with pytest.raises(UsageError, match="no axis 2"):
        op(2).shape((3, 4))


@pytest.mark.parametrize("name", ["pgd_2_3_16", "ibp_3_3_8"])
def test_vision_transformers(shared: Path, name: str) -> None:
    """Bounds of VNN-COMP's vision transformers are finite and hold at points of the box."""
    net = gamma.load(shared / "vnncomp" / "vit" / "onnx" / f"{name}.onnx")
    r = np.random.default_rng(13)
    x = r.normal(size=net.input_shape).astype(np.float32)
    box = gamma.Box.linf(x, 1 / 255)
    points = box.lower + r.choice([0.0, 1.0, 0.5], (64, *net.input_shape)) * (box.upper - box.lower)
    run = net.forward(points, F64)
    for method in ("ibp", "crown-ibp"):
        found = gamma.bounds(net, box, method=method, guarantee="float32")
        assert np.isfinite(found.lower).all() and np.isfinite(found.upper).all()
        assert (found.lower <= run).all() and (run <= found.upper).all()
