"""The images that a network begins with in one call: what the walk finds out node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import InternalError
from gamma.network.graph import Network
from gamma.ops import Gemm, Relu, Reshape, Transpose
from gamma.propagate import images, sides
from gamma.propagate.images import ImageWalk
from gamma.propagate.options import Options
from gamma.propagate.walks import Walk, walk
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_course import MAKERS, Made, hidden

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")


def deep() -> Network:
    """Many rows of one side are decided by the first ReLU's interval, and many are not."""
    net = Made((2, 9, 9), 11)
    for out in (4, 5, 6):
        net.conv(out, 3, pads=(1, 1, 1, 1))
        net.add(Relu())
    net.conv(3, 3)
    net.add(Relu())
    return net.network()


def turned() -> Network:
    """Channels come first before the convolutions and last behind them; two hidden dense layers."""
    net = Made((11, 10, 3), 13)
    net.add(Transpose((2, 0, 1)))
    net.conv(6, 3, strides=(2, 2), pads=(1, 1, 1, 1))
    net.add(Relu())
    net.conv(5, 3, strides=(2, 2))
    net.add(Relu())
    net.add(Transpose((1, 2, 0)))
    size = net.builder.nodes[net.last].size
    net.add(Reshape((size,)))
    for out in (17, 14):
        net.add(Gemm(net.rng.standard_normal((out, size)).astype(np.float32) / 2))
        net.add(Relu())
        size = out
    return net.network()


SMALL = ("hidden", "turned", "last")  # rows of a node never take so long
# Where node by node pays for a step that copies, and sums are in another order.
TURNED = ("turned", "last")
NETWORKS = {**MAKERS, "hidden": hidden, "deep": deep, "turned": turned}


def walked(name: str, dtype: Any, share: float) -> Walk:
    net = NETWORKS[name]()
    middle = np.random.default_rng(5).random((3, *net.nodes[0].shape))
    box = Box.linf(middle, np.array([0.0, 0.02, 0.2]).reshape(3, *(1,) * (middle.ndim - 1)))
    given = {("rows.start", ""): 0, ("rows.share", ""): share}
    with choices.using(given):
        made = walk(net, box, Options("crown", "real", np.dtype(dtype)))
        made.output()
    return made


# All in one call; rows over some calls, a row at a time; one-sided in one call, from the first on,
# once few neurons stayed open, over some calls, and left to the walk.
@pytest.mark.parametrize(
    ("share", "few", "alone"),
    (
        *((1e9, 0.0, True), (2e5, 0.0, True), (0.0, 0.0, True)),
        *((1e9, 1.0, True), (1e9, 0.9, True), (0.0, 0.9, True), (1e9, 1.0, False)),
    ),
    ids=str,
)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"grouped"}))
def test_the_same_bits_as_node_by_node(
    name: str, dtype: Any, share: float, few: float, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "UNCHECKED", 2 * share)
    monkeypatch.setattr(sides, "OPEN", few)
    monkeypatch.setattr(sides, "CALLS", 0.0 if few else 1e5)
    if not alone:
        monkeypatch.setattr(images._Maker, "_signs", lambda *_: None)
    calls, go = [], ImageWalk.go

    def counted(self: ImageWalk) -> Any:
        found = go(self)
        calls.append((self.left, self.paused))
        return found

    monkeypatch.setattr(ImageWalk, "go", counted)
    found = walked(name, dtype, share)
    assert any(paused for _, paused in calls) == (not share or (share < 1e9 and name not in SMALL))
    early = name == "last" and few == 1.0  # rows that start before the first ReLU
    assert all(left is None for left, _ in calls) == (alone and not early)
    with tuning.disabled("fused_images"):
        expected = walked(name, dtype, share)
    assert found.unstable == expected.unstable
    for index, (one, other) in enumerate(zip(found.bounds, expected.bounds, strict=True)):
        assert found.tight.get(index) == expected.tight.get(index)
        np.testing.assert_array_equal(found.rowed.get(index), expected.rowed.get(index))
        parts = "lower", "upper", "centre", "radius"
        if one.spread is None:  # an image that is turned: its entries are copied
            assert not np.any(other.noise)
        else:
            parts += "spread", "noise"
        for part in parts:
            ends = getattr(one, part), getattr(other, part)
            if name in TURNED:
                np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(*ends)


def test_bounds_that_contradict_each_other_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A charge below 0 makes rows promise more than there is."""
    factors = images.factors_of
    monkeypatch.setattr(images, "factors_of", lambda *at: (-1e6, *factors(*at)[1:]))
    with pytest.raises(InternalError, match="contradict each other"):
        walked("plain", np.float32, 1e9)


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("name", TURNED)
def test_many_boxes_find_what_a_few_do(name: str, dtype: Any) -> None:
    """Dense layers are part of the call for any number of boxes, whose sums are their own."""
    net, how = NETWORKS[name](), Options("crown", "real", np.dtype(dtype))
    middle = np.random.default_rng(6).random((13, *net.nodes[0].shape))
    box = Box.linf(middle, np.linspace(0.0, 0.1, 13).reshape(13, *(1,) * (middle.ndim - 1)))
    many = walk(net, box, how)
    assert many.imaged is not None
    many.output()
    for first in (0, 2, 5, 9):
        few = walk(net, box.slice(first, first + 4), how)
        few.output()
        for one, other in zip(few.bounds, many.bounds, strict=True):
            np.testing.assert_array_equal(one.lower, other.lower[first : first + 4])
            np.testing.assert_array_equal(one.upper, other.upper[first : first + 4])
