"""Backward linear bound propagation (CROWN: Zhang et al. 2018; DeepPoly: Singh et al. 2019).

A row states  f(x) >= sum over frontier nodes v of A_v·(v(x) - c_v)  + d.  Each step replaces the
last frontier node by its inputs, until the input is all that is left: there the row is concretised.
Only lower bounds exist; an upper bound is a negated row. Rows carry the index of their box, so
boxes with different numbers of rows share every product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import UsageError
from gamma.ops.charges import TINY
from gamma.ops.hinges import HingeRows
from gamma.ops.tables import Diagonal, NodeSlopes
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Block, Dense, Frontier, Shape
from gamma.propagate.rows.chain import DenseChain
from gamma.propagate.rows.course import ImageCourses
from gamma.propagate.rows.opposite import follow, turn
from gamma.propagate.rows.own import Multipliers, Own, Tape
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import Windows, as_windows, framed
from gamma.runtime import choices, pool
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.propagate.positions.apart import Apart
    from gamma.propagate.rows.ascent import DenseAscent

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Descent:
    """How rows go down by some tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.chain: DenseChain | None = None if tables.linear_only else DenseChain(tables)
        self.courses = ImageCourses(tables)
        self._ascents: list[DenseAscent] = []
        # How plain rows go on where positions are apart.
        self.apart: Apart | None = None
        self._windowed = tuning.enabled("windows")
        self._added = tuning.enabled("added_adjoint") and tuning.enabled("gathered_adjoint")

    @cached_property
    def ascent(self) -> DenseAscent | None:
        """How rows rise in one call of the C library, where those of this walk do."""
        from gamma.propagate.rows.ascent import DenseAscent

        made = DenseAscent.of(self.tables, len(self.tables.network.nodes))
        self._ascents += [made] if made is not None else []
        return made

    @cached_property
    def passage(self) -> DenseAscent | None:
        """How rows go down past normalisations in one call, by the tables' own lines."""
        network, dtype = self.tables.network, self.tables.how.dtype
        if not facts_of(network).normalizes or self.tables.linear_only:
            return None
        layers = [node.op.dense for node in network.nodes]
        if not all(op is None or op.tiled(dtype) for op in layers):
            return None  # the BLAS is sooner
        from gamma.propagate.rows.ascent import DenseAscent

        made = DenseAscent.of(self.tables, 0)
        self._ascents += [made] if made is not None else []
        return made

    def run(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        check: Callable[[], None] | None = None,
        *,
        slopes: Mapping[int, NodeSlopes | HingeRows] | None = None,
        multipliers: Mapping[int, Multipliers] | None = None,
        tape: Tape | None = None,
        stop: int = 0,
    ) -> Float64:
        """Sound lower bounds (rows,) of the rows in ``frontier``.

        Rows and ``d`` are overwritten. ``check`` is called before each node and may raise to stop.
        ``slopes`` and ``multipliers`` belong to rows; the tables' ``split`` names the latter's
        nodes. Rows stop at node ``stop``, whose interval concretises them.

        Raises UsageError when some path leads around ``stop``.
        """
        own = Own(slopes or {}, multipliers or {}, tape)
        if tape is not None:
            tape.start = frozenset(frontier)
        self.down(frontier, d, box, check, own, stop, stop)
        if frontier:
            raise UsageError(
                f"node {self.tables.network.nodes[stop].name}: a path to the output leads around it"
            )
        return np.where(np.isnan(d), -np.inf, d)

    def down(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        check: Callable[[], None] | None,
        own: Own,
        last: int = 0,
        stop: int = 0,
    ) -> None:
        """Take the rows of ``frontier`` past every node from the last of it to node ``last``."""
        with np.errstate(all="ignore"):
            for index in range(max(frontier), last - 1, -1):
                if index not in frontier:
                    continue
                if check is not None:
                    check()
                started = time.perf_counter()
                plain = own.plain and own.opposite is None and not (last or stop)
                if plain and self.apart is not None and self.apart.takes(frontier):
                    self.apart.finish(
                        frontier, d, box, partial(self.apart.descent.run, check=check)
                    )
                    return
                if plain and self.passage is not None and self.passage.takes(frontier):
                    self.passage.down(frontier, d, box, check)
                    return
                if not stop and self._went(frontier, d, box, check, own, last):
                    if telemetry.recorder is not None:
                        ended = time.perf_counter()
                        telemetry.record("crown.backward.images", started, ended, rows=len(d))
                    return
                rows = frontier.pop(index)
                alone = not (frontier or last) and own.plain
                chained = alone and self._chained(index, rows, own.opposite is not None)
                if index and index == stop:
                    self.concretise(index, rows, d, box, own.tape)
                elif chained:
                    assert self.chain is not None
                    self.chain.run(index, rows.array, d, own.opposite, box)
                else:
                    self._step(index, rows, d, box, frontier, own)
                    self.passed(index)
                if telemetry.recorder is not None:
                    name = "chain" if chained else self.tables.network.nodes[index].op.name.lower()
                    telemetry.record(
                        f"crown.backward.{name}",
                        started,
                        time.perf_counter(),
                        rows=len(d),
                        bytes=rows.array.nbytes,
                    )

    def _went(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        check: Callable[[], None] | None,
        own: Own,
        last: int,
    ) -> bool:
        """Take rows over images down in one call; False, with nothing done, where some cannot."""
        if own.slopes or own.multipliers or own.tape is not None or not len(d):
            return False
        way = self.courses.way(frontier, last, own.opposite is not None)
        if way is None:
            return False
        self.courses.run(way, frontier, d, box, own.opposite, check)
        return True

    def passed(self, index: int) -> None:
        """Called when rows have passed a node."""

    def forget(self, index: int) -> None:
        """Bounds of ``index`` were tightened: drop what was computed from the old ones."""
        self.tables.forget(index)
        self.courses.forget(index)
        if self.apart is not None and index <= self.apart.last:
            self.apart.descent.forget(index)
        for ascent in self._ascents:
            ascent.forget(index)
        if self.chain is not None:
            self.chain.forget(index)

    def _chained(self, index: int, rows: Block, both: bool) -> bool:
        if not isinstance(rows, Dense) or self.chain is None:
            return False
        return self.chain.two_sided(index) if both else self.chain.reaches(index)

    def two_sided(self, index: int) -> bool:
        """Whether one descent bounds rows over node ``index`` and their negatives alike."""
        return self.chain is not None and self.chain.two_sided(index)

    def _step(
        self, index: int, rows: Block, d: Float64, box: Indices, frontier: Frontier, own: Own
    ) -> None:
        if index in own.multipliers:
            rows = self._assume(index, rows, d, box, own.multipliers[index])
        node = self.tables.network.nodes[index]
        before = None if own.opposite is None else d.copy()
        if index == 0:
            self._concretise_input(rows, d, box, own.tape)
        elif node.op.affine is not None:
            self.pass_linear(index, rows, d, box, frontier)
        elif self.tables.linear_only:
            self.concretise(index, rows, d, box)
        else:
            self._pass_relaxation(index, rows, d, box, frontier, own)
            return
        if before is not None:
            assert own.opposite is not None
            follow(own.opposite, d, before)

    def _pass_relaxation(
        self, index: int, rows: Block, d: Float64, box: Indices, frontier: Frontier, own: Own
    ) -> None:
        tables, node = self.tables, self.tables.network.nodes[index]
        at, given = box, own.slopes.get(index)
        if given is None:
            table = tables.relaxation(index)
        else:
            table, at = tables.relaxation_of_rows(index, given, box)
        if own.tape is not None and not own.tape.inputs_only:
            rows = Dense(rows.dense())
            own.tape.passed[index] = rows.array.copy(), table, at
        opposite, before = own.opposite, d.copy() if own.opposite is not None else d
        if isinstance(table, Diagonal):
            rows = rows if given is None else Dense(rows.dense())
            parts: tuple[Block, ...] = self._scaled(index, rows, table, d, at, opposite)
        else:
            found = table.back(rows.dense(), d, at)
            parts = tuple(Dense(np.ascontiguousarray(part)) for part in found)
            if opposite is not None:
                opposite[:] = -np.inf
        if opposite is not None:
            turn(opposite, d, before)
            before = d.copy()
        d -= table.loss[at]
        settle(d)
        for i, part in zip(node.inputs, parts, strict=True):
            self._join(frontier, i, part, d, box)
        if opposite is not None:
            follow(opposite, d, before)

    def _scaled(
        self,
        index: int,
        rows: Block,
        table: Diagonal,
        d: Float64,
        at: Indices,
        opposite: Float64 | None,
    ) -> tuple[Block, ...]:
        """Rows times the slopes of the lines that they choose; the negated rows pay the strips."""
        tables = self.tables
        if opposite is not None:
            strip = tables.strips(index)
            rows = rows.pay(opposite, at, strip, tables.images("strip", index, (strip,)))
        images = tables.images("relax", index, table.parts)
        return (rows.relax(d, at, table.parts, images),)

    def pass_linear(
        self, index: int, rows: Block, d: Float64, box: Indices, frontier: Frontier
    ) -> None:
        """Replace linear node ``index`` by its inputs; d -= what that costs."""
        tables, node = self.tables, self.tables.network.nodes[index]
        op = node.op.affine
        assert op is not None
        if not tables.carried(index) and not tables.free(index):
            charge = tables.charge(index)
            images = tables.images("charge", index, (charge.weight,))
            rows = rows.pay(d, box, charge.weight, images)
            d -= charge.loss[box]
            settle(d)
        shapes = [tables.network.nodes[i].shape for i in node.inputs]
        if isinstance(rows, Dense):
            # Tables with channels last are made once; a few rows do not earn them back.
            windowed = self._windowed and op.windowed(shapes[0])
            if windowed and choices.choose("rows.start", "", rows.array.size) == "windows":
                rows = as_windows(rows, node.shape, box)
        if (added := self._onto(index, rows, shapes[0], frontier)) is not None:
            frontier[node.inputs[0]] = self._round(node.inputs[0], added, d, box)
            return
        if isinstance(rows, Dense) and op.dense is not None and len(node.shape) == 1:
            parts: tuple[Block, ...] = (Dense(self.times_weight(index, rows.array)),)
        elif isinstance(rows, Dense) and self._windowed and self._images_before(index):
            parts = (framed(rows.array.reshape(len(rows.array), *node.shape), box),)
        else:
            parts = rows.through(op, shapes, node.shape)
        # Parts may share memory: all but the last are copied before somebody overwrites them.
        shared = len(parts) > 1 and not self._leaves(index)
        for k, (i, part) in enumerate(zip(node.inputs, parts, strict=True)):
            self._join(frontier, i, part, d, box, shared and k + 1 < len(parts))

    def _onto(self, index: int, rows: Block, shape: Shape, frontier: Frontier) -> Windows | None:
        """Rows through a convolution whose input has rows already, added to these; or None."""
        node = self.tables.network.nodes[index]
        op = node.op.correlation
        if op is None or not isinstance(rows, Windows) or not self._added:
            return None
        return rows.onto(op, shape, frontier.get(node.inputs[0]))

    def _leaves(self, index: int) -> bool:
        """Whether rows leave one input of a sum for new memory before its other is looked at."""
        nodes, consumers = self.tables.network.nodes, self.tables.network.consumers
        first, last = min(nodes[index].inputs), max(nodes[index].inputs)
        op = nodes[last].op
        return (
            len(nodes[index].inputs) == 2
            and last not in self.tables.split
            and consumers[last] == (index,)
            and (op.correlation is not None and op.windowed(nodes[nodes[last].inputs[0]].shape))
            and all(reader in (index, last) or reader < last for reader in consumers[first])
        )

    def _images_before(self, index: int) -> bool:
        """Whether node ``index`` moves an image's channels to the end, where windows have them."""
        node = self.tables.network.nodes[index]
        turned = node.op.affine is not None and node.op.affine.turns == "last"
        return turned and facts_of(self.tables.network).image[node.inputs[0]]

    def times_weight(self, index: int, rows: Array) -> Array:
        """Rows (rows, size) of dense node ``index`` times its weight."""
        weight = self.tables.weight(index)
        out = pool.empty((len(rows), weight.shape[1]), self.tables.how.dtype)
        return np.matmul(rows, weight, out=out)

    def _join(
        self,
        frontier: Frontier,
        index: int,
        part: Block,
        d: Float64,
        box: Indices,
        shared: bool = False,
    ) -> None:
        """Add coefficients to a node; a second contribution costs one more rounding."""
        if index not in frontier:
            frontier[index] = part.copy() if shared else part
            return
        frontier[index] = self._round(index, frontier[index].plus(part), d, box)

    def _round(self, index: int, rows: Block, d: Float64, box: Indices) -> Block:
        """Charge one rounding of every coefficient."""
        weight = self.tables.rounded(index)
        rows = rows.pay(d, box, weight, self.tables.images("join", index, (weight,)))
        settle(d)
        return rows

    def _assume(
        self, index: int, rows: Block, d: Float64, box: Indices, given: Multipliers
    ) -> Block:
        """Add -β·S·(x - p) to rows over node ``index``: at most 0 where the assumption holds.

        (β-CROWN: Wang et al. 2021.) A linear node whose charge its reader carries gets β's share
        of it here: the reader carries only the share of its own coefficients.
        """
        tables, dtype = self.tables, self.tables.how.dtype
        keep = tables.kept(index)[0] if tables.carried(index) else None
        at = box[given.row], given.column if keep is None else keep[given.column]
        known = tables.bounds[index]
        centre = known.centre.reshape(len(known.centre), -1)[at]
        # β·S is rounded to the rows' type first: that is the multiplier, and its product is exact.
        taken = (np.maximum(given.beta, 0.0) * given.sign).astype(dtype)
        wide = taken.astype(np.float64)
        terms = wide * (given.point - centre)
        cost = np.zeros_like(terms)
        if tables.carried(index):
            charge = tables.charge(index)
            cost += abs(wide) * charge.weight.reshape(len(charge.loss), -1)[at] * (1 + 2.0**-20)
            d -= charge.loss[box]
        array = rows.dense()
        array[given.row, given.column] -= taken
        rest = abs(array[given.row, given.column].astype(np.float64))
        cost += rest * tables.rounded(index)[at] * (1 + 2.0**-20)
        np.add.at(d, given.row, terms - cost * (1 + 2.0**-20))
        # Of n additions to d each may be off by 2⁻⁵³ of d or of what was added, and so may the
        # difference and the product behind each term.
        g = rounding.gamma_factor(known.centre[0].size + 8, np.float64)
        total = np.zeros_like(d)
        np.add.at(total, given.row, abs(terms) + cost)
        d -= (total + abs(d)) * (g + 2.0**-50) * (1 + 2.0**-20) + TINY
        settle(d)
        return Dense(array)

    def concretise(
        self, index: int, rows: Block, d: Float64, box: Indices, tape: Tape | None = None
    ) -> None:
        """The least value of the rows over the node's interval."""
        if tape is not None:
            tape.input, tape.constant = rows.dense(), d.copy()
        radius = self.tables.radius(index)
        rows.pay(d, box, radius, self.tables.images("radius", index, (radius,)))
        settle(d)

    def _concretise_input(self, rows: Block, d: Float64, box: Indices, tape: Tape | None) -> None:
        """The least value over the input set: the dual norm of the rows, or the interval."""
        tables = self.tables
        if tables.box.norm == "inf":
            self.concretise(0, rows, d, box, tape)
            return
        if tape is not None:
            tape.input, tape.constant = rows.dense(), d.copy()
        block = Dense(rows.dense())
        interval = d.copy()
        self.concretise(0, block, interval, box)
        _over_ball(tables, block.array, d, box)
        np.maximum(d, interval, out=d)


