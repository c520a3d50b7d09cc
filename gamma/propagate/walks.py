"""The walks: ibp, crown-ibp and crown, over a batch of boxes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import InternalError, ResourceError, UsageError
from gamma.network.graph import Network
from gamma.ops import Elementwise, Gemm, Linear, ReduceMax
from gamma.propagate import workers
from gamma.propagate.backward import Backward, Rows
from gamma.propagate.blocks import block_length
from gamma.propagate.constants import linear_charge
from gamma.propagate.dense import DenseNetwork, DenseWalk, dense_network
from gamma.propagate.interval import input_bounds, interval_step
from gamma.propagate.plan import plan_of
from gamma.propagate.state import NodeBounds
from gamma.propagate.windows import Windows, negated_too, starts
from gamma.tensor import choices, heap, rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
T = TypeVar("T")

METHODS = ("ibp", "crown-ibp", "crown")
GUARANTEES = ("real", "float32")

# Bytes of coefficient rows alive at once when no limit is given: small enough for the caches.
DEFAULT_ROW_BYTES = 48 << 20
# Blocks of coefficients alive at the widest step: the rows, the product, one temporary.
BLOCKS = 3
STREAMED_BLOCKS = 5


@dataclass
class Options:
    """What a walk was asked for; ``progress`` is told which node it bounds.

    Raises UsageError for an unknown method, guarantee or dtype.
    """

    method: str = "crown"
    guarantee: str = "real"
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    row_bytes: int = DEFAULT_ROW_BYTES
    deadline: float | None = None
    progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r}: expected one of {', '.join(METHODS)}")
        if self.guarantee not in GUARANTEES:
            raise UsageError(f"guarantee {self.guarantee!r}: expected real or float32")

    def check(self) -> None:
        """Raise ResourceError when the deadline (time.monotonic) has passed."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise ResourceError("the time limit was reached")


