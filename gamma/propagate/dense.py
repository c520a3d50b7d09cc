"""CROWN over small dense networks in one call of the C library.

The rules are those of `gamma.propagate.walks`, box by box; only the number of calls differs. Tests
hold the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import InternalError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops import Gemm
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNDERFLOW, UNIT, charge_factor
from gamma.ops.dense_interval import constants_of
from gamma.ops.elementwise import Elementwise
from gamma.ops.relaxation import LEAN, described
from gamma.ops.tables import Diagonal
from gamma.propagate.dense_form import form_of
from gamma.propagate.domain import Domain, Facts
from gamma.propagate.options import Options
from gamma.propagate.rows.chain import nonzeros
from gamma.runtime import choices, pool, workers
from gamma.tensor import kernels, rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Operations of the boxes that a thread takes in one call, some tens of milliseconds, and of a call
# whose boxes threads share, a few hundred microseconds.
_CALL_OPERATIONS, _SHARED_OPERATIONS = 4e9, 3e6
# Products of an average layer, over all boxes, that cost less than the calls of a node by itself.
_FEW_PRODUCTS = 1 << 16
# Weights from which on rows of a layer may be worth a second thread.
_SHARED = 1 << 15
# Products of outputs' rows that one thread is done with before another is awake; and before one
# that has just shared rows of hidden layers has taken its part.
_FEW, _FEW_MORE = 1 << 24, 1 << 22
# Dead neurons are left out when no more than this share is live: see `Backward.columns`.
_LIVE = 0.9
# Gates of the one call, by what a method does: all off where one of them is.
_PLAIN = frozenset({"fused_network", "fused_layers", "fused_interval"})
_RELAXED = _PLAIN | {"fused_walk", "fused_charge"}
_REFINED = _RELAXED | {"unstable"}
# The same of networks with smooth activations.
_SMOOTH = frozenset({"fused_lines"})


class DenseNetwork(Frozen, eq=True):
    """A network as `kernels.DenseNetwork` takes it.

    Attributes:
        nodes: of the layers. operations: of one box, its rows included.
    """

    layers: kernels.DenseNetwork
    nodes: tuple[int, ...]
    operations: float

    @property
    def first(self) -> int:
        """The first of the nodes."""
        return self.nodes[0]


class Rising(Frozen):
    """How rows rise (`gamma.propagate.alpha`), where all activations are ReLUs.

    Attributes:
        plain: a walk over the same boxes whose rows do not; slopes start from its own.
        hidden, output: float64 (steps, 5), as `kernels.Rise` takes them. boxes: of one call.
    """

    plain: DenseWalk
    hidden: Float64
    output: Float64
    boxes: int


def dense_network(network: Network, dtype: np.dtype[Any]) -> DenseNetwork | None:
    """The network ready for walks with rows of ``dtype``, made once; None when it is not of the
    kind: shapes, then dense layers with activations between them, not too large, weights exact in
    dtype.
    """
    sparse = tuning.enabled("sparse_weights")
    key = "dense", dtype.char, kernels.isa == "numpy", sparse
    return network.cached(key, partial(_make, dtype=dtype))


@np.errstate(all="ignore")  # sums of rows that overflow make bounds infinite
def _make(network: Network, dtype: np.dtype[Any]) -> DenseNetwork | None:
    form = form_of(network, dtype)
    if form is None:
        return None
    layers = []
    for index, op, curve in zip(form.nodes, form.layers, form.curves, strict=True):
        layers.append(_layer(op, curve, index + 1 in form.nodes, form.sparse, dtype))
    made = kernels.dense_network(layers, dtype)
    return None if made is None else DenseNetwork(made, tuple(form.nodes), form.operations)


def _few(network: Network) -> int:
    """Boxes whose products with an average layer are as few as that."""
    ops = [op for node in network.nodes if (op := node.op.dense) is not None]
    form = form_of(network, np.dtype(np.float32))
    sparse = form is not None and form.sparse
    total = sum(np.count_nonzero(op.weight) if sparse else op.weight.size for op in ops)
    return _FEW_PRODUCTS * len(ops) // max(1, int(total))


def _layer(
    op: Gemm, after: Elementwise | None, plain: bool, sparse: bool, dtype: np.dtype[Any]
) -> kernels.DenseLayer:
    stored, bias, row_sum, factors = constants_of(op)
    m = len(stored)
    factor, steps, _ = charge_factor(op, dtype, False)
    return kernels.DenseLayer(
        stored,
        nonzeros(op, dtype) if sparse else op.padded(dtype),
        bias,
        row_sum,
        (
            factors[0],
            factor,
            (1 + rounding.gamma_factor(m + 4, np.float64)) * (1 + 2.0**-50),
            rounding.gamma_factor(m + 8, np.float64),
            4 * (op.adjoint_products + 1) * UNDERFLOW[dtype] if steps else 0.0,
        ),
        float(np.linalg.norm(stored)) / math.sqrt(max(1, stored.size)),
        None
        if after is None
        else described(after, after.compiled, 2 * (dtype == np.float32), LEAN),
        plain,
    )


class DenseWalk:
    """One batch of boxes through one network: hidden bounds, tables, and the output when asked.

    Attributes:
        last: bounds of the output. rows: neurons bounded by rows, per layer. seconds: per layer.
    """

    def __init__(
        self,
        network: DenseNetwork,
        source: NodeBounds,
        dtype: np.dtype[Any],
        method: str,
        check: Callable[[], None],
        known: DenseWalk | None = None,
        facts: Facts | None = None,
        rising: Rising | None = None,
    ) -> None:
        """Bound the layers of ``source``'s boxes, or take over what ``known`` bounded.

        ``facts``: what is known of hidden layers, by node.

        Hidden layers get rows when the method is "crown", or where rows rise, whose walk makes no
        tables; nor does "ibp".
        """
        self._rising: Rising | None = rising if known is None else known._rising
        self._network, self._check, self._dtype = network, check, dtype
        # Threads that share the rows of a call, asked once for both.
        self._threads: int | None = None if known is None else known._threads
        self._awake: bool = known is not None and known._awake  # threads that share
        self._made = known is None  # the tables
        batch, layers = len(source.lower), network.layers.layers
        lower, upper, centre = (
            np.ascontiguousarray(e).reshape(batch, -1)
            for e in (source.lower, source.upper, source.centre)
        )
        self._box = lower, upper, centre
        neurons = network.layers.neurons
        self._tables: tuple[Array, Float64, Float64] | None = None
        if method != "ibp" and self._rising is None:
            self._tables = (
                pool.empty(2 * batch * neurons, dtype),
                pool.empty(2 * batch * neurons, np.float64),
                np.empty((len(layers), batch)),
            )
        # Lines of smooth activations: tables in another dtype round their slopes, and pay for it.
        self._lines: Float64 | None = None
        self._lined: bool = False
        if known is not None and known._dtype in (dtype, np.float32):
            self._lines, self._lined = known._lines, known._lined
        if not self._lined and self._tables is not None and network.layers.curved:
            self._lines = pool.empty(4 * batch * neurons, np.float64)
        self._risen = np.zeros(0 if self._rising is None else batch * neurons, np.uint8)
        self.rows = np.zeros(len(layers), np.int64)
        self.seconds = np.zeros(len(layers))
        values = pool.empty(8 * batch * neurons, np.float64) if known is None else known._values
        self._values: Float64 = values
        shape = 8, batch, len(layers[-1].stored)
        last = _read_only(values)[-math.prod(shape) :].reshape(shape)
        self.last: NodeBounds = _bounds(last) if known is None else known.last
        self._facts = self._laid_out(facts) if facts else None
        if known is None:
            self._run(method == "crown" or rising is not None, False, False)

    def _laid_out(self, facts: Facts) -> Float64:
        """Facts as the kernel takes them."""
        parts, batch = [], len(self._box[0])
        for number, layer in enumerate(self._network.layers.layers[:-1]):
            ends = facts.get(self._network.nodes[number], (-np.inf, np.inf))
            shape = batch, len(layer.stored)
            parts += [np.broadcast_to(end, shape).ravel() for end in ends]
        return np.concatenate(parts)

    @cached_property
    def bounds(self) -> list[NodeBounds]:
        """Of the nodes from the first layer to the output: views, made when somebody looks."""
        found, at = [], 0
        values, batch = _read_only(self._values), len(self._box[0])
        for layer in self._network.layers.layers[:-1]:
            m = len(layer.stored)
            part = values[at : at + 8 * batch * m].reshape(8, batch, m)
            found.append(_bounds(part))
            if not layer.plain:
                found.append(NodeBounds(part[5], part[6], part[7]))
            at += part.size
        return [*found, self.last]

    def crossing(self) -> list[int]:
        """Of each hidden layer with a ReLU behind it the neurons that cross 0."""
        found, at, batch = [], 0, len(self._box[0])
        for layer in self._network.layers.layers[:-1]:
            size = batch * len(layer.stored)
            lower, upper = self._values[at + 3 * size : at + 5 * size].reshape(2, size)
            found.append(0 if layer.plain else int(np.count_nonzero((lower < 0) & (upper > 0))))
            at += 8 * size
        return found

    def risen(self) -> dict[int, npt.NDArray[np.bool_]]:
        """Neurons (boxes, m) of hidden layers whose rows rose, by node."""
        found, at, batch = {}, 0, len(self._box[0])
        layers = self._network.layers.layers[:-1]
        for index, layer in zip(self._network.nodes, layers, strict=False):
            end = at + batch * len(layer.stored)
            found[index] = self._risen[at:end].reshape(batch, -1).view(np.bool_)
            at = end
        return found

    def _sharing(self, hidden: bool, output: bool) -> int:
        """Threads for a call: where boxes are many each takes some, else they share rows."""
        if self._rising is not None:
            return workers.sharing()
        layers, batch = self._network.layers, len(self._box[0])
        outputs = len(layers.layers[-1].stored) if output else 1
        if batch > 1:
            each = self._network.operations if hidden else 4.0 * outputs * layers.weights
            return workers.sharing() if each * batch >= _SHARED_OPERATIONS else 1
        few = 2 * outputs * layers.weights < (_FEW_MORE if self._awake else _FEW)
        if not hidden and (few or not output):
            return 1
        if self._threads is None:
            self._threads = workers.sharing() if layers.weights >= _SHARED else 1
        return self._threads

    def _run(self, hidden: bool, output: bool, known: bool) -> None:
        layers, dtype, rising = self._network.layers, self._dtype, self._rising
        batch, crossed = len(self._box[0]), 0
        factors = (
            (1 + rounding.gamma_factor(self._box[0].shape[1] + 4, np.float64)) * (1 + 2.0**-50),
            1.01 * UNIT[dtype],
            _LIVE if tuning.enabled("compress") else -1.0,
        )

        rise, threads = None, self._sharing(hidden, output)
        self._awake = threads > 1
        most = threads * max(1, int(_CALL_OPERATIONS // max(self._network.operations, 1.0)))
        if rising is not None:
            steps, most = rising.output if output else rising.hidden, rising.boxes
            rise = kernels.Rise(rising.plain._values, steps, self._risen)
        calls = -(-batch // most)
        for call in range(calls):
            self._check()
            crossed += layers.run(
                self._box,
                self._facts,
                self._values,
                self._tables,
                self._lines,
                (self.rows, self.seconds),
                factors,
                rise,
                (batch * call // calls, batch * (call + 1) // calls),
                (hidden, output, known, self._lined, tuning.enabled("parallel_lines")),
                threads,
            )
        self._lined = self._lines is not None
        if crossed:
            raise InternalError(f"{crossed} bounds contradict each other; please report this")

    def output(self) -> None:
        """Tighten the output's bounds by backward rows."""
        self.last.reset()
        self._made = True
        self._run(False, True, True)

    def relaxations(self) -> dict[int, Diagonal]:
        """Tables of the activations, no neuron left out; none when the method is "ibp"."""
        if self._tables is None:
            return {}
        if not self._made:
            self._made = True
            self._run(False, False, True)
        (slopes, constants, losses), at, found = self._tables, 0, {}
        batch, layers = losses.shape[1], self._network.layers.layers[:-1]
        for index, layer, loss in zip(self._network.nodes, layers, losses, strict=False):
            m = len(layer.stored)
            end = at + 2 * batch * m
            low, high = slopes[at:end].reshape(2, batch, m)
            below, above = constants[at:end].reshape(2, batch, m)
            if not layer.plain:
                found[index + 1] = Diagonal(low, high, below, above, loss)
            at = end
        return found


