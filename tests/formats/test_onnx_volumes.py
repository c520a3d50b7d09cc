"""Windows of three axes: bounds against exact sums and maxima, and runtimes' executions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import UnsupportedError
from gamma.propagate import METHODS
from tests.formats.onnx_models import load, model, runtime

SHAPE, STRIDES, PADS = (1, 2, 3, 2, 3), (2, 1, 2), (1, 0, 1, 0, 1, 0)
KERNEL = (2, 2, 2)
WEIGHT = (np.random.default_rng(0).integers(-40, 41, (4, 1, *KERNEL)) / 10).astype(np.float32)
BIAS = np.array([0.1, -7.7, 1e-3, 12.3], np.float32)


def file(op: str) -> Any:
    attributes: dict[str, Any] = {"strides": STRIDES, "pads": PADS}
    if op != "Conv":
        return model([(op, ["x"], ["y"], {**attributes, "kernel_shape": KERNEL})], SHAPE, {}, 13)
    nodes = [(op, ["x", "w", "b"], ["y"], {**attributes, "group": 2})]
    return model(nodes, SHAPE, {"w": WEIGHT, "b": BIAS}, 13)


def truth(op: str, x: np.ndarray) -> list[Fraction]:
    """By the standard's definition, in fractions."""
    counts = [
        (n + a + b - k) // s + 1
        for n, a, b, k, s in zip(SHAPE[2:], PADS[:3], PADS[3:], KERNEL, STRIDES, strict=True)
    ]
    found = []
    for c, *at in itertools.product(range(4 if op == "Conv" else 2), *map(range, counts)):
        entries = []
        for place in itertools.product(*map(range, KERNEL)):
            spot = [i * s - a + j for i, s, a, j in zip(at, STRIDES, PADS, place, strict=False)]
            if all(0 <= v < n for v, n in zip(spot, SHAPE[2:], strict=True)):
                value = Fraction(float(x[(0, c // 2 if op == "Conv" else c, *spot)]))
                entries.append(
                    value * (Fraction(float(WEIGHT[(c, 0, *place)])) if op == "Conv" else 1)
                )
        total = sum(entries, Fraction(0))
        if op == "Conv":
            found.append(total + Fraction(float(BIAS[c])))
        else:
            found.append(max(entries) if op == "MaxPool" else total / len(entries))
    return found


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
def test_bounds_enclose_exact_values(op: str, guarantee: str) -> None:
    proto, rng = file(op), np.random.default_rng(1)
    network = load(proto)
    for radius in (0.0, 0.25):
        low = (rng.normal(size=SHAPE) * 100).astype(np.float32).astype(np.float64)
        high = low + radius
        points = [low, high, *(np.where(rng.random(SHAPE) < 0.5, low, high) for _ in range(3))]
        for method in METHODS:
            box = gamma.Box(*(v.reshape(network.input_shape) for v in (low, high)))
            out = gamma.bounds(network, box, method=method, guarantee=guarantee)
            ends = list(zip(out.lower.ravel().tolist(), out.upper.ravel().tolist(), strict=True))
            for point in points:
                for (below, above), exact in zip(ends, truth(op, point), strict=True):
                    assert Fraction(below) <= exact <= Fraction(above)
                if guarantee == "float32" and (point.astype(np.float32) == point).all():
                    y = runtime(proto, point.astype(np.float32)).ravel()
                    assert all(a <= float(v) <= b for (a, b), v in zip(ends, y, strict=True))


def test_what_has_no_rule_for_volumes_is_refused() -> None:
    for op in ("ConvTranspose", "LpPool"):
        more = {"kernel_shape": KERNEL}
        inputs = ["x", "w"] if op == "ConvTranspose" else ["x"]
        weight = np.ones((2, 1, *KERNEL), np.float32)
        proto = model([(op, inputs, ["y"], more)], SHAPE, {"w": weight} if inputs[1:] else {}, 13)
        with pytest.raises(UnsupportedError, match=r"takes .*height, width\)") as caught:
            load(proto)
        assert "node n0" in str(caught.value) and "\n" not in str(caught.value)
