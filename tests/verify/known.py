"""Hand-made networks whose exact range over a box is known by a short argument."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gamma.network.graph import Builder, Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.ops import Gemm, Relu
from gamma.ops.base import Input
from gamma.verification.result import Result
from gamma.verification.verdict import verify as decide

ONE = Fraction(1)


def verify(net: Network, prop: Property, **options: Any) -> Result:
    """`gamma.verify` by bounds and attacks alone: branch and bound has tests of its own."""
    return decide(net, prop, **{"method": "crown", **options})


def dense(*layers: tuple[list[list[float]], list[float]]) -> Network:
    """Gemm layers with ReLU between them."""
    build = Builder(Input(), (len(layers[0][0][0]),))
    last = 0
    for number, (weight, bias) in enumerate(layers):
        if number:
            last = build.add(Relu(), last)
        gemm = Gemm(np.array(weight, np.float32), np.array(bias, np.float32))
        last = build.add(gemm, last, name=f"fc{number}")
    return build.build(last)


def hat() -> Network:
    """y = max(0, 1 − |x|) as 1 ReLU layer: relu(x+1) − 2 relu(x) + relu(x−1); peak y(0) = 1."""
    return dense(([[1.0], [1.0], [1.0]], [1.0, 0.0, -1.0]), ([[1.0, -2.0, 1.0]], [0.0]))


def ramp() -> Network:
    """y = relu(x) on [-1, 1]: exact range [0, 1], and CROWN with IBP attains it."""
    return dense(([[1.0]], [0.0]), ([[1.0]], [0.0]))


def vast(layers: int = 11) -> Network:
    """y = 10^30 relu(10^30 relu(... x)): beyond float64 from 11 layers on."""
    return dense(*[([[1e30]], [0.0])] * layers)


def region(
    lower: list[Fraction | int], upper: list[Fraction | int], *unsafe: tuple[LinearConstraint, ...]
) -> Region:
    return Region(
        tuple(Fraction(v) for v in lower), tuple(Fraction(v) for v in upper), tuple(unsafe)
    )


def at_least(index: int, bound: Fraction, strict: bool = False) -> LinearConstraint:
    """Y_index >= bound (> when strict)."""
    return LinearConstraint(((index, -ONE),), (), -bound, strict)


def at_most(index: int, bound: Fraction, strict: bool = False) -> LinearConstraint:
    """Y_index <= bound (< when strict)."""
    return LinearConstraint(((index, ONE),), (), bound, strict)


def reaches(net: Network, bound: Fraction, strict: bool = False) -> Property:
    """Unsafe: Y_0 >= bound for some X_0 in [-1, 1]."""
    return Property((region([-1], [1], (at_least(0, bound, strict),)),), 1, 1)


def hard(inputs: int, hidden: Sequence[int], margin: float) -> tuple[Network, Property]:
    """Is the output ever so far below the least of many samples? It is not; that takes boxes."""
    rng, sizes = np.random.default_rng(0), [inputs, *hidden, 1]
    layers = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        weight = rng.normal(size=(b, a)) * np.sqrt(2 / a)
        layers.append((weight.tolist(), (rng.normal(size=b) * 0.1).tolist()))
    net = dense(*layers)
    least = float(net.forward(rng.uniform(-1, 1, (20_000, inputs)).astype(np.float32)).min())
    ends = [Fraction(-1)] * inputs, [Fraction(1)] * inputs
    return net, Property((region(*ends, (at_most(0, Fraction(least - margin)),)),), inputs, 1)
