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


OPS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool 1", "LpPool 2")
# Of the transposed convolution: (in, out / group, *kernel).
BACK = WEIGHT.reshape(2, 2, *KERNEL)
EXTRA, SPREAD = (1, 0, 1), (1, 2, 1)


def file(op: str) -> Any:
    attributes: dict[str, Any] = {"strides": STRIDES, "pads": PADS}
    kind, _, norm = op.partition(" ")
    if not kind.startswith("Conv"):
        more = {"p": int(norm)} if norm else {}
        nodes = [(kind, ["x"], ["y"], {**attributes, "kernel_shape": KERNEL, **more})]
        return model(nodes, SHAPE, {}, 13)
    weight = WEIGHT
    if op == "ConvTranspose":
        attributes |= {"output_padding": EXTRA, "dilations": SPREAD}
        weight = BACK
    nodes = [(op, ["x", "w", "b"], ["y"], {**attributes, "group": 2})]
    return model(nodes, SHAPE, {"w": weight, "b": BIAS}, 13)


def transposed(x: np.ndarray) -> list[Fraction]:
    """Every entry spreads a kernel; what leaves the output is cut off."""
    counts = [
        (n - 1) * s + (k - 1) * d + 1 + e - a - b
        for n, s, k, d, e, a, b in zip(
            SHAPE[2:], STRIDES, KERNEL, SPREAD, EXTRA, PADS[:3], PADS[3:], strict=True
        )
    ]
    found = {
        spot: Fraction(float(BIAS[spot[0]]))
        for spot in itertools.product(range(4), *map(range, counts))
    }
    for c, *at in itertools.product(range(2), *map(range, SHAPE[2:])):
        for out, *place in itertools.product(range(2), *map(range, KERNEL)):
            spot = (
                2 * c + out,
                *(
                    i * s - a + j * d
                    for i, s, a, j, d in zip(at, STRIDES, PADS, place, SPREAD, strict=False)
                ),
            )
            if spot in found:
                found[spot] += Fraction(float(x[(0, c, *at)])) * Fraction(
                    float(BACK[(c, out, *place)])
                )
    return list(found.values())


def truth(op: str, x: np.ndarray) -> list[Fraction]:
    """By the standard's definition, in fractions; of a root, its square."""
    if op == "ConvTranspose":
        return transposed(x)
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
        elif op.startswith("LpPool"):
            found.append(sum((abs(v) ** int(op[-1]) for v in entries), Fraction(0)))
        else:
            found.append(max(entries) if op == "MaxPool" else total / len(entries))
    return found


def inside(op: str, below: float, above: float, exact: Fraction) -> bool:
    if op != "LpPool 2":
        return Fraction(below) <= exact <= Fraction(above)
    return (below <= 0 or Fraction(below) ** 2 <= exact) and exact <= Fraction(above) ** 2


@pytest.mark.parametrize("op", OPS)
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
                    assert inside(op, below, above, exact)
                if guarantee == "float32" and (point.astype(np.float32) == point).all():
                    y = runtime(proto, point.astype(np.float32)).ravel()
                    assert all(a <= float(v) <= b for (a, b), v in zip(ends, y, strict=True))


def test_a_window_of_four_axes_is_refused() -> None:
    for op in ("ConvTranspose", "LpPool", "MaxPool"):
        more = {"kernel_shape": (1, 1, 1, 1)}
        inputs = ["x", "w"] if op == "ConvTranspose" else ["x"]
        weight = np.ones((2, 1, 1, 1, 1, 1), np.float32)
        constants = {"w": weight} if inputs[1:] else {}
        proto = model([(op, inputs, ["y"], more)], (1, 2, 2, 2, 2, 2), constants, 13)
        with pytest.raises(UnsupportedError, match=r"takes .*height, width\)") as caught:
            load(proto)
        assert "node n0" in str(caught.value) and "\n" not in str(caught.value)


def test_windows_that_runtimes_place_differently_are_refused() -> None:
    """onnxruntime forgets dilations, and shifts norms whose windows lie apart."""
    cases: list[tuple[str, dict[str, Any]]] = [
        ("MaxPool", {"kernel_shape": [3, 3], "dilations": [2, 1]}),
        ("AveragePool", {"kernel_shape": [2, 3], "dilations": [1, 2]}),
        ("LpPool", {"kernel_shape": [1, 2], "strides": [3, 2]}),
    ]
    for (op, attributes), side in itertools.product(cases, ("SAME_UPPER", "SAME_LOWER")):
        nodes = [(op, ["x"], ["y"], {**attributes, "auto_pad": side})]
        with pytest.raises(UnsupportedError, match="runtimes differ: export with pads"):
            load(model(nodes, (1, 2, 5, 7), {}, 19))
        nodes = [(op, ["x"], ["y"], {**attributes, "auto_pad": "VALID"})]
        assert load(model(nodes, (1, 2, 5, 7), {}, 19)).output
