"""Normalisations that a file spells in several operators, as one `Normalize`.

Exporters write (x - mean) / √(mean((x - mean)²) + ε) as means, a square, a root and a quotient.
Seen one operator at a time, a quotient's bounds do not know that it lies on a sphere. The float32
guarantee of `Normalize` covers the executions of all spellings that are recognised here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.ops.base import Array, Operator, Shape
from gamma.ops.linear import Scale
from gamma.ops.movement import Gather, Transpose
from gamma.ops.normalization import Normalize
from gamma.ops.powers import Pow, Reciprocal, Sqrt
from gamma.ops.products import Mul
from gamma.ops.sums import Add, ReduceSum


class Found(Frozen):
    """A normalisation of node ``source`` over ``axes``, with a gain and a bias behind it."""

    source: int
    axes: tuple[int, ...]
    epsilon: float
    centred: bool
    affine: Scale | None = None


def normalizations(network: Network) -> Network:
    """The same function of the reals; spelled-out normalisations are one operator each.

    What nothing reads any more is left for `gamma.network.simplify` to drop.
    """
    nodes = network.nodes
    known = {k: match for k in range(len(nodes)) if (match := _match(nodes, k))}
    if not known:
        return network
    made, place = _Names(nodes), list[int]()
    for k, node in enumerate(nodes):
        if k in known:
            place.append(_written(made, node, known[k], place[known[k].source]))
        else:
            place.append(made.add(replace(node, inputs=tuple(place[i] for i in node.inputs))))
    return replace(network, nodes=tuple(made.nodes), output=place[network.output])


class _Names:
    """Nodes under construction; steps within an operator get free names."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes: list[Node] = []
        self._names = {node.name for node in nodes}

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def step(self, base: Node, op: Operator, source: int) -> int:
        """A node made for ``base``, of a name that no other has."""
        count = 1
        while f"{base.name}/{count}" in self._names:
            count += 1
        self._names.add(f"{base.name}/{count}")
        shape = op.shape(self.nodes[source].shape)
        return self.add(Node(f"{base.name}/{count}", op, (source,), shape, inner=True))


def _written(made: _Names, node: Node, found: Found, source: int) -> int:
    """The nodes of a normalisation; the last one is what ``node`` was."""
    rank = len(node.shape)
    rest = tuple(a for a in range(rank) if a not in found.axes)
    order = (*rest, *found.axes)
    steps: list[Operator] = [Normalize(len(rest) - rank, found.epsilon, found.centred)]
    if order != tuple(range(rank)):
        back = tuple(int(i) for i in np.argsort(order))
        steps = [Transpose(order), *steps, Transpose(back)]
    if found.affine is not None:
        steps.append(found.affine)
    for op in steps[:-1]:
        source = made.step(node, op, source)
    return made.add(replace(node, op=steps[-1], inputs=(source,)))


def _match(nodes: Sequence[Node], k: int) -> Found | None:
    """What node ``k`` is, if it is c times a reciprocal root, or x·s + (bias - mean·s)."""
    op = nodes[k].op
    if isinstance(op, Mul):
        for c, root in _both(nodes[k].inputs):
            if nodes[c].shape == nodes[k].shape and (found := _divided(nodes, c, root)):
                return found
    if isinstance(op, Add) and op.signs == (1, 1):
        for product, rest in _both(nodes[k].inputs):
            if found := _shifted(nodes, product, rest):
                return found
    return None


