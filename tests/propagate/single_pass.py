"""Dense networks for IBP in one call, and boxes whose ends must enclose the exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input
from gamma.propagate import passes
from gamma.propagate.options import options_of
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_passes import exact

ISAS = [name for name in kernels.available() if name != "numpy"]


def ends(network: Network, box: Box, dtype: str = "float32") -> tuple[Any, Any]:
    """Of one box as of two, since dense layers take one in float64."""
    count = len(box.lower)
    if count == 1:
        box = Box(*(np.repeat(end, 2, axis=0) for end in (box.lower, box.upper)))
    found = passes.output_ends(network, box, options_of(network, "ibp", "real", dtype, None))
    assert found is not None
    return found[0][:count], found[1][:count]


def layers(*weights: Any, biases: Sequence[Any] | None = None) -> Network:
    """Dense layers of float32 weights."""
    made, x = Builder(Input(), (len(weights[0][0]),)), 0
    for weight, bias in zip(weights, biases or [None] * len(weights), strict=True):
        x = made.add(Gemm(np.asarray(weight, np.float32), bias), x)
    return made.build(x)


def about(centre: Any, radius: Any) -> Box:
    """Boxes whose ends are these numbers, in float64."""
    centre, radius = np.atleast_2d(np.float64(centre)), np.atleast_2d(np.float64(radius))
    return Box(centre - radius, centre + radius)


def check(network: Network, box: Box) -> None:
    """Every box's ends enclose the exact ones, on every instruction set, and are finite."""
    truth = [exact(network, *ends) for ends in zip(box.lower, box.upper, strict=True)]
    for isa in ISAS:
        with kernels.pinned(isa):
            found = ends(network, box)
        for below, above, (low, high) in zip(*found, truth, strict=True):
            assert np.isfinite(below).all() and np.isfinite(above).all()
            assert all(Fraction(f) <= a for f, a in zip(below.ravel(), low, strict=True))
            assert all(a <= Fraction(f) for f, a in zip(above.ravel(), high, strict=True))


def single(network: Network, box: Box) -> bool:
    """Whether any product was taken in float32: bounds then differ from those without it."""
    with tuning.disabled("single_pass"):
        plain = ends(network, box)
    return any((a != b).any() for a, b in zip(plain, ends(network, box), strict=True))


def carried(rows: Any, bias: Any) -> Network:
    """The rows, and one that makes an entry of the input that no other row reads be wide."""
    weight = np.zeros((len(rows) + 1, len(rows[0]) + 1), np.float32)
    weight[:-1, :-1], weight[-1, -1] = rows, 1
    made = Builder(Input(), (weight.shape[1],))
    return made.build(made.add(Gemm(weight, np.append(bias, 0.0)), 0))
