"""Optimised slopes, layer by layer (α-CROWN: Xu et al. 2021).

Every neuron that a relaxation needs tight has two rows of its own, and each row slopes of its
own: a few steps of projected Adam (Kingma and Ba 2015) raise its bound, with gradients from one
forward sweep (`gamma.propagate.rows.sweep`). New bounds serve the layers behind at once, and the
rows of the output are optimised last. Every step's bound is proved by the same walk, so the best of
all steps is kept for each row; the first step takes the slopes of an ordinary walk, so no bound is
wider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.network.graph import Network
from gamma.ops import Elementwise
from gamma.ops.tables import NodeSlopes
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.rows.block import Dense
from gamma.propagate.rows.descend import Descent, Frontier, Tape
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.rows.tables import Tables
from gamma.propagate.walks import Options, Walk, walk
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Worth = Callable[[Float64], Mask]

# Rows are dropped when no more than this share of them is worth more steps.
_KEEP_FROM = 0.9


@dataclass(frozen=True)
class Ascent:
    """How slopes are optimised.

    Attributes:
        steps: descents of a hidden layer's rows, the first with given slopes; final: of the rows
            that were asked for. rate: of Adam, decayed by ``decay`` each step. momentum, memory:
            Adam's β₁ and β₂.
    """

    steps: int = 5
    final: int = 12
    rate: float = 0.5
    decay: float = 0.95
    momentum: float = 0.9
    memory: float = 0.9


def alpha_walk(
    network: Network,
    domain: Domain | Box,
    options: Options,
    how: Ascent | None = None,
    *,
    slopes: Slopes | None = None,
) -> AlphaWalk:
    """Bounds of all nodes with optimised slopes; never wider than those of method "crown".

    ``slopes`` are where the ascent starts.
    """
    domain = Domain(domain) if isinstance(domain, Box) else domain
    plain = walk(network, domain, replace(options, method="crown"), slopes=slopes)
    facts = {
        index: (known.lower, known.upper)
        for index, known in enumerate(plain.bounds)
        if index and not network.nodes[index].op.diagonal
    }
    known = replace(domain, facts={**domain.facts, **facts})
    made = AlphaWalk(network, known, options, [])
    made.initial = own_slopes(plain, slopes or {})
    made.how = how or Ascent(options.steps, 2 * options.steps + 2)
    made.run()
    return made


def own_slopes(made: Walk, given: Slopes) -> Slopes:
    """Slopes of every elementwise node, one table per box: given ones, or the bounds' own."""
    found: dict[int, NodeSlopes] = {}
    for index in range(1, made.network.output + 1):
        node = made.network.nodes[index]
        if isinstance(node.op, Elementwise):
            inside = made.bounds[node.inputs[0]]
            lines = node.op.lines(inside.lower, inside.upper, made.options.dtype)
            flat = len(inside.lower), -1
            lower, upper = (s.reshape(flat) for s in (lines.lower_slope, lines.upper_slope))
            asked = given.get(index, NodeSlopes())
            found[index] = NodeSlopes(
                lower if asked.lower is None else asked.lower,
                None if node.op.hinge else upper if asked.upper is None else asked.upper,
            )
    return found


class AlphaWalk(Walk):
    """A walk whose rows have slopes of their own.

    Attributes:
        initial: node -> the slopes that rows start from. how: of the ascent.
    """

    # Rows, their product, a temporary; slopes and what Adam remembers of them.
    blocks = 12

    initial: Slopes
    how: Ascent

    def _block_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        frontier, d, box = self.both_signs(index, boxes, neurons)
        half, last = len(boxes), index == self.network.output
        steps = self.how.final if last else self.how.steps

        def worth(lower: Float64) -> Mask:
            # A neuron that no longer crosses 0 has nothing to gain where ReLUs read it.
            done = (lower[:half] >= 0) | (lower[half:] >= 0)
            return np.concatenate((~done, ~done))

        every = last or not self._facts.hinged[index]
        best = self._raise(frontier, d, box, steps, None if every else worth)
        return best[:half], -best[half:]

    def _bound_rows(self, frontier: Frontier, d: Float64, box: Indices) -> Float64:
        return self._raise(frontier, d, box, self.how.final, lambda lower: ~(lower > 0))

    def _raise(
        self, frontier: Frontier, d: Float64, box: Indices, steps: int, worth: Worth | None
    ) -> Float64:
        return optimise(
            self.descent, frontier, d, box, self.initial, self.how, steps, worth, self.options.check
        )

    def _with(self, options: Options) -> Walk:
        other = super()._with(options)
        assert isinstance(other, AlphaWalk)
        other.initial, other.how = self.initial, self.how
        return other


