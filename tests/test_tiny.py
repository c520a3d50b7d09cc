"""The README's promise in seconds: load, bound, prove, refute, and never say more than is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops.base import Input
from gamma.ops.linear import Gemm
from gamma.ops.piecewise import Relu


@pytest.fixture
def net() -> Network:
    """y0 = |x0 + x1|, y1 = 3/2 − relu(x0): small enough to check by hand."""
    build = Builder(Input(), (2,))
    hidden = build.add(Gemm(np.array([[1, 1], [-1, -1], [1, 0]], np.float32)), 0)
    weight = np.array([[1, 1, 0], [0, 0, -1]], np.float32)
    last = build.add(Gemm(weight, np.array([0, 1.5], np.float32)), build.add(Relu(), hidden))
    return build.build(last)


def exact(x: np.ndarray) -> list[Fraction]:
    a, b = (Fraction(float(v)) for v in x)
    return [abs(a + b), Fraction(3, 2) - max(a, Fraction(0))]


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_enclose_the_exact_outputs(
    net: Network, method: str, guarantee: str, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    for radius in (0.0, 1e-6, 0.1, 1.0):
        x = rng.uniform(-1, 1, 2).astype(np.float32)
        box = gamma.Box.linf(x, radius)
        out = gamma.bounds(net, box, method=method, guarantee=guarantee, dtype=dtype)
        points = rng.uniform(box.lower, box.upper, (50, 2))
        for point in (box.lower, box.upper, *np.clip(points, box.lower, box.upper)):
            for i, truth in enumerate(exact(point)):
                assert Fraction(float(out.lower[i])) <= truth <= Fraction(float(out.upper[i]))


def test_a_proof_a_refutation_and_no_truth_value(net: Network) -> None:
    x = np.array([0.25, 0.25], np.float32)
    proved = gamma.verify(net, gamma.robustness(gamma.Box.linf(x, 0.125), label=1))
    assert proved.verdict == "verified"
    refuted = gamma.verify(net, gamma.robustness(gamma.Box.linf(x, 0.5), label=1))
    assert refuted.verdict == "violated"
    found = refuted.counterexample
    assert found is not None
    y = exact(found.x)
    assert y[0] >= y[1]
    assert abs(found.x - x).max() <= 0.5
    with pytest.raises(TypeError, match="three-valued"):
        bool(proved)


def test_ignorance_is_said(net: Network) -> None:
    # At (0, 0) class 1 wins, so label 0 is wrong; without the attack nobody looks there.
    prop = gamma.robustness(gamma.Box.linf(np.zeros(2, np.float32), 0.5), label=0)
    assert gamma.verify(net, prop, method="ibp").verdict == "violated"
    unknown = gamma.verify(net, prop, method="ibp", attack=False)
    assert unknown.verdict == "unknown"
    assert unknown.counterexample is None


def test_a_saved_network_is_the_same_network(net: Network, tmp_path: Path) -> None:
    gamma.save(net, tmp_path / "net.safetensors")
    again = gamma.load(tmp_path / "net.safetensors")
    x = np.random.default_rng(1).uniform(-1, 1, (5, 2)).astype(np.float32)
    assert again.forward(x).tolist() == net.forward(x).tolist()


def test_a_property_file(net: Network, tmp_path: Path) -> None:
    text = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    text += "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))\n"
    path = tmp_path / "p.vnnlib"
    path.write_text(text + "(assert (>= Y_0 2.001))")
    assert gamma.verify(net, gamma.read_vnnlib(path)).verdict == "verified"
    path.write_text(text + "(assert (>= Y_0 2))")  # attained at the corner (1, 1)
    assert gamma.verify(net, gamma.read_vnnlib(path)).verdict == "violated"
