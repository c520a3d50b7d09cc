"""The forward sweep against finite differences, and against the bound that it explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.ops.tables import NodeSlopes
from gamma.propagate.domain import Domain, Split
from gamma.propagate.options import Options
from gamma.propagate.rows.own import Multipliers, Tape
from gamma.propagate.rows.sweep import ascent, trajectory
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box

Array = Any
FLOAT64 = Options("crown", "real", np.dtype(np.float64))


def network(kind: str, op: Any, rng: np.random.Generator) -> Network:
    """Two hidden layers with the activation ``op``, or a maximum in the middle."""

    def gemm(out: int, size: int) -> ops.Gemm:
        return ops.Gemm(rng.normal(size=(out, size)), rng.normal(size=out) / 4)

    conv = kind == "convolution"
    builder = Builder(ops.Input(), (1, 4, 4) if conv else (4,), "x")
    if conv:
        last = builder.add(ops.Conv(rng.normal(size=(2, 1, 3, 3)) / 2, rng.normal(size=2)), 0)
    else:
        last = builder.add(gemm(8, 4), 0)
    start = last
    if op is None:
        shape = (2, 2, 2)
        last = last if conv else builder.add(ops.Reshape(shape), last)
        last = builder.add(ops.ReduceMax(axis=2), last)
        last = builder.add(ops.Reshape((4,)), last)
    else:
        last = builder.add(op, last)
        last = builder.add(ops.Reshape((8,)), last) if conv else last
    width = 4 if op is None else 8
    last = builder.add(gemm(8, width), last)
    if kind == "residual":
        last = builder.add(ops.Add((1, 1)), last, start)
    last = builder.add(ops.Relu() if op is None else op, last)
    return builder.build(builder.add(gemm(2, 8), last))


KINDS = ("dense", "convolution", "residual")
OPERATORS = {"relu": ops.Relu(), "sigmoid": ops.Sigmoid(), "maximum": None}


class Row:
    """The rows of both outputs and their negatives, as a function of what may move."""

    def __init__(self, kind: str, name: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = network(kind, OPERATORS[name], self.rng)
        low = self.rng.normal(size=(1, *self.net.input_shape)) / 2
        box = Box(low, low + self.rng.uniform(0.4, 1.2, low.shape))
        self.nodes = [
            i for i, node in enumerate(self.net.nodes) if isinstance(node.op, ops.Elementwise)
        ]
        self.split = {
            self.net.nodes[i].inputs[0]: Split(
                self.rng.choice([-1, 0, 1], (1, *self.net.nodes[i].shape)).astype(np.int8),
                self.rng.normal(size=(1, *self.net.nodes[i].shape)) / 4,
            )
            for i in self.nodes
        }
        # Nothing of the assumptions but their multipliers: their signs do not narrow the bounds.
        none = {i: replace(s, sign=np.zeros_like(s.sign)) for i, s in self.split.items()}
        self.made: Walk = walk(self.net, Domain(box, split=none), FLOAT64)
        self.slopes: dict[int, dict[str, Array]] = {}
        for i in self.nodes:
            node = self.net.nodes[i]
            size, inside = node.size, self.made.bounds[node.inputs[0]]
            assert isinstance(node.op, ops.Elementwise)
            upper = node.op.lines(inside.lower, inside.upper, np.float64).upper_slope
            # Away from the kinks: slopes 0 and 1 of a ReLU, and the chord above.
            self.slopes[i] = {
                "lower": 0.2 + 0.6 * self.rng.random((4, size)),
                "upper": np.repeat(upper.reshape(1, -1), 4, 0)
                * self.rng.uniform(0.8, 0.9, (4, size)),
            }
        self.beta = {
            i: 0.3 * self.rng.random((4, self.net.nodes[i].size)) + 0.1 for i in self.split
        }
        self.tape = Tape()

    def bound(self) -> Array:
        frontier, d, box = self.made.both_signs(self.net.output, np.zeros(2, int), np.arange(2))
        self.tape, self.box = Tape(), box
        return self.made.descent.run(
            frontier, d, box, slopes=self.given, multipliers=self.multipliers, tape=self.tape
        )

    @property
    def given(self) -> dict[int, NodeSlopes]:
        return {i: NodeSlopes(**parts) for i, parts in self.slopes.items()}

    @property
    def multipliers(self) -> dict[int, Multipliers]:
        return {
            i: Multipliers.of(
                self.beta[i],
                np.repeat(s.sign.reshape(1, -1), 4, 0),
                np.repeat(np.reshape(s.point, (1, -1)), 4, 0),
            )
            for i, s in self.split.items()
        }

    def differences(self, values: Array, gradient: Array) -> None:
        """Gradients (rows, size) against central differences, in some of the entries."""
        scale = abs(self.bound()).max() + abs(gradient).max()
        for k in self.rng.permutation(values.shape[-1])[:2]:
            old, ends = values[..., k].copy(), []
            for sign in (1, -1):
                values[..., k] = old + sign * 1e-5
                ends.append(self.bound())
            values[..., k] = old
            found = (ends[0] - ends[1]) / 2e-5
            assert abs(found - gradient[:, k]).max() <= 1e-6 * scale, (k, found, gradient[:, k])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_bound(kind: str, name: str) -> None:
    row = Row(kind, name, 3)
    row.bound()
    found = ascent(
        row.made.descent.tables,
        row.tape,
        row.box,
        slopes=row.given,
        split=row.split,
        through_bounds=True,
    )
    for i in row.nodes:
        inside = row.made.bounds[row.net.nodes[i].inputs[0]]
        assert ((inside.lower < 0) & (inside.upper > 0)).any()
        row.differences(row.slopes[i]["lower"], found.lower_slope[i])
        row.differences(row.slopes[i]["upper"], found.upper_slope[i])
    for i in row.split:
        row.differences(row.beta[i], found.beta[i])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_intermediate_bounds(kind: str, name: str) -> None:
    row = Row(kind, name, 5)
    row.bound()
    found = ascent(
        row.made.descent.tables,
        row.tape,
        row.box,
        slopes=row.given,
        split=row.split,
        through_bounds=True,
    )
    for i in row.nodes:
        before = row.net.nodes[i].inputs[0]
        known = row.made.bounds[before]
        for end, gradient in (("lower", found.lower[before]), ("upper", found.upper[before])):
            values = getattr(known, end).reshape(1, -1)

            scale = abs(row.bound()).max() + abs(gradient).max()
            for k in row.rng.permutation(values.shape[1])[:2]:
                ends = []
                for sign in (1, -1):
                    moved = values.copy()
                    moved[0, k] += sign * 1e-6
                    old = getattr(known, end)
                    setattr(known, end, moved.reshape(old.shape))
                    known.reset()
                    row.made.descent.forget(before)
                    ends.append(row.bound())
                    setattr(known, end, old)
                    known.reset()
                    row.made.descent.forget(before)
                got = (ends[0] - ends[1]) / 2e-6
                assert abs(got - gradient[:, k]).max() <= 1e-6 * scale, (
                    i,
                    end,
                    k,
                    got,
                    gradient[:, k],
                )


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_trajectory_ends_at_the_bound(kind: str, name: str) -> None:
    row = Row(kind, name, 7)
    row.split = {}
    lower = row.bound()
    tables, tape = row.made.descent.tables, row.tape
    steps = trajectory(tables, tape, row.box)
    frontier, d, _ = row.made.both_signs(row.net.output, np.zeros(2, int), np.arange(2))
    (start,) = tape.start
    terms = frontier[start].dense() * steps[start]
    size = abs(terms).sum(axis=1) + abs(d)
    for rows, table, at in tape.passed.values():
        if hasattr(table, "lower_const"):
            size += (abs(rows) * abs(table.lower_const[at]).max()).sum(axis=1)
    assert (abs(terms.sum(axis=1) + d - lower) <= 1e-12 * size).all()
