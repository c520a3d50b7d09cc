"""The arithmetic of float32 products' charges against definitions; kernels are not asked."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gamma.network.graph import Builder
from gamma.ops import Conv, Input
from gamma.propagate import passes
from gamma.propagate import single as charges
from gamma.tensor.kernels.passes import BLOCK, GROUP


def summed_by(terms: int) -> list[int]:
    """Roundings of each term in a sum as the kernels write it: a dictionary per partial sum."""

    def add(one: dict[int, int], two: dict[int, int]) -> dict[int, int]:
        return {k: n + 1 for k, n in (one | two).items()}

    def group(first: int, end: int) -> dict[int, int]:
        total: dict[int, int] = {}
        for start in range(first, end, BLOCK):
            block: dict[int, int] = {}
            for k in range(start, min(start + BLOCK, end)):
                block = add(block, {k: 1})  # the product's own, unless they are fused
            total = add(total, block) if total else block
        return total

    def halves(first: int, end: int) -> dict[int, int]:
        groups = -(-(end - first) // GROUP)
        if groups == 1:
            return group(first, end)
        middle = first + (groups + 1) // 2 * GROUP
        return add(halves(first, middle), halves(middle, end))

    found = halves(0, terms)
    return [found[k] for k in range(terms)]


@pytest.mark.parametrize("terms", [1, 2, 7, 8, 9, 27, 48, 64, 65, 128, 129, 200, 784, 1025])
def test_roundings_are_those_of_the_sum(terms: int) -> None:
    assert charges.roundings_of(terms).tolist() == summed_by(terms)


def test_a_charge_covers_what_it_is_for() -> None:
    """In exact arithmetic, for any centre and reach: every rounding loses all it may."""
    kept = 1 - Fraction(1, 2**24)
    for roundings in range(1, 40):
        per_centre, per_reach = map(Fraction, charges.charge_of(roundings))
        error = Fraction(roundings, 2**24) / (1 - Fraction(roundings, 2**24))
        for c, r in ((0, 1), (1, 0)):
            away = (1 - kept) * (1 + Fraction(1, 2**28))
            needed = (r / kept + away * c + error * c) / (1 - error)
            reach = (r + (c * per_centre + r * per_reach) * kept**2) * kept
            assert reach * kept**3 >= needed  # the sum, with offsets, on the way to an end


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_every_reading_of_an_entry_is_charged(stride: int, dilation: int) -> None:
    """Groups, pads, strides and dilations: the kernel's terms, window by window."""
    shape, (kh, kw), pad = (4, 6, 9), (3, 4), 2
    made = Builder(Input(), shape)
    weight = np.ones((6, 2, kh, kw), np.float32)
    op = Conv(weight, None, (stride,) * 2, (pad,) * 4, (dilation,) * 2, 2)
    network = made.build(made.add(op, 0))
    maker = passes._Maker(network, True)
    maker.visit(network.nodes[1])
    roundings = summed_by(kh * kw * 2)
    most = np.zeros((9, 4), np.int64)
    _, height, width = network.nodes[1].shape
    for y, x, i, j, c in np.ndindex(height, width, kh, kw, 2):
        row, column = y * stride + i * dilation - pad, x * stride + j * dilation - pad
        if 0 <= row < shape[1] and 0 <= column < shape[2]:
            term = (i * kw + j) * 2 + c
            for group in range(2):
                at = column, 2 * group + c
                most[at] = max(most[at], roundings[term])
    charge = charges.charged(maker.made)[0].charge
    assert charge is not None
    for n, found in zip(most.ravel(), charge.reshape(-1, 2), strict=True):
        assert n == 0 or (found == np.float32(charges.charge_of(int(n)))).all()
    assert (most > 0).any()