def _both(inputs: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    yield inputs[0], inputs[1]
    yield inputs[1], inputs[0]


def _divided(nodes: Sequence[Node], c: int, root: int) -> Found | None:
    """c · 1/√(mean(c²) + epsilon), c less its mean or as it is."""
    known = _root(nodes, _spread(nodes, root, nodes[c].shape))
    if known is None:
        return None
    square, axes, epsilon = known
    if square != c:
        return None
    source = _centred(nodes, c, axes)
    return Found(c, axes, epsilon, False) if source is None else Found(source, axes, epsilon, True)


def _shifted(nodes: Sequence[Node], product: int, rest: int) -> Found | None:
    """x·s + (bias - mean(x)·s) with s = gain · 1/√(mean((x - mean(x))²) + epsilon)."""
    negated = nodes[rest].op
    if not isinstance(nodes[product].op, Mul) or not isinstance(negated, Scale):
        return None
    inner = nodes[nodes[rest].inputs[0]]
    if not (_plain(negated) and (negated.scale == -1).all() and isinstance(inner.op, Mul)):
        return None
    for x, steep in _both(nodes[product].inputs):
        for mean, other in _both(inner.inputs):
            gain = nodes[steep].op
            inverse, scale = steep, np.ones((), np.float32)
            if isinstance(gain, Scale) and _plain(gain) and gain.shift is None:
                (inverse,), scale = nodes[steep].inputs, gain.scale
            known = _root(nodes, _spread(nodes, inverse, nodes[x].shape))
            if other != steep or known is None or _centred(nodes, known[0], known[1]) != x:
                continue
            if _mean(nodes, _spread(nodes, mean, nodes[x].shape)) == (x, known[1]):
                return Found(x, known[1], known[2], True, Scale(scale, negated.shift))
    return None


def _centred(nodes: Sequence[Node], c: int, axes: tuple[int, ...]) -> int | None:
    """x where c = x - mean(x) over these axes."""
    op = nodes[c].op
    if not isinstance(op, Add) or op.signs != (1, -1):
        return None
    x, mean = nodes[c].inputs
    return x if _mean(nodes, _spread(nodes, mean, nodes[c].shape)) == (x, axes) else None


def _root(nodes: Sequence[Node], k: int) -> tuple[int, tuple[int, ...], float] | None:
    """c, axes and epsilon where node ``k`` is 1/√(mean(c²) + epsilon)."""
    inside = _inverse_root(nodes, k)
    if inside is None:
        return None
    op, epsilon = nodes[inside].op, 0.0
    if isinstance(op, Scale):
        shift = np.unique(op.shift) if op.shift is not None else np.zeros(1)
        if not (_plain(op) and (op.scale == 1).all() and shift.size == 1 and shift[0] >= 0):
            return None
        (inside,), epsilon = nodes[inside].inputs, float(shift[0])
    mean = _mean(nodes, inside)
    if mean is None:
        return None
    square = nodes[mean[0]]
    if not isinstance(square.op, Pow) or square.op.exponent != 2:
        return None
    return square.inputs[0], mean[1], epsilon


def _inverse_root(nodes: Sequence[Node], k: int) -> int | None:
    """v where node ``k`` is 1/√v: a power, or a root and a reciprocal in any order."""
    op = nodes[k].op
    if isinstance(op, Pow):
        return nodes[k].inputs[0] if op.exponent == -0.5 else None
    kinds, inputs = {_step(op)}, nodes[k].inputs
    if None in kinds:
        return None
    kinds.add(_step(nodes[inputs[0]].op))
    return nodes[inputs[0]].inputs[0] if kinds == {"root", "reciprocal"} else None


def _step(op: object) -> str | None:
    if isinstance(op, Sqrt) or (isinstance(op, Pow) and op.exponent == 0.5):
        return "root"
    if isinstance(op, Reciprocal) or (isinstance(op, Pow) and op.exponent == -1):
        return "reciprocal"
    return None


def _mean(nodes: Sequence[Node], k: int) -> tuple[int, tuple[int, ...]] | None:
    """Source and axes where node ``k`` is a mean that keeps its axes."""
    op = nodes[k].op
    if not isinstance(op, ReduceSum) or not op.keepdims:
        return None
    (source,) = nodes[k].inputs
    count = math.prod(nodes[source].shape[a] for a in op.axes)
    exact = Fraction(op.scale) * count == 1 or (op.scale == 1 / count and op.scale_error > 0)
    return (source, tuple(sorted(op.axes))) if exact else None


def _spread(nodes: Sequence[Node], k: int, shape: Shape) -> int:
    """The node that ``k`` repeats along axes of length 1 to fill ``shape``, or ``k`` itself."""
    node = nodes[k]
    if not isinstance(node.op, Gather) or node.shape != shape:
        return k
    before = nodes[node.inputs[0]].shape
    if len(before) != len(shape):
        return k
    index: Array = np.arange(math.prod(before)).reshape(before)
    same = all(n in (1, m) for n, m in zip(before, shape, strict=True))
    if same and (np.broadcast_to(index, shape).reshape(-1) == node.op.index.reshape(-1)).all():
        return node.inputs[0]
    return k


def _plain(op: Scale) -> bool:
    """Whether all that a float32 execution does is one product and one sum with its constants."""
    return op.execution is None and op.scale_error == 0 and not np.any(op.shift_error)
