"""Executions in float16, one rounding at a time and in any order, against what is said of them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Input, MatMul, Mul, Relu, Scale, Softmax, Tanh
from gamma.verification.overflow import overflow
from tests.verify.known import dense

HALF = np.float16


def chain(scale: float, seed: int, width: int = 12) -> Network:
    """Two dense layers with a ReLU, weights up to ``scale``."""
    random = np.random.default_rng(seed)
    parts = [
        (random.normal(size=(width, width)) * scale, random.normal(size=width) * scale)
        for _ in range(2)
    ]
    return dense(*((w.tolist(), b.tolist()) for w, b in parts))


def any_order(weight: Any, bias: Any, x: Any, random: np.random.Generator) -> tuple[Any, float]:
    """w·x + b in float16, term by term in a random order, or as a random tree; the largest number
    on the way."""
    out, most = [], 0.0
    for row, shift in zip(weight.astype(HALF), bias.astype(HALF), strict=True):
        terms = [HALF(w * v) for w, v in zip(row, x, strict=True)] + [shift]
        random.shuffle(terms)
        most = max([most, *(abs(float(t)) for t in terms)])
        tree = random.random() < 0.5
        while len(terms) > 1:
            k = int(random.integers(len(terms) - 1)) if tree else 0
            terms[k : k + 2] = [HALF(terms[k] + terms[k + 1])]
            most = max(most, abs(float(terms[k])))
        out.append(terms[0])
    return np.array(out, HALF), most


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scale", (0.1, 20.0, 60.0))
def test_no_execution_is_beyond_what_is_said(scale: float, seed: int) -> None:
    net, random = chain(scale, seed), np.random.default_rng(seed)
    low = random.normal(size=12) * 0.5
    box = gamma.Box(low, low + 0.25)
    found = overflow(net, box, "float16")
    layers = [node for node in net.nodes if node.op.name == "Gemm"]
    said = [n for n in found.nodes if n.operator == "Gemm"]
    overflowed = False
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(8):
            x = np.where(random.random(12) < 0.5, low, low + 0.25).astype(HALF)
            for k, (layer, node) in enumerate(zip(layers, said, strict=True)):
                x, most = any_order(layer.op.weight, layer.op.bias, x, random)
                overflowed |= not np.isfinite(x).all() or not np.isfinite(most)
                if not overflowed:
                    assert Fraction(most) <= Fraction(node.partial)
                    assert max(abs(Fraction(float(v))) for v in x) <= Fraction(node.activation)
                x = np.maximum(x, HALF(0)) if k == 0 else x
    assert not (overflowed and found.verdict == "verified")
    assert found.verdict == "verified" or scale > 1


def test_bounds_are_reached() -> None:
    """Rounding up at every step: without the growth of the sum the bound would be too low."""
    count = 2
    weight = np.full((1, count), 1 + 2.0**-11 + 2.0**-20)  # rounds up to 1 + 2^-10
    net = dense((weight.tolist(), [0.0]))
    box = gamma.Box(np.ones(count), np.ones(count))
    (node,) = [n for n in overflow(net, box).nodes if n.operator == "Gemm"]
    exact = sum(Fraction(w) for w in weight[0].tolist())
    terms = [HALF(w) for w in weight[0]]
    total = terms[0]
    for term in terms[1:]:
        total = HALF(total + term)
    assert Fraction(float(total)) > exact
    assert Fraction(float(total)) <= Fraction(node.partial)
    assert Fraction(node.partial) >= exact * (1 + Fraction(1, 2**11)) ** count
    # Weights far below the least number become zero, or twice as large.
    small = dense((np.full((1, 4), 1.6 * 2.0**-25).tolist(), [0.0]))
    tiny = overflow(small, gamma.Box(np.ones(4), np.ones(4)))
    assert 4 * 2.0**-24 <= tiny.nodes[-1].activation


def test_verdicts() -> None:
    ones = np.ones(4)
    for weight, verdict in ((10.0, "verified"), (20000.0, "violated"), (16350.0, "unknown")):
        net = dense((np.full((1, 4), weight).tolist(), [0.0]))
        found = overflow(net, gamma.Box(0.9 * ones, ones))
        assert found.verdict == verdict, weight
        assert (found.witness is not None) == (verdict == "violated")
    cancels = dense(([[40000.0, 40000.0, -40000.0, -40000.0]], [0.0]))
    found = overflow(cancels, gamma.Box(ones, ones))
    assert found.verdict == "unknown"  # the sum is 0, partial sums are not
    assert found.nodes[-1].activation >= 0 and found.nodes[-1].partial > found.largest
    assert overflow(cancels, gamma.Box(ones, ones), "bfloat16").verdict == "verified"
    far = overflow(dense(([[1e38]], [0.0])), gamma.Box([10.0], [10.0]), "bfloat16")
    assert far.verdict == "violated"


def test_operators_of_every_kind() -> None:
    builder = Builder(Input(), (1, 4, 4))
    image = builder.add(Conv(np.full((2, 1, 3, 3), 2000.0)), 0)
    builder.add(Relu(), image)
    net = builder.build(2)
    found = overflow(net, gamma.Box(np.zeros((1, 4, 4)), np.ones((1, 4, 4))))
    assert found.verdict == "verified" and found.nodes[1].terms == 9
    assert 18000 <= found.nodes[1].partial < 18200
    builder = Builder(Input(), (4,))
    squares = builder.add(Mul(), 0, 0)
    builder.add(Softmax(), builder.add(Tanh(), squares))
    net = builder.build(3)
    assert overflow(net, gamma.Box(np.zeros(4), np.full(4, 255.0))).verdict == "verified"
    assert overflow(net, gamma.Box(np.zeros(4), np.full(4, 257.0))).verdict != "verified"
    builder = Builder(Input(), (2, 2))
    builder.add(MatMul(), 0, 0)
    found = overflow(builder.build(1), gamma.Box(np.zeros((2, 2)), np.full((2, 2), 180.0)))
    assert found.nodes[1].partial >= 64800 and found.nodes[1].terms == 2
    double = Scale(np.array(3.0)).after(Scale(np.array(5.0), np.array(1.0)))
    assert double is not None
    builder = Builder(Input(), (2,))
    builder.add(double, 0)
    fused = overflow(builder.build(1), gamma.Box(np.zeros(2), np.ones(2)))
    assert fused.verdict == "unknown" and fused.nodes[1].why


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gamma.save(dense((np.full((2, 2), 30000.0).tolist(), [0.0, 0.0])), tmp_path / "n.safetensors")
    for name, value in (("low", 0.0), ("high", 0.5), ("far", 2.0)):
        np.save(tmp_path / f"{name}.npy", np.full(2, value))
    words = ["overflow", str(tmp_path / "n.safetensors"), "--dtype", "float16", "--box"]
    low, high, far = (str(tmp_path / f"{n}.npy") for n in ("low", "high", "far"))
    assert main([*words, low, high]) == 0
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED  no execution in float16 overflows on the set")
    assert main([*words, low, far]) == 3
    assert capsys.readouterr().out.startswith("VIOLATED")
    assert main([*words, low, far, "--json", "--fail-on", "unknown"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gamma.overflow/1" and found["not_proved"]
    assert max(found["witness"]) == 2.0
