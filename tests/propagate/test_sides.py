"""Neurons whose sign alone matters: one row first, and what its other side gets from it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.network.graph import Builder
from gamma.ops import Conv, Input, ReduceMax, Relu
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNIT, LinearCharge
from gamma.ops.tables import Diagonal, Precision
from gamma.propagate import sides
from gamma.propagate.options import Options
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.opposite import follow, strips, turn
from gamma.propagate.walks import Walk, walk
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_residual_rows import residual

F32 = np.dtype(np.float32)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """One side first however small the network is and however many neurons stay open."""
    monkeypatch.setattr(sides, "CALLS", 0.0)
    monkeypatch.setattr(sides, "OPEN", 1.0)


def nodes(ends: Any) -> NodeBounds:
    lower, upper = (np.array([e], np.float64) for e in zip(*ends, strict=True))
    return NodeBounds(lower, upper, 0.5 * (lower + upper)).frozen()


@pytest.mark.parametrize("weight", (0.0, 1e-3))
def test_strips_hold_the_function(weight: float) -> None:
    """STRIP.HEIGHT, STRIP.CARRIED, STRIP.SLOPE: at the ends and the kink, in exact arithmetic."""
    ends = [(-3.0, 1e-4), (-1e-4, 3.0), (-1.0, 2.0), (-2.0, 1.0), (1.0, 5.0), (-5.0, -1.0)]
    inside, after = nodes(ends), nodes([(max(a, 0.0), max(b, 0.0)) for a, b in ends])
    carried = LinearCharge(np.full(inside.lower.shape, weight), np.zeros(1))
    table = Relu().relax([inside], after, Precision("real", F32), carried)
    assert isinstance(table, Diagonal)
    heights = strips(table, inside.radius, carried.weight, UNIT[F32])
    for k, (low, high) in enumerate(ends):
        radius = Fraction(float(inside.radius[0, k]))
        for x in {Fraction(low), Fraction(high), *([Fraction(0)] if low < 0 < high else [])}:
            t = x - Fraction(float(inside.centre[0, k]))
            value = max(x, Fraction(0)) - Fraction(float(after.centre[0, k]))
            for slope, constant, sign in (
                (table.lower_slope, table.lower_const, 1),
                (table.upper_slope, table.upper_const, -1),
            ):
                a = Fraction(float(slope[0, k]))
                rounds = Fraction(0) if a in (0, 1) else abs(a) * Fraction(UNIT[F32]) * radius
                cost = rounds + abs(a) * Fraction(weight)
                gap = sign * (value - a * t - Fraction(float(constant[0, k])))
                assert gap + cost <= Fraction(float(heights[0, k])), (k, x, sign)


def test_strips_cover_the_sum_of_constants() -> None:
    """STRIP.SUM: every small constant is lost when it is added to a large one."""
    n = 3000
    constants = np.full((1, n), 0.99 * 2.0**-54)
    constants[0, 0] = 1.0
    one, zero = np.ones((1, n), np.float32), np.zeros((1, n))
    heights = strips(Diagonal(one, one, constants, constants, np.zeros(1)), zero, zero, 2.0**-24)
    total = 0.0
    for constant in constants[0]:
        total += constant
    lost = sum(map(Fraction, constants[0].tolist())) - Fraction(total)
    assert lost > 0
    assert lost <= sum(map(Fraction, heights[0].tolist()))


def test_constants_of_negated_rows_are_never_too_high() -> None:
    """OPPOSITE.TURN, OPPOSITE.FOLLOW: differences of float64 numbers are rounded."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-12, 12, (3, 1000))
    old, d, before = rng.standard_normal((3, 1000)) * scale
    for step, sign in ((turn, -1), (follow, 1)):
        new = old.copy()
        step(new, d, before)
        for a, b, c, found in zip(old, d, before, new, strict=True):
            assert Fraction(found) <= Fraction(a) + sign * (Fraction(b) - Fraction(c))


