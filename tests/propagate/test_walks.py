"""What does not depend on how the work is cut: batches, blocks of rows, gates, dtype, deadlines."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops, tuning
from gamma.errors import InternalError, ResourceError, UsageError
from gamma.methods import METHODS
from gamma.network.graph import Builder, Network
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.specification import Specification
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.families import SHAPES, Draw, box

Array = Any
SOME = ("mlp", "convolution", "pictures", "line", "residual", "movement", "scaled", "repeated")


def made(shape: str, seed: int = 3) -> Network:
    return SHAPES[shape](Draw("plain", np.random.default_rng(seed)))


def close(a: Any, b: Any, dtype: str) -> None:
    """Both are sound; sums ran in another order, so they agree to a few charges."""
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    for one, other in ((a.lower, b.lower), (a.upper, b.upper)):
        scale = np.maximum(1.0, np.abs(a.upper - a.lower).max())
        assert (np.isinf(one) == np.isinf(other)).all()
        assert (np.abs(one - other)[np.isfinite(one)] <= tolerance * scale).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SOME)
def test_a_batch_is_its_boxes(shape: str, method: str, dtype: str) -> None:
    """Ragged unstable sets: boxes of different size in one batch, rows one at a time or all."""
    net = made(shape)
    rng = np.random.default_rng(0)
    boxes = box("wide", net.input_shape, rng, 5)
    asked: Any = {"method": method, "dtype": dtype, "steps": 3}
    together = gamma.bounds(net, boxes, **asked)
    blocks = gamma.bounds(net, boxes, row_bytes=1, **asked)
    close(together, blocks, dtype)
    for b in range(5):
        alone = gamma.bounds(net, Box(boxes.lower[b], boxes.upper[b]), **asked)
        assert alone.shape == net.output_shape
        part = type(alone)(together.lower[b], together.upper[b])
        close(alone, part, dtype)


@pytest.mark.parametrize("gate", sorted(tuning.GATES))
@pytest.mark.parametrize("shape", SOME)
def test_every_gate_gives_the_same_bounds(shape: str, gate: str) -> None:
    """An optimisation changes time, and bounds by no more than rounding charges."""
    net = made(shape)
    boxes = box("wide", net.input_shape, np.random.default_rng(1), 3)
    with_it = gamma.bounds(net, boxes, dtype="float64")
    with tuning.disabled(gate):
        without = gamma.bounds(net, boxes, dtype="float64")
    # Bounds of stable neurons tighten the intervals after them; parallel lines are other lines.
    if gate in ("unstable", "parallel_lines"):
        assert (without.lower <= with_it.upper).all() and (with_it.lower <= without.upper).all()
    else:
        close(with_it, without, "float64")


@pytest.mark.parametrize("shape", SOME)
def test_every_instruction_set_gives_the_same_bounds(shape: str) -> None:
    net = made(shape)
    boxes = box("wide", net.input_shape, np.random.default_rng(2), 3)
    known = []
    for name in kernels.available():
        # Lines of smooth functions are searched in another way by the compiled library.
        with kernels.pinned(name), tuning.disabled("fused_lines"):
            known.append(gamma.bounds(net, boxes, dtype="float64"))
    for other in known[1:]:
        close(known[0], other, "float64")


@pytest.mark.parametrize("shape", SOME)
def test_methods_are_ordered(shape: str) -> None:
    """crown is no looser than crown-ibp and ibp (up to charges); float32 no tighter than real."""
    net = made(shape)
    boxes = box("wide", net.input_shape, np.random.default_rng(3), 2)
    width = {m: gamma.bounds(net, boxes, method=m, dtype="float64").width for m in METHODS}
    assert (width["crown-ibp"] <= width["ibp"] * (1 + 1e-9) + 1e-12).all()
    assert (width["crown"] <= width["ibp"] * (1 + 1e-9) + 1e-12).all()
    executed = gamma.bounds(net, boxes, guarantee="float32", dtype="float64")
    real = gamma.bounds(net, boxes, dtype="float64")
    slack = 1e-9 * np.maximum(1.0, np.abs(real.upper))
    assert (executed.lower <= real.lower + slack).all()
    assert (executed.upper >= real.upper - slack).all()


def test_intermediate_bounds_end_with_the_output() -> None:
    net = made("residual")
    boxes = box("wide", net.input_shape, np.random.default_rng(4), 3)
    known = gamma.bounds(net, boxes, intermediate=True)
    assert list(known) == [node.name for node in net.nodes]
    last = gamma.bounds(net, boxes)
    assert (known[net.nodes[net.output].name].lower == last.lower).all()
    for node in net.nodes:
        assert known[node.name].shape == (3, *node.shape)
    assert (known[net.nodes[0].name].lower <= boxes.lower).all()


def test_rows_are_left_as_they_were() -> None:
    """The caller's specification is read only: a walk overwrites copies."""
    builder = Builder(ops.Input(), (3,))
    net = builder.build(builder.add(ops.Sigmoid(), 0))
    y, x = np.ones((2, 3)), np.ones((2, 3))
    asked = Specification(y, x, np.zeros(2), np.zeros(2, np.int64))
    one = Box(np.zeros((1, 3)), np.ones((1, 3)))
    first = lower_bounds(net, one, asked, dtype="float64").lower
    assert (y == 1).all() and (x == 1).all()
    assert (lower_bounds(net, one, asked, dtype="float64").lower == first).all()


