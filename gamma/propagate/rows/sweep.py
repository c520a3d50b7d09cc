"""The forward sweep: where the relaxed network is when a row takes its bound, and gradients.

A descent chose one line per activation and the input that makes the row least. With these fixed the
network is an affine map: going forward through it from that input gives the row's *trajectory*, and
what the trajectory yields at the row's start is the bound itself (before the charges that no table
holds). By the envelope theorem the choices do not move to first order, so the bound's gradient in a
slope, an intercept or a multiplier is a product of the coefficient that arrived and the trajectory
(Xu et al. 2021, α-CROWN; Wang et al. 2021, β-CROWN; here without automatic differentiation).

Values are about the nodes' centres, like rows: z = centre + what `trajectory` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.frozen import Frozen
from gamma.ops import Elementwise
from gamma.ops.tables import NodeSlopes
from gamma.propagate.domain import Split
from gamma.propagate.rows.own import Tape
from gamma.propagate.rows.tables import Tables

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Relative step of the differences by which lines are derived in their interval's ends.
_STEP = 2.0**-20


def trajectory(tables: Tables, tape: Tape, box: Indices) -> dict[int, Array]:
    """The rows' trajectories, node -> (rows, size) about the node's centre.

    Columns of dead neurons are left out where `Tables.columns` does; they are 0.
    """
    network = tables.network
    wanted = _ancestors(tables, tape)
    assert tape.input is not None
    found = {0: _minimiser(tables, tape.input, box)}
    count = len(tape.input)
    with np.errstate(all="ignore"):
        for index in range(1, max(tape.start) + 1):
            if index not in wanted:
                continue
            node = network.nodes[index]
            inputs = [found[i] for i in node.inputs]
            if index in tape.passed:
                rows, table, at = tape.passed[index]
                found[index] = table.forward(rows, tuple(inputs), at)
            elif node.op.dense is not None and len(node.shape) == 1:
                found[index] = inputs[0] @ tables.weight(index).T
            else:
                op = node.op.affine
                assert op is not None
                shapes = [network.nodes[i].shape for i in node.inputs]
                parts = [x.reshape(count, *s) for x, s in zip(inputs, shapes, strict=True)]
                moved = op.linear(parts)
                found[index] = moved.reshape(count, -1)
    return found


def _ancestors(tables: Tables, tape: Tape) -> set[int]:
    found, waiting = set(tape.start), list(tape.start)
    while waiting:
        for i in tables.network.nodes[waiting.pop()].inputs:
            if i not in found:
                found.add(i)
                waiting.append(i)
    return found


def _minimiser(tables: Tables, rows: Array, box: Indices) -> Array:
    """Where the rows are least on the input set, about the input's centre."""
    known, domain = tables.bounds[0], tables.box
    reach = known.radius.reshape(len(known.radius), -1).astype(rows.dtype)
    corner: Array = np.copysign(reach if len(reach) == 1 else reach[box], rows)
    np.negative(corner, out=corner)
    if domain.norm == "inf":
        return corner
    assert domain.center is not None and domain.radius is not None
    flat = len(known.centre), -1
    shift = (domain.center.reshape(flat) - known.centre.reshape(flat))[box].astype(rows.dtype)
    if domain.norm == "2":
        length = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        step: Array = rows / np.where(length > 0, length, 1)
    else:
        largest = abs(rows).argmax(axis=1)[:, None]
        step = np.zeros_like(rows)
        np.put_along_axis(step, largest, np.sign(np.take_along_axis(rows, largest, 1)), axis=1)
    ball = shift - domain.radius * step
    better = (rows * ball).sum(axis=1) > (rows * corner).sum(axis=1)
    chosen: Array = np.where(better[:, None], ball, corner)
    return chosen


class Gradients(Frozen, eq=True):
    """Derivatives of each row's bound, node -> (rows, size).

    Attributes:
        lower_slope, upper_slope: in the free slopes of elementwise nodes, intercepts following.
        lower, upper: in the ends of an activation's input, through its own lines.
        beta: in the multipliers of split assumptions.
        trajectory: what they come from.
    """

    lower_slope: dict[int, Array] = field(default_factory=dict)
    upper_slope: dict[int, Array] = field(default_factory=dict)
    lower: dict[int, Array] = field(default_factory=dict)
    upper: dict[int, Array] = field(default_factory=dict)
    beta: dict[int, Array] = field(default_factory=dict)
    trajectory: dict[int, Array] = field(default_factory=dict)


