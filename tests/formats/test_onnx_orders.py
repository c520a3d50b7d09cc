"""Operators that add several values: float32 executions in every order lie inside."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from tests.formats.onnx_models import Node, assert_same, load, model, runtime

F = np.float32
V = (1, 24)


def in_order(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total.dtype == F
    return total


def summands(names: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Constants c, d, ... far larger than the input, and nearly each other's opposite."""
    rng = np.random.default_rng(seed)
    first = F(rng.normal(0, 1e4, V))
    constants = {n: F(first * rng.uniform(0.9, 1.1) * (-1) ** k) for k, n in enumerate(names)}
    return constants, F(rng.normal(0, 1, V))


@pytest.mark.parametrize("inputs", ["xcr", "cxr", "cxd", "xrcd", "cdx"])
@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_sums_with_constants(op: str, inputs: str) -> None:
    for seed in range(4):
        constants, x = summands([n for n in inputs if n in "cd"], seed)  # type: ignore[arg-type]
        nodes: list[Node] = [("Relu", ["x"], ["r"], {}), (op, list(inputs), ["y"], {})]
        proto = model(nodes, V, constants)
        network = load(proto)
        values = {**constants, "x": x, "r": np.maximum(x, F(0))}
        exact = [
            sum((Fraction(float(values[n].ravel()[k])) for n in inputs), Fraction(0))
            / (len(inputs) if op == "Mean" else 1)
            for k in range(V[1])
        ]
        for method, guarantee in itertools.product(("ibp", "crown"), ("real", "float32")):
            out = gamma.bounds(network, gamma.Box(x[0], x[0]), method=method, guarantee=guarantee)
            for a, truth, b in zip(out.lower, exact, out.upper, strict=True):
                assert Fraction(float(a)) <= truth <= Fraction(float(b))
        for order in itertools.permutations(values[n] for n in inputs):
            y = in_order(order)[0]
            y = y / F(len(inputs)) if op == "Mean" else y
            assert ((out.lower <= y) & (y <= out.upper)).all()
        y = runtime(proto, x)[0]
        assert ((out.lower <= y) & (y <= out.upper)).all()


@pytest.mark.parametrize("moving", [False, True])
def test_scattered_sums_that_meet(moving: bool) -> None:
    """Nine updates of one entry, whose sum is exact: each meets a large number and rounds it."""
    places = np.array([[3] * 9 + [5]])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = F(rng.uniform(1e6, 1.5e6, V))
        c = F(rng.integers(-64, 65, (1, 10)) / 1024)
        nodes: list[Node] = [
            ("Slice", ["x", "zero", "ten", "one"], ["s"], {}), ("Mul", ["s", "c"], ["t"], {}),
            ("Mul", ["t", "small"], ["u"], {}),
            ("ScatterElements", ["x", "i", "u" if moving else "c"], ["y"],
             {"axis": 1, "reduction": "add"}),
        ]  # fmt: skip
        ends = {n: np.array([v]) for n, v in (("zero", 0), ("ten", 10), ("one", 1))}
        constants = {**ends, "i": places, "c": c, "small": F(2.0**-20)}
        proto = model(nodes, V, constants, 16)
        updates = x[:, :10] * c * F(2.0**-20) if moving else c
        for method in ("ibp", "crown"):
            box = gamma.Box(x[0], x[0])
            out = gamma.bounds(load(proto), box, method=method, guarantee="float32")
            summands = [x[0, 3], *updates[0, :9]]
            for order in (summands, summands[::-1], sorted(summands), sorted(summands)[::-1]):
                assert out.lower[3] <= in_order(tuple(order)) <= out.upper[3]
            y = runtime(proto, x)[0]
            assert ((out.lower <= y) & (y <= out.upper)).all()


def test_factors_that_meet() -> None:
    """2^100 · 2^-100 is 1, and 1e10 times the first overflows: nothing is known of executions."""
    nodes: list[Node] = [
        ("ScatterElements", ["x", "i", "c"], ["y"], {"axis": 1, "reduction": "mul"})
    ]
    constants = {"i": np.array([[3, 3, 5]]), "c": F([[2.0**100, 2.0**-100, 3]])}
    network = load(model(nodes, V, constants, 16))
    point = np.full(V[1], 1e10)
    out = gamma.bounds(network, gamma.Box(point, point), guarantee="float32")
    assert out.lower[3] == -np.inf and out.lower[5] <= 3e10 <= out.upper[5] < np.inf
    out = gamma.bounds(network, gamma.Box(point, point))
    assert out.lower[3] <= 1e10 <= out.upper[3] < np.inf


def test_products_in_every_order() -> None:
    nodes: list[Node] = [
        ("ScatterElements", ["x", "i", "c"], ["y"], {"axis": 1, "reduction": "mul"})
    ]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, c = F(rng.normal(0, 1, V)), F(rng.normal(0, 1, (1, 4)) * 10.0 ** rng.integers(-12, 3, 4))
        c[0, 3] *= F(rng.choice([1.0, 1e-20]))
        if not seed:  # two of these are lost where they meet first, and a third would enlarge them
            c = F([[1e-30, 1e-20, 1e25, 1.0]])
        proto = model(nodes, V, {"i": np.array([[3] * 4]), "c": c}, 16)
        out = gamma.bounds(load(proto), gamma.Box(x[0], x[0]), guarantee="float32")
        for order in itertools.permutations((x[0, 3], *c[0])):
            y = order[0]
            for factor in order[1:]:
                y = y * factor
            assert out.lower[3] <= y <= out.upper[3]
        exact = Fraction(float(x[0, 3]))
        for factor in c[0]:
            exact *= Fraction(float(factor))
        assert Fraction(float(out.lower[3])) <= exact <= Fraction(float(out.upper[3]))
        y = runtime(proto, x)[0]
        assert ((out.lower <= y) & (y <= out.upper)).all()
    assert_same(proto, V)
