"""Which input position does each neuron depend on? A proof, operator by operator.

Positions are the indices along one axis of the input. Every entry of every node gets a label: the
one position its value depends on, nothing (a constant), or `MIXED`. An operator without a rule is
taken to mix everything it reads, so a new one is dependent until somebody proves otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from msgspec import field
from msgspec.structs import replace

from gamma.errors import InternalError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.ops import (
    Add,
    Concat,
    Conv,
    Elementwise,
    Gather,
    Gemm,
    LogSoftmax,
    MatMul,
    Mul,
    Normalize,
    ReduceMax,
    ReduceSum,
    Reshape,
    Scale,
    Softmax,
    Transpose,
)
from gamma.ops.base import Operator
from gamma.ops.execution import PACKED
from gamma.ops.window import unfold

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
Kept = npt.NDArray[np.bool_]
Shape = tuple[int, ...]
Rule = Callable[[Any, Sequence[Labels], Shape], Labels]

NOTHING = 0
"""Label of an entry that depends on no position; position p has the label p + 1."""
MIXED = 1 << 62
"""Label of an entry that may depend on several positions."""


def position_axis(network: Network, axis: int) -> int:
    """``axis`` (without the batch axis, may be negative) from 0. Raises UsageError."""
    rank = len(network.input_shape)
    if not -rank <= axis < rank:
        raise UsageError(
            f"axis {axis}: the input {network.input_shape} has {rank} axes, give one of "
            f"{-rank}..{rank - 1}"
        )
    return axis % rank


def labels(network: Network, axis: int) -> list[Labels]:
    """Labels of every node for the positions along ``axis`` of the input, in the nodes' shapes."""
    axis = position_axis(network, axis)
    shape = network.input_shape
    first = np.arange(1, shape[axis] + 1).reshape(-1, *(1,) * (len(shape) - axis - 1))
    found: list[Labels] = [np.broadcast_to(first, shape).copy()]
    for node in network.nodes[1:]:
        found.append(_image(node, [found[i] for i in node.inputs]))
    return found


def mixing(network: Network, known: Sequence[Labels]) -> Node | None:
    """The first node on the way to the output that mixes positions, None when none does."""
    needed = ancestors(network)
    mixed = (i for i in sorted(needed) if (known[i] == MIXED).any())
    return next((network.nodes[i] for i in mixed), None)


def ancestors(network: Network) -> set[int]:
    """The nodes that the output reads, itself included."""
    needed, waiting = set(), [network.output]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting += network.nodes[index].inputs
    return needed


# -- the rules -------------------------------------------------------------------------------------


def _join(parts: Labels, axis: int | tuple[int, ...]) -> Labels:
    """Label of a value that reads all entries along ``axis``."""
    most = parts.max(axis=axis, initial=NOTHING)
    least = np.where(parts == NOTHING, MIXED, parts).min(axis=axis, initial=MIXED)
    return np.where((most == least) | (most == NOTHING), most, MIXED)


def _image(node: Node, parts: list[Labels]) -> Labels:
    op = node.op
    if all(part.size and (part == MIXED).all() for part in parts):
        return np.full(node.shape, MIXED)
    rule = next((RULES[kind] for kind in type(op).__mro__ if kind in RULES), _everything)
    return np.ascontiguousarray(rule(op, parts, node.shape)).reshape(node.shape)


def _everything(op: Operator, parts: Sequence[Labels], shape: Shape) -> Labels:
    """Whatever the operator does, it reads its inputs and nothing else."""
    return np.full(shape, _join(np.concatenate([part.ravel() for part in parts]), 0))


def _entry(op: Operator, parts: Sequence[Labels], shape: Shape) -> Labels:
    return parts[0]


def _sum(op: Operator, parts: Sequence[Labels], shape: Shape) -> Labels:
    return _join(np.stack(parts), 0)


def _gemm(op: Gemm, parts: Sequence[Labels], shape: Shape) -> Labels:
    return np.broadcast_to(_join(parts[0], -1)[..., None], shape)


def _concat(op: Concat, parts: Sequence[Labels], shape: Shape) -> Labels:
    return np.concatenate(parts, axis=op.axis)


def _reduce_sum(op: ReduceSum, parts: Sequence[Labels], shape: Shape) -> Labels:
    return _join(parts[0], op.axes)