def ascent(
    tables: Tables,
    tape: Tape,
    box: Indices,
    *,
    slopes: Mapping[int, NodeSlopes] | None = None,
    split: Mapping[int, Split] | None = None,
    through_bounds: bool = False,
) -> Gradients:
    """Gradients of the bounds of rows that a descent recorded on ``tape``.

    ``slopes`` are those that the descent was given for rows, ``split`` the assumptions whose
    multipliers it had. ``through_bounds`` also derives in the intermediate bounds.
    """
    steps = trajectory(tables, tape, box)
    found = Gradients(trajectory=steps)
    with np.errstate(all="ignore"):
        for index, (rows, _, _) in tape.passed.items():
            node = tables.network.nodes[index]
            op = node.op.activation
            if op is None:
                continue
            before, keep = node.inputs[0], tables.columns(index)
            given = (slopes or {}).get(index, tables.slopes.get(index))
            lower, upper, centre = _inside(tables, before, box, keep)
            z = steps[before] + centre
            own = _Own(op, lower, upper, given, box, keep, tables.how.dtype)
            up, down = np.maximum(rows, 0), np.minimum(rows, 0)
            low_contact, high_contact = own.contacts()
            # The lines of a ReLU that does not cross 0 are exact, whatever slopes are given.
            free = (lower < 0) & (upper > 0) if node.op.hinge else True
            found.lower_slope[index] = np.where(free, up * (z - low_contact), 0)
            found.upper_slope[index] = np.where(free, down * (z - high_contact), 0)
            if through_bounds:
                found.lower[before], found.upper[before] = own.by_ends(up, down, z)
        for index, assumed in (split or {}).items():
            if index in steps:
                centre = tables.bounds[index].centre.reshape(len(tables.box.lower), -1)[box]
                flat = len(assumed.sign), -1
                point = np.broadcast_to(assumed.point, assumed.sign.shape).reshape(flat)[box]
                sign = assumed.sign.reshape(flat)[box]
                found.beta[index] = -sign * (steps[index] + centre - point)
    return found


def _inside(
    tables: Tables, before: int, box: Indices, keep: Array | None
) -> tuple[Float64, Float64, Float64]:
    """Ends and centre (rows, size) of the input of an activation."""
    known = tables.bounds[before]
    flat = [e.reshape(len(e), -1) for e in (known.lower, known.upper, known.centre)]
    chosen = flat if keep is None else [e[:, keep] for e in flat]
    lower, upper, centre = (e[box] for e in chosen)
    return lower, upper, centre


class _Own(Frozen, eq=True):
    """Lines of one elementwise node for each row, as functions of slopes and ends."""

    op: Elementwise
    lower: Float64
    upper: Float64
    given: NodeSlopes | None
    box: Indices
    keep: Array | None
    dtype: np.dtype[Any]

    def _slopes(self) -> NodeSlopes | None:
        if self.given is None:
            return None

        def rows(part: Float64 | None) -> Float64 | None:
            if part is None:
                return None
            part = part.reshape(len(part), -1)
            if self.keep is not None and part.shape[1] != len(self.keep):
                part = part[:, self.keep]
            return part if len(part) == len(self.box) else part[self.box]

        return NodeSlopes(rows(self.given.lower), rows(self.given.upper))

    def _lines(self, slopes: NodeSlopes | None, lower: Float64, upper: Float64) -> Any:
        if slopes is None:
            return self.op.lines(lower, upper, np.float64)
        return self.op.lines_of(slopes, lower, upper, np.float64)

    def contacts(self) -> tuple[Float64, Float64]:
        """Where the lower and the upper line touch the function: minus d intercept / d slope."""
        lines = self._lines(self._slopes(), self.lower, self.upper)
        if self.op.hinge:
            return self.op.contacts(lines, self.lower, self.upper)  # type: ignore[attr-defined, no-any-return]
        found = []
        for side, slope in enumerate((lines.lower_slope, lines.upper_slope)):
            step = _STEP * np.maximum(abs(slope), 2.0**-10)
            ends = []
            for moved in (slope - step, slope + step):
                slopes = NodeSlopes(moved, None) if side == 0 else NodeSlopes(None, moved)
                line = self._lines(slopes, self.lower, self.upper)
                ends.append(line.lower_intercept if side == 0 else line.upper_intercept)
            found.append((ends[0] - ends[1]) / (2 * step))
        return found[0], found[1]

    def by_ends(self, up: Array, down: Array, z: Array) -> tuple[Array, Array]:
        """Derivatives in the ends of the interval, by central differences of the lines."""
        slopes = self._slopes()
        step = _STEP * (self.upper - self.lower)
        wide = step > 0
        step = np.where(wide, step, 1.0)
        found = []
        for shift in ((step, 0.0), (0.0, step)):
            height = []
            for sign in (-1.0, 1.0):
                lower, upper = self.lower + sign * shift[0], self.upper + sign * shift[1]
                line = self._lines(slopes, lower, upper)
                height.append(
                    up * (line.lower_slope * z + line.lower_intercept)
                    + down * (line.upper_slope * z + line.upper_intercept)
                )
            found.append(np.where(wide, (height[1] - height[0]) / (2 * step), 0.0))
        return found[0], found[1]
