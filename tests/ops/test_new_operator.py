"""A new operator is one record: walks ask what it can do, and never which class it is.

The operators here are in no table of the package. Exact values are fractions.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops import Elementwise, Gemm, Input, Linear
from gamma.ops.base import Array
from gamma.propagate import bounds, enclose, linear_bounds
from gamma.tensor.box import Box

PACKAGE = Path(gamma.__file__).parent
METHODS = ("ibp", "crown-ibp", "crown", "alpha")


class Softsign(Elementwise):
    """x / (1 + |x|)."""

    breaks = (0.0,)
    curvature = (1, -1)
    image = (-1.0, 1.0)
    float32_error = (2.0**-20, 2.0**-126, 0.0)

    def function(self, x: Array) -> Array:
        return x / (1 + abs(x))

    def derivative(self, x: Array) -> Array:
        return 1 / np.square(1 + abs(x))


class Mirror(Linear):
    """y_i = x_i - x_(n-1-i)."""

    @property
    def terms(self) -> int:
        return 2

    @property
    def adjoint_terms(self) -> int:
        return 2

    @property
    def unit(self) -> bool:
        return True

    def shape(self, *inputs: tuple[int, ...]) -> tuple[int, ...]:
        return inputs[0]

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        return x + x[:, ::-1] if absolute else x - x[:, ::-1]

    def adjoint(self, rows: Array, shapes: Sequence[tuple[int, ...]]) -> tuple[Array, ...]:
        return (rows - rows[:, ::-1],)


FIRST = np.array([[1.5, -0.75, 0.5], [-1.25, 0.5, 2.0], [0.25, 1.0, -1.5], [1.0, 1.0, 1.0]])
LAST = np.array([[1.0, -2.0, 0.5, 0.75], [-0.5, 0.25, 1.5, -1.0]])
RADIUS = Fraction(1, 4)
CENTRE = (Fraction(1, 8), Fraction(-1, 4), Fraction(3, 8))


def network() -> Network:
    b = Builder(Input(), (3,))
    made = b.add(Gemm(FIRST, np.array([0.125, 0.0, -0.25, 0.0])), 0)
    for op in (Softsign(), Mirror(), Softsign(), Gemm(LAST)):
        made = b.add(op, made)
    return b.build(made)


def exact(x: Sequence[Fraction]) -> list[Fraction]:
    def times(matrix: Any, v: Sequence[Fraction]) -> list[Fraction]:
        rows = ([Fraction(float(w)) for w in row] for row in matrix)
        return [sum((w * e for w, e in zip(row, v, strict=True)), Fraction(0)) for row in rows]

    bias = (Fraction(1, 8), Fraction(0), Fraction(-1, 4), Fraction(0))
    v = [a + b for a, b in zip(times(FIRST, x), bias, strict=True)]
    v = [e / (1 + abs(e)) for e in v]
    v = [a - b for a, b in zip(v, v[::-1], strict=True)]
    return times(LAST, [e / (1 + abs(e)) for e in v])


def points() -> list[tuple[Fraction, ...]]:
    steps = [Fraction(k, 4) for k in (-4, -1, 0, 3, 4)]
    return [
        tuple(c + s * RADIUS for c, s in zip(CENTRE, at, strict=True))
        for at in itertools.product(steps, repeat=3)
    ]


def box() -> Box:
    low = np.array([[float(c - RADIUS) for c in CENTRE]])
    high = np.array([[float(c + RADIUS) for c in CENTRE]])
    return Box(low, high)


@pytest.mark.parametrize("guarantee", ("real", "float32"))
@pytest.mark.parametrize("method", METHODS)
def test_it_is_bounded_by_every_method(method: str, guarantee: str) -> None:
    found = bounds(network(), box(), method=method, guarantee=guarantee, dtype="float32")
    lower, upper = ([Fraction(float(v)) for v in end[0]] for end in found)
    for x in points():
        for low, value, high in zip(lower, exact(x), upper, strict=True):
            assert low <= value <= high


def test_rows_are_better_than_intervals() -> None:
    found = {m: bounds(network(), box(), method=m) for m in METHODS}
    widths = {m: float((f.upper - f.lower).sum()) for m, f in found.items()}
    assert widths["crown"] < 0.8 * widths["ibp"]
    assert widths["alpha"] <= widths["crown"] <= widths["crown-ibp"] <= widths["ibp"]


def test_linear_bounds_and_points() -> None:
    net, found = network(), linear_bounds(network(), box())
    for x in points():
        floats = np.array([float(e) for e in x])
        low, high = enclose(net, floats[None])
        for row, (a, b, value) in enumerate(zip(low[0], high[0], exact(x), strict=True)):
            line = [Fraction(float(c)) for c in found.lower_coefficients[0, row]]
            below = sum(c * e for c, e in zip(line, x, strict=True))
            assert Fraction(float(a)) <= value <= Fraction(float(b))
            assert below + Fraction(float(found.lower_constant[0, row])) <= value


def test_walks_ask_no_operator_for_its_class() -> None:
    """Rotary positions are a pattern of operators, not a rule for one; executions in few bits
    round as runtimes do, by kinds of operators; passes, walks and starts of rows in one call of the
    C library have kernels for some kinds."""
    records = {*ops.TABLE, "StoredGemm", "StoredMargins", "Linear", "Elementwise", "Composite"}
    found = []
    for path in sorted(PACKAGE.glob("propagate/**/*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "isinstance":
                names = {n.id for n in ast.walk(call.args[1]) if isinstance(n, ast.Name)}
                found += [path.name] if names & records else []
    one_call = {"passes.py", "images.py", "pixels.py"}
    assert set(found) == {"rotary.py", "few_bits.py"} | one_call
