"""Verdicts against exact arithmetic: a proof never covers a point that breaks it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property
from gamma.verification.exact import exact_output
from tests.verify.known import ONE, dense, region, verify

Rng = np.random.Generator


def random_net(rng: Rng, scale: float) -> Network:
    sizes = (2, *rng.integers(2, 7, rng.integers(1, 4)).tolist(), 2)
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        weight = (rng.standard_normal((b, a)) * scale).astype(np.float32)
        bias = (rng.standard_normal(b) * scale).astype(np.float32)
        layers.append((weight.tolist(), bias.tolist()))
    return dense(*layers)


def least(net: Network, points: np.ndarray, constraint: LinearConstraint) -> Fraction:
    """The smallest exact value of the constraint's left side over float points."""
    values = []
    for x in points:
        y = exact_output(net, x)
        assert y is not None
        total = sum((c * y[i] for i, c in constraint.y), start=Fraction(0))
        total += sum((c * Fraction(float(x[i])) for i, c in constraint.x), start=Fraction(0))
        values.append(total)
    return min(values)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e6])
def test_no_proof_against_an_exact_point(
    method: str, guarantee: str, dtype: str, scale: float
) -> None:
    rng = np.random.default_rng(7)
    for _ in range(6):
        net = random_net(rng, scale)
        radius = Fraction(rng.choice([0, 1, 2**-10, 0.3]))
        centre = [Fraction(float(v)) for v in rng.uniform(-1, 1, 2).astype(np.float32)]
        low, high = [c - radius for c in centre], [c + radius for c in centre]
        ends = np.array([[float(v) for v in low], [float(v) for v in high]])
        points = rng.uniform(ends[0], ends[1], (20, 2)).astype(np.float32).astype(np.float64)
        points = np.clip(points, ends[0], ends[1])
        terms = (((0, ONE), (1, -ONE)), ((0, Fraction(1, 2)),))
        truth = least(net, points, LinearConstraint(*terms, Fraction(0)))
        for slack in (Fraction(0), Fraction(1, 2**40), Fraction(1)):
            # The unsafe set contains the best sampled point: "verified" would be a lie.
            bound = truth + slack * abs(truth)
            prop = Property((region(low, high, (LinearConstraint(*terms, bound),)),), 2, 2)
            result = verify(
                net, prop, method=method, guarantee=guarantee, dtype=dtype, timeout=0.02
            )
            assert result.verdict != "verified"
            if guarantee == "real" and result.counterexample is not None:
                found = result.counterexample.x
                assert least(net, found[None], LinearConstraint(*terms, bound)) <= bound
                assert all(
                    a <= Fraction(float(v)) <= b for a, v, b in zip(low, found, high, strict=True)
                )