def one_call(network: Network, domain: Domain, options: Options) -> DenseNetwork | None:
    """The network for the one-call walk, where that computes what was asked."""
    fits = takes_one_call(network, domain, options)
    return dense_network(network, options.dtype) if fits else None


def takes_one_call(network: Network, domain: Domain, options: Options) -> bool:
    """Whether `one_call` finds a network: said without the copies of weights that it needs."""
    box = domain.box
    gates = _REFINED if options.refines else _RELAXED if options.relaxes else _PLAIN
    fits = options.guarantee == "real" and (box.norm == "inf" or not options.relaxes)
    # Without hidden rows a batch is one product, faster than box by box.
    count, few = len(box.lower), choices.limit("interval.dense", "f")
    fits = fits and (options.refines or count <= few or count <= network.cached("dense.few", _few))
    if domain.split or not fits or not tuning.off().isdisjoint(gates) or kernels.isa == "numpy":
        return False
    form = form_of(network, options.dtype)
    if form is not None and any(form.curves) and not tuning.off().isdisjoint(_SMOOTH):
        return False
    # Facts are met with the bounds of hidden layers and with nothing else.
    return form is not None and all(index in form.nodes[:-1] for index in domain.facts)


def _bounds(part: Float64) -> NodeBounds:
    return NodeBounds(part[3], part[4], part[0], part[1], part[2])


def _read_only(values: Float64) -> Float64:
    view = values.view()
    view.flags.writeable = False
    return view


def record(walked: DenseWalk, name: str, started: float, ended: float) -> None:
    """A span of the call, and in it one per layer, whose boxes are taken together."""
    telemetry.record(f"{name}.network", started, ended, rows=2 * int(walked.rows.sum()))
    # Seconds of several threads may sum to more than passed.
    share = min(1.0, (ended - started) / max(float(walked.seconds.sum()), 1e-9))
    layers = walked._network.layers.layers
    for layer, rows, seconds in zip(layers, walked.rows, walked.seconds, strict=True):
        neurons, length = len(layer.stored), share * float(seconds)
        telemetry.record(
            f"{name}.node.gemm", started, started + length, rows=2 * int(rows), neurons=neurons
        )
        started += length
