"""Images and lines of every elementwise operator, against high-precision balls."""

from __future__ import annotations

from typing import Any

import flint
import numpy as np
import pytest
from flint import arb

from gamma import ops
from gamma.ops import relaxation
from tests.exact.functions import OPERATORS, broken, intervals, label
from tests.exact.oracle import BITS, elementwise, exact

FLOATS = (np.float32, np.float64)


@pytest.mark.parametrize("op", OPERATORS, ids=label)
def test_lines_and_image(op: Any) -> None:
    """Intervals of every kind: at kinks, far out, subnormal, points."""
    rng = np.random.default_rng(7)
    low, high = intervals(op, rng, 60)
    wrong: list[str] = []
    for k, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        wrong += broken(op, a, b, FLOATS[k % 2], rng)
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_tail(approximate: str) -> None:
    """Rounded arguments cost more than VALUE_ERROR where the function is tiny."""
    rng = np.random.default_rng(0)
    wrong: list[str] = []
    ends = (20, 37.4) if approximate == "none" else (14, 20.5)
    for x in -rng.uniform(*ends, 150):
        wrong += broken(ops.Gelu(approximate), float(x), float(x), np.float64, rng)
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("op", [ops.Sin(), ops.Cos()], ids=label)
def test_large_arguments(op: Any) -> None:
    """Slope times x is far larger than the sine; intervals that begin just under a zero."""
    rng = np.random.default_rng(0)
    wrong: list[str] = []
    phase = type(op).phase
    for _ in range(150):
        k = np.arange(1000.0, 300_000.0)
        zeros = phase + k * np.pi
        under = np.nextafter(zeros, -np.inf)
        # Where the division rounds up to k although the interval begins under the zero.
        under = under[np.floor((under - phase) / np.pi) == k]
        low = float(rng.choice(under if rng.random() < 0.7 else zeros - rng.random()))
        wrong += broken(op, low, low + rng.choice([1e-9, 0.01, 1.0, 4.0]), np.float64, rng)
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("op", [ops.Sin(), ops.Cos()], ids=label)
def test_first_piece_begins_at_the_interval(op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SINE.FIRST: the zero is rounded to above the lower end, by more than the line's charges."""
    phase, k = type(op).phase, np.arange(1000.0, 300_000.0)
    under = np.nextafter(phase + k * np.pi, -np.inf)
    low = under[np.floor((under - phase) / np.pi) == k][:2000]
    lines = op.lines(low[None], low[None] + 4.5, np.float64)
    x = exact(low)
    monkeypatch.setattr(flint.ctx, "prec", BITS)
    values = elementwise(op, x)
    below = exact(lines.lower_slope[0]) * x + exact(lines.lower_intercept[0])
    above = exact(lines.upper_slope[0]) * x + exact(lines.upper_intercept[0])
    for least, value, most in zip(below, values, above, strict=True):
        assert not arb(least) > value and not arb(most) < value


class Sloppy(ops.Softplus):
    """A function whose float64 evaluation errs as much as the engine says it may."""

    value: float = 1.0
    steep: float = 1.0

    def function(self, x: Any) -> Any:
        return super().function(x) * type(self).value

    def derivative(self, x: Any) -> Any:
        return super().derivative(x) * type(self).steep


class Offset(Sloppy):
    absolute_error = 2.0**-30

    def function(self, x: Any) -> Any:
        return super().function(x) + np.sign(type(self).value - 1) * 2.0**-30


@pytest.mark.parametrize("value", [1 - 2.0**-43.1, 1 + 2.0**-43.1])
@pytest.mark.parametrize("steep", [1 - 2.0**-37.1, 1.0, 1 + 2.0**-37.1])
@pytest.mark.parametrize("record", [Sloppy, Offset])
def test_errors_of_evaluations_are_paid(record: Any, value: float, steep: float) -> None:
    """LINE.VALUE, LINE.ABSOLUTE, TANGENT.SLOPE, IMAGE.VALUE: no luck with the last place."""
    made = type("Made", (record,), {"value": value, "steep": steep, "__qualname__": "Softplus"})
    made.__name__ = "Softplus"
    rng = np.random.default_rng(3)
    wrong: list[str] = []
    for _ in range(12):
        low = float(rng.normal() * 3)
        high = low + float(rng.choice([0.0, 1e-6, 0.5, 6.0]))
        wrong += broken(made(), low, high, np.float64, rng)
    assert not wrong, wrong[:3]


class Hinge:
    """|x|, called convex; its derivative is given with the error the engine allows."""

    absolute_error = slope_error = 0.0

    def function(self, x: Any) -> Any:
        return np.abs(x)

    def derivative(self, x: Any) -> Any:
        return np.where(x > 0, 1 - 2.0**-37.1, -1.0)


def test_slope_error_over_the_piece() -> None:
    """TANGENT.SLOPE: a line almost as steep as the function, touching far from the minimum."""
    low, high = np.array([-1.0]), np.array([8.0])
    values = relaxation._Signed(Hinge(), 1.0)
    corner = relaxation._Corner.at(values, relaxation.Piece(low, high, np.array([1.0])))
    slope = np.array([1 - 2.0**-38])
    assert (relaxation._intercept(values, slope, high, [corner]) <= 0).all()


def test_tangents_far_from_the_touching_point() -> None:
    """The tangent's slope error acts over the whole piece."""
    made = type("Softplus", (Sloppy,), {"value": 1.0, "steep": 1 + 2.0**-37.1})
    rng = np.random.default_rng(3)
    wrong: list[str] = []
    for low, high in ((-0.5, 30.0), (-2.0, 400.0), (1.0, 5000.0)):
        wrong += broken(made(), low, high, np.float64, rng)
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("op", [ops.Sigmoid(), ops.Gelu(), ops.LeakyRelu()], ids=label)
def test_many_neurons_are_taken_in_parts(op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the parts nor the shape show in the lines."""
    rng = np.random.default_rng(0)
    lower = 3 * rng.standard_normal((2, 3, 700))
    upper = lower + rng.random(lower.shape)
    assert lower.size > relaxation._CHUNK
    parts = op.lines(lower, upper, np.float32)
    monkeypatch.setattr(relaxation, "_CHUNK", lower.size)
    whole = op.lines(lower, upper, np.float32)
    for name in ("lower_slope", "lower_intercept", "upper_slope", "upper_intercept"):
        assert getattr(parts, name).tobytes() == getattr(whole, name).tobytes()
        assert getattr(parts, name).shape == lower.shape


def test_a_slope_per_neuron_stays_with_its_neuron() -> None:
    slope = np.linspace(0.0, 2.0, 3000, dtype=np.float32)
    lower, upper = np.full((2, 3000), -1.0), np.full((2, 3000), 1.0)
    lines = ops.PRelu(slope).lines(lower, upper, np.float64)
    for x in (-1.0, 0.0, 1.0):
        exact = np.where(x >= 0, x, x * slope.astype(np.float64))
        assert (lines.lower_slope * x + lines.lower_intercept <= exact).all()
        assert (exact <= lines.upper_slope * x + lines.upper_intercept).all()