def _reduce_max(op: ReduceMax, parts: Sequence[Labels], shape: Shape) -> Labels:
    return _join(parts[0], op.axis)


def _softmax(op: Softmax | LogSoftmax, parts: Sequence[Labels], shape: Shape) -> Labels:
    axis = op.axis % len(shape)
    return np.broadcast_to(np.expand_dims(_join(parts[0], axis), axis), shape)


def _normalize(op: Normalize, parts: Sequence[Labels], shape: Shape) -> Labels:
    axes = tuple(range(op.axis % len(shape), len(shape)))
    return np.broadcast_to(np.expand_dims(_join(parts[0], axes), axes), shape)


def _mul(op: Mul, parts: Sequence[Labels], shape: Shape) -> Labels:
    return _join(np.stack([np.broadcast_to(part, shape) for part in parts]), 0)


def _matmul(op: MatMul, parts: Sequence[Labels], shape: Shape) -> Labels:
    rows, columns = _join(parts[0], -1)[..., None], _join(parts[1], -2)[..., None, :]
    return _mul(Mul(), (rows, columns), shape)


def _transpose(op: Transpose, parts: Sequence[Labels], shape: Shape) -> Labels:
    return parts[0].transpose(op.perm)


def _gather(op: Gather, parts: Sequence[Labels], shape: Shape) -> Labels:
    index = op.index.reshape(-1)
    return np.where(index >= 0, parts[0].reshape(-1)[index], NOTHING)


