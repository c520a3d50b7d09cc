"""Constants of ONNX graphs: exact, or with errors that enclose the real operator."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

import gamma
from gamma.errors import (
    UnsupportedError,
)
from gamma.formats.onnx.normal import scale_and_shift, scales_and_shifts
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


def test_many_batch_normalisations_at_once_enclose_the_real_operator() -> None:
    rng = np.random.default_rng(4)
    n = 300
    gain, bias, mean = (F(rng.normal(0, 1, n) * 2.0 ** rng.integers(-20, 20, n)) for _ in range(3))
    variance = F(abs(rng.normal(size=n)) * 10.0 ** rng.integers(-30, 30, n))
    mean[::3] = F(bias[::3] / gain[::3] * np.sqrt(variance[::3] + 1e-5))  # cancelling
    gain[1], bias[2], mean[4], variance[5] = 0, 0, 0, 0
    gain[7], variance[8], mean[10] = F(1e-42), F(3e38), F(1e-40)
    epsilon = float(F(1e-5))
    found = scales_and_shifts(gain, bias, mean, variance, epsilon)
    wide = scales_and_shifts(gain, bias, mean, variance.astype(float) * 2.0**300, epsilon)
    for results, factor in ((found, 1), (wide, 2**300)):
        for k in range(n):
            scale, scale_error, shift, shift_error = (Fraction(float(r[k])) for r in results)
            low, high = root_bounds(Fraction(float(variance[k])) * factor + Fraction(epsilon))
            g, b, m = (Fraction(float(w[k])) for w in (gain, bias, mean))
            for root in (low, high):
                assert abs(g / root - scale) <= scale_error <= abs(scale) * Fraction(2) ** -52
                size = abs(b) + abs(m * scale)
                assert abs(b - m * g / root - shift) <= shift_error
                assert shift_error <= abs(shift) * Fraction(2) ** -52 + size * Fraction(2) ** -95


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


def fractions(array: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(v)) for v in row] for row in array]


def times(a: list[list[Fraction]], b: list[list[Fraction]]) -> list[list[Fraction]]:
    return [[sum((p * q for p, q in zip(r, c, strict=True)), Fraction(0))
             for c in zip(*b, strict=True)] for r in a]  # fmt: skip


def random(*shape: int) -> np.ndarray:
    """Weights whose products need more digits than float64 has in a sum."""
    rng = np.random.default_rng(shape[0])
    return F(rng.normal(0, 1, shape) * 2.0 ** rng.integers(-30, 30, shape))


def rows(array: np.ndarray) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
    exact = [[Fraction(v) for v in row] for row in array]
    return exact, exact


def normalised(v: np.ndarray, g: np.ndarray) -> tuple[Any, Any]:
    """Ends of g·v/|v| per row."""
    ends: tuple[list[Any], list[Any]] = ([], [])
    for row, gain in zip(fractions(v), fractions(g), strict=True):
        low, high = root_bounds(sum((x * x for x in row), Fraction(0)))
        both = [sorted((gain[0] * x / low, gain[0] * x / high)) for x in row]
        for end, place in ((ends[0], 0), (ends[1], 1)):
            end.append([b[place] for b in both])
    return ends


V, G, A, B, Q = (
    random(3, 4),
    random(3, 1),
    random(4, 5),
    random(5, 3),
    np.arange(-6, 6, dtype=np.int8),
)
SCALE = F([0.3, 0.007, 1.1])
# name: nodes that make the weight "w" (4, 3) of a MatMul, constants, its least and largest value
COMPUTED: dict[str, tuple[list[Node], dict[str, Any], Any]] = {
    "product": ([("MatMul", ["a", "b"], ["w"], {})], {"a": A, "b": B},
                rows(np.array(times(fractions(A), fractions(B)), object))),
    "division": ([("Div", ["a", "c"], ["w"], {})], {"a": A[:, :3], "c": F(3)},
                 rows(np.array(fractions(A[:, :3]), object) / 3)),
    "weight normalisation": (
        [("ReduceL2", ["v"], ["n"], {"axes": [1]}), ("Div", ["v", "n"], ["d"], {}),
         ("Mul", ["d", "g"], ["s"], {}), ("Transpose", ["s"], ["w"], {})],
        {"v": V, "g": G},
        tuple([list(c) for c in zip(*end, strict=True)] for end in normalised(V, G))),
    "dequantised": (
        [("DequantizeLinear", ["q", "scale", "zero"], ["w"], {"axis": 1})],
        {"q": Q.reshape(4, 3), "scale": SCALE, "zero": np.array([1, -2, 0], np.int8)},
        rows((Q.reshape(4, 3).astype(float) - [1, -2, 0]) * SCALE.astype(float))),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_bounds_of_computed_weights_enclose_the_real_network(name: str, method: str) -> None:
    nodes, constants, (low, high) = COMPUTED[name]
    proto = model([*nodes, ("MatMul", ["x", "w"], ["y"], {})], (1, 4), constants, 13)
    network = load(proto)
    x = F([[0.7, -1.3, 2.1, 0.4]])
    terms = [[sorted((p * q, p * r)) for q, r in zip(a, b, strict=True)]
             for p, a, b in zip(fractions(x)[0], low, high, strict=True)]  # fmt: skip
    box = gamma.Box(x.astype(float)[0], x.astype(float)[0])
    found: Any = gamma.bounds(network, box, method=method)
    for k in range(3):
        # Any real value of the network lies between these ends, at most 10^-300 apart.
        ends = [sum(t[k][e] for t in terms) for e in (0, 1)]
        assert Fraction(found.lower[k]) <= ends[0] and ends[1] <= Fraction(found.upper[k])
    assert (found.upper - found.lower <= 1e-11 * np.abs(found.upper).max()).all()
    real = found
    found = gamma.bounds(network, box, method=method, guarantee="float32")
    executed = runtime(proto, x)[0].astype(float)
    assert (found.lower <= executed).all() and (executed <= found.upper).all()
    assert (found.lower < real.lower).all() and (real.upper < found.upper).all()


def test_inexact_kernels_and_biases_of_convolutions() -> None:
    nodes: list[Node] = [
        ("Div", ["k", "c"], ["w"], {}), ("Div", ["h", "c"], ["b"], {}),
        ("Conv", ["x", "w", "b"], ["z"], {}), ("ConvTranspose", ["z", "w", "h"], ["y"], {}),
    ]  # fmt: skip
    constants = {
        "k": F(np.random.default_rng(0).normal(size=(2, 2, 2, 2))),
        "h": F([0.1, 0.2]),
        "c": F(3),
    }
    network = assert_same(model(nodes, (1, 2, 3, 3), constants), (1, 2, 3, 3))
    op: Any = network.nodes[1].op
    third = [Fraction(v) / 3 for v in constants["k"].astype(float).reshape(-1)]
    for weight, error, true in zip(op.weight.flat, op.weight_error.flat, third, strict=True):
        assert abs(Fraction(weight) - true) <= Fraction(error) <= abs(true) * Fraction(2) ** -50
    # Two kernels, a bias, and the inexact bias as a Scale (a factor of 1 and a shift).
    assert network.parameters == 2 * 16 + 2 + (1 + 2)


def test_sums_of_constants_are_exact_where_they_can_be() -> None:
    """An exact sum stays exact: it may choose a shape or serve where errors are refused."""
    nodes: list[Node] = [
        ("ReduceSum", ["m", "axes"], ["s"], {"keepdims": 0}), ("PRelu", ["x", "s"], ["y"], {}),
    ]  # fmt: skip
    weights = F([[0.5, 1.25, -3.0], [2.0**-10, 7.0, 1.5]])
    constants = {"m": weights, "axes": np.array([0])}
    op: Any = load(model(nodes, (1, 3), constants)).nodes[1].op
    assert op.slope.tolist() == [0.5 + 2.0**-10, 8.25, -1.5]
    constants["m"] = F([[1, 1, 1], [2.0**-60, 0, 0]])
    with pytest.raises(UnsupportedError, match="computed inexactly"):
        load(model(nodes, (1, 3), constants))


def test_functions_of_constants_enclose_them() -> None:
    flint.ctx.prec = 200
    for op in ("exp", "tanh", "log"):
        values = F([0.3, 1.7, 2.9])
        nodes: list[Node] = [(op.capitalize(), ["v"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})]
        found: Any = load(model(nodes, (1, 3), {"v": values})).nodes[1].op
        for v, shift, error in zip(values.tolist(), found.shift, found.shift_error, strict=True):
            distance = abs(getattr(flint.arb(v), op)() - flint.arb(float(shift)))
            assert distance <= flint.arb(float(error)) and error < 1e-11


def test_blocked_and_quantised_constants() -> None:
    nodes: list[Node] = [
        ("QuantizeLinear", ["w", "s", "z"], ["q"], {"axis": 1}),
        ("DequantizeLinear", ["q", "s", "z"], ["v"], {"axis": 1}),
        ("MatMul", ["x", "v"], ["h"], {}),
        ("DequantizeLinear", ["p", "t"], ["u"], {"axis": 0, "block_size": 2}),
        ("MatMul", ["h", "u"], ["y"], {}),
    ]
    rng = np.random.default_rng(2)
    constants = {
        "w": F(rng.normal(size=(4, 3))), "s": F([0.011, 0.02, 0.03]),
        "z": np.array([3, 128, 200], np.uint8), "p": rng.integers(-9, 9, (3, 2)).astype(np.int8),
        "t": F([[0.1, 0.2], [0.3, 0.5]]),
    }  # fmt: skip
    assert_same(model(nodes, (1, 4), constants, 21), (1, 4))


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
    "long": [*(("Mul", ["a" if i == 0 else f"c{i}", "b"], [f"c{i + 1}"], {}) for i in range(8)),
             ("Mul", ["x", "c8"], ["y"], {})],
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_computed_constants_are_charged_to_float32_executions(case: str) -> None:
    from gamma import Box, bounds

    rng = np.random.default_rng(8)
    for _ in range(60):
        constants = {"a": F(rng.normal()), "b": F(abs(rng.normal()) * 10.0 ** rng.integers(0, 4))}
        network = load(model(FOLDED[case], (1, 3), constants))
        x = rng.normal(0, 1, 3).astype(F)
        found = executions(FOLDED[case], constants, x).astype(np.float64)
        box = Box(x.astype(np.float64), x.astype(np.float64))
        box64 = bounds(network, box, method="ibp", guarantee="float32")
        assert (box64.lower.reshape(-1) <= found).all() and (found <= box64.upper.reshape(-1)).all()
