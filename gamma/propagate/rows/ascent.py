"""Ascents of rows as calls of the C library, through dense layers, convolutions, sums and ReLUs.

Small convolutions of groups go as the matrices that they are, at the price of longer sums. An
executor, not a second rule: it is given the tables that step-by-step descents would use, and a row
takes the steps of `gamma.propagate.climb`. Tests hold the two against each other.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network, Node
from gamma.ops.affine import cast_weight
from gamma.ops.charges import inflated
from gamma.ops.spread import GATHER_FROM, Taps, last_weight, summed
from gamma.ops.tables import Diagonal
from gamma.propagate.blocks import evenly
from gamma.propagate.domain import Slopes
from gamma.propagate.rows.block import Frontier
from gamma.propagate.rows.chain import part_of, sparse
from gamma.propagate.rows.tables import Tables
from gamma.tensor import kernels, rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Operations of a call, a tenth of a second or less: the clock is not looked at inside. A row's own
# ascent must fit in.
_CALL_OPERATIONS, _MOST_STEPS = 4e9, 64
# What an entry of a weight of mostly zeros takes as long as in a dense one.
_ONE_BY_ONE = 16.0
# Entries of a convolution's matrix beyond which its zeros cost more than the one call gains.
_MATRIX = 1 << 18
# Entries of a kernel, and of what it makes, that offsets have room for.
_TAPS = 1 << 26
_NONE = np.zeros(0, np.int64)


def in_one_call(network: Network, last: int) -> bool:
    """Whether rows from node ``last`` on pass nodes that the C library knows here, and the ascent
    of one fits in a call."""
    return 0.0 < operations(network, last) * _MOST_STEPS <= _CALL_OPERATIONS


def operations(network: Network, last: int) -> float:
    """Of one row's descent and the way back up; 0 where the C library does not know a node."""
    enabled = tuning.enabled("fused_ascent") and tuning.enabled("fused_walk")
    if not enabled or kernels.isa == "numpy":
        return 0.0
    return network.cached(("ascent", last), partial(_count, last=last))


def _count(network: Network, last: int) -> float:
    nodes, found = network.nodes, 1.0
    for index in range(1, last + 1):
        node = nodes[index]
        summed, matrix = _sums(node), _as_matrix(network, index)
        if node.op.hinge:
            linear = _as_matrix(network, index - 1) or _sums(nodes[index - 1])
            known = linear and node.inputs == (index - 1,)
        else:
            linear = summed or matrix or node.op.keeps_order or _turns(node)
            known = linear or node.op.normalizes
        if not known:
            return 0.0
        before = nodes[node.inputs[0]]
        if _convolves(network, index):
            found += 6.0 * node.size * node.op.matrix_terms + 8.0 * before.size
        elif matrix:
            some = None if node.op.dense is None else sparse(node.op.dense, np.dtype(np.float32))
            terms = node.size * before.size
            found += 4.0 * (terms if some is None else _ONE_BY_ONE * len(some.values))
        elif summed or _turns(node) or node.op.normalizes:
            found += 4.0 * node.size
    return found


def _sums(node: Node) -> bool:
    """Whether a node is a sum of two others."""
    return node.op.signs is not None and len(node.inputs) == len({*node.inputs}) == 2


def _turns(node: Node) -> bool:
    """Whether a node moves an image's channels."""
    return node.op.affine is not None and node.op.affine.turns != ""


def _readers(network: Network, index: int) -> list[int]:
    """The nodes that read a stage, also by changes of shape."""
    found: list[int] = []
    for reader in network.consumers[index]:
        kept = network.nodes[reader].op.keeps_order
        found += _readers(network, reader) if kept else [reader]
    return found


def _slots(network: Network) -> list[int]:
    """Of each node: a slot that no other has until the last node that reads it."""
    found: list[int] = []
    taken: list[int] = []  # until which node each slot is
    for index in range(len(network.nodes)):
        slot = next((k for k, until in enumerate(taken) if until < index), len(taken))
        found.append(slot)
        if not network.nodes[index].op.keeps_order:
            taken[slot : slot + 1] = [max(_readers(network, index), default=index)]
    return found


def _convolves(network: Network, index: int) -> bool:
    """Whether a node is a convolution that rows pass as one."""
    conv = network.nodes[index].op.correlation
    return (
        conv is not None
        and conv.group == 1
        and max(conv.weight.size, network.nodes[index].size) < _TAPS
    )


def _as_matrix(network: Network, index: int) -> bool:
    """Whether a node is a dense layer, a convolution, or one of groups and of few entries."""
    node = network.nodes[index]
    if _convolves(network, index):
        return True
    if not index or node.op.correlation is None:
        return node.op.dense is not None and len(node.shape) == 1
    return node.size * network.nodes[node.inputs[0]].size <= _MATRIX


