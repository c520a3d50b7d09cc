"""What a walk asks of a network's shape again and again: computed once per network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

from gamma.network.graph import Network
from gamma.ops import Conv, Elementwise, Gemm, Linear, ReduceMax, Reshape


@dataclass(frozen=True)
class Plan:
    """One entry per node.

    Attributes:
        sizes: neurons. widest: the largest size up to and including the node.
        carried: a linear node read by one elementwise node, whose constants can carry its charge.
        relaxed: some nonlinear node reads this one.
        separate: linear, and every entry depends on one input entry alone, through such nodes only.
        sequential: every node from here to the input reads just the one before it, and is dense,
            elementwise or a change of shape of flat entries.
        hidden_after: dense layers with an activation among the nodes behind it.
        convolves: some node is a convolution (one flag for the network).
    """

    sizes: tuple[int, ...]
    widest: tuple[int, ...]
    carried: tuple[bool, ...]
    relaxed: tuple[bool, ...]
    separate: tuple[bool, ...]
    sequential: tuple[bool, ...]
    hidden_after: tuple[int, ...]
    convolves: bool


_plans: WeakKeyDictionary[Network, Plan] = WeakKeyDictionary()


def plan_of(network: Network) -> Plan:
    """The plan of a network, made when first asked for."""
    found = _plans.get(network)
    if found is None:
        found = _plans[network] = _make(network)
    return found


def _make(network: Network) -> Plan:
    nodes, readers = network.nodes, network.consumers
    sizes = tuple(node.size for node in nodes)
    separate, sequential = [True], [True]
    for index, node in enumerate(nodes[1:], start=1):
        op = node.op
        separate.append(
            isinstance(op, Linear)
            and len(node.inputs) == 1
            and separate[node.inputs[0]]
            and op.independent
        )
        flat = isinstance(op, Gemm) and len(node.shape) == 1
        plain = flat or isinstance(op, Elementwise | Reshape)
        sequential.append(plain and node.inputs == (index - 1,) and sequential[index - 1])
    carried = tuple(_carried(network, index) for index in range(len(nodes)))
    hidden = [kept and isinstance(node.op, Gemm) for node, kept in zip(nodes, carried, strict=True)]
    behind = list(accumulate(reversed(hidden), initial=0))[-2::-1]
    return Plan(
        sizes,
        tuple(accumulate(sizes, max)),
        carried,
        tuple(any(isinstance(nodes[r].op, Elementwise | ReduceMax) for r in rs) for rs in readers),
        tuple(separate),
        tuple(sequential),
        tuple(behind),
        any(isinstance(node.op, Conv) for node in nodes),
    )


def _carried(network: Network, index: int) -> bool:
    readers = network.consumers[index]
    return (
        isinstance(network.nodes[index].op, Linear)
        and len(readers) == 1
        and index != network.output
        and isinstance(network.nodes[readers[0]].op, Elementwise)
    )
