"""Constants of ONNX graphs: exact, or with errors that enclose the real operator."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma.errors import (
    UnsupportedError,
)
from gamma.formats.onnx.normal import scale_and_shift
from tests.formats.onnx_models import Node, assert_same, load, model, runtime

F = np.float32
RELU: list[Node] = [("Relu", ["x"], ["y"], {})]
GEMM: list[Node] = [("Gemm", ["x", "w"], ["y"], {})]
WEIGHT = {"w": np.arange(12, dtype=F).reshape(4, 3)}


def test_batch_normalisation_encloses_the_real_operator() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        gain, bias, mean = (float(F(v)) for v in rng.normal(0, 1, 3))
        variance = float(F(abs(rng.normal()) * 10.0 ** rng.integers(-6, 4)))
        if rng.random() < 0.3:
            # bias and mean·scale cancel almost entirely
            mean = float(F(bias / gain * math.sqrt(variance + 1e-5)))
        epsilon = float(F(1e-5))
        scale, scale_error, shift, shift_error = scale_and_shift(
            gain, bias, mean, variance, epsilon
        )
        low, high = root_bounds(Fraction(variance) + Fraction(epsilon))
        ends = sorted((Fraction(gain) / low, Fraction(gain) / high))
        assert Fraction(scale) - Fraction(scale_error) <= ends[0]
        assert ends[1] <= Fraction(scale) + Fraction(scale_error)
        assert scale_error <= abs(scale) * 2.0**-52
        shifts = sorted(Fraction(bias) - Fraction(mean) * e for e in ends)
        assert Fraction(shift) - Fraction(shift_error) <= shifts[0]
        assert shifts[1] <= Fraction(shift) + Fraction(shift_error)
        assert shift_error <= abs(shift) * 2.0**-52 + 2.0**-100


def root_bounds(value: Fraction) -> tuple[Fraction, Fraction]:
    """Fractions around √value, 600 bits apart from it."""
    scaled = (value.numerator << 1400) // value.denominator
    root = math.isqrt(scaled)
    return Fraction(root, 1 << 700), Fraction(root + 1, 1 << 700)


def test_a_division_carries_its_error() -> None:
    network = load(model([("Div", ["x", "c"], ["y"], {})], (1, 3), {"c": np.array([3, 4, 7], F)}))
    op: Any = network.nodes[1].op
    for scale, divisor in zip(op.scale.tolist(), (3, 4, 7), strict=True):
        assert abs(Fraction(scale) - Fraction(1, divisor)) <= Fraction(op.scale_error) * Fraction(
            1, divisor
        )
    exact: Any = load(model([("Div", ["x", "c"], ["y"], {})], (1, 3), {"c": F(4)})).nodes[1].op
    assert exact.scale_error == 0.0 and exact.scale == 0.25


def test_sums_of_constants_are_exact_or_carry_their_error() -> None:
    nodes: list[Node] = [("Add", ["a", "b"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})]
    op: Any = load(model(nodes, (1, 3), {"a": F(1), "b": F(2.0**-60)})).nodes[1].op
    shift, error = Fraction(op.shift.item()), Fraction(op.shift_error.item())
    assert abs(shift - 1 - Fraction(1, 2**60)) <= error
    op = load(model(nodes, (1, 3), {"a": F(1), "b": F(2.0**-40)})).nodes[1].op
    assert op.shift.item() == 1 + 2.0**-40 and op.shift_error == 0.0


def test_inexact_weights_are_refused() -> None:
    nodes: list[Node] = [("Div", ["w", "c"], ["v"], {}), ("MatMul", ["x", "v"], ["y"], {})]
    constants = {**WEIGHT, "c": F(3)}
    with pytest.raises(UnsupportedError, match=r"n1: MatMul.*computed inexactly"):
        load(model(nodes, (1, 4), constants))
    assert_same(model(nodes, (1, 4), {**WEIGHT, "c": F(0.25)}), (1, 4))


def test_casts_that_lose_digits_are_refused() -> None:
    narrowing = model([("Cast", ["x"], ["y"], {"to": 10})], (1, 4))
    with pytest.raises(UnsupportedError, match="float32 to float16"):
        load(narrowing)
    widening: list[Node] = [("Cast", ["x"], ["h"], {"to": 11}), ("Relu", ["h"], ["y"], {})]
    assert load(model(widening, (1, 4))).nodes[-1].op.name == "Relu"


def test_training_modes_are_refused() -> None:
    nodes: list[Node] = [("Dropout", ["x", "r", "t"], ["y"], {})]
    with pytest.raises(UnsupportedError, match="training"):
        load(model(nodes, (1, 4), {"r": F(0.5), "t": np.array(True)}))


def test_integers_agree_with_the_runtime_exactly() -> None:
    proto = model(GEMM, (1, 4), WEIGHT)
    x = np.array([[1, 2, 3, 4]], F)
    assert np.array_equal(load(proto).forward(x), runtime(proto, x))


def executions(nodes: list[Node], constants: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """A float32 execution of elementwise nodes, one rounding after another."""
    functions: dict[str, Any] = {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Sqrt": np.sqrt,
    }  # fmt: skip
    values = {**constants, "x": x}
    for op, inputs, outputs, _ in nodes:
        values[outputs[0]] = F(functions[op](*(values[i] for i in inputs)))
    return np.asarray(values["y"])


FOLDED: dict[str, list[Node]] = {
    "cancelling": [("Add", ["a", "b"], ["c"], {}), ("Sub", ["c", "b"], ["d"], {}),
                   ("Add", ["x", "d"], ["y"], {})],
    "product": [("Mul", ["a", "b"], ["c"], {}), ("Mul", ["c", "x"], ["y"], {})],
    "root": [("Sqrt", ["b"], ["c"], {}), ("Div", ["x", "c"], ["y"], {})],
    "several": [("Mul", ["a", "a"], ["c"], {}), ("Div", ["c", "b"], ["d"], {}),
                ("Sub", ["x", "d"], ["y"], {})],
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_computed_constants_are_charged_to_float32_executions(case: str) -> None:
    from gamma import Box, bounds

    rng = np.random.default_rng(8)
    for _ in range(60):
        constants = {"a": F(rng.normal()), "b": F(abs(rng.normal()) * 10.0 ** rng.integers(0, 7))}
        network = load(model(FOLDED[case], (1, 3), constants))
        x = rng.normal(0, 1, 3).astype(F)
        found = executions(FOLDED[case], constants, x).astype(np.float64)
        box = Box(x.astype(np.float64), x.astype(np.float64))
        box64 = bounds(network, box, method="ibp", guarantee="float32")
        assert (box64.lower.reshape(-1) <= found).all() and (found <= box64.upper.reshape(-1)).all()


def test_factors_of_many_rounded_steps_are_refused() -> None:
    nodes: list[Node] = [
        *(("Mul", ["a" if i == 0 else f"c{i}", "b"], [f"c{i + 1}"], {}) for i in range(8)),
        ("Mul", ["x", "c8"], ["y"], {}),
    ]
    with pytest.raises(UnsupportedError, match="several rounded steps"):
        load(model(nodes, (1, 3), {"a": F(0.1), "b": F(0.3)}))