class DenseAscent:
    """Rows over nodes of a walk, through linear layers and ReLUs to the input.

    Attributes:
        assumes: whether rows may assume sides of ReLUs: those of a walk over one box.
    """

    def __init__(self, tables: Tables, made: kernels.Ascent, below: int, assumes: bool) -> None:
        self.tables, self.assumes = tables, assumes
        self._made, self._below = made, below
        # Of each node its stage; of each stage its node, and its ReLUs whose slopes move.
        self._at: list[int] = []
        self._nodes: list[int] = []
        self._places: list[Indices] = []
        self._starts: dict[int, tuple[Array, Array]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, tables: Tables, below: int, assumes: bool = False) -> DenseAscent | None:
        """Without a stage yet; None where rows of the walk do not go in one call.

        ReLUs before node ``below`` have slopes of the rows' own; with 0 all have the tables' lines.
        """
        alone = len(tables.box.lower) == 1
        if tables.box.norm != "inf" or tables.split or (assumes and not alone):
            return None
        made = kernels.ascent(tables.how.dtype, len(tables.network.nodes))
        return None if made is None else cls(tables, made, below, assumes)

    def reaches(self, last: int) -> bool:
        """Whether rows from node ``last`` on go in one call."""
        return in_one_call(self.tables.network, last)

    def takes(self, nodes: Iterable[int]) -> bool:
        """Whether rows over these nodes, one or two at once, go in one call."""
        (last, *others), network = sorted(nodes, reverse=True), self.tables.network
        for other in others:
            readers = _readers(network, other)
            meets = len(readers) == 1 and readers[0] <= last  # but pays nothing there
            if meets or network.nodes[last].op.keeps_order or network.nodes[other].op.keeps_order:
                return False
        return len(others) < 2 and self.reaches(last)

    def stage(self, last: int) -> int:
        """The stage of node ``last``, those up to it made where they are missing."""
        with self._lock:
            for index in range(len(self._at), last + 1):
                node = self.tables.network.nodes[index]
                if index and node.op.keeps_order:
                    self._at.append(self._at[node.inputs[0]])
                    continue
                own = _NONE
                if node.op.hinge and index < self._below:
                    own = np.flatnonzero((self.tables.hinge(index).free > 0).any(axis=0))
                if node.op.hinge and not self._below:
                    made: kernels.Stage = _lines(self.tables, index)
                else:
                    made = _stage(self.tables, index, own, self.assumes)
                self._made.add(made, self._place(index))
                self._at.append(len(self._nodes))
                self._nodes.append(index)
                self._places.append(own)
        return self._at[last]

    def _place(self, index: int) -> kernels.Place:
        network = self.tables.network
        slots: list[int] = network.cached("ascent.slots", _slots)
        several = len(_readers(network, index)) > 1
        joined = self.tables.rounded(index) if several else None
        inputs = tuple(self._at[i] for i in network.nodes[index].inputs)
        return kernels.Place(inputs, slots[index], joined)

    def forget(self, index: int) -> None:
        """Bounds of node ``index`` were tightened: its tables, and those behind it, are others."""
        count = bisect_left(self._nodes, index)
        self._made.keep(count)
        self._starts = {at: kept for at, kept in self._starts.items() if at < index}
        del self._nodes[count:], self._places[count:], self._at[index:]

    def relus(self, last: int) -> Iterator[tuple[int, Indices]]:
        """Nodes up to ``last`` whose ReLUs have slopes of rows, and these ReLUs, in order."""
        stages = self.stage(last) + 1
        for index, places in zip(self._nodes[:stages], self._places[:stages], strict=True):
            if len(places):
                yield index, places

    def starts(self, last: int, given: Slopes) -> Array:
        """Slopes f (boxes, ReLUs) of rows from node ``last``, those that are ``given`` (nodes)."""
        found = [np.zeros((len(self.tables.box.lower), 0), self.tables.how.dtype)]
        for index, places in self.relus(last):
            lower, keep = given[index].lower, self.tables.columns(index)
            assert lower is not None
            known = self._starts.get(index)
            if known is None or known[0] is not lower:
                every = self.tables.hinge(index).alike(lower if keep is None else lower[:, keep])
                self._starts[index] = known = lower, every[:, places]
            found.append(known[1])
        return np.concatenate(found, axis=1)

    def _together(self, last: int, steps: int) -> int:
        """How many rows one call may take: pairs."""
        count = int(_CALL_OPERATIONS / (operations(self.tables.network, last) * steps + 1.0))
        return max(2, count // 2 * 2)

    def run(
        self,
        last: int,
        asked: tuple[Array, Float64],
        rows: kernels.Climbers,
        factors: Float64,
        check: Callable[[], None] | None,
        *,
        limit: Float64 | None = None,
        cost: Array | None = None,
        kept: tuple[Array, Float64] | None = None,
        beside: tuple[int, Array] | None = None,
    ) -> Float64:
        """The best lower bounds (rows,) of ``len(factors)`` descents from node ``last``, and from
        one ``beside`` it; see `kernels.Ascent`."""
        count, stage = len(rows.question), self.stage(last)
        best = np.full(count, -np.inf)
        most = self._together(last, len(factors))
        read = self._read(stage) if self.assumes else None
        for part in evenly(count, most, 2):
            if check is not None:
                check()
            self._made.run(
                stage,
                asked,
                rows if count <= most else rows.part(part),
                read,
                factors,
                None if limit is None else limit[part],
                best[part],
                None if cost is None else cost[part],
                None if kept is None else (kept[0][part], kept[1][part]),
                None if beside is None else (self._at[beside[0]], beside[1]),
            )
        return best

    def down(
        self,
        frontier: Frontier,
        d: Float64,
        box: Indices,
        check: Callable[[], None] | None,
    ) -> None:
        """Take rows down once, by the tables' own lines: ``d`` becomes their lower bounds."""
        last, *others = sorted(frontier, reverse=True)
        self.stage(last)
        count = np.arange(len(d))
        none = np.zeros((len(self.tables.box.lower), 0), self.tables.how.dtype)
        rows = kernels.Climbers.plain(none, count, box if len(none) > 1 else None)
        beside = (others[0], frontier[others[0]].dense()) if others else None
        asked = frontier[last].dense(), d.copy()
        d[:] = self.run(last, asked, rows, np.zeros((1, 5)), check, beside=beside)
        frontier.clear()

    def _read(self, stage: int) -> tuple[Indices, Indices]:
        """The dense stage that each ReLU reads, and where."""
        places = self._places[: stage + 1]
        counts = [len(place) for place in places]
        return np.repeat(np.arange(-1, stage), counts), np.concatenate((_NONE, *places))


def _stage(tables: Tables, index: int, own: Indices, assumes: bool) -> kernels.Stage:
    """A node as the C library takes it."""
    node = tables.network.nodes[index]
    if index == 0:
        return kernels.InputStage(_flat(tables.bounds[0].radius), tables.radius(0))
    if _convolves(tables.network, index):
        return _image(tables, index, assumes)
    if node.op.correlation is not None:
        matrix = kernels.Laid.of(_matrix(tables, index))
        return _dense(tables, index, assumes, matrix, _longer_sums(tables, index))
    if node.op.dense is not None:
        some = sparse(node.op.dense, tables.how.dtype)
        kept = tables.kept(index)
        weight = part_of(some, *kept) if some is not None else _laid(tables, index, kept)
        return _dense(tables, index, assumes, weight)
    if node.op.signs is not None:
        first, second = node.op.signs
        assumable = _assumable(tables, index) if assumes else None
        return kernels.SumStage((first, second), _charge(tables, index), assumable)
    if _turns(node):
        return kernels.OrderStage(_order(tables.network, index))
    if node.op.normalizes:
        from gamma.ops.quotient import Quotients  # of networks with normalisations alone

        table = tables.relaxation(index)
        assert isinstance(table, Quotients)
        return kernels.PlaneStage(table.planes, table.loss)
    return _relu(tables, index, own, assumes)


def _order(network: Network, index: int) -> npt.NDArray[np.int32]:
    """Where each entry of a node is in its input."""
    node = network.nodes[index]
    shape, op = network.nodes[node.inputs[0]].shape, node.op.affine
    assert op is not None
    return op.linear([np.arange(node.size, dtype=np.int32).reshape(1, *shape)]).ravel()


def _charge(tables: Tables, index: int) -> tuple[Float64, Float64] | None:
    """What it costs to pass a linear node; None where its reader carries that."""
    if tables.carried(index):
        return None
    charge = tables.charge(index)
    return _flat(charge.weight), charge.loss


def _laid(tables: Tables, index: int, kept: tuple[Array | None, Array | None]) -> kernels.Laid:
    """The weight of a dense layer, its live entries; made once where these are all."""

    def lay(network: Network) -> kernels.Laid:
        return kernels.Laid.of(tables.weight(index))

    if kept[0] is not None or kept[1] is not None:
        return lay(tables.network)
    found: kernels.Laid = tables.network.cached(("ascent.laid", index, tables.how.dtype.char), lay)
    return found


def _matrix(tables: Tables, index: int) -> Array:
    """The weight of a convolution as the matrix (entries, entries of its input) that it is."""
    node = tables.network.nodes[index]
    before = tables.network.nodes[node.inputs[0]]
    assert node.op.affine is not None
    rows = np.eye(node.size, dtype=tables.how.dtype).reshape(node.size, *node.shape)
    (found,) = node.op.affine.adjoint(rows, [before.shape])
    matrix: Array = found.reshape(node.size, before.size)
    return matrix


def _longer_sums(tables: Tables, index: int) -> Float64:
    """What it costs besides that each product is a term of one sum: a convolution's own are sums of
    sums."""
    op, spread = tables.network.nodes[index].op.correlation, tables.bounds[index].spread
    assert op is not None and spread is not None
    factor = rounding.gamma_factor(op.adjoint_products + 1, tables.how.dtype)
    price: Float64 = inflated(factor * _flat(spread))
    return price


def _image(tables: Tables, index: int, assumes: bool) -> kernels.ImageStage:
    """A convolution, with the sums that it has step by step."""
    node, dtype = tables.network.nodes[index], tables.how.dtype
    conv, before = node.op.correlation, tables.network.nodes[node.inputs[0]]
    assert conv is not None
    window, (out, channels) = conv.window(before.shape), conv.weight.shape[:2]
    last = last_weight(conv, conv.weight, dtype, False, 1)
    taps, cells = Taps.cached(conv, last, window, channels), None
    spans = (*window.kernel, *window.strides, *window.dilations)
    gathered = tuning.enabled("gathered_adjoint")
    if gathered and (channels >= GATHER_FROM or taps.size != (1, 1)):
        weight, (scatter, cells) = taps.weight[0], taps.scatter(window, channels)
    else:
        weight, scatter = last[0], kernels.Scatter(spans, *window.pads[:2], channels, summed(out))
    flat = cast_weight(conv, conv.weight, "weight", dtype, False).reshape(out, -1)
    return kernels.ImageStage(
        weight,
        scatter,
        cells,
        flat,
        kernels.Frame(spans, *window.pads[:2]),
        (channels, *window.image),
        (out, *window.positions),
        not tuning.enabled("live_channels"),
        _charge(tables, index),
        _assumable(tables, index) if assumes else None,
    )


def _dense(
    tables: Tables,
    index: int,
    assumes: bool,
    weight: kernels.Laid | kernels.Sparse,
    more: Float64 | None = None,
) -> kernels.DenseStage:
    """A linear node as its matrix; ``more`` is paid beside its charge."""
    own = _charge(tables, index)
    if more is not None:
        price, loss = (0.0, np.zeros(len(more))) if own is None else own
        own = (more if own is None else inflated(price + more), loss)
    return kernels.DenseStage(weight, own, _assumable(tables, index) if assumes else None)


def _assumable(tables: Tables, index: int) -> kernels.Assumable | None:
    """What assumptions about a linear node that a ReLU reads meet."""
    readers, carried = tables.network.consumers[index], tables.carried(index)
    if not any(tables.network.nodes[reader].op.hinge for reader in readers):
        return None
    charge, rows = tables.charge(index), tables.kept(index)[0]
    price, loss = charge.weight.ravel(), float(charge.loss[0])
    centre, rounded = tables.bounds[index].centre.ravel(), tables.rounded(index)[0]
    share = rounding.gamma_factor(len(centre) + 8, np.float64) + 2.0**-50
    paid = price if carried else None
    if rows is not None:  # of a layer that carries its charge alone
        centre, rounded, paid = centre[rows], rounded[rows], price[rows]
    return kernels.Assumable(centre, rounded, paid, loss, share)


def _lines(tables: Tables, index: int) -> kernels.ReluStage:
    """A ReLU whose slopes are the tables' own, in all rows."""
    lines = tables.relaxation(index)
    assert isinstance(lines, Diagonal)
    none, still = np.zeros_like(lines.lower_const), np.zeros_like(lines.lower_slope)
    return kernels.ReluStage(
        base=lines.lower_const,
        gain=none,
        upper_slope=lines.upper_slope,
        upper_const=lines.upper_const,
        free=still,
        fixed=lines.lower_slope,
        centre=still,
        sides=None,
        loss=lines.loss,
        places=_NONE,
        low=still[:, :0],
        high=still[:, :0],
    )


def _relu(tables: Tables, index: int, places: Indices, assumes: bool) -> kernels.ReluStage:
    lines, keep = tables.hinge(index), tables.columns(index)
    (before,) = tables.network.nodes[index].inputs
    neurons = places if keep is None else keep[places]
    known = tables.bounds[before]
    return kernels.ReluStage(
        base=lines.base,
        gain=lines.gain,
        upper_slope=lines.upper_slope,
        upper_const=lines.upper_const,
        free=lines.free,
        fixed=lines.fixed,
        centre=lines.centre,
        sides=np.concatenate([part.ravel() for part in lines.sides]) if assumes else None,
        loss=lines.loss,
        places=places,
        low=_flat(known.lower)[:, neurons],
        high=_flat(known.upper)[:, neurons],
    )


def _flat(array: Float64) -> Float64:
    return array.reshape(len(array), -1)
