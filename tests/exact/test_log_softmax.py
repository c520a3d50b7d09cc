"""LogSoftmax: one test per term, in 400-bit balls. docs/numerics.md names the terms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.ops import log_softmax
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from tests.exact.boxes import inside
from tests.exact.oracle import Truth, exact, q, violations
from tests.exact.probabilities import network

Array = Any
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
pytestmark = pytest.mark.usefixtures("precise")


def truth(x: Array, axis: int = -1) -> Array:
    return Truth.__new__(Truth)._logsoftmax(ops.LogSoftmax(axis), exact(x))


def box_of(r: np.random.Generator, n: int, scale: float, wide: float = 1.0) -> NodeBounds:
    centre, radius = r.normal(size=(1, n)) * scale, r.uniform(size=(1, n)) * scale * wide
    low, high = centre - radius, centre + radius
    return NodeBounds(low, high, np.clip(0.5 * low + 0.5 * high, low, high))


def step(x: NodeBounds, guarantee: str = "real") -> NodeBounds:
    with np.errstate(all="ignore"):
        return interval_step(
            network(x.lower.shape[1:], -1, ops.LogSoftmax).nodes[-1], [x], guarantee
        )


def test_images() -> None:
    """LOGSOFTMAX.IMAGE: points lie within, ends are those of corners."""
    r = np.random.default_rng(0)
    scales = (1e-9, 0.1, 3.0, 300.0, 1e5)
    for n, scale, wide in itertools.product((1, 2, 9), scales, (0.0, 1e-6, 1.0)):
        x = box_of(r, n, scale, wide)
        found = step(x)
        assert (found.upper <= 0).all()
        for point in inside(x, r, 6):
            assert not violations(found.lower[0], found.upper[0], truth(point))
        own = np.where(np.arange(n) == 0, x.lower[0], x.upper[0])
        corner = float(truth(own)[0])
        assert abs(found.lower[0, 0] - corner) <= 1e-9 * max(1.0, abs(corner))


def test_images_of_small_odds() -> None:
    """LOGSOFTMAX.IMAGE: an entry that leads by far has a tiny logarithm, known relatively."""
    for lead in (1.0, 30.0, 300.0, 700.0):
        x = np.array([[0.1, lead, 0.2, -0.3]])
        found = step(NodeBounds(x, x, x))
        assert not violations(found.lower[0], found.upper[0], truth(x[0]))
        assert found.upper[0, 1] - found.lower[0, 1] <= 2.0**-36 * -found.lower[0, 1] + 1e-300


def test_infinite_entries() -> None:
    x = NodeBounds(*(np.array([[e, 0.0]]) for e in (-np.inf, np.inf, 0.0)))
    assert np.isinf(step(x, "float32").lower).all() and np.isinf(step(x, "float32").upper).all()
    assert (step(x).upper == 0).all() and np.isinf(step(x).lower).all()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_planes(dtype: Any) -> None:
    """LOGSOFTMAX.BELOW: any rows, scales, also of points; corners, faces and inner points."""
    r, compared = np.random.default_rng(1), 0
    for n, scale, wide in itertools.product((1, 2, 5), (1e-5, 1.0, 30.0), (0.0, 0.01, 1.0)):
        x = box_of(r, n, scale, wide)
        after = step(x)
        with np.errstate(all="ignore"):
            made = ops.LogSoftmax().relax([x], after, Precision("real", dtype))
        rows = np.concatenate((np.eye(n), -np.eye(n), r.normal(size=(8, n)))).astype(dtype)
        d, box = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        (part,) = made.back(rows.copy(), d, box)
        for point in inside(x, r, 9):
            away = exact(point) - exact(x.centre[0])
            y = truth(point) - exact(after.centre[0])
            for i, row in enumerate(rows):
                right = q(d[i]) - q(made.loss[0]) + (exact(part[i]) * away).sum()
                assert not (exact(row) * y).sum() < right
                compared += 1
    assert compared >= 3_900


def test_planes_of_far_heights() -> None:
    """LOGSOFTMAX.BELOW: heights of 10^7 about a far centre cancel."""
    r = np.random.default_rng(2)
    for _ in range(30):
        low = r.normal(size=(1, 5))
        centre = low + r.uniform(0.5, 1.5, (1, 5)) * 1e7
        weight, value = log_softmax._below(low, low + 2.0**-20, centre, F64)
        away = exact(low[0]) - exact(centre[0])
        line = exact(value[0]) + away - (exact(weight[0]) * away).sum()
        assert not (truth(low[0]) < line).any()


def onnxruntime(x: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in "xy"]
    nodes = [helper.make_node("LogSoftmax", ["x"], ["y"], axis=-1)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 90.0, 1e4, 5e37])
def test_executions_of_points(scale: float) -> None:
    """LOGSOFTMAX.FLOAT32: onnxruntime and NumPy; without the charge they would be outside."""
    r = np.random.default_rng(3)
    x = (r.normal(size=(64, 40)) * scale).astype(np.float32)
    wide = np.float64(x)[None]
    found, real = (step(NodeBounds(wide, wide, wide), g) for g in ("float32", "real"))
    with np.errstate(all="ignore"):
        runs = [onnxruntime(x), ops.LogSoftmax().forward(x)]
    for run in runs:
        assert (found.lower[0] <= run).all() and (run <= found.upper[0]).all()
        assert scale > 1e4 or ((run < real.lower[0]) | (run > real.upper[0])).any()
