"""Bounds of every node: by intervals (ibp), or by rows over earlier nodes (crown-ibp, crown).

`walk` visits the nodes in order. Each gets its interval bounds; with method "crown" the neurons
that some relaxation needs tight also get rows of their own (`gamma.propagate.rows`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import InternalError, ResourceError, UnsupportedError, UsageError
from gamma.methods import GUARANTEES as GUARANTEES
from gamma.methods import METHODS as METHODS
from gamma.methods import REFINING
from gamma.network.graph import Network
from gamma.ops import Gemm, Linear, Normalize, StoredGemm
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.charges import linear_charge
from gamma.ops.tables import Precision
from gamma.propagate.blocks import block_length, row_cost
from gamma.propagate.dense import DenseNetwork, DenseWalk, dense_network
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.facts import Facts, facts_of
from gamma.propagate.forms import about_zero, both_signs
from gamma.propagate.interval import input_bounds, interval_step
from gamma.propagate.rows.affine import AffineForms, affine_forms, largest_gaps
from gamma.propagate.rows.block import dense, unit
from gamma.propagate.rows.descend import Descent, Frontier, Tape, blocks_of
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import starts
from gamma.runtime import choices, heap, interrupts, workers
from gamma.tensor import rounding
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_float, exact_integer

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
T = TypeVar("T")

# Bytes of coefficient rows alive at once when no limit is given: small enough for the caches.
DEFAULT_ROW_BYTES = 48 << 20
# Blocks of coefficients alive at the widest step: the rows, the product, one temporary.
BLOCKS = 3
STREAMED_BLOCKS = 5
# Nanoseconds of all rows of a node from where on later rows end at its affine forms.
AFFINE_FROM = 1.5e8
# Nodes this many times smaller than that node get rows that go all the way.
FEW = 4
# Blocks of rows that are handed out at once.
TASKS = 4096


@dataclass(frozen=True)
class Options:
    """What a walk was asked for, the one settings value inside; ``progress`` is told which node it
    bounds.

    Raises UsageError for an unknown method or guarantee, and for sizes and times that are none.
    """

    method: str = "crown"
    guarantee: str = "real"
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    row_bytes: int = DEFAULT_ROW_BYTES
    deadline: float | None = None
    progress: Callable[[str], None] | None = None
    steps: int = 3

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r}: expected one of {', '.join(METHODS)}")
        if self.guarantee not in GUARANTEES:
            raise UsageError(f"guarantee {self.guarantee!r}: expected real or float32")
        exact_integer(self.row_bytes, "row_bytes", least=1)
        if self.deadline is not None:
            exact_float(self.deadline, "deadline")
        exact_integer(self.steps, "steps", least=1)

    @property
    def precision(self) -> Precision:
        """Guarantee and type of rows, as operators take them."""
        return Precision(self.guarantee, self.dtype)

    @property
    def relaxes(self) -> bool:
        """Whether rows pass nonlinear nodes."""
        return self.method != "ibp"

    @property
    def refines(self) -> bool:
        """Whether inner neurons get rows of their own."""
        return self.method in REFINING

    def check(self) -> None:
        """Raise ResourceError when the deadline (time.monotonic) has passed."""
        interrupts.check()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise ResourceError("the time limit was reached")


def refuse_guarantee(network: Network, guarantee: str) -> None:
    """Raise UnsupportedError where ``guarantee`` would say more about the network than is true."""
    if guarantee == "real":
        return
    path = network.source.path if network.source else None
    if network.real_only:
        raise UnsupportedError.at(
            path,
            "",
            f"has {', '.join(network.real_only)}, whose steps every runtime chooses for itself: "
            f"the guarantee {guarantee} does not cover them, ask for the guarantee real",
        )
    if not network.short_types:
        return
    raise UnsupportedError.at(
        path,
        "",
        f"computes in {' and '.join(network.short_types)}, the guarantee {guarantee} covers "
        "executions in float32 alone: ask for the guarantee real, or export the network in float32",
    )


def walk(
    network: Network,
    domain: Domain | Box,
    options: Options,
    *,
    slopes: Slopes | None = None,
) -> Walk:
    """Bounds of all nodes over a batch of boxes.

    ``slopes`` (one table per box) replace the operators' own.
    """
    domain = Domain(domain) if isinstance(domain, Box) else domain
    domain.check(network)
    heap.keep()
    made = Walk(network, domain, options, [], slopes)
    made.run()
    return made


class Walk:
    """Bounds of the nodes of one network over one batch of boxes, and the tables of their rows.

    Attributes:
        bounds: of the nodes up to the output. empty: bool (batch,), the assumptions contradict
            each other: nothing is left to bound there.
        seconds, unstable: node -> time, and neurons that got rows.
    """

    blocks = BLOCKS
    # Whether rows of inner neurons may end at affine forms of an earlier node.
    shortens = True

    def __init__(
        self,
        network: Network,
        domain: Domain,
        options: Options,
        bounds: Any,
        slopes: Slopes | None = None,
    ) -> None:
        self.network, self.domain, self.options = network, domain, options
        self.box, self.bounds, self.slopes = domain.box, bounds, slopes or {}
        self.empty = np.zeros(domain.batch, bool)
        self.seconds: dict[int, float] = {}
        self.unstable: dict[int, int] = {}
        self.forms: dict[int, Forms] = {}
        # Affine forms of the last node that has any, while inner neurons are bounded.
        self._affine: dict[int, AffineForms] = {}
        self._facts: Facts = facts_of(network)
        # Nodes whose bounds rows cannot improve where a relaxation needs it.
        self._tight: dict[int, bool] = {}
        # Neurons (batch, size) that got rows; every neuron where there is True.
        self._rowed: dict[int, npt.NDArray[np.bool_] | bool] = {}
        self._dense: DenseNetwork | None = None
        self._walked: DenseWalk | None = None
        self._descent: Descent | None = None

    def run(self) -> None:
        """Bound the nodes in order."""
        self.bounds.append(self.domain.meet(0, input_bounds(self.box), self.empty))
        self._tight[0] = self.box.norm == "inf"
        if self.domain.plain and not self.slopes:
            self._dense = one_call(self.network, self.box, self.options)
        with np.errstate(all="ignore"):
            for index in range(1, self.network.output + 1):
                if self._dense is not None and index == self._dense.first:
                    self._walk_dense(self._dense)
                    break
                self._visit(index)
        self._affine.clear()

    @property
    def descent(self) -> Descent:
        """How rows go down from here, with tables made as they are needed."""
        if self._descent is None:
            self._descent = self._make_descent()
        return self._descent

    def _make_descent(self) -> Descent:
        return Descent(self._make_tables(Tables))

    def _make_tables(self, kind: type[Tables]) -> Tables:
        return kind(
            self.network,
            self.box,
            self.bounds,
            self.options.precision,
            self.slopes,
            frozenset(self.domain.split),
            linear_only=not self.options.relaxes,
            forms=self.forms,
        )

    def _visit(self, index: int) -> None:
        self.options.check()
        started = time.perf_counter()
        node = self.network.nodes[index]
        if self.options.progress is not None:
            name, count = self.options.method, self.network.output
            self.options.progress(f"{name}: node {index} of {count}, {node.name}")
        inputs = [self.bounds[i] for i in node.inputs]
        found = interval_step(node, inputs, self.options.guarantee, self.options.dtype)
        self.bounds.append(self.domain.meet(index, found, self.empty))
        self._tight[index] = self._is_tight(index)
        if self.options.refines:
            self._bound_forms(index)
        if self.options.refines and not self._tight[index]:
            self._refine(index)
        ended = time.perf_counter()
        self.seconds[index] = ended - started
        if telemetry.recorder is not None:
            name = f"{self.options.method}.node.{node.op.name.lower()}"
            rows = 2 * self.unstable.get(index, 0)
            telemetry.record(name, started, ended, rows=rows, neurons=node.size)

    # -- small dense networks: all in one call -------------------------------------------------

    def _walk_dense(self, dense: DenseNetwork) -> None:
        started = time.perf_counter()
        source = self.bounds[dense.first - 1]
        self._walked = walked = DenseWalk(
            dense, source, self.options.dtype, self.options.method, self.options.check
        )
        self._agree(walked.crossed)
        self.bounds += walked.bounds
        last = self.network.output
        self._tight |= dict.fromkeys(range(dense.first, last), True)
        self._tight[last] = dense.first == last
        for layer, (rows, seconds) in enumerate(zip(walked.rows, walked.seconds, strict=True)):
            index = dense.first + 2 * layer
            self.seconds[index] = float(seconds)
            if rows:
                self.unstable[index] = int(rows)
        if telemetry.recorder is not None:
            self._record_dense(walked, started, time.perf_counter())

    def _record_dense(self, walked: DenseWalk, started: float, ended: float) -> None:
        """A span of the call, and in it one per layer, whose boxes are taken together."""
        name = self.options.method
        telemetry.record(f"{name}.network", started, ended, rows=2 * int(walked.rows.sum()))
        # Seconds of several threads may sum to more than passed.
        share = min(1.0, (ended - started) / max(float(walked.seconds.sum()), 1e-9))
        for layer, (rows, seconds) in enumerate(zip(walked.rows, walked.seconds, strict=True)):
            neurons, length = walked.bounds[2 * layer].lower[0].size, share * float(seconds)
            telemetry.record(
                f"{name}.node.gemm", started, started + length, rows=2 * int(rows), neurons=neurons
            )
            started += length

    def _agree(self, crossed: int) -> None:
        if crossed:
            raise InternalError(f"{crossed} bounds contradict each other; please report this")

    def adopt(self) -> None:
        """Give the tables of the one-call walk to the rows' descent."""
        if self._walked is not None and self._dense is not None:
            for layer, table in enumerate(self._walked.relaxations()):
                self.descent.tables.adopt(self._dense.first + 2 * layer + 1, table)

    def _is_tight(self, index: int) -> bool:
        """Whether rows cannot improve the interval bounds: see `Linear.independent`."""
        node = self.network.nodes[index]
        if node.op.diagonal:  # the image of its input's bounds is as good as rows of its own
            return self._tight[node.inputs[0]]
        if not isinstance(node.op, Linear):
            return False
        alone = len(node.inputs) == 1 and self._facts.separate[node.inputs[0]]
        exact = alone or node.op.moves
        return exact and all(self._tight[i] for i in node.inputs)

    # -- intermediate bounds by rows ---------------------------------------------------------------

    def _refine(self, index: int) -> None:
        """Bound the neurons that a relaxation needs tight by rows, and intersect."""
        mask = self._wanted(index)
        if mask is None:
            return
        if self._shortens(index):
            mask = np.ones_like(mask)
            self._bound_affinely(index)
            self.unstable[index] = mask.size
        else:
            self._bound(index, mask)
            self.unstable[index] = int(np.count_nonzero(mask))
            if self._affine:
                mask = self._bound_deeply(index, mask)
        self._rowed[index] = mask
        self._tight[index] = self._tight[index] or self.unstable[index] > 0

    def _bound_forms(self, index: int) -> None:
        """Bound, by rows, the linear forms that the node's relaxation asks for."""
        node = self.network.nodes[index]
        weights = node.op.forms([self.bounds[i] for i in node.inputs])
        if weights is not None:
            (source,) = node.inputs
            centre, dtype = self.bounds[source].centre, self.options.dtype

            def bound(block: slice) -> Float64:
                frontier, box = both_signs(source, weights, block, dtype)
                return self.descent.run(frontier, np.zeros(len(box)), box, self.options.check)

            count = math.prod(weights.shape[:3])
            parts = self.in_blocks(source, count, bound, 2)
            self.forms[index] = about_zero(weights, centre, parts)

    def _bound(self, index: int, mask: npt.NDArray[np.bool_]) -> None:
        """Meet bounds of the neurons in ``mask`` (batch, size) with rows'."""
        boxes, neurons = _pixel_by_pixel(mask, self.network.nodes[index].shape)
        if len(boxes):
            lower, upper = self.neuron_bounds(index, boxes, neurons)
            self.tighten(index, boxes, neurons, lower, upper)

    def _bound_deeply(self, index: int, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Bound once more, by rows that go all the way, the neurons that decide most: says which.

        All of a node that has few; else those whose lines leave the largest gaps.
        """
        affine, self._affine = self._affine, {}
        few = FEW * self._facts.sizes[index] <= self._facts.sizes[max(affine)]
        worth = np.full_like(mask, few)
        for reader in [] if few else self.network.consumers[index]:
            worth |= largest_gaps(self.network.nodes[reader].op, self.bounds[index])
        self._bound(index, mask & worth)
        self._affine = affine
        return mask & worth

    def _shortens(self, index: int) -> bool:
        """Whether rows of later neurons shall end at affine forms of this node."""
        nodes, size = self.network.nodes, self._facts.sizes[index]
        entries = self.domain.batch * size * self._facts.sizes[0]
        return (
            self.shortens
            and tuning.enabled("affine_forms")
            and self._facts.cut[index]
            and any(isinstance(nodes[r].op, Normalize) for r in self.network.consumers[index])
            and 2 * size * row_cost(self.network, index) > AFFINE_FROM
            and entries * self.options.dtype.itemsize <= self.options.row_bytes
        )

    def _bound_affinely(self, index: int) -> None:
        """Bound every neuron of the node by rows, and keep its affine forms in the input."""
        known, source = self.bounds[index], self.bounds[0]
        batch, size = len(known.lower), self._facts.sizes[index]
        boxes, neurons = np.divmod(np.arange(batch * size), size)
        columns = np.flatnonzero((source.radius.reshape(batch, -1) > 0).any(axis=0))

        def bound(block: slice) -> list[Array]:
            frontier, d, box = self.both_signs(index, boxes[block], neurons[block])
            tape = Tape(inputs_only=True)
            ends = self.descent.run(frontier, d, box, self.options.check, tape=tape)
            assert tape.input is not None and tape.constant is not None
            return [
                part.reshape(2, len(box) // 2, *part.shape[1:])
                for part in (ends, tape.input[:, columns], tape.constant)
            ]

        parts = self.in_blocks(index, len(boxes), bound, 2)
        ends, rows, constant = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        rows, constant = rows.reshape(2, batch, size, -1), constant.reshape(2, batch, size)
        lower, negated = zip(rows, constant, strict=True)
        self._affine = {index: affine_forms(lower, negated, known, source, columns)}
        self.tighten(index, boxes, neurons, ends[0], -ends[1])

    def tighten(
        self, index: int, boxes: Array, neurons: Array, lower: Float64, upper: Float64
    ) -> None:
        """Meet bounds (rows,) of neurons of a node; what crosses under assumptions is empty."""
        known = self.bounds[index]
        if self.domain.split:
            at = boxes, neurons
            low, high = (e.reshape(len(e), -1)[at] for e in (known.lower, known.upper))
            crossed = np.maximum(low, lower) > np.minimum(high, upper)
            self.empty[boxes[crossed]] = True
            lower, upper = np.where(crossed, low, lower), np.where(crossed, high, upper)
        known.tighten(boxes, neurons, lower, upper, self.network.nodes[index].name)
        if self._descent is not None:
            self._descent.forget(index)

    def _wanted(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Neurons (batch, size) that some nonlinear reader needs better bounds of."""
        if not self._facts.relaxed[index]:
            return None
        bounds: NodeBounds = self.bounds[index]
        varies: npt.NDArray[np.bool_] = (bounds.lower < bounds.upper).reshape(len(bounds.lower), -1)
        if self._facts.needed[index] or not tuning.enabled("unstable"):
            return varies
        wanted = np.zeros_like(varies)
        for reader in self.network.consumers[index]:
            op = self.network.nodes[reader].op
            if not isinstance(op, Linear):
                (mask,) = op.unstable((bounds,))
                wanted |= mask.reshape(wanted.shape)
        return wanted

    def _rows_at_once(self, index: int) -> int:
        row = self._facts.widest[index] * self.options.dtype.itemsize * self.blocks
        return max(2, self.options.row_bytes // row)

    def in_blocks(self, index: int, count: int, bound: Callable[[slice], T], each: int) -> list[T]:
        """``bound`` of every block of ``count`` items of ``each`` rows over node ``index``."""
        most = max(1, self._rows_at_once(index) // each)
        step = block_length(self.network, index, count, each, most)
        _ = self.descent  # made here, not by several threads
        results: list[T] = []
        for first in range(0, count, step * TASKS):  # millions of tasks would take gigabytes
            starts = range(first, min(first + step * TASKS, count), step)
            tasks = [partial(bound, slice(start, start + step)) for start in starts]
            results += workers.run(tasks, max(1, most // step))
        return results

    def neuron_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        """Lower and upper bounds (n,) of neurons ``neurons`` of the node on boxes ``boxes``."""
        parts = self.in_blocks(
            index,
            len(boxes),
            lambda block: self._block_bounds(index, boxes[block], neurons[block]),
            2,
        )
        lower, upper = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        return lower, upper

    def _block_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        frontier, d, box = self.both_signs(index, boxes, neurons)
        result = self.descent.run(frontier, d, box, self.options.check, forms=self._affine)
        return result[: len(boxes)], -result[len(boxes) :]

    def both_signs(
        self, index: int, boxes: Array, neurons: Array
    ) -> tuple[Frontier, Float64, Array]:
        """Rows for lower bounds of neurons, then those of their negatives, ready to go down."""
        frontier, centre, cost = self._start(index, boxes, neurons)
        d = np.concatenate((centre - cost, -centre - cost))
        d -= abs(d) * 2.0**-50
        both: Frontier = {i: frontier.pop(i).negated_too() for i in list(frontier)}
        return both, d, np.concatenate((boxes, boxes))

    def _start(self, index: int, boxes: Array, neurons: Array) -> tuple[Frontier, Float64, Float64]:
        """Rows that say ``neuron - centre`` over earlier nodes, the centres, and their cost."""
        node, bounds, tables = self.network.nodes[index], self.bounds[index], self.descent.tables
        centre = bounds.centre.reshape(len(bounds.centre), -1)[boxes, neurons]
        dtype = self.options.dtype
        if isinstance(node.op, Gemm | StoredGemm) and index not in self.domain.split:
            inputs = [self.bounds[i] for i in node.inputs]
            at = (boxes, neurons)
            charge = linear_charge(node.op, bounds, inputs, dtype, start=True, at=at)
            before = node.inputs[0]
            rows = node.op.start_rows(neurons, [self.network.nodes[before].shape], dtype)
            columns = tables.columns(before)
            rows = rows if columns is None else rows.take(columns, axis=1)
            cost = (charge.weight + charge.loss) * (1 + 2.0**-50)
            return {before: dense(rows, math.prod(rows.shape[1:]))}, centre, cost
        d = np.zeros(len(neurons))
        frontier: Frontier = {index: self._unit_rows(index, boxes, neurons)}
        if tables.carried(index):  # by a reader that these rows do not pass
            charge = tables.charge(index)
            d -= (charge.weight[boxes, neurons] + charge.loss[boxes]) * (1 + 2.0**-50)
        if isinstance(node.op, Linear) and index not in self.domain.split:
            # A row and its negative pass the linear node alike: it is passed once for both.
            with np.errstate(all="ignore"):
                self.descent.pass_linear(index, frontier.pop(index), d, boxes, frontier)
        return frontier, centre, -d

    def _unit_rows(self, index: int, boxes: Array, neurons: Array) -> Any:
        """One coefficient 1 per row: a window of one pixel on an image, a dense row elsewhere."""
        node, dtype = self.network.nodes[index], self.options.dtype
        if self._facts.image[index] and tuning.enabled("windows"):
            entries = len(neurons) * node.size
            if choices.choose("rows.start", "", entries) == "windows":
                return starts(neurons, boxes, node.shape, dtype)
        return unit(neurons, node.size, dtype)

    def in_float64(self) -> Walk:
        """The same bounds with float64 rows."""
        wide = self._with(replace(self.options, dtype=np.dtype(np.float64)))
        if self._walked is not None:
            wide._dense = one_call(self.network, self.box, wide.options)
            if wide._dense is not None:
                source, asked = self.bounds[wide._dense.first - 1], wide.options
                wide._walked = DenseWalk(
                    wide._dense, source, asked.dtype, asked.method, asked.check, known=self._walked
                )
        return wide

    def _with(self, options: Options) -> Walk:
        """A walk over the same bounds with other options."""
        other = type(self)(self.network, self.domain, options, self.bounds, self.slopes)
        other.empty, other._tight = self.empty, dict(self._tight)
        other.seconds, other.unstable = self.seconds, self.unstable
        other.forms |= self.forms
        other._rowed = dict(self._rowed)
        return other

    @property
    def path(self) -> str:
        """How rows went down: for explanations."""
        if self._walked is not None:
            return "dense network, one call of the C library"
        chain = self.descent.chain
        if chain is not None and chain.used:
            return "chain of dense layers in the C library"
        return "windows of images, node by node" if self._facts.convolves else "node by node"

    # -- results -----------------------------------------------------------------------------------

    def rows(self, frontier: Mapping[int, Array], d: Float64, box: Array) -> Float64:
        """Sound lower bounds of rows (rows, size) over any nodes, block by block."""
        self.adopt()

        def bound(block: slice) -> Float64:
            return self._bound_rows(blocks_of(frontier, block), d[block].copy(), box[block])

        results = self.in_blocks(max(frontier), len(d), bound, 1) if len(d) else []
        return np.concatenate(results) if results else np.zeros(0)

    def ask(self, index: int) -> NodeBounds:
        """The node's bounds with rows for every neuron that has none yet."""
        self.options.check()
        node = self.network.nodes[index]
        bounds: NodeBounds = self.bounds[index]
        if not self.options.relaxes or self._rowed.get(index) is True:
            return bounds
        if index and node.op.diagonal:
            # The image of its input's bounds is as good as rows of its own.
            self.ask(node.inputs[0])
            inputs = [self.bounds[i] for i in node.inputs]
            with np.errstate(all="ignore"):
                image = interval_step(node, inputs, self.options.guarantee, self.options.dtype)
            boxes, neurons = np.divmod(np.arange(bounds.lower.size), node.size)
            self.tighten(index, boxes, neurons, image.lower.ravel(), image.upper.ravel())
        elif index:
            done = self._rowed.get(index, False)
            varies = (bounds.lower < bounds.upper).reshape(len(bounds.lower), -1)
            with np.errstate(all="ignore"):
                self._bound(index, varies & ~np.asarray(done))
        self._rowed[index] = True
        return bounds

    def _bound_rows(self, frontier: Frontier, d: Float64, box: Array) -> Float64:
        """Lower bounds of one block of rows."""
        return self.descent.run(frontier, d, box, self.options.check)

    def output(self) -> NodeBounds:
        """Bounds of the output, with rows for every neuron."""
        index = self.network.output
        if self._walked is not None and self.options.relaxes and index not in self._rowed:
            self._agree(self._walked.output())
            self._rowed[index] = True
        return self.ask(index)


def _pixel_by_pixel(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Boxes and flat indices of the neurons in ``mask`` (batch, size).

    Neurons of one pixel come together: a block of rows then has few places (`Windows`).
    """
    if len(shape) != 3:
        boxes, neurons = np.nonzero(mask)
        return np.ascontiguousarray(boxes), np.ascontiguousarray(neurons)
    pixels = shape[1] * shape[2]
    boxes, pixel, channel = np.nonzero(mask.reshape(len(mask), shape[0], pixels).swapaxes(1, 2))
    return np.ascontiguousarray(boxes), channel * pixels + pixel


def one_call(network: Network, box: Box, options: Options) -> DenseNetwork | None:
    """The network for the one-call walk, where that computes what was asked."""
    batch = len(box.lower)
    gates = ["fused_network", "fused_layers", "fused_interval"]
    if options.relaxes:
        gates += ["fused_walk", "fused_charge"]
    if options.refines:
        gates.append("unstable")
    fits = box.norm == "inf" if options.relaxes else True
    # Without hidden rows a batch is one product, faster than box by box.
    fits = fits and (options.refines or batch <= choices.limit("interval.dense", "f"))
    if not fits or options.guarantee != "real" or not all(map(tuning.enabled, gates)):
        return None
    return dense_network(network, options.dtype)


def narrow(network: Network) -> bool:
    """Whether every node is at most 128 wide: float64 then costs little and charges nothing."""
    return facts_of(network).widest[-1] <= 128


def boxes_at_once(network: Network, limit_bytes: int = 256 << 20) -> int:
    """How many boxes one walk takes: bounds and tables of all nodes are alive together."""
    total = sum(facts_of(network).sizes) + facts_of(network).tables // 2
    return max(1, limit_bytes // (total * 8 * 12))


def to_output(lower: Float64, upper: Float64, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Ends in ``dtype``, rounded outward."""
    return rounding.to_down(lower, dtype), rounding.to_up(upper, dtype)
