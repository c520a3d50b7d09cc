"""Rows around a convolution: added up in its C call, and copied only where one overwrites them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Relu, Reshape
from gamma.propagate.rows.descend import Descent
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box


def residual(side: bool, first: bool, grid: float = 0.0) -> Network:
    """A block with a convolution or nothing beside it, which comes ``first`` in the sum or not.

    With a ``grid`` all weights are multiples of it.
    """
    rng = np.random.default_rng(0)

    def rounded(values: Any) -> Any:
        return np.round(values / grid) * np.float32(grid) if grid else values

    def conv(out: int, into: int, size: int, stride: int) -> Conv:
        weight = rng.standard_normal((out, into, size, size)).astype(np.float32) / 4
        bias = rng.standard_normal(out).astype(np.float32) / 5
        return Conv(rounded(weight), rounded(bias), (stride, stride), (size // 2,) * 4)

    stride = 2 if side else 1
    builder = Builder(Input(), (3, 8, 8))
    x = builder.add(Relu(), builder.add(conv(5, 3, 3, 1), 0))
    if side and first:
        around = builder.add(conv(5, 5, 1, stride), x)
    y = builder.add(Relu(), builder.add(conv(5, 5, 3, stride), x))
    y = builder.add(conv(5, 5, 3, 1), y)
    if side and not first:
        around = builder.add(conv(5, 5, 1, stride), x)
    around = around if side else x
    both = builder.add(Relu(), builder.add(Add((1, 1)), *((around, y) if first else (y, around))))
    both = builder.add(Relu(), builder.add(conv(4, 5, 3, 1), both))
    flat = builder.add(Reshape((builder.nodes[both].size,)), both)
    last = rng.standard_normal((3, builder.nodes[flat].size)).astype(np.float32)
    return builder.build(builder.add(Gemm(rounded(last)), flat))


@pytest.mark.parametrize("side", (False, True))
@pytest.mark.parametrize("first", (False, True))
def test_the_same_bits_however_rows_are_added(
    side: bool, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = residual(side, first)
    box = Box.linf(np.random.default_rng(1).random((2, 3, 8, 8)), 0.05)
    added: list[bool] = []
    gather = kernels.gather

    def watched(*args: Any, **options: Any) -> bool:
        added.append(options["add"])
        return gather(*args, **options)

    monkeypatch.setattr(kernels, "gather", watched)
    with choices.using({("rows.start", ""): 0}), tuning.disabled("fused_windows"):
        found = gamma.bounds(net, box)
        assert any(added) == (kernels.isa != "numpy")
        with monkeypatch.context() as patch:
            patch.setattr(Descent, "_leaves", lambda *_: False)
            copied = gamma.bounds(net, box)
            with tuning.disabled("added_adjoint"):
                apart = gamma.bounds(net, box)
    for other in (copied, apart):
        assert (found.lower == other.lower).all() and (found.upper == other.upper).all()
