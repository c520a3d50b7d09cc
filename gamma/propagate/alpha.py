"""Optimised slopes, layer by layer (α-CROWN: Xu et al. 2021).

Every neuron that a relaxation needs tight has two rows of its own, and each row slopes of its own:
a few steps of projected Adam (Kingma and Ba 2015) raise its bound, with gradients from one forward
sweep (`gamma.propagate.rows.sweep`). New bounds serve the layers behind at once, and the rows of the
output are optimised last. Every step's bound is proved by the same walk, so the best of all steps
is kept for each row; the first step takes the slopes of an ordinary walk, so no bound is wider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.ops import Elementwise
from gamma.ops.tables import NodeSlopes
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.rows.descend import Descent, Frontier, Tape
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.rows.tables import Tables
from gamma.propagate.walks import Options, Walk, walk
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


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
    rate: float = 0.25
    decay: float = 0.95
    momentum: float = 0.9
    memory: float = 0.9


def alpha_walk(
    network: Any, domain: Domain | Box, options: Options, how: Ascent | None = None
) -> AlphaWalk:
    """Bounds of all nodes with optimised slopes; never wider than those of method "crown"."""
    domain = Domain(domain) if isinstance(domain, Box) else domain
    plain = walk(network, domain, replace(options, method="crown"))
    facts = {
        index: (known.lower, known.upper)
        for index, known in enumerate(plain.bounds)
        if index and not network.nodes[index].op.diagonal
    }
    known = replace(domain, facts={**domain.facts, **facts})
    made = AlphaWalk(network, known, options, [])
    made.initial, made.how = own_slopes(plain), how or Ascent()
    made.run()
    made.plain = plain
    return made


def own_slopes(made: Walk) -> Slopes:
    """The slopes that a walk's bounds give each elementwise node, one table per box."""
    found: dict[int, NodeSlopes] = {}
    for index in range(1, made.network.output + 1):
        node = made.network.nodes[index]
        if isinstance(node.op, Elementwise):
            inside = made.bounds[node.inputs[0]]
            lines = node.op.lines(inside.lower, inside.upper, made.options.dtype)
            flat = len(inside.lower), -1
            upper = None if node.op.hinge else lines.upper_slope.reshape(flat)
            found[index] = NodeSlopes(lines.lower_slope.reshape(flat), upper)
    return found


class AlphaWalk(Walk):
    """A walk whose rows have slopes of their own.

    Attributes:
        initial: node -> the slopes that rows start from. how: of the ascent.
    """

    initial: Slopes
    how: Ascent
    plain: Walk

    def _block_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        frontier, d, box = self.both_signs(index, boxes, neurons)
        steps = self.how.final if index == self.network.output else self.how.steps
        best = self._raise(frontier, d, box, steps, lambda lower: np.ones(len(lower), bool))
        return best[: len(boxes)], -best[len(boxes) :]

    def raised(self, frontier: Frontier, d: Float64, box: Indices) -> Float64:
        """Lower bounds of rows, those that are not yet above 0 optimised."""
        return self._raise(frontier, d, box, self.how.final, lambda lower: ~(lower > 0))

    def _raise(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        steps: int,
        worth: Callable[[Float64], npt.NDArray[np.bool_]],
    ) -> Float64:
        return optimise(
            self.descent, frontier, d, box, self.initial, self.how, steps, worth, self.options.check
        )


def optimise(
    descent: Descent,
    frontier: Frontier,
    d: Float64,
    box: Indices,
    initial: Slopes,
    how: Ascent,
    steps: int,
    worth: Callable[[Float64], npt.NDArray[np.bool_]],
    check: Callable[[], None] | None = None,
) -> Float64:
    """The best sound lower bounds (rows,) of rows over ``steps`` descents.

    Rows that ``worth`` refuses, given their bounds, are left as they are.
    """
    parameters = _Parameters(descent.tables, initial, box, how)
    best = np.full(len(d), -np.inf)
    for step in range(steps):
        last = step + 1 == steps
        tape = None if last else Tape()
        copies = {index: rows.copy() for index, rows in frontier.items()}
        slopes = parameters.slopes()
        lower = descent.run(copies, d.copy(), box, check, slopes=slopes, tape=tape)
        np.fmax(best, lower, out=best)
        if tape is None or not worth(best).any():
            break
        parameters.step(tape, step)
    return best


class _Parameters:
    """Slopes of rows, and what Adam remembers of them."""

    def __init__(self, tables: Tables, initial: Slopes, box: Indices, how: Ascent) -> None:
        self.tables, self.box, self.how = tables, box, how
        self.values = {
            index: NodeSlopes(
                *(None if part is None else part[box] for part in (given.lower, given.upper))
            )
            for index, given in initial.items()
        }
        self._first: dict[int, Array] = {}
        self._second: dict[int, Array] = {}

    def slopes(self) -> Mapping[int, NodeSlopes]:
        """One table per row."""
        return self.values

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
            centre = (centre if keep is None else centre[:, keep])[self.box]
            z = steps[before] + centre
            if node.op.hinge:
                self._adam(index, np.maximum(rows, 0) * z, keep, step)
            else:
                self._touch(index, node.op, rows, z, keep)

    def _adam(self, index: int, gradient: Array, keep: Array | None, step: int) -> None:
        how, old = self.how, self.values[index].lower
        assert old is not None
        first = self._first.get(index, 0.0) * how.momentum + (1 - how.momentum) * gradient
        second = self._second.get(index, 0.0) * how.memory + (1 - how.memory) * gradient**2
        self._first[index], self._second[index] = first, second
        mean = first / (1 - how.momentum ** (step + 1))
        scale = np.sqrt(second / (1 - how.memory ** (step + 1)))
        rate = how.rate * how.decay**step
        move = np.where(scale > 0, rate * mean / np.where(scale > 0, scale, 1.0), 0.0)
        new = old.copy()
        if keep is None:
            new = np.clip(old + move, 0.0, 1.0)
        else:
            new[:, keep] = np.clip(old[:, keep] + move, 0.0, 1.0)
        self.values[index] = NodeSlopes(new, self.values[index].upper)

    def _touch(
        self, index: int, op: Elementwise, rows: Array, z: Array, keep: Array | None
    ) -> None:
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