def _conv(op: Conv, parts: Sequence[Labels], shape: Shape) -> Labels:
    (part,) = parts
    window = op.window(part.shape)
    columns = unfold(part.reshape(1, part.shape[0], *window.image), window)[0]
    joined = _join(columns.reshape(op.group, -1, columns.shape[-1]), 1)  # padding is NOTHING
    return np.repeat(joined, shape[0] // op.group, axis=0)


RULES: dict[type, Rule] = {
    Elementwise: _entry,
    Scale: _entry,
    Reshape: lambda op, parts, shape: parts[0].reshape(shape),
    Transpose: _transpose,
    Gather: _gather,
    Add: _sum,
    Concat: _concat,
    Gemm: _gemm,
    Conv: _conv,
    ReduceSum: _reduce_sum,
    ReduceMax: _reduce_max,
    Softmax: _softmax,
    LogSoftmax: _softmax,
    Normalize: _normalize,
    Mul: _mul,
    MatMul: _matmul,
}
"""How the labels of an operator's inputs become those of its output."""


# -- networks of some positions --------------------------------------------------------------------


class Cuts(Frozen):
    """How the nodes that the output reads are laid out along positions.

    Attributes:
        network: the whole network. nodes: their indices, in order.
        axis, label: per node, the axis along which its labels differ, and the labels along it:
            one array for all nodes that have the same.
        made: networks of parts by their key.
    """

    network: Network
    nodes: tuple[int, ...]
    axis: dict[int, int]
    label: dict[int, Labels]
    made: dict[Hashable, Network | None] = field(default_factory=dict)


class _Kept(Frozen):
    """Which entries along a node's axis some positions keep, how many, and whether all."""

    mask: Kept
    count: int
    whole: bool


class Part(Frozen):
    """The network of some positions.

    Attributes:
        network: its input holds these positions only, in order; parts that compute the same
            function share it.
        entries: bool (outputs,), which flat outputs of the whole network it computes.
    """

    network: Network
    entries: Kept


def cuts(network: Network, known: Sequence[Labels]) -> Cuts | None:
    """Where to cut the nodes; None when the labels of one differ along several axes.

    ``known`` are the network's `labels`, none of them mixed on the way to the output.
    """
    needed = tuple(sorted(ancestors(network) | {0}))
    axis: dict[int, int] = {}
    label: dict[int, Labels] = {}
    alike: dict[bytes, Labels] = {}
    for index in needed:
        found = np.atleast_1d(known[index])
        for candidate in range(found.ndim):
            along = np.moveaxis(found, candidate, -1)
            line = along.reshape(-1, along.shape[-1])[0]
            if (along == line).all():
                axis[index] = candidate
                label[index] = alike.setdefault(line.tobytes(), line)
                break
        else:
            return None
    return Cuts(network, needed, axis, label)


def part(cut: Cuts, positions: Sequence[int]) -> Part | None:
    """The network of some positions; None when an operator is not known to have one."""
    lines: dict[int, _Kept] = {}
    for line in cut.label.values():
        if id(line) not in lines:
            mask = line == NOTHING
            for position in positions:
                mask |= line == position + 1
            count = int(np.count_nonzero(mask))
            if count == 0:
                return None
            lines[id(line)] = _Kept(mask, count, count == len(mask))
    kept = {index: lines[id(line)] for index, line in cut.label.items()}
    found = [_cut(cut, index, kept) for index in cut.nodes]
    operators = [one[0] for one in found if one is not None]
    if len(operators) < len(found):
        return None
    counts = tuple(kept[index].count for index in cut.nodes)
    key = (counts, *(one[1] for one in found if one is not None))
    if key not in cut.made:
        cut.made[key] = _assembled(cut, operators, counts)
    network, output = cut.made[key], cut.network.output
    if network is None:
        return None
    return Part(network, _entries(cut, output, kept[output].mask).reshape(-1))


def _assembled(cut: Cuts, operators: list[Operator], counts: tuple[int, ...]) -> Network | None:
    place = {index: new for new, index in enumerate(cut.nodes)}
    nodes = []
    for index, op, count in zip(cut.nodes, operators, counts, strict=True):
        node = cut.network.nodes[index]
        shape = _shape(node.shape, cut.axis[index], count)
        nodes.append(replace(node, op=op, inputs=tuple(place[i] for i in node.inputs), shape=shape))
    try:
        return Network(tuple(nodes), place[cut.network.output])
    except (InternalError, UsageError):
        return None  # a window that sees nothing but padding, for one


def _shape(shape: Shape, axis: int, count: int) -> Shape:
    return (*shape[:axis], count, *shape[axis + 1 :]) if shape else ()


def _entries(cut: Cuts, index: int, kept: Kept) -> Kept:
    """Mask of a node's kept entries, in its shape."""
    shape = cut.network.nodes[index].shape
    line = kept.reshape(-1, *(1,) * (len(shape) - cut.axis[index] - 1)) if shape else kept[0]
    return np.broadcast_to(line, shape)


def _cut(cut: Cuts, index: int, kept: dict[int, _Kept]) -> tuple[Operator, Hashable] | None:
    """The operator from the kept entries of its inputs to those of its output, and what tells it
    from others cut from the same one; None where no operator is known to compute just that.
    """
    node, mine, axis = cut.network.nodes[index], kept[index], cut.axis[index]
    op, inputs = node.op, node.inputs
    if mine.whole and all(kept[i].whole for i in inputs):
        return op, id(op)
    if op.moves:
        read = _entries(cut, inputs[0], kept[inputs[0]].mask)
        shape = _shape(node.shape, axis, mine.count)
        return op.restricted(shape, read, _entries(cut, index, mine.mask))
    mixed = op.mixes(len(node.shape))
    if mixed == ():
        # With one label along every axis, any of them is the axis.
        same = all(cut.axis[i] == axis and _same(kept[i], mine) for i in inputs)
        return _cut_constants(op, node.shape, axis, mine.mask) if same else None
    if mixed is not None:
        source = inputs[0]
        whole = kept[source].whole or cut.axis[source] not in mixed
        return (op, id(op)) if whole else None
    return (op, id(op)) if not inputs else None


def _same(one: _Kept, other: _Kept) -> bool:
    return one is other or np.array_equal(one.mask, other.mask)


def _cut_constants(op: Operator, shape: Shape, axis: int, kept: Kept) -> tuple[Operator, Hashable]:
    """An elementwise operator with its arrays on the kept entries of a node of ``shape``."""
    values: dict[str, Array] = {}
    for name in op.__struct_fields__:
        array = getattr(op, name)
        if isinstance(array, np.ndarray):
            packed = name in PACKED
            own = axis - (len(shape) - array.ndim + packed)
            differs = own >= 0 and array.shape[own + packed] > 1
            values[name] = np.compress(kept, array, own + packed) if differs else array
    if all(value is getattr(op, name) for name, value in values.items()):
        return op, id(op)
    return replace(cast(Any, op), **values), (id(op), *(v.tobytes() for v in values.values()))
