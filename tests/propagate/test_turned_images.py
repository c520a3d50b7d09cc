"""Images with channels last need no transposition of rows: windows have them last, too."""

from __future__ import annotations

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Gemm, Input, Relu, Reshape, Transpose
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box


def network() -> Network:
    """Small integers: every bound is exact, whatever the order of sums."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape).astype(np.float32)

    builder = Builder(Input(), (9, 8, 3))
    last = builder.add(Transpose((2, 0, 1)), 0)
    last = builder.add(Conv(weight(5, 3, 3, 3), weight(5), (2, 2), (1, 1, 1, 1)), last)
    last = builder.add(Conv(weight(6, 5, 3, 3), None, (1, 1), (1, 1, 1, 1)), last)
    last = builder.add(Relu(), last)
    last = builder.add(Transpose((1, 2, 0)), last)
    last = builder.add(Reshape((5 * 4 * 6,)), last)
    return builder.build(builder.add(Gemm(weight(4, 120)), last))


@pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
def test_rows_are_not_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = network(), Box.linf(np.arange(216.0).reshape(9, 8, 3) % 5, 1)
    with tuning.disabled("windows"):
        plain = gamma.bounds(net, box)

    def refused(*_: object) -> None:
        raise AssertionError("a block of rows was transposed")

    monkeypatch.setattr(Transpose, "adjoint", refused)
    with choices.using({("rows.start", ""): 0}):
        found = gamma.bounds(net, box)
    assert (found.lower <= plain.upper).all() and (plain.lower <= found.upper).all()
    for seed in range(40):
        step = np.random.default_rng(seed).integers(-1, 2, box.lower.shape)
        exact = net.forward(((box.lower + box.upper) / 2 + step)[None])[0]
        assert (found.lower <= exact).all() and (exact <= found.upper).all()
    width, before = found.upper - found.lower, plain.upper - plain.lower
    assert (width <= before * 1.0001).all()