def test_output_that_is_read_again() -> None:
    """Nodes after the output do not matter, even when they read it."""
    rng = np.random.default_rng(5)
    builder = Builder(ops.Input(), (3,))
    first = builder.add(
        ops.Gemm(rng.normal(size=(20, 3)), np.where(np.arange(20) < 9, -50.0, 0)), 0
    )
    relu = builder.add(ops.Relu(), first)
    builder.add(ops.Gemm(rng.normal(size=(2, 20))), relu)
    net = builder.build(relu)
    one = Box(-np.ones((1, 3)), np.ones((1, 3)))
    asked = Specification(np.ones((1, 20)), None, np.zeros(1), np.zeros(1, np.int64))
    assert -1e-12 <= lower_bounds(net, one, asked).lower[0] <= 0


def test_more_coefficients_than_float32_holds_are_redone() -> None:
    """auto: rows that only float32's charges leave undecided are asked again in float64."""
    rng = np.random.default_rng(6)
    builder = Builder(ops.Input(), (3,))
    i = builder.add(ops.Gemm(rng.normal(size=(200, 3)).astype(np.float32)), 0)
    i = builder.add(ops.Gemm(rng.normal(size=(1, 200)).astype(np.float32)), i)
    net = builder.build(i)
    one = Box(-np.ones((1, 3)), np.ones((1, 3)))
    asked = Specification(np.ones((1, 1)), None, np.zeros(1), np.zeros(1, np.int64))
    exact = lower_bounds(net, one, asked, dtype="float64").lower[0]
    constant = np.array([-exact + 1e-9 * abs(exact)])
    asked = Specification(np.ones((1, 1)), None, constant, np.zeros(1, np.int64))
    assert lower_bounds(net, one, asked, dtype="float32").lower[0] <= 0
    result = lower_bounds(net, one, asked, dtype="auto")
    assert result.lower[0] > 0 and result.dtype == "float32"
    assert result.used == ("crown", "1 rows again in float64")


