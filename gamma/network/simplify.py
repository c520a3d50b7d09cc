"""Fewer nodes, the same function of the reals: fusing, and dropping what nothing reads.

The rules themselves belong to the operators: ``after`` says which one operator equals two in a
row. Nothing here knows what an operator is.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gamma.errors import InternalError
from gamma.network.graph import Network, Node, Shape

if TYPE_CHECKING:
    from gamma.ops.base import Operator


def simplify(network: Network) -> Network:
    """An equal network with consecutive operators fused and unread nodes removed.

    The input and the output keep their meaning and shape. A fused node has the later one's value,
    so it has the later one's name; a name whose value is no longer computed is gone.
    """
    nodes = list(network.nodes)
    while _fuse(nodes, network.output):
        pass
    output = network.output
    while output and _neutral(nodes, output):
        (output,) = nodes[output].inputs
    return _compact(network, nodes, output)


def _fuse(nodes: list[Node], output: int) -> bool:
    """One pass of fusing, in place; whether anything changed."""
    changed = False
    uses = _uses(nodes, output)
    for position, node in enumerate(nodes):
        if uses[position] == 0:
            continue
        while len(node.inputs) == 1:
            (source,) = node.inputs
            previous = nodes[source]
            if len(previous.inputs) != 1 or (uses[source] > 1 and previous.op.parameters):
                break  # a shared layer is computed once: fusing would compute it again
            if previous.op.parameters and not previous.inner and nodes[previous.inputs[0]].inner:
                break  # an operator in several steps is fused whole or not at all: no half is left
            fused = node.op.after(previous.op)
            if fused is None:
                break
            start = previous.inputs[0]
            shape = _checked(fused, nodes[start].shape, node.shape)
            node = replace(node, op=fused, inputs=(start,), shape=shape)
            nodes[position] = node
            uses[source] -= 1
            uses[start] += 1
            if uses[source] == 0:
                uses[start] -= 1
            changed = True
    return _bypass(nodes) or changed


def _checked(op: Operator, source: Shape, wanted: Shape) -> Shape:
    found = op.shape(source)
    if found != wanted:
        raise InternalError(f"fusing into {op.name} changed the shape {wanted} to {found}")
    return found


def _bypass(nodes: list[Node]) -> bool:
    """Readers of an operator that changes nothing read its input instead."""
    changed = False
    stands_for = list(range(len(nodes)))
    for position, node in enumerate(nodes):
        inputs = tuple(stands_for[i] for i in node.inputs)
        if inputs != node.inputs:
            nodes[position] = node = replace(node, inputs=inputs)
            changed = True
        if _neutral(nodes, position):
            stands_for[position] = inputs[0]
            source = nodes[inputs[0]]
            if source.inner and not node.inner:  # the same value: it keeps the file's name
                nodes[inputs[0]] = replace(source, name=node.name, inner=False)
                nodes[position] = replace(node, name=source.name, inner=True)
    return changed


def _neutral(nodes: list[Node], position: int) -> bool:
    """Whether the operator returns its one input unchanged, in the same shape."""
    node = nodes[position]
    if len(node.inputs) != 1:
        return False
    source = nodes[node.inputs[0]].shape
    return node.shape == source and node.op.neutral(source)


def _uses(nodes: list[Node], output: int) -> Counter[int]:
    """How often each node is read on the way to the output (the output counts once)."""
    uses: Counter[int] = Counter({output: 1})
    for position in range(len(nodes) - 1, -1, -1):
        if uses[position]:
            uses.update(nodes[position].inputs)
    return uses


def _compact(network: Network, nodes: list[Node], output: int) -> Network:
    uses = _uses(nodes, output)
    kept = [p for p in range(len(nodes)) if p == 0 or uses[p]]
    place = {old: new for new, old in enumerate(kept)}
    final = tuple(
        replace(n, inputs=tuple(place[i] for i in n.inputs)) for n in (nodes[p] for p in kept)
    )
    return Network(final, place[output], network.source, network.notes, network.metadata)
