"""Method "alpha": no bound is wider than that of method "crown", and the rows keep their slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Floor, Gemm, Input, PRelu, ReduceMax, Relu, Reshape, Sigmoid
from gamma.ops.tables import NodeSlopes
from gamma.propagate import Specification, lower_bounds
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.options import options_of
from gamma.propagate.rows import block
from gamma.propagate.rows.descend import Descent
from gamma.propagate.walks import walk

Make = Callable[[np.random.Generator], Network]


def dense(rng: np.random.Generator) -> Network:
    """ReLUs, a sigmoid among them."""
    build = Builder(Input(), (6,))
    x = 0
    for op in (Relu(), Sigmoid(), Relu(), Relu()):
        width = build.nodes[x].shape[0]
        x = build.add(Gemm(rng.normal(size=(16, width)) / 2, rng.normal(size=16)), x)
        x = build.add(op, x)
    return build.build(build.add(Gemm(rng.normal(size=(3, 16))), x))


def wide(rng: np.random.Generator) -> Network:
    """Wide enough for float32 rows, with neurons that are dead."""
    build = Builder(Input(), (8,))
    x = 0
    for size in (160, 150, 140):
        width = build.nodes[x].shape[0]
        weight = (rng.normal(size=(size, width)) / np.sqrt(width)).astype(np.float32)
        x = build.add(Relu(), build.add(Gemm(weight, rng.normal(size=size) - 0.7), x))
    return build.build(build.add(Gemm(rng.normal(size=(3, 140)).astype(np.float32)), x))


def residual(rng: np.random.Generator) -> Network:
    """Convolutions with a skip, a slope for each channel, a maximum and a dense end."""

    def conv(out: int, into: int) -> Conv:
        weight = rng.normal(size=(out, into, 3, 3)).astype(np.float32) / 3
        return Conv(weight, rng.normal(size=out), (1, 1), (1, 1, 1, 1))

    build = Builder(Input(), (2, 5, 5))
    slope = np.array([0.1, -0.2, 0.3, 1.5], np.float32).reshape(4, 1, 1)
    x = build.add(PRelu(slope), build.add(conv(4, 2), 0))
    y = build.add(conv(4, 4), build.add(Relu(), build.add(conv(4, 4), x)))
    x = build.add(Relu(), build.add(Add(), x, y))
    x = build.add(ReduceMax(1), build.add(Reshape((25, 4)), x))
    return build.build(build.add(Gemm(rng.normal(size=(3, 25)).astype(np.float32)), x))


@pytest.mark.parametrize("make", [dense, wide, residual])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_bound_is_wider_than_crown_s(make: Make, guarantee: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    net, gained = make(rng), 0.0
    centre = rng.normal(size=(2, *net.input_shape))
    box = gamma.Box(centre - 0.1, centre + 0.1)
    asked = {"guarantee": guarantee, "dtype": dtype, "intermediate": True}
    crown = gamma.bounds(net, box, method="crown", **asked)
    alpha = gamma.bounds(net, box, method="alpha", steps=4, **asked)
    # Tables of a ReLU whose slopes belong to rows charge what the plain ones do, rounded once more.
    unit = 2.0**-18 if dtype == "float32" else 2.0**-40
    assert crown.keys() == alpha.keys()
    for name, known in crown.items():
        slack = unit * (1 + abs(known.lower) + abs(known.upper))
        assert (alpha[name].lower >= known.lower - slack).all(), name
        assert (alpha[name].upper <= known.upper + slack).all(), name
        gained = max(gained, float((known.width - alpha[name].width).max()))
    assert gained > 1e-3


@pytest.mark.parametrize("make", [dense, wide, residual])
def test_rows_enclose_what_the_network_reaches(make: Make) -> None:
    rng = np.random.default_rng(6)
    net = make(rng)
    centre = rng.normal(size=(1, *net.input_shape))
    box = gamma.Box(centre - 0.2, centre + 0.2)
    count = net.nodes[net.output].size
    rows = rng.normal(size=(4, count))
    asked = Specification(rows, None, np.zeros(4), np.zeros(4, np.int64))
    found = {m: lower_bounds(net, box, asked, method=m).lower for m in ("crown", "alpha")}
    assert (found["alpha"] >= found["crown"] - 1e-4 * (1 + abs(found["crown"]))).all()
    points = rng.uniform(box.lower[0], box.upper[0], (200, *net.input_shape))
    low, high = gamma.propagate.api.enclose(net, points)
    most = np.maximum(rows, 0) @ high.T + np.minimum(rows, 0) @ low.T
    assert (found["alpha"] <= most.min(axis=1) + 1e-9).all()


def test_upper_slopes_of_rows_where_dead_neurons_are_left_out() -> None:
    rng = np.random.default_rng(3)
    build = Builder(Input(), (6,))
    x = 0
    for _ in range(2):
        width = build.nodes[x].shape[0]
        x = build.add(Gemm(rng.normal(size=(400, width)), rng.normal(size=400) - 2), x)
        x = build.add(Relu(), x)
    net = build.build(build.add(Gemm(rng.normal(size=(3, 400))), x))
    box = gamma.Box(np.full((1, 6), -0.3), np.full((1, 6), 0.3))
    made = walk(net, box, options_of(net, "crown", "real", "float64", None))
    made.output()
    keep = made.descent.tables.columns(2)
    assert keep is not None and len(keep) < 400
    centre = made.bounds[net.output].centre.ravel()
    reached = net.forward(rng.uniform(-0.3, 0.3, size=(2000, 6)), dtype=np.float64) - centre
    slopes = np.full((3, len(keep)), 0.3), np.full((3, len(keep)), 0.7)
    for given in (NodeSlopes(*slopes), NodeSlopes(None, slopes[1]), NodeSlopes(slopes[0])):
        rows = block.dense(np.eye(3), 3)
        lower = made.descent.run(
            {net.output: rows}, np.zeros(3), np.zeros(3, np.int64), slopes={2: given}
        )
        assert np.isfinite(lower).all() and (lower <= reached.min(axis=0)).all()


def test_functions_with_lines_of_their_own_are_not_optimised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no slope can be chosen the ascent is one descent, of one table for all rows."""
    rng = np.random.default_rng(3)
    build = Builder(Input(), (4,))
    hidden = build.add(Floor(), build.add(Gemm(rng.normal(size=(8, 4)), rng.normal(size=8)), 0))
    network = build.build(build.add(Gemm(rng.normal(size=(2, 8))), hidden))
    centre = rng.normal(size=(1, 4))
    box = gamma.Box(centre - 0.3, centre + 0.3)
    asked = alpha_walk(network, box, options_of(network, "alpha", "real", "float64", None))
    assert not asked.initial
    run, descents = Descent.run, []

    def counted(self: Descent, *given: Any, **named: Any) -> Any:
        descents.append(self)
        return run(self, *given, **named)

    monkeypatch.setattr(Descent, "run", counted)
    found = asked.output()
    assert 0 < len(descents) <= 2  # crown's own, and one of alpha
    known = gamma.bounds(network, box, method="crown")
    assert (found.lower >= known.lower).all() and (found.upper <= known.upper).all()
