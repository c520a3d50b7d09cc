"""From ONNX files to bounds: what onnxruntime computes inside the box lies inside the bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import gamma
from tests.formats.onnx_models import load, model, runtime
from tests.formats.test_onnx_operators import CASES, CONSTANTS, GRAPHS, IN_FLOAT32, POSITIVE

pytest.importorskip("onnxruntime")
METHODS = ("ibp", "crown")


def encloses(proto: onnx.ModelProto, shape: tuple[int, ...], positive: bool) -> None:
    """The float32 guarantee against float32 executions: no tolerance."""
    network = load(proto)
    rng = np.random.default_rng(4)
    for radius in (0.0, 0.05, 0.8):
        centre = rng.normal(0, 1.5, shape)
        if positive:
            centre = abs(centre) + 0.9
        points = centre + rng.uniform(-1, 1, (3, *shape)) * radius
        inside = points.astype(np.float32)
        low = np.minimum(inside.min(axis=0), centre - radius).reshape(network.input_shape)
        high = np.maximum(inside.max(axis=0), centre + radius).reshape(network.input_shape)
        found = [runtime(proto, x).reshape(-1).astype(np.float64) for x in inside]
        for method in METHODS:
            result: Any = gamma.bounds(
                network, gamma.Box(low, high), method=method, guarantee="float32"
            )
            lower, upper = result.lower.reshape(-1), result.upper.reshape(-1)
            for y in found:
                assert (lower <= y).all() and (y <= upper).all(), (method, radius)


@pytest.mark.parametrize("case", IN_FLOAT32)
def test_operator_bounds_enclose_executions(case: str) -> None:
    op, shape, extra, attributes, opsets = CASES[case]
    constants = {f"c{i}": v for i, v in enumerate(extra) if not isinstance(v, str)}
    names = ["x", *("" if isinstance(v, str) else f"c{i}" for i, v in enumerate(extra))]
    proto = model([(op, names, ["y"], attributes)], shape, constants, opsets[-1])
    encloses(proto, shape, op in POSITIVE)


@pytest.mark.parametrize("case", GRAPHS)
def test_graph_bounds_enclose_executions(case: str) -> None:
    nodes, shape = GRAPHS[case]
    used = {n for node in nodes for n in node[1]}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    encloses(model(nodes, shape, constants, 12), shape, False)
