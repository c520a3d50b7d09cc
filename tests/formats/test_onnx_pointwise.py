"""Activations that exporters spell as primitives: one function of one value, bounded together.

Truth is a ball of 200 bits (python-flint); bounds must enclose it without any tolerance. Under the
guarantee float32 they must enclose what onnxruntime computes from the file itself.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

import gamma
from gamma.errors import UnsupportedError
from gamma.ops import Composite, Scale
from gamma.ops.composite import Choose, Fixed, Step
from gamma.ops.execution import Execution
from tests.formats.onnx_models import Node, load, model, runtime

Truth = Callable[[Any], Any]
C = {
    "c0": 0.0, "c1": 1.0, "c3": 3.0, "c6": 6.0, "half": 0.5, "c20": 20.0, "cube": 3.0,
    "k": 0.044715, "r": 0.7978845608028654, "a": 0.1, "edge": 0.3, "low": -0.3, "jump": 0.05,
}  # fmt: skip
CONSTANTS = {name: np.float32(value) for name, value in C.items()}


def exact(name: str) -> flint.arb:
    """The stored constant."""
    return flint.arb(float(CONSTANTS[name]))


def chain(text: str) -> list[Node]:
    """Nodes from lines "y = Op(a, b)"."""
    nodes: list[Node] = []
    for line in text.strip().split(";"):
        made, rest = line.strip().split(" = ")
        op, names = rest.rstrip(")").split("(")
        attributes = {"to": 1} if op == "Cast" else {}
        nodes.append((op, names.split(", "), [made], attributes))
    return nodes


def _gelu(x: Any) -> Any:
    return exact("half") * x * (1 + (exact("r") * (x + exact("k") * x * x * x)).tanh())


def _softplus(x: Any) -> Any:
    return (1 + x.exp()).log()


def _clip(x: Any, low: float, high: float) -> Any:
    return x.max(flint.arb(low)).min(flint.arb(high))


PATTERNS: dict[str, tuple[str, Truth]] = {
    "softplus": (
        "e = Exp(x); s = Add(e, c1); l = Log(s); g = Greater(x, c20); y = Where(g, x, l)",
        lambda x: x if x > 20 else _softplus(x),
    ),
    "threshold": (
        "g = Greater(x, edge); y = Where(g, x, jump)",
        lambda x: x if x > exact("edge") else exact("jump"),
    ),
    "threshold not": (
        "g = LessOrEqual(x, edge); n = Not(g); y = Where(n, x, jump)",
        lambda x: x if x > exact("edge") else exact("jump"),
    ),
    "hardshrink": (
        "g = Greater(x, edge); l = Less(x, low); o = Or(g, l); y = Where(o, x, c0)",
        lambda x: x if abs(x) > exact("edge") else flint.arb(0),
    ),
    "softshrink": (
        "g = Greater(x, edge); l = Less(x, low); p = Sub(x, edge); m = Add(x, edge);"
        "i = Where(l, m, c0); y = Where(g, p, i)",
        lambda x: x - exact("edge") if x > exact("edge")
        else x + exact("edge") if x < -exact("edge") else flint.arb(0),
    ),
    "leaky": (
        "g = GreaterOrEqual(x, c0); s = Mul(x, a); y = Where(g, x, s)",
        lambda x: x if x >= 0 else exact("a") * x,
    ),
    "gate": ("g = Greater(x, c0); f = Cast(g); y = Mul(x, f)", lambda x: x.max(flint.arb(0))),
    "gelu tanh pow": (
        "p = Pow(x, cube); q = Mul(k, p); s = Add(x, q); i = Mul(s, r); t = Tanh(i);"
        "o = Add(t, c1); h = Mul(half, x); y = Mul(h, o)",
        _gelu,
    ),
    "gelu tanh products": (
        "x2 = Mul(x, x); x3 = Mul(x2, x); q = Mul(x3, k); s = Add(q, x); i = Mul(r, s);"
        "t = Tanh(i); o = Add(c1, t); p = Mul(x, o); y = Mul(p, half)",
        _gelu,
    ),
    "hardswish": (
        "s = Add(x, c3); c = Clip(s, c0, c6); p = Mul(x, c); y = Div(p, c6)",
        lambda x: x * _clip(x + 3, 0, 6) / 6,
    ),
    "hardswish late": (
        "s = Add(c3, x); c = Clip(s, c0, c6); d = Div(c, c6); y = Mul(d, x)",
        lambda x: x * _clip(x + 3, 0, 6) / 6,
    ),
    "mish": ("s = Softplus(x); t = Tanh(s); y = Mul(x, t)", lambda x: x * _softplus(x).tanh()),
    "softsign": ("m = Abs(x); d = Add(m, c1); y = Div(x, d)", lambda x: x / (1 + abs(x))),
    "silu by exp": (
        "n = Neg(x); e = Exp(n); d = Add(e, c1); y = Div(x, d)", lambda x: x / (1 + (-x).exp())
    ),
    "elu": (
        "e = Exp(x); m = Sub(e, c1); g = Greater(x, c0); y = Where(g, x, m)",
        lambda x: x if x > 0 else x.exp() - 1,
    ),
    "tanhshrink": ("t = Tanh(x); y = Sub(x, t)", lambda x: x - x.tanh()),
    "logsigmoid": ("s = Sigmoid(x); y = Log(s)", lambda x: -_softplus(-x)),
}  # fmt: skip


def boxes() -> list[tuple[float, float]]:
    """Intervals that meet every kink and jump, touch them, are thin, wide, and points."""
    marks = [-6.0, -3.0, -0.3, float(CONSTANTS["low"]), 0.0, 0.3, float(CONSTANTS["edge"]), 3.0, 20]
    found = [(m + a, m + b) for m in marks for a, b in ((-1, 1), (0, 0.25), (-0.25, 0), (0, 0))]
    found += [(m - 1e-7, m + 1e-7) for m in marks]
    rng = np.random.default_rng(3)
    ends = np.sort(rng.normal(0, 4, (24, 2)), axis=1).tolist()
    return [*found, *((a, b) for a, b in ends), (-30.0, 30.0)]


def points(low: float, high: float) -> list[float]:
    inner = np.linspace(low, high, 9)[1:-1].tolist()
    marks = [v for c in C.values() for m in (c, -c, float(np.float32(c))) for v in (
        m, np.nextafter(m, -99), np.nextafter(m, 99)) if low <= v <= high]  # fmt: skip
    return [low, high, *inner, *marks]


def composite(name: str) -> Composite:
    net = load(model(chain(PATTERNS[name][0]), (1, 1), CONSTANTS, opset=16))
    (op,) = [n.op for n in net.nodes if isinstance(n.op, Composite)]
    return op


# Patterns that are one composite, with no linear step before or after it.
COMPOSED = [
    name
    for name in PATTERNS
    if name not in ("tanhshrink", "logsigmoid", "hardswish", "gelu tanh products")
]


@pytest.mark.parametrize("name", PATTERNS)
def test_bounds_enclose_the_function(name: str) -> None:
    flint.ctx.prec = 200
    net = load(model(chain(PATTERNS[name][0]), (1, 1), CONSTANTS, opset=16))
    ends = np.array(boxes())
    out = gamma.bounds(net, gamma.Box(ends[:, :1], ends[:, 1:]), method="crown")
    lower, upper = np.ravel(out.lower), np.ravel(out.upper)
    assert np.isfinite(lower).all() or name == "logsigmoid"
    for i, (low, high) in enumerate(ends.tolist()):
        for x in points(low, high):
            y = PATTERNS[name][1](flint.arb(x))
            assert not y < flint.arb(float(lower[i])), (name, x)
            assert not y > flint.arb(float(upper[i])), (name, x)


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lines_enclose_the_function(name: str, dtype: type) -> None:
    flint.ctx.prec = 200
    low, high = np.array(boxes()).T
    found = composite(name).lines(low, high, dtype)
    for i in range(len(low)):
        for x in points(low[i], high[i]):
            y, at = PATTERNS[name][1](flint.arb(x)), flint.arb(x)
            below = flint.arb(found.lower_slope[i]) * at + flint.arb(found.lower_intercept[i])
            above = flint.arb(found.upper_slope[i]) * at + flint.arb(found.upper_intercept[i])
            assert not y < below and not y > above, (name, low[i], high[i], x)


@pytest.mark.parametrize("name", COMPOSED)
def test_lines_are_close(name: str) -> None:
    """On small smooth intervals the gap shrinks with the square of the width."""
    op = composite(name)
    for centre in (-1.7, 0.13, 1.9):
        gaps = []
        for width in (0.1, 0.01):
            low, high = np.array([centre - width]), np.array([centre + width])
            found = op.lines(low, high, np.float64)
            slope = found.upper_slope - found.lower_slope
            gap = found.upper_intercept - found.lower_intercept
            gaps.append(float(np.maximum(slope * low + gap, slope * high + gap)[0]))
        assert 0 <= gaps[1] <= gaps[0] / 20 + 1e-12, (name, centre, gaps)


@pytest.mark.parametrize("name", PATTERNS)
def test_float32_bounds_enclose_the_runtime(name: str) -> None:
    proto = model(chain(PATTERNS[name][0]), (1, 512), CONSTANTS, opset=16)
    rng = np.random.default_rng(5)
    marks = np.array([0.0, 0.3, -0.3, 3, -3, 20, 6, -6], np.float32)
    near = [np.nextafter(marks, np.float32(s)) for s in (-99, 99)]
    some = rng.normal(0, 5, 512 - 3 * len(marks)).astype(np.float32)
    x = np.concatenate([marks, *near, some]).astype(np.float32)[None]
    found = runtime(proto, x).ravel().astype(np.float64)
    out = gamma.bounds(load(proto), gamma.Box(x[0], x[0]), method="crown", guarantee="float32")
    assert (np.ravel(out.lower) <= found).all() and (found <= np.ravel(out.upper)).all()


@pytest.mark.parametrize(
    ("op", "attributes", "truth"),
    [
        ("Celu", {"alpha": 0.5}, lambda x: x if x > 0 else ((2 * x).exp() - 1) / 2),
        ("Mish", {}, PATTERNS["mish"][1]),
        ("Softsign", {}, PATTERNS["softsign"][1]),
        ("Swish", {"alpha": 2.0}, lambda x: x / (1 + (-2 * x).exp())),
        ("ThresholdedRelu", {"alpha": 0.25}, lambda x: x if x > 0.25 else flint.arb(0)),
        ("Shrink", {"lambd": 0.5, "bias": 0.25}, lambda x: x - 0.25 if x > 0.5
         else x + 0.25 if x < -0.5 else flint.arb(0)),
    ],
)  # fmt: skip
def test_operators(op: str, attributes: dict[str, float], truth: Truth) -> None:
    net = load(model([(op, ["x"], ["y"], attributes)], (1, 1), opset=24))
    ends = np.array([*boxes(), (0.25, 0.5), (0.25, 0.25), (-0.5, 0.5)])
    out = gamma.bounds(net, gamma.Box(ends[:, :1], ends[:, 1:]), method="crown")
    for i, (low, high) in enumerate(ends.tolist()):
        for x in points(low, high):
            y = truth(flint.arb(x))
            assert not y < flint.arb(float(np.ravel(out.lower)[i])), x
            assert not y > flint.arb(float(np.ravel(out.upper)[i])), x


def test_overflow_in_between_bounds_nothing_under_float32() -> None:
    """x³ overflows in float32 although x³/x² does not in real arithmetic."""
    nodes = chain("p = Pow(x, cube); q = Mul(x, x); y = Div(p, q)")
    net = load(model(nodes, (1, 1), CONSTANTS))
    box = gamma.Box(np.full((1,), 1e20), np.full((1,), 1e20))
    assert np.isfinite(gamma.bounds(net, box, method="ibp").upper).all()
    charged = gamma.bounds(net, box, method="ibp", guarantee="float32")
    assert charged.upper == np.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("m = MatMul(x, W); g = Greater(m, x); y = Where(g, x, c0)", "a choice by a comparison"),
        ("g = Greater(x, c0); y = Neg(g)", "only Where, Cast, Not, And and Or"),
        ("e = Equal(x, c0); y = Where(e, c1, x)", "an equality"),
    ],
)
def test_what_is_no_function_of_one_value_is_refused(text: str, words: str) -> None:
    constants = {**CONSTANTS, "W": np.ones((2, 2), np.float32)}
    with pytest.raises(UnsupportedError, match=words):
        load(model(chain(text), (1, 2), constants))


def test_a_choice_that_rounding_turns_is_charged_its_gap() -> None:
    """In reals 0.1·x < t, in float32 it is t: an execution takes the other branch."""
    w, rng = np.float32(0.1), np.random.default_rng(0)
    x = next(v for v in rng.uniform(1, 9, 999).astype(np.float32)
             if Fraction(float(v * w)) > Fraction(float(v)) * Fraction(float(w)))  # fmt: skip
    rounds = Execution(*(np.full((), v) for v in (2.0**-24, 2.0**-149, 1.0, 0.0)))
    scale = Scale(np.full((), w), execution=rounds.packed())
    steps = [Step(scale, (0,)), *(Step(Fixed(float(v)), (0,)) for v in (x * w, 5, -5))]
    op = Composite((*steps, Step(Choose(False), (1, 2, 3, 4))))
    end = np.array([[float(x)]])
    assert [float(v.item()) for v in op.interval(end, end)] == pytest.approx([-5, -5])
    assert op.float32_noise(end, end, end, end) >= 10