# -- balls, clipping ---------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["1", "2"])
def test_balls_are_tighter_than_their_hull(norm: str) -> None:
    net = made("mlp")
    x = np.full(5, 0.3)
    make = Box.l2 if norm == "2" else Box.l1
    ball = gamma.bounds(net, make(x, 0.5), dtype="float64")
    hull = gamma.bounds(net, Box.linf(x, 0.5), dtype="float64")
    assert (ball.lower >= hull.lower - 1e-12).all() and (ball.upper <= hull.upper + 1e-12).all()
    assert (ball.width < 0.95 * hull.width).all()
    rng = np.random.default_rng(7)
    for _ in range(300):
        step = (
            rng.normal(size=5) if norm == "2" else rng.exponential(size=5) * rng.choice([-1, 1], 5)
        )
        step *= 0.4999 / np.linalg.norm(step, int(norm))
        y = net.forward((x + step)[None], dtype=np.float64)[0]
        assert (ball.lower <= y + 1e-12).all() and (y <= ball.upper + 1e-12).all()


@pytest.mark.parametrize("norm", ["1", "2"])
def test_a_clipped_ball_is_no_larger_than_either(norm: str) -> None:
    net = made("mlp")
    x, clip = np.full(5, 0.05), (0.0, 1.0)
    make = Box.l2 if norm == "2" else Box.l1
    both = gamma.bounds(net, make(x, 0.6, clip), dtype="float64", method="crown-ibp")
    box_only = gamma.bounds(net, Box.linf(x, 0.6, clip), dtype="float64", method="crown-ibp")
    assert (both.lower >= box_only.lower - 1e-12).all()
    assert (both.upper <= box_only.upper + 1e-12).all()


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_passed_deadline_raises(method: str) -> None:
    net = made("mlp")
    with pytest.raises(ResourceError):
        gamma.bounds(net, Box.linf(np.zeros(5), 1.0), method=method, deadline=time.monotonic() - 1)


def overflowing(weight: float) -> Network:
    builder = Builder(ops.Input(), (2,))
    i = 0
    for _ in range(8):
        i = builder.add(ops.Gemm(np.full((2, 2), weight)), i)
        i = builder.add(ops.Relu(), i)
    return builder.build(builder.add(ops.Gemm(np.array([[1.0, -1.0]])), i))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weight", [1e30, 1e60, 1e200, 1e308])
def test_overflow_is_never_a_verdict(
    weight: float, method: str, guarantee: str, dtype: str
) -> None:
    """Values beyond the range give infinite bounds, never NaN, never a proof."""
    net = overflowing(weight)
    one = Box(np.zeros((1, 2)), np.ones((1, 2)))
    known = gamma.bounds(net, one, method=method, guarantee=guarantee, dtype=dtype)
    assert not np.isnan(known.lower).any() and not np.isnan(known.upper).any()
    assert (known.lower <= 0).all() and (known.upper >= 0).all()
    asked = Specification(np.ones((1, 1)), None, np.zeros(1), np.zeros(1, np.int64))
    found = lower_bounds(net, one, asked, method=method, guarantee=guarantee, dtype=dtype).lower
    assert not found[0] > 0 and not np.isnan(found).any()


def test_contradictions_are_internal_errors() -> None:
    from gamma.ops.bounds import check_order

    for low, high in ((1.0, 0.0), (np.inf, np.inf), (-np.inf, -np.inf)):
        with pytest.raises(InternalError):
            check_order(np.array([low]), np.array([high]), "node")


@pytest.mark.parametrize(
    "options", [{"method": "best"}, {"guarantee": "float16"}, {"dtype": "float16"}]
)
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        gamma.bounds(made("mlp"), Box.linf(np.zeros(5), 1.0), **options)


@pytest.mark.parametrize("method", ["crown", "alpha"])
def test_activations_one_after_another_need_no_recursion(method: str) -> None:
    x = Builder(ops.Input(), (2,))
    node = 0
    for _ in range(1500):
        node = x.add(ops.Relu(), node)
    found = gamma.bounds(x.build(node), Box([-1.0, 0.5], [1.0, 2.0]), method=method)
    assert (found.lower <= [0, 0.5]).all() and (found.upper >= [1, 2]).all()