@pytest.mark.parametrize("side", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.usefixtures("always")
def test_bounds_hold_the_exact_values(side: bool, dtype: str) -> None:
    """Weights and corners are multiples of 1/16, so that float64 evaluates the network exactly."""
    network, rng = residual(side, True, 1 / 16), np.random.default_rng(0)
    middle = rng.integers(-8, 9, (1, 3, 8, 8)) / 8
    corners = middle + rng.choice([-1 / 16, 0, 1 / 16], (200, 3, 8, 8))
    values = network.values(corners)
    for isa in ("numpy", kernels.isa):
        with kernels.pinned(isa):
            made = walk(
                network, Box.linf(middle, 1 / 16), Options("crown", "real", np.dtype(dtype))
            )
            made.output()
        for known, truth in zip(made.bounds, values, strict=True):
            assert (known.lower <= truth).all()
            assert (truth <= known.upper).all()


def walked(side: bool, radius: float, dtype: str = "float64") -> tuple[Walk, int]:
    """A walk over two boxes, and the rows that passed a node, of all nodes."""
    box, rows = Box.linf(np.random.default_rng(1).random((2, 3, 8, 8)), radius), [0]
    step = Descent._step

    def counted(self: Descent, index: int, block: Any, *rest: Any) -> None:
        rows[0] += len(block.array)
        step(self, index, block, *rest)

    with pytest.MonkeyPatch.context() as patch, tuning.disabled("fused_windows"):
        patch.setattr(Descent, "_step", counted)
        return walk(residual(side, True), box, Options("crown", "real", np.dtype(dtype))), rows[0]


@pytest.mark.parametrize("side", (False, True))
@pytest.mark.usefixtures("always")
def test_the_same_neurons_cross_zero_with_fewer_rows(side: bool) -> None:
    made, fewer = walked(side, 0.02)
    with tuning.disabled("one_sided"):
        plain, rows = walked(side, 0.02)
    assert fewer < 0.9 * rows
    for node, readers in enumerate(made.network.consumers):
        if any(made.network.nodes[r].op.hinge for r in readers):
            crossing = [
                (w.bounds[node].lower < 0) & (w.bounds[node].upper > 0) for w in (made, plain)
            ]
            assert np.array_equal(*crossing)
    ours, theirs = made.output(), plain.output()
    assert (ours.upper - ours.lower <= (theirs.upper - theirs.lower) * 1.01).all()


@pytest.mark.usefixtures("always")
def test_rows_of_active_neurons_go_on_to_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first ReLU's interval proves the sign, both ends are better than that says."""
    made, _ = walked(False, 0.02)
    signs = sides.signs
    monkeypatch.setattr(sides, "signs", lambda *given: signs(*given[:5], 0, *given[6:]))
    early, _ = walked(False, 0.02)
    narrower = 0
    for ours, theirs in zip(made.bounds, early.bounds, strict=True):
        active = (theirs.lower >= 0) & (theirs.lower < theirs.upper)
        narrower += int(
            np.count_nonzero((ours.upper < theirs.upper - 1e-3 * abs(theirs.upper))[active])
        )
        assert (ours.upper - ours.lower).sum() <= (theirs.upper - theirs.lower).sum() * (1 + 1e-9)
    assert narrower > 0


@pytest.mark.usefixtures("always")
def test_whoever_asks_for_a_node_gets_both_ends() -> None:
    made, _ = walked(True, 0.05)
    with tuning.disabled("one_sided"):
        plain, _ = walked(True, 0.05)
    for node in range(1, made.network.output):
        ours, theirs = made.ask(node), plain.ask(node)
        assert (ours.upper - ours.lower <= (theirs.upper - theirs.lower) * 1.1 + 1e-12).all()


def test_where_most_neurons_stay_open_both_rows_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "CALLS", 0.0)
    asked: list[int] = []
    bound = sides.Sides.bound
    monkeypatch.setattr(
        sides.Sides,
        "bound",
        lambda self, made, index, mask: asked.append(index) or bound(self, made, index, mask),
    )
    walked(False, 3.0)
    assert not asked
    walked(False, 0.01)
    assert asked


@pytest.mark.usefixtures("always")
def test_other_functions_get_both_ends() -> None:
    """A maximum over what ReLUs make of neurons reads ends that no sign decides."""
    rng = np.random.default_rng(0)
    builder = Builder(Input(), (2, 6, 6))
    weights = [rng.standard_normal((4, n, 3, 3)).astype(np.float32) / 4 for n in (2, 4)]
    node = builder.add(Conv(weights[0], None, pads=(1,) * 4), 0)
    node = builder.add(Relu(), node)
    node = builder.add(Conv(weights[1], None, pads=(1,) * 4), node)
    node = builder.add(Relu(), node)
    network = builder.build(builder.add(ReduceMax(0), node))
    box = Box.linf(rng.random((1, 2, 6, 6)), 0.05)
    found = walk(network, box, Options("crown", "real", F32)).output()
    with tuning.disabled("one_sided"):
        plain = walk(network, box, Options("crown", "real", F32)).output()
    assert np.array_equal(found.lower, plain.lower)
    assert np.array_equal(found.upper, plain.upper)