class Walk:
    """Bounds of all nodes of one network over one batch of boxes, and the rows' tables."""

    blocks = BLOCKS

    def __init__(self, network: Network, box: Box, options: Options) -> None:
        self.network, self.box, self.options = network, box, options
        self._plan = plan_of(network)
        heap.keep()
        self.bounds: list[NodeBounds] = [input_bounds(box)]
        self.seconds: dict[int, float] = {}
        self.unstable: dict[int, int] = {}
        self._tight = [box.norm == "inf"]
        self._dense = one_call(network, box, options)
        self._walked: DenseWalk | None = None
        with np.errstate(all="ignore"):
            for index in range(1, network.output + 1):
                if self._dense is not None and index == self._dense.first:
                    self._walk_dense(self._dense)
                    break
                self._visit(index)

    @cached_property
    def backward(self) -> Backward:
        """The tables that rows go down by."""
        options = self.options
        alone = options.method == "ibp"
        return Backward(
            self.network, self.box, self.bounds, options.dtype, options.guarantee, alone
        )

    def _visit(self, index: int) -> None:
        self.options.check()
        started = time.perf_counter()
        node = self.network.nodes[index]
        if self.options.progress is not None:
            name, count = self.options.method, self.network.output
            self.options.progress(f"{name}: node {index} of {count}, {node.name}")
        inputs = [self.bounds[i] for i in node.inputs]
        self.bounds.append(interval_step(node, inputs, self.options.guarantee, self.options.dtype))
        self._tight.append(self._is_tight(index))
        if self.options.method == "crown" and not self._tight[index]:
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
        self._tight += [True] * len(walked.bounds)
        self._tight[-1] = dense.first == self.network.output
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

    def _adopt(self) -> None:
        """Give the tables of the one-call walk to the backward rows."""
        if self._walked is not None and self._dense is not None:
            for layer, table in enumerate(self._walked.relaxations()):
                self.backward.adopt(self._dense.first + 2 * layer + 1, table)

    def _is_tight(self, index: int) -> bool:
        """Whether CROWN cannot improve the interval bounds: see `Linear.independent`."""
        node = self.network.nodes[index]
        if not isinstance(node.op, Linear):
            return True  # the image of its input's bounds is as good as its own rows
        alone = len(node.inputs) == 1 and self._plan.separate[node.inputs[0]]
        exact = alone or node.op.moves
        return exact and all(self._tight[i] for i in node.inputs)

    # -- intermediate bounds by CROWN ------------------------------------------------------------

    def _refine(self, index: int) -> None:
        """Bound the unstable neurons of a node by backward rows and intersect with IBP."""
        mask = self._wanted(index)
        if mask is None:
            return
        boxes, neurons = _pixel_by_pixel(mask, self.network.nodes[index].shape)
        self.unstable[index] = len(boxes)
        if not len(boxes):
            return
        lower, upper = self._all_bounds(index, boxes, neurons)
        name = self.network.nodes[index].name
        self.bounds[index].tighten(boxes, neurons, lower, upper, name)
        self.backward.forget(index)
        self._tight[index] = True

    def _wanted(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Neurons (batch, size) that some nonlinear reader needs better bounds of."""
        if not self._plan.relaxed[index]:
            return None
        wanted: Any = None
        bounds = self.bounds[index]
        for reader in self.network.consumers[index]:
            op = self.network.nodes[reader].op
            if not isinstance(op, Elementwise | ReduceMax):
                continue
            if tuning.enabled("unstable"):
                mask = unstable(op, bounds.lower, bounds.upper)
            else:
                mask = bounds.lower < bounds.upper
            wanted = mask if wanted is None else wanted | mask
        return None if wanted is None else wanted.reshape(len(bounds.lower), -1)

    def _rows_at_once(self, index: int) -> int:
        row = self._plan.widest[index] * self.options.dtype.itemsize * self.blocks
        return max(2, self.options.row_bytes // row)

    def _in_blocks(self, index: int, count: int, bound: Callable[[slice], T], each: int) -> list[T]:
        """``bound`` of every block of ``count`` items of ``each`` rows over node ``index``."""
        most = max(1, self._rows_at_once(index) // each)
        step = block_length(self.network, index, count, each, most)
        _ = self.backward  # made here, not by several threads
        blocks = [slice(start, start + step) for start in range(0, count, step)]
        return workers.run([partial(bound, block) for block in blocks], max(1, most // step))

    def _all_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        """`_neuron_bounds` of any number of neurons, block by block."""
        parts = self._in_blocks(
            index,
            len(boxes),
            lambda block: self._neuron_bounds(index, boxes[block], neurons[block]),
            2,
        )
        lower, upper = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        return lower, upper

    def _neuron_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        """Lower and upper bounds (n,) of neurons ``neurons`` of the node on boxes ``boxes``."""
        frontier, centre, cost = self._start(index, boxes, neurons)
        d = np.concatenate((centre - cost, -centre - cost))
        d -= abs(d) * 2.0**-50
        both = {i: _with_negatives(frontier.pop(i)) for i in list(frontier)}
        box = np.concatenate((boxes, boxes))
        result = self.backward.run(both, d, box, self.options.check)
        return result[: len(boxes)], -result[len(boxes) :]

    def _start(
        self, index: int, boxes: Array, neurons: Array
    ) -> tuple[dict[int, Rows], Float64, Float64]:
        """Rows that say ``neuron - centre`` over earlier nodes, the centres, and their cost."""
        node, bounds = self.network.nodes[index], self.bounds[index]
        assert isinstance(node.op, Linear)
        centre = bounds.centre.reshape(len(bounds.centre), -1)[boxes, neurons]
        dtype = self.options.dtype
        if isinstance(node.op, Gemm) and len(node.shape) == 1:
            inputs = [self.bounds[i] for i in node.inputs]
            at = (boxes, neurons)
            charge = linear_charge(node.op, bounds, inputs, dtype, start=True, at=at)
            before = node.inputs[0]
            rows = node.op.start_rows(neurons, [self.network.nodes[before].shape], dtype)
            columns = self.backward.columns(before)
            rows = rows if columns is None else rows.take(columns, axis=1)
            cost = (charge.weight + charge.loss) * (1 + 2.0**-50)
            frontier: dict[int, Rows] = {before: np.ascontiguousarray(rows)}
        else:
            frontier = {index: _unit_rows(neurons, boxes, node.shape, dtype)}
            # A row and its negative pass the linear node alike: it is passed once for both.
            d = np.zeros(len(neurons))
            if self.backward.fused(index):
                charge = self.backward.charge(index)
                d -= (charge.weight[boxes, neurons] + charge.loss[boxes]) * (1 + 2.0**-50)
            self.backward.pass_linear(index, frontier, d, boxes)
            cost = -d
        return frontier, centre, cost

    def in_float64(self) -> Walk:
        """The same bounds with float64 rows."""
        wide = object.__new__(type(self))
        wide.__dict__.update(self.__dict__)
        wide.options = replace(self.options, dtype=np.dtype(np.float64))
        wide.__dict__.pop("backward", None)
        wide._dense = one_call(self.network, self.box, wide.options) if self._walked else None
        wide._walked = None
        if self._walked is not None and wide._dense is not None:
            source, asked = self.bounds[wide._dense.first - 1], wide.options
            wide._walked = DenseWalk(
                wide._dense, source, asked.dtype, asked.method, asked.check, known=self._walked
            )
        return wide

    # -- results -----------------------------------------------------------------------------------

    def rows(self, frontier: dict[int, Array], d: Float64, box: Array) -> Float64:
        """Sound lower bounds of rows over any nodes, block by block."""
        self._adopt()

        def bound(block: slice) -> Float64:
            # A copy: the walk overwrites its rows.
            part: dict[int, Rows] = {i: np.array(r[block], order="C") for i, r in frontier.items()}
            return self.backward.run(part, d[block].copy(), box[block], self.options.check)

        results = self._in_blocks(max(frontier), len(d), bound, 1) if len(d) else []
        return np.concatenate(results) if results else np.zeros(0)

    def output(self) -> tuple[Float64, Float64]:
        """Bounds (batch, *output shape) of the output: the walk's rows intersected with IBP."""
        index = self.network.output
        bounds, node = self.bounds[index], self.network.nodes[index]
        if self.options.method == "ibp":
            return bounds.lower, bounds.upper
        if self._walked is not None and not self._tight[index]:
            self._agree(self._walked.output())
            self._tight[index] = True
        if isinstance(node.op, Linear) and not self._tight[index]:
            boxes, neurons = np.divmod(np.arange(bounds.lower.size), node.size)
            with np.errstate(all="ignore"):
                lower, upper = self._all_bounds(index, boxes, neurons)
            shape = bounds.lower.shape
            bounds.intersect(lower.reshape(shape), upper.reshape(shape), node.name)
            self._tight[index] = True
        return bounds.lower, bounds.upper


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


def _with_negatives(rows: Rows) -> Rows:
    """Rows for lower bounds followed by rows for upper bounds."""
    return rows.negated_too() if isinstance(rows, Windows) else negated_too(rows)


def _unit_rows(neurons: Array, boxes: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rows:
    """One coefficient 1 per row: a window of one pixel on an image, a dense row elsewhere."""
    entries = len(neurons) * math.prod(shape)
    windowed = len(shape) == 3 and tuning.enabled("windows")
    if windowed and choices.choose("rows.start", "", entries) == "windows":
        return starts(neurons, boxes, shape, dtype)
    unit = np.zeros((len(neurons), math.prod(shape)), dtype)
    unit[np.arange(len(neurons)), neurons] = 1
    return unit


def unstable(op: Elementwise | ReduceMax, lower: Float64, upper: Float64) -> npt.NDArray[np.bool_]:
    """Neurons whose bounds decide how tight the relaxation of ``op`` is."""
    if isinstance(op, ReduceMax):
        low, high = op._last(lower), op._last(upper)
        floor = low.max(axis=-1, keepdims=True)
        # One dominating entry: the maximum is that entry, nothing is left to gain.
        rivals = (high > floor) & (low < high)
        several = (high > floor).sum(axis=-1, keepdims=True) > 1
        return np.asarray(op._back(rivals & several, lower.ndim))
    if any(op.curvature):
        return np.asarray(lower < upper)
    crossing = np.zeros(lower.shape, bool)
    for edge in op.breaks:
        crossing |= (lower < edge) & (edge < upper)
    return crossing


def one_call(network: Network, box: Box, options: Options) -> DenseNetwork | None:
    """The network for the one-call walk, where that computes what was asked."""
    method, batch = options.method, len(box.lower)
    gates = ["fused_network", "fused_layers", "fused_interval"]
    if method != "ibp":
        gates += ["fused_walk", "fused_charge"]
    if method == "crown":
        gates.append("unstable")
    fits = box.norm == "inf" if method != "ibp" else True
    # Without hidden rows a batch is one product, faster than box by box.
    fits = fits and (method == "crown" or batch <= choices.limit("interval.dense", "f"))
    if not fits or options.guarantee != "real" or not all(map(tuning.enabled, gates)):
        return None
    return dense_network(network, options.dtype)


def narrow(network: Network) -> bool:
    """Whether every node is at most 128 wide: float64 then costs little and charges nothing."""
    return plan_of(network).widest[-1] <= 128


def boxes_at_once(network: Network, limit_bytes: int = 256 << 20) -> int:
    """How many boxes one walk takes: bounds and tables of all nodes are alive together."""
    total = sum(plan_of(network).sizes)
    return max(1, limit_bytes // (total * 8 * 12))


def to_output(lower: Float64, upper: Float64, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Ends in ``dtype``, rounded outward."""
    return rounding.to_down(lower, dtype), rounding.to_up(upper, dtype)