def optimise(
    descent: Descent,
    frontier: Frontier,
    d: Float64,
    box: Indices,
    initial: Slopes,
    how: Ascent,
    steps: int,
    worth: Worth | None = None,
    check: Callable[[], None] | None = None,
) -> Float64:
    """The best sound lower bounds (rows,) of rows over ``steps`` descents.

    Rows that ``worth`` refuses, given their bounds, are left as they are.
    """
    best = np.full(len(d), -np.inf)
    rows = np.arange(len(d))
    parameters = _Parameters(descent.tables, initial, box, how)
    for step in range(steps):
        tape = Tape() if step + 1 < steps else None
        copies = {index: block.copy() for index, block in frontier.items()}
        slopes = parameters.slopes(max(frontier))
        lower = descent.run(copies, d.copy(), box, check, slopes=slopes, tape=tape)
        best[rows] = np.fmax(best[rows], lower)
        if tape is None:
            break
        parameters.step(tape, step)
        if worth is not None:
            kept = np.flatnonzero(worth(best)[rows])
            if not len(kept):
                break
            if len(kept) < _KEEP_FROM * len(rows):
                rows, d, box = rows[kept], d[kept], box[kept]
                frontier = {i: Dense(b.dense()[kept]) for i, b in frontier.items()}
                parameters.take(kept)
    return best


class _Parameters:
    """Slopes of rows, of the neurons that `Tables.columns` keeps, and what Adam remembers."""

    def __init__(self, tables: Tables, initial: Slopes, box: Indices, how: Ascent) -> None:
        self.tables, self.box, self.how = tables, box, how
        self._initial = initial
        self.values: dict[int, NodeSlopes] = {}
        self._first: dict[int, Array] = {}
        self._second: dict[int, Array] = {}

    def slopes(self, last: int) -> Mapping[int, NodeSlopes]:
        """One table per row, for the nodes up to ``last``."""
        for index, given in self._initial.items():
            if index <= last and index not in self.values:
                ends = (self._of_rows(index, part) for part in (given.lower, given.upper))
                self.values[index] = NodeSlopes(*ends)
        return self.values

    def _of_rows(self, index: int, part: Float64 | None) -> Array | None:
        if part is None:
            return None
        keep = self.tables.columns(index)
        dtype = self.tables.how.dtype
        return (part if keep is None else part[:, keep])[self.box].astype(dtype)

    def take(self, rows: Indices) -> None:
        """Keep the slopes of these rows alone."""
        self.box = self.box[rows]
        for index, given in self.values.items():
            ends = (None if part is None else part[rows] for part in (given.lower, given.upper))
            self.values[index] = NodeSlopes(*ends)
        for store in (self._first, self._second):
            for index in store:
                store[index] = store[index][rows]

    def step(self, tape: Tape, step: int) -> None:
        """Move all slopes along their gradients."""
        steps = trajectory(self.tables, tape, self.box)
        for index, (rows, _, _) in tape.passed.items():
            node = self.tables.network.nodes[index]
            if index not in self.values or not isinstance(node.op, Elementwise):
                continue
            before, keep = node.inputs[0], self.tables.columns(index)
            known = self.tables.bounds[before]
            centre = known.centre.reshape(len(known.centre), -1)
            centre = (centre if keep is None else centre[:, keep]).astype(rows.dtype)[self.box]
            z = steps[before] + centre
            if node.op.hinge:
                self._adam(index, np.maximum(rows, 0) * z, step)
            else:
                self._touch(index, node.op, rows, z)

    def _adam(self, index: int, gradient: Array, step: int) -> None:
        how, old = self.how, self.values[index].lower
        assert old is not None
        first = self._first.get(index, 0.0) * how.momentum + (1 - how.momentum) * gradient
        second = self._second.get(index, 0.0) * how.memory + (1 - how.memory) * gradient**2
        self._first[index], self._second[index] = first, second
        mean = first / (1 - how.momentum ** (step + 1))
        scale = np.sqrt(second / (1 - how.memory ** (step + 1)))
        rate = how.rate * how.decay**step
        move = np.where(scale > 0, rate * mean / np.where(scale > 0, scale, 1), 0)
        self.values[index] = NodeSlopes(np.clip(old + move, 0, 1).astype(old.dtype))

    def _touch(self, index: int, op: Elementwise, rows: Array, z: Array) -> None:
        """Move lines halfway to the tangent at the trajectory, where that is higher there."""
        known = self.tables.bounds[self.tables.network.nodes[index].inputs[0]]
        lower, upper = (e.reshape(len(e), -1)[self.box] for e in (known.lower, known.upper))
        at = np.clip(z, lower, upper).astype(np.float64)
        old = self.values[index]
        assert old.lower is not None and old.upper is not None
        tangent = np.asarray(op.derivative(at), np.float64)
        tangent = np.where(np.isfinite(tangent), tangent, 0.0)
        dtype = self.tables.how.dtype
        lines = op.lines_of(old, lower, upper, dtype)
        tried = op.lines_of(NodeSlopes(tangent, tangent), lower, upper, dtype)
        below = tried.lower_slope * at + tried.lower_intercept
        above = tried.upper_slope * at + tried.upper_intercept
        better_low = below > lines.lower_slope * at + lines.lower_intercept
        better_high = above < lines.upper_slope * at + lines.upper_intercept
        half_low, half_high = 0.5 * (old.lower + tangent), 0.5 * (old.upper + tangent)
        self.values[index] = NodeSlopes(
            np.where(better_low & (rows > 0), half_low, old.lower),
            np.where(better_high & (rows < 0), half_high, old.upper),
        )