def _over_ball(tables: Tables, rows: Array, d: Float64, box: Indices) -> None:
    """d becomes the least value of the rows over the ball that ``tables.box`` is."""
    ball = tables.box
    assert ball.center is not None and ball.radius is not None
    # The ball is centred on its own centre, the rows on the hull's: shift d exactly enough.
    centre = ball.center.reshape(len(ball.center), -1)
    hull = tables.bounds[0].centre.reshape(centre.shape)
    # Entries that cannot move are the hull's centre, wherever the ball's is.
    fixed = (ball.lower == ball.upper).reshape(centre.shape)
    shift = np.where(fixed, 0.0, centre - hull)
    size = abs(centre) + abs(hull)
    kernels.dot_rows(rows, d, box, np.ascontiguousarray(shift))
    settle(d)
    g = rounding.gamma_factor(rows.shape[1] + 8, np.float64)
    kernels.abs_dot_rows(rows, d, box, abs(shift) * g + size * 2.0**-52)
    wide = abs(rows.astype(np.float64))
    if fixed.any():
        wide[fixed[box]] = 0.0
    if ball.norm == "2":
        peak = wide.max(axis=1, initial=0.0)
        scaled = wide / np.where(peak > 0, peak, 1.0)[:, None]
        norm = np.sqrt(np.square(scaled).sum(axis=1)) * peak
    else:
        norm = wide.max(axis=1, initial=0.0)
    d -= ball.radius * norm * (1 + g) * (1 + 2.0**-48)
    settle(d)


def settle(d: Float64) -> None:
    """Charge the float64 additions made to d since the last call, and underflow in them."""
    d -= abs(d) * 2.0**-50 + TINY
