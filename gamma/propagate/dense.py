"""CROWN over small dense ReLU networks in one call of the C library.

The rules are those of `gamma.propagate.walks`, box by box; only the number of calls differs. Tests
hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import InternalError
from gamma.network.graph import Network
from gamma.ops import Gemm
from gamma.ops.affine import cast_weight
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNDERFLOW, UNIT, charge_factor
from gamma.ops.dense_interval import dense_constants
from gamma.ops.tables import Diagonal
from gamma.propagate.facts import facts_of
from gamma.propagate.options import Options
from gamma.runtime import choices, pool, workers
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Operations of one box beyond which a walk should look at the clock on its way.
_MOST_OPERATIONS = 1e10
# Operations of the boxes of one call: a few milliseconds.
_CALL_OPERATIONS = 2e8
# Dead neurons are left out when no more than this share is live: see `Backward.columns`.
_LIVE = 0.9


@dataclass(frozen=True)
class DenseNetwork:
    """A network as `kernels.DenseNetwork` takes it.

    Attributes:
        first: node of the first layer. boxes: how many go into one call.
    """

    layers: kernels.DenseNetwork
    first: int
    boxes: int


_made: WeakKeyDictionary[Network, dict[str, DenseNetwork | None]] = WeakKeyDictionary()


def dense_network(network: Network, dtype: np.dtype[Any]) -> DenseNetwork | None:
    """The network ready for walks with rows of ``dtype``, made once; None when it is not of the
    kind: shapes, then dense layers with ReLUs between them, not too large, weights exact in dtype.
    """
    store = _made.setdefault(network, {})
    key = f"{dtype.char} {kernels.isa == 'numpy'}"
    if key not in store:
        with np.errstate(all="ignore"):  # a weight beyond the range of dtype is not exact in it
            store[key] = _make(network, dtype)
    return store[key]


def _make(network: Network, dtype: np.dtype[Any]) -> DenseNetwork | None:
    first, nodes = 1, network.nodes
    while first < network.output and nodes[first].op.keeps_order:
        first += 1
    if not (network.output - first) % 2 == 0 or not facts_of(network).sequential[network.output]:
        return None
    layers, operations, below = [], 0.0, 0.0
    for index in range(first, network.output + 1, 2):
        op = nodes[index].op.dense
        if op is None or not (index == network.output or nodes[index + 1].op.hinge):
            return None
        operations += 4.0 * nodes[index].size * below
        below += 2.0 * op.weight.size
        if operations > _MOST_OPERATIONS or not _plain(op, dtype):
            return None
        layers.append(_layer(op, dtype))
    made = kernels.dense_network(layers, dtype)
    boxes = max(1, int(_CALL_OPERATIONS // max(operations, 1.0)))
    return None if made is None else DenseNetwork(made, first, boxes)


def _plain(op: Gemm, dtype: np.dtype[Any]) -> bool:
    return op.weight_error is None and op.exact_in(dtype)


def _layer(op: Gemm, dtype: np.dtype[Any]) -> kernels.DenseLayer:
    stored, bias, row_sum, factors = op.cached("dense.interval", lambda: dense_constants(op))
    m = len(stored)
    factor, steps, _ = charge_factor(op, dtype, False)
    return kernels.DenseLayer(
        stored,
        op.cached(f"padded.{dtype.char}", lambda: padded(op, dtype)),
        bias,
        row_sum,
        (
            factors[0],
            factor,
            (1 + rounding.gamma_factor(m + 4, np.float64)) * (1 + 2.0**-50),
            rounding.gamma_factor(m + 8, np.float64),
            4 * (op.adjoint_products + 1) * UNDERFLOW[dtype] if steps else 0.0,
        ),
    )


def padded(op: Gemm, dtype: np.dtype[Any]) -> Array:
    """The weight in ``dtype`` with zero columns up to whole 64 bytes."""
    weight = cast_weight(op, op.weight, "weight", dtype, False)
    spare = kernels.padded(weight.shape[1], dtype) - weight.shape[1]
    return np.ascontiguousarray(np.pad(weight, ((0, 0), (0, spare))) if spare else weight)


class DenseWalk:
    """One batch of boxes through one network: hidden bounds, tables, and the output when asked.

    Attributes:
        bounds: of the nodes from the first layer to the output. rows: neurons bounded by rows, per
            layer. seconds: per layer.
    """

    def __init__(
        self,
        network: DenseNetwork,
        source: NodeBounds,
        dtype: np.dtype[Any],
        method: str,
        check: Callable[[], None],
        known: DenseWalk | None = None,
    ) -> None:
        """Bound the layers of ``source``'s boxes, or take over what ``known`` bounded.

        Hidden layers get rows when the method is "crown"; no tables are made for "ibp".
        """
        self._network, self._check, self._dtype = network, check, dtype
        self._made = known is None  # the tables
        batch, layers = len(source.lower), network.layers.layers
        lower, upper, centre = (
            np.ascontiguousarray(e).reshape(batch, -1)
            for e in (source.lower, source.upper, source.centre)
        )
        self._box = lower, upper, centre
        neurons = sum(len(layer.stored) for layer in layers)
        self._tables: tuple[Array, Float64, Float64] | None = None
        if method != "ibp":
            self._tables = (
                pool.empty(2 * batch * neurons, dtype),
                pool.empty(2 * batch * neurons, np.float64),
                np.empty((len(layers), batch)),
            )
        self.rows = np.zeros(len(layers), np.int64)
        self.seconds = np.zeros(len(layers))
        values = pool.empty(8 * batch * neurons, np.float64) if known is None else known._values
        self._values: Float64 = values
        self.bounds: list[NodeBounds] = self._views(batch) if known is None else known.bounds
        if known is None:
            self._run(method == "crown", False, False)

    def _views(self, batch: int) -> list[NodeBounds]:
        found, at = [], 0
        values = self._values.view()
        values.flags.writeable = False
        for layer in self._network.layers.layers:
            m = len(layer.stored)
            part = values[at : at + 8 * batch * m].reshape(8, batch, m)
            found.append(NodeBounds(part[3], part[4], part[0], part[1], part[2]))
            found.append(NodeBounds(part[5], part[6], part[7]))
            at += part.size
        return found[:-1]

    def _run(self, hidden: bool, output: bool, known: bool) -> None:
        layers, dtype = self._network.layers, self._dtype
        batch, crossed = len(self._box[0]), 0
        factors = (
            (1 + rounding.gamma_factor(self._box[0].shape[1] + 4, np.float64)) * (1 + 2.0**-50),
            1.01 * UNIT[dtype],
            _LIVE if tuning.enabled("compress") else -1.0,
        )

        def run(span: tuple[int, int]) -> tuple[int, Array, Float64]:
            self._check()
            rows, seconds = np.zeros_like(self.rows), np.zeros_like(self.seconds)
            crossed = layers.run(
                self._box,
                self._values,
                self._tables,
                (rows, seconds),
                pool.empty(-(-layers.room // 8), np.float64),
                factors,
                span,
                (hidden, output, known),
            )
            return crossed, rows, seconds

        step = self._network.boxes
        spans = [(start, min(start + step, batch)) for start in range(0, batch, step)]
        for more, rows, seconds in workers.run([partial(run, span) for span in spans]):
            crossed += more
            self.rows += rows
            self.seconds += seconds
        if crossed:
            raise InternalError(f"{crossed} bounds contradict each other; please report this")

    def output(self) -> None:
        """Tighten the output's bounds by backward rows."""
        last = self.bounds[-1]
        last.reset()
        self._made = True
        self._run(False, True, True)

    def relaxations(self) -> list[Diagonal]:
        """Tables of the ReLUs, in order, no neuron left out; none when the method is "ibp"."""
        if self._tables is None:
            return []
        if not self._made:
            self._made = True
            self._run(False, False, True)
        (slopes, constants, losses), at, found = self._tables, 0, []
        batch = losses.shape[1]
        for layer, loss in zip(self._network.layers.layers[:-1], losses, strict=False):
            m = len(layer.stored)
            end = at + 2 * batch * m
            low, high = slopes[at:end].reshape(2, batch, m)
            below, above = constants[at:end].reshape(2, batch, m)
            found.append(Diagonal(low, high, below, above, loss))
            at = end
        return found


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
    if not fits or options.guarantee != "real" or not tuning.off().isdisjoint(gates):
        return None
    return dense_network(network, options.dtype)


def record(walked: DenseWalk, name: str, started: float, ended: float) -> None:
    """A span of the call, and in it one per layer, whose boxes are taken together."""
    telemetry.record(f"{name}.network", started, ended, rows=2 * int(walked.rows.sum()))
    # Seconds of several threads may sum to more than passed.
    share = min(1.0, (ended - started) / max(float(walked.seconds.sum()), 1e-9))
    for layer, (rows, seconds) in enumerate(zip(walked.rows, walked.seconds, strict=True)):
        neurons, length = walked.bounds[2 * layer].lower[0].size, share * float(seconds)
        telemetry.record(
            f"{name}.node.gemm", started, started + length, rows=2 * int(rows), neurons=neurons
        )
        started += length
