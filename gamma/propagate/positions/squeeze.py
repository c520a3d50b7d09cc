"""Networks without leading axes of length 1: the fast walks want flat dense layers."""

from __future__ import annotations

from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.network.graph import Network, Node
from gamma.ops.base import Operator

Shape = tuple[int, ...]


def squeezed(network: Network) -> Network:
    """The same function on the same entries in the same order, every node without its leading ones
    (but one axis); the network itself where an operator would have to change its meaning.
    """
    nodes: list[Node] = []
    for node in network.nodes:
        before = [network.nodes[i].shape for i in node.inputs]
        dropped = _ones(node.shape)
        alike = len({_ones(s) for s in (*before, node.shape)}) == 1
        op: Operator | None = node.op
        shape = node.shape[dropped:]
        if dropped or not alike:
            op = node.op.without_axes(dropped, node.shape, alike)
        try:
            if op is None or (before and op.shape(*(nodes[i].shape for i in node.inputs)) != shape):
                return network
        except UsageError:
            return network
        nodes.append(replace(node, op=op, shape=shape))
    return Network(tuple(nodes), network.output)


def _ones(shape: Shape) -> int:
    """Number of leading axes to drop."""
    return next((k for k, n in enumerate(shape[:-1]) if n != 1), max(len(shape) - 1, 0))
