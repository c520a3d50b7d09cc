"""Rows through images in one call: the same bits as step by step, whatever the network is like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import gamma
from gamma import telemetry, tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Relu, Reshape, Sigmoid, Transpose
from gamma.ops.charges import UNDERFLOW
from gamma.propagate.domain import Domain
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Dense
from gamma.propagate.rows.course import ImageCourses
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import as_windows
from gamma.propagate.sides import Sides
from gamma.propagate.walks import walk
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_residual_rows import residual

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")


class Made:
    """A network under construction, with weights drawn as they come."""

    def __init__(self, shape: tuple[int, ...], seed: int, dtype: type = np.float32) -> None:
        self.rng, self.dtype = np.random.default_rng(seed), dtype
        self.builder = Builder(Input(), shape)
        self.last = 0

    def conv(self, out: int, size: int, at: int | None = None, **how: Any) -> int:
        before = self.last if at is None else at
        channels = self.builder.nodes[before].shape[0] // how.get("group", 1)
        weight = self.rng.standard_normal((out, channels, size, size)).astype(self.dtype) / 3
        bias = self.rng.standard_normal(out).astype(np.float32) / 5
        self.last = self.builder.add(Conv(weight, bias, **how), before)
        return self.last

    def add(self, op: Any, *at: int) -> int:
        self.last = self.builder.add(op, *(at or (self.last,)))
        return self.last

    def network(self) -> Network:
        size = self.builder.nodes[self.last].size
        self.add(Reshape((size,)))
        self.add(Gemm(self.rng.standard_normal((3, size)).astype(np.float32)))
        return self.builder.build(self.last)


def plain() -> Network:
    """Pads, strides that differ, a kernel with holes, and a single channel at the input."""
    net = Made((1, 13, 11), 1)
    net.conv(6, 3, strides=(2, 1), pads=(1, 0, 1, 2))
    net.add(Relu())
    net.conv(5, 3, pads=(2, 2, 2, 2), dilations=(2, 2))
    net.add(Relu())
    net.conv(4, 3, strides=(2, 2))
    net.add(Relu())
    return net.network()


def hidden() -> Network:
    """A dense layer behind the images whose neurons get rows."""
    net = Made((2, 9, 9), 7)
    net.conv(5, 3, strides=(2, 2), pads=(1, 1, 1, 1))
    net.add(Relu())
    net.conv(6, 3, strides=(2, 2))
    net.add(Relu())
    size = net.builder.nodes[net.last].size
    net.add(Reshape((size,)))
    net.add(Gemm(net.rng.standard_normal((19, size)).astype(np.float32), np.ones(19, np.float32)))
    net.add(Relu())
    return net.network()


def grouped() -> Network:
    """Groups whose channels fill no vector, and an activation that is no ReLU."""
    net = Made((4, 9, 9), 2)
    net.conv(8, 3, pads=(1, 1, 1, 1), group=2)
    net.add(Sigmoid())
    net.conv(16, 3, group=2, strides=(2, 2))
    net.add(Relu())
    net.conv(4, 2, group=4)
    net.add(Relu())
    return net.network()


def last() -> Network:
    """Channels are last in the input; two convolutions in a row, whose own charge is paid."""
    net = Made((10, 10, 3), 3)
    net.add(Transpose((2, 0, 1)))
    net.conv(6, 3, strides=(2, 2))
    net.conv(6, 2)
    net.add(Relu())
    net.conv(5, 3, pads=(1, 1, 1, 1))
    net.add(Relu())
    return net.network()


def crossing(dtype: type = np.float32) -> Network:
    """Windows of unlike size and scale that meet, in sums of sums."""
    net = Made((3, 16, 16), 4, dtype)
    net.conv(6, 3, pads=(1, 1, 1, 1))
    first = net.add(Relu())
    wide = net.conv(6, 5, pads=(2, 2, 2, 2))
    tall = net.conv(6, 3, first, pads=(1, 1, 1, 1))
    some = net.add(Add((1, 1)), wide, tall)
    both = net.add(Add((1, 1)), some, first)
    net.add(Relu(), both)
    near = net.conv(7, 3, strides=(2, 2), pads=(1, 1, 1, 1))
    net.conv(7, 1, first, strides=(2, 2))
    net.add(Add((1, 1)), net.last, near)
    net.add(Relu())
    net.conv(5, 3)
    net.add(Relu())
    return net.network()


MAKERS: Mapping[str, Callable[[], Network]] = {
    "plain": plain,
    "grouped": grouped,
    "last": last,
    "crossing": crossing,
    **{
        f"residual {side} {first}": lambda side=side, first=first: residual(side, first)  # type: ignore[misc]
        for side in (False, True)
        for first in (False, True)
    },
}


def all_bounds(net: Network, box: Box, dtype: Any) -> list[Any]:
    made = walk(net, Domain(box), Options(dtype=np.dtype(dtype)))
    made.output()
    return [end for known in made.bounds for end in (known.lower.copy(), known.upper.copy())]


def step_by_step(self: Descent, frontier: Any, d: Any, box: Any, *_: Any) -> bool:
    """In place of `Descent._went`: rows lie as they do there, and nothing else is done."""
    nodes = self.tables.network.nodes
    if any(len(nodes[index].shape) != 3 for index in frontier) or not len(d):
        return False
    for index, rows in frontier.items():
        if isinstance(rows, Dense) and len(frontier) == 1 and index > 1:
            frontier[index] = as_windows(rows, nodes[index].shape, box)
    return False


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("dtype", "opposite"), ((np.float32, False), (np.float32, True), (np.float64, True))
)
def test_the_same_bits_as_step_by_step(
    name: str, dtype: Any, opposite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = MAKERS[name]()
    middle = np.random.default_rng(5).random((2, *net.nodes[0].shape))
    box = Box.linf(middle, np.array([0.02, 0.2]).reshape(2, *(1,) * (middle.ndim - 1)))
    monkeypatch.setattr(Sides, "worth", lambda self, *_: opposite and self._relus)
    ways: list[bool] = []
    way = ImageCourses.way

    def watched(self: ImageCourses, frontier: Any, *rest: Any) -> Any:
        found = way(self, frontier, *rest)
        ways.append(found is not None)
        return found

    monkeypatch.setattr(ImageCourses, "way", watched)
    with choices.using({("rows.start", ""): 0}):
        with tuning.disabled("fused_images"):
            found = all_bounds(net, box, dtype)
        assert any(ways)
        monkeypatch.setattr(Descent, "_went", step_by_step)
        with tuning.disabled("fused_starts", "fused_images"):
            expected = all_bounds(net, box, dtype)
    for one, other in zip(found, expected, strict=True):
        if (
            name == "last"
        ):  # windows meet the input, whole images step by step: sums in another order
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(one, other)


def test_the_gate_leaves_bounds_as_wide() -> None:
    net = crossing()
    box = Box.linf(np.random.default_rng(6).random((1, 3, 16, 16)), 0.05)
    with tuning.disabled("fused_windows"):
        apart = gamma.bounds(net, box)
    together = gamma.bounds(net, box)
    np.testing.assert_allclose(
        together.upper - together.lower, apart.upper - apart.lower, rtol=1e-4
    )


def test_losses_too_large_to_overlook(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxation, charge = Tables.relaxation, Tables.charge

    def dear(found: Any) -> Any:
        return replace(found, loss=found.loss + 2.0**-8)

    monkeypatch.setattr(Tables, "relaxation", lambda *at: dear(relaxation(*at)))
    monkeypatch.setattr(Tables, "charge", lambda *at: dear(charge(*at)))
    net, box = crossing(), Box.linf(np.random.default_rng(5).random((1, 3, 16, 16)), 0.05)
    with choices.using({("rows.start", ""): 0}), tuning.disabled("fused_tables", "fused_starts"):
        found = all_bounds(net, box, np.float32)
        monkeypatch.setattr(Descent, "_went", step_by_step)
        expected = all_bounds(net, box, np.float32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tables_in_one_call_cost_what_weights_and_products_lose_below_the_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MEET.FLUSH, MEET.LOSS: as if float32 ended at 2⁻¹⁴, under weights that are no float32."""
    monkeypatch.setitem(UNDERFLOW, np.dtype(np.float32), 2.0**-14)
    monkeypatch.setattr(Sides, "worth", lambda self, *_: self._relus)
    net, box = crossing(np.float64), Box.linf(np.random.default_rng(5).random((2, 3, 16, 16)), 0.05)
    with choices.using({("rows.start", ""): 0}), tuning.disabled("fused_images"):
        found = all_bounds(net, box, np.float32)
        with tuning.disabled("fused_tables", "fused_starts"):
            expected = all_bounds(net, box, np.float32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def layered() -> Network:
    """Dense layers, one behind the other, that read an image; whole numbers."""
    net = Made((2, 7, 6), 9)
    rng = net.rng

    def whole(*shape: int) -> Any:
        return rng.integers(-3, 4, shape).astype(np.float32)

    net.add(Conv(whole(4, 2, 3, 3), whole(4), strides=(2, 2), pads=(1, 1, 1, 1)))
    net.add(Relu())
    net.add(Reshape((net.builder.nodes[net.last].size,)))
    for out in (17, 9, 3):
        net.add(Gemm(whole(out, net.builder.nodes[net.last].size), whole(out).astype(np.float64)))
        net.add(Relu())
    net.add(Gemm(whole(2, 3)))
    return net.builder.build(net.last)


@pytest.mark.parametrize(
    ("off", "span"), ((("fused_images",), "crown.backward.images"), ((), "crown.images"))
)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_rows_pass_dense_layers_in_the_call(dtype: Any, off: tuple[str, ...], span: str) -> None:
    """Against exact values, of which float64 has all digits; as narrow as step by step."""
    net = layered()
    centre = np.random.default_rng(1).integers(-8, 9, (2, *net.input_shape)) / 4
    box = Box.linf(centre, np.array([1 / 64, 1 / 2]).reshape(2, 1, 1, 1))
    with tuning.disabled(*off), telemetry.recording() as recorder:
        found = all_bounds(net, box, dtype)
    names = {span.name for span in recorder.spans}
    assert span in names
    assert not {"crown.backward.gemm", "crown.backward.relu", "crown.backward.reshape"} & names
    with tuning.disabled("fused_windows", "fused_images"):
        expected = all_bounds(net, box, dtype)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    for seed in range(40):
        step = np.random.default_rng(seed).choice((-1.0, 1.0), centre.shape)
        exact = net.forward(box.lower + (box.upper - box.lower) * (step > 0))
        assert (found[-2] <= exact).all() and (exact <= found[-1]).all()


def test_large_dense_layers_are_multiplied_by_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight that leaves the cache between two blocks of rows."""
    monkeypatch.setattr("gamma.ops.linear._MOST_PANELS", 8)
    net = layered()
    box = Box.linf(np.zeros((1, *net.input_shape)), 0.25)
    with telemetry.recording() as recorder:
        all_bounds(net, box, np.float32)
    assert "crown.backward.gemm" in {span.name for span in recorder.spans}


def test_dense_layers_over_the_last_axis_of_an_image_go_step_by_step() -> None:
    """Vision transformers have such: the matrix has fewer columns than its input has entries."""
    made = Made((2, 6, 6), 5)
    made.conv(4, 3)
    made.add(Relu())
    made.add(Reshape((4, 16)))
    made.add(Gemm(made.rng.standard_normal((5, 16)).astype(np.float32)))
    made.add(Relu())
    net = made.network()
    box = Box.linf(made.rng.random((1, *net.input_shape)), 0.2)
    found = gamma.bounds(net, box, method="crown")
    for seed in range(40):
        step = np.random.default_rng(seed).choice((-1.0, 1.0), net.input_shape)
        exact = net.forward(np.where(step > 0, box.upper, box.lower))
        assert (found.lower <= exact).all() and (exact <= found.upper).all()


def test_a_dense_layer_behind_images_of_two_shapes() -> None:
    """The order of its columns is that of one of them."""
    op = Gemm(np.random.default_rng(0).standard_normal((4, 36)).astype(np.float32))
    first, other = op.panels((4, 3, 3), np.dtype(np.float32)), op.panels((1, 6, 6), np.dtype("f"))
    assert first is not None and other is None
    assert not np.array_equal(first.reshape(4, -1)[:, :36], op.weight)
    np.testing.assert_array_equal(
        np.sort(first.ravel()[first.ravel() != 0]), np.sort(op.weight.ravel())
    )
