"""Optimised slopes, layer by layer (α-CROWN: Xu et al. 2021).

Every neuron that a relaxation needs tight has two rows of its own, and each row slopes of its
own: a few steps of projected Adam (Kingma and Ba 2015) raise its bound, with gradients from one
forward sweep (`gamma.propagate.rows.sweep`). New bounds serve the layers behind at once, and the
rows of the output are optimised last. Every step's bound is proved by the same walk, so the best of
all steps is kept for each row, and an ordinary walk's where that is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops import Elementwise
from gamma.ops.bounds import NodeBounds
from gamma.ops.hinges import Factors, HingeRows
from gamma.ops.tables import Diagonal, NodeSlopes
from gamma.propagate.blocks import evenly
from gamma.propagate.dense import DenseNetwork, DenseWalk, Rising
from gamma.propagate.dense_form import form_of
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.options import Options
from gamma.propagate.rows.ascent import DenseAscent, in_one_call, operations
from gamma.propagate.rows.block import Dense, Frontier
from gamma.propagate.rows.chain import sparse
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.own import Own, Tape
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.rows.tables import Tables
from gamma.propagate.walks import Walk, walk
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
T = TypeVar("T")

# Rows are dropped when no more than this share of them is worth more steps.
_KEEP_FROM = 0.9
# Steps of hidden rows beside which one more walk takes little time.
_MANY = 8
# Operations of one call for all layers, if no row is done early: a few tenths of a second.
_AT_ONCE = 2e10


class Goal(NamedTuple):
    """With what bound rows need no more steps; ``paired``, of a first half of rows and their
    negatives: one of two."""

    limit: float
    paired: bool

    def reached(self, best: Float64) -> Mask:
        """Of which rows: all of a call, in order."""
        done = best >= self.limit
        if self.paired:
            half = done[: len(done) // 2] | done[len(done) // 2 :]
            done = np.concatenate((half, half))
        return done


# A neuron that no longer crosses 0 has nothing to gain where ReLUs read it.
DECIDED = Goal(0.0, True)
# A question is answered by a bound above 0.
ANSWERED = Goal(math.nextafter(0.0, 1.0), False)


class Ascent(Frozen, eq=True):
    """How slopes are optimised.

    Attributes:
        steps: descents of a hidden layer's rows, the first with given slopes; final: of the rows
            that were asked for. rate: of Adam, decayed by ``decay`` each step. momentum, memory:
            Adam's β₁ and β₂.
    """

    steps: int = 3
    final: int = 8
    rate: float = 0.5
    decay: float = 0.95
    momentum: float = 0.9
    memory: float = 0.9

    def factors(self, step: int) -> Factors:
        """Of one step: the averages start at 0, which the rate makes up for."""
        mean, square = (1 - b ** (step + 1) for b in (self.momentum, self.memory))
        rate = self.rate * self.decay**step * math.sqrt(square) / mean
        return self.momentum, 1 - self.momentum, self.memory, 1 - self.memory, rate

    def all_factors(self, steps: int) -> Float64:
        """Of every step, (steps, 5)."""
        return _factors(self, steps)


@lru_cache(maxsize=64)
def _factors(how: Ascent, steps: int) -> Float64:
    found = np.array([how.factors(step) for step in range(steps)])
    found.flags.writeable = False
    return found


def alpha_walk(
    network: Network,
    domain: Domain | Box,
    options: Options,
    how: Ascent | None = None,
    *,
    slopes: Slopes | None = None,
    kind: Callable[..., AlphaWalk] | None = None,
) -> AlphaWalk:
    """Bounds of all nodes with optimised slopes; never wider than those of method "crown".

    ``slopes`` are where the ascent starts; ``kind`` makes the walk, an `AlphaWalk` or one that
    does more.
    """
    domain = Domain(domain) if isinstance(domain, Box) else domain
    how = how or Ascent(options.steps, 2 * options.steps + options.steps // 10)
    crown = partial(walk, network, domain, replace(options, method="crown"), slopes=slopes)
    plain = lines = crown()
    if how.steps >= _MANY and any(n.op.activation and not n.op.hinge for n in network.nodes):
        with tuning.disabled("parallel_lines"):  # rows for each end leave most neurons narrower
            lines = crown()
    facts = {
        index: (known.lower, known.upper)
        for index, known in enumerate(plain.bounds)
        if index and not network.nodes[index].op.diagonal
    }
    known = replace(domain, facts={**domain.facts, **facts})
    made = (kind or AlphaWalk)(network, known, options, [])
    made.plain, made.lines, made.given, made.how = plain, lines, slopes or {}, how
    made.run()
    return made


def own_slopes(made: Walk, given: Slopes) -> Slopes:
    """Slopes of every node that can have others, one table per box: given, or the bounds' own."""
    found: dict[int, NodeSlopes] = {}
    called: dict[int, Diagonal] | None = None  # whose lines lean
    for index in range(1, made.network.output + 1):
        node = made.network.nodes[index]
        op = node.op.activation
        if op is not None and op.free_slopes:
            inside, asked = made.bounds[node.inputs[0]], given.get(index, NodeSlopes())
            if called is None and not op.hinge:
                called = made.called()
            table = None if op.hinge or called is None else called.get(index)
            if table is None:
                own = op.own_slopes(inside.lower, inside.upper, made.options.dtype)
            else:
                flat = (np.asarray(p, np.float64) for p in (table.lower_slope, table.upper_slope))
                own = NodeSlopes(*flat)
            found[index] = NodeSlopes(
                own.lower if asked.lower is None else asked.lower,
                own.upper if asked.upper is None or own.upper is None else asked.upper,
            )
    return found


class AlphaWalk(Walk):
    """A walk whose rows have slopes of their own.

    Attributes:
        plain: the walk of method "crown". What is asked for meets its bounds: where bounds are
            tighter, a relaxation may choose other lines, and these be worse for some row.
        lines: the walk whose lines rows start from, which is `plain` or as a rule narrower.
        given: node -> slopes that rows start from, of the nodes whose own they are not.
        how: of the ascent.
        at_once: whether one call of the C library may bound all neurons.
    """

    # Rows, their product, a temporary; slopes and what Adam remembers of them.
    blocks = 12
    # A descent, the way back up, and what slopes become.
    work = 3
    encloses = one_sided = False
    at_once = True

    plain: Walk
    lines: Walk
    given: Slopes
    how: Ascent

    @cached_property
    def initial(self) -> Slopes:
        """Node -> the slopes that rows start from."""
        return own_slopes(self.lines, self.given)

    def _one_call(self) -> DenseNetwork | None:
        return self.plain._dense if self._boxes_at_once else None

    @cached_property
    def _boxes_at_once(self) -> int:
        """Boxes of which all neurons' rows rise in one call; 0: they do node by node."""
        dense, walked, network = self.plain._dense, self.plain._walked, self.network
        if dense is None or walked is None or not self.at_once or not tuning.enabled("fused_alpha"):
            return 0
        known = partial(_costs, nodes=dense.nodes)
        costs: Float64 | None = network.cached(("alpha.at_once", tuning.off()), known)
        if costs is None:
            return 0
        output = self.how.final * network.nodes[network.output].size * costs[-1]
        scale = self.how.steps / len(self.box.lower)

        def boxes(rows: npt.ArrayLike) -> int:
            return int(_AT_ONCE / (2 * max(1.0, scale * float(np.dot(rows, costs[:-1])), output)))

        # Fewer neurons cross 0 now than got rows, but these are counted already.
        return boxes(walked.rows[:-1]) or boxes(walked.crossing())

    def _call(self, dense: DenseNetwork) -> DenseWalk:
        how, options, plain = self.how, self.options, self.plain._walked
        assert plain is not None
        rising = Rising(
            plain,
            how.all_factors(how.steps),
            how.all_factors(how.final),
            self._boxes_at_once,
        )
        source = self.bounds[dense.first - 1]
        return DenseWalk(dense, source, options.dtype, options.method, options.check, rising=rising)

    def _walk_dense(self, dense: DenseNetwork) -> None:
        super()._walk_dense(dense)
        assert self._walked is not None
        self.rowed |= self._walked.risen()

    def rows(self, frontier: Mapping[int, Array], d: Float64, box: Array) -> Float64:
        return np.fmax(super().rows(frontier, d, box), self.plain.rows(frontier, d, box))

    def in_blocks(self, index: int, count: int, bound: Callable[[slice], T], each: int) -> list[T]:
        apart = self._apart(index)
        ascent = (self.descent if apart is None else apart.descent).ascent
        if ascent is None or not ascent.reaches(index) or workers.sharing() == 1:
            return super().in_blocks(index, count, bound, each)
        # Threads share the inside of every call: blocks that walk at once would wait for them.
        most = max(1, self._rows_at_once(index) // each)
        return [bound(part) for part in evenly(count, most)]

    def _suffices(self, index: int) -> bool:
        return self.plain._suffices(index)  # its ends are facts here

    def _bound_forms(self, index: int) -> None:
        known = self.plain.forms.get(index)
        if known is not None and self._suffices(self.network.nodes[index].inputs[0]):
            self.forms[index] = known
        else:
            super()._bound_forms(index)

    def _ask_one(self, index: int) -> None:
        known = self.plain.ask(index)
        super()._ask_one(index)
        bounds = self.bounds[index]
        # Ends that cross belong to a box that the assumptions leave empty.
        lower = np.where(known.lower > bounds.upper, bounds.lower, known.lower)
        upper = np.where(known.upper < bounds.lower, bounds.upper, known.upper)
        bounds.intersect(lower, upper, self.network.nodes[index].name)
        self.descent.forget(index)

    def output(self) -> NodeBounds:
        self.plain.output()
        return super().output()

    def _block_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        descent, frontier, d, box = self._started(index, boxes, neurons)
        half, last = len(boxes), index == self.network.output
        steps = self.how.final if last else self.how.steps
        every = last or not self._facts.hinged[index]
        best = self._raise(descent, frontier, d, box, steps, None if every else DECIDED)
        return best[:half], -best[half:]

    def _bound_rows(self, frontier: Frontier, d: Float64, box: Indices) -> Float64:
        return self._raise(self.descent, frontier, d, box, self.how.final, ANSWERED)

    def _raise(
        self,
        descent: Descent,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        steps: int,
        goal: Goal | None,
    ) -> Float64:
        apart, how, check = self.descent.apart, self.how, self.options.check
        if apart is None:
            return optimise(descent, frontier, d, box, self.initial, how, steps, goal, check)
        own = apart.slopes(self.initial)
        if descent is apart.descent:
            return optimise(descent, frontier, d, box, own, how, steps, goal, check)
        if apart.near(frontier):
            descent.down(frontier, d, box, check, Own(), apart.last + 1)
            if apart.takes(frontier):
                # Slopes of a row at one position serve no other: each has its best of all steps.
                def best(rows: Frontier, d: Float64, box: Indices) -> Float64:
                    return optimise(apart.descent, rows, d, box, own, how, steps, None, check)

                apart.finish(frontier, d, box, best)
                return np.where(np.isnan(d), -np.inf, d)
        return optimise(descent, frontier, d, box, self.initial, how, steps, goal, check)

    def _with(self, options: Options) -> Walk:
        other = super()._with(options)
        assert isinstance(other, AlphaWalk)
        other.plain = other.lines = self.plain.in_float64()
        other.given, other.how = self.given, self.how
        if self._walked is None:  # the same in both, also where lines lean
            other.initial = self.initial
        return other


def optimise(
    descent: Descent,
    frontier: Frontier,
    d: Float64,
    box: Indices,
    initial: Slopes,
    how: Ascent,
    steps: int,
    goal: Goal | None = None,
    check: Callable[[], None] | None = None,
) -> Float64:
    """The best sound lower bounds (rows,) of rows over ``steps`` descents.

    Rows that reach the ``goal`` are left as they are.
    """
    if descent.ascent is not None and descent.ascent.takes(frontier):
        return _in_one_call(descent.ascent, frontier, d, box, initial, how, steps, goal, check)
    best = np.full(len(d), -np.inf)
    rows = np.arange(len(d))
    parameters = _Parameters(descent.tables, initial, box, how)
    for step in range(steps):
        copies = {index: block.copy() for index, block in frontier.items()}
        slopes = parameters.slopes(max(frontier))
        tape = Tape() if slopes and step + 1 < steps else None
        lower = descent.run(copies, d.copy(), box, check, slopes=slopes, tape=tape)
        best[rows] = np.fmax(best[rows], lower)
        if tape is None:
            break
        parameters.step(tape, step)
        if goal is not None:
            kept = np.flatnonzero(~goal.reached(best)[rows])
            if not len(kept):
                break
            if len(kept) < _KEEP_FROM * len(rows):
                rows, d, box = rows[kept], d[kept], box[kept]
                frontier = {i: Dense(b.dense()[kept]) for i, b in frontier.items()}
                parameters.take(kept)
    return best


def _in_one_call(
    ascent: DenseAscent,
    frontier: Frontier,
    d: Float64,
    box: Indices,
    initial: Slopes,
    how: Ascent,
    steps: int,
    goal: Goal | None,
    check: Callable[[], None] | None,
) -> Float64:
    """`optimise` in the C library."""
    last, *others = sorted(frontier, reverse=True)
    own = ascent.starts(last, initial)
    paired, count, boxes = goal is not None and goal.paired, len(d), len(own)
    # Rows of a box are together, a row next to its negative.
    sides = np.arange(count).reshape(1 + paired, -1)
    if boxes > 1:
        sides = sides[:, np.argsort(box[sides[0]], kind="stable")]
    order = sides.T.ravel()
    found = np.empty(count)
    found[order] = ascent.run(
        last,
        (frontier[last].dense(), d),
        kernels.Climbers.plain(own, order, box[order] if boxes > 1 else None, paired),
        how.all_factors(steps),
        check,
        limit=None if goal is None else np.full(count, goal.limit),
        beside=(others[0], frontier[others[0]].dense()) if others else None,
    )
    return found


def _costs(network: Network, nodes: tuple[int, ...]) -> Float64 | None:
    """Operations of one row of each dense layer, where one call of the C library takes them all."""
    form, kind = form_of(network, np.dtype(np.float32)), np.dtype(np.float32)
    layers = [] if form is None or form.sparse else form.layers
    # Of weights of mostly zeros that call knows all or none.
    mixed = any(sparse(op, kind) is not None for op in layers)
    if mixed or not all(in_one_call(network, index - 1) for index in nodes[1:]):
        return None
    return np.array([0.0, *(operations(network, index - 1) for index in nodes[1:])])


class _Parameters:
    """Slopes of rows, of the neurons that `Tables.columns` keeps, and what Adam remembers."""

    def __init__(self, tables: Tables, initial: Slopes, box: Indices, how: Ascent) -> None:
        self.tables, self.box, self.how = tables, box, how
        self._initial = initial
        self.values: dict[int, NodeSlopes | HingeRows] = {}
        self._memory: dict[int, tuple[Array, Array]] = {}

    def slopes(self, last: int) -> Mapping[int, NodeSlopes | HingeRows]:
        """One table per row, for the nodes up to ``last``."""
        for index, given in self._initial.items():
            if index <= last and index not in self.values:
                self.values[index] = self._of_rows(index, given)
        return self.values

    def _of_rows(self, index: int, given: NodeSlopes) -> NodeSlopes | HingeRows:
        keep, dtype = self.tables.columns(index), self.tables.how.dtype
        lower, upper = (
            None if p is None else (p if keep is None else p[:, keep]).astype(dtype)
            for p in (given.lower, given.upper)
        )
        if not self.tables.hinged(index):
            return NodeSlopes(*(None if p is None else p[self.box] for p in (lower, upper)))
        assert lower is not None
        made = self.tables.hinge(index).rows_alike(lower, self.box)
        self._memory[index] = np.zeros_like(made.slope), np.zeros_like(made.slope)
        return made

    def take(self, rows: Indices) -> None:
        """Keep the slopes of these rows alone."""
        self.box = self.box[rows]
        for index, given in self.values.items():
            if isinstance(given, HingeRows):
                first, second = self._memory[index]
                self._memory[index] = first[rows], second[rows]
                self.values[index] = HingeRows(given.lines, given.slope[rows])
                continue
            ends = (None if part is None else part[rows] for part in (given.lower, given.upper))
            self.values[index] = NodeSlopes(*ends)

    def step(self, tape: Tape, step: int) -> None:
        """Move all slopes along their gradients."""
        steps = trajectory(self.tables, tape, self.box)
        factors = self.how.factors(step)
        for index, (rows, _, _) in tape.passed.items():
            node, given = self.tables.network.nodes[index], self.values.get(index)
            x = steps[node.inputs[0]]
            if isinstance(given, HingeRows):
                given.ascend(rows, x, self.box, self._memory[index], factors)
            elif given is not None:
                op = node.op.activation
                assert op is not None
                centre = self.tables.bounds[node.inputs[0]].centre
                flat = centre.reshape(len(centre), -1).astype(rows.dtype)
                self._touch(index, op, given, rows, x + flat[self.box])

    def _touch(self, index: int, op: Elementwise, old: NodeSlopes, rows: Array, z: Array) -> None:
        """Move lines halfway to the tangent at the trajectory, where that is higher there."""
        # In the node's shape: a function may have parameters entry by entry.
        known = self.tables.bounds[self.tables.network.nodes[index].inputs[0]]
        shape, flat = (len(z), *known.lower.shape[1:]), (len(z), -1)
        lower, upper = known.lower[self.box], known.upper[self.box]
        at = np.clip(z.reshape(shape), lower, upper).astype(np.float64)
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
        steep = tangent.reshape(flat)
        half_low, half_high = 0.5 * (old.lower + steep), 0.5 * (old.upper + steep)
        self.values[index] = NodeSlopes(
            np.where(better_low.reshape(flat) & (rows > 0), half_low, old.lower),
            np.where(better_high.reshape(flat) & (rows < 0), half_high, old.upper),
        )
