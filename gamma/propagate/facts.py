"""What a walk asks of a network's shape again and again: computed once per network."""

from __future__ import annotations

from itertools import accumulate

from gamma.frozen import Frozen
from gamma.network.graph import Network


class Facts(Frozen, eq=True):
    """One entry per node.

    Attributes:
        sizes: neurons. widest: the largest size up to and including the node.
        carried: a linear node read by one diagonal node, whose constants can carry its charge.
        relaxed: some nonlinear node reads this one.
        needed: a relaxation needs every neuron's bounds, its own or moved or through a function.
        hinged: every nonlinear reader is a ReLU.
        separate: linear, and every entry depends on one input entry alone, through such nodes only.
        sequential: every node from here to the input reads just the one before it, and is dense,
            elementwise or a change of shape of flat entries.
        image: rows may start there as windows: the output of a convolution, or entry by entry such.
        hidden_after: dense layers with an activation among the nodes behind it.
        cut: every path from the input to a later node passes it.
        convolves, normalizes: some node is a convolution, a normalisation (flags of the network).
        tables: entries of relaxations beyond those of diagonal operators, in all (one number).
        neurons: the sum of ``sizes``.
    """

    sizes: tuple[int, ...]
    widest: tuple[int, ...]
    carried: tuple[bool, ...]
    relaxed: tuple[bool, ...]
    needed: tuple[bool, ...]
    hinged: tuple[bool, ...]
    separate: tuple[bool, ...]
    sequential: tuple[bool, ...]
    image: tuple[bool, ...]
    hidden_after: tuple[int, ...]
    cut: tuple[bool, ...]
    convolves: bool
    normalizes: bool
    tables: int
    neurons: int


def several_places(network: Network) -> bool:
    """Whether the input has several along its first axis that some nodes may keep apart."""
    shape = network.input_shape
    return len(shape) > 1 and shape[0] > 1 and not facts_of(network).convolves


def facts_of(network: Network) -> Facts:
    """The facts of a network, made when first asked for."""
    return network.cached("facts", _make)


def _make(network: Network) -> Facts:
    nodes, readers = network.nodes, network.consumers
    sizes = tuple(node.size for node in nodes)
    separate, sequential, image = [True], [True], [False]
    for index, node in enumerate(nodes[1:], start=1):
        op = node.op
        separate.append(len(node.inputs) == 1 and separate[node.inputs[0]] and op.independent)
        flat = op.dense is not None and len(node.shape) == 1
        plain = flat or op.diagonal or op.keeps_order
        convolved = op.windowed(nodes[node.inputs[0]].shape)
        alike = op.diagonal or op.entrywise
        image.append(convolved or (alike and all(image[i] for i in node.inputs)))
        sequential.append(plain and node.inputs == (index - 1,) and sequential[index - 1])
    carried = tuple(_carried(network, index) for index in range(len(nodes)))
    nonlinear = [node.op.affine is None for node in nodes]
    relaxed = tuple(any(nonlinear[r] for r in rs) for rs in readers)
    hidden = [kept and node.op.dense is not None for node, kept in zip(nodes, carried, strict=True)]
    behind = list(accumulate(reversed(hidden), initial=0))[-2::-1]
    return Facts(
        sizes,
        tuple(accumulate(sizes, max)),
        carried,
        relaxed,
        _needed(network),
        tuple(all(not nonlinear[r] or nodes[r].op.hinge for r in rs) for rs in readers),
        tuple(separate),
        tuple(sequential),
        tuple(image),
        tuple(behind),
        _cut(network),
        any(node.op.correlation is not None for node in nodes),
        any(node.op.normalizes for node in nodes),
        sum(n.op.table_size(*(nodes[i].shape for i in n.inputs)) for n in nodes if n.inputs),
        sum(sizes),
    )


def _carried(network: Network, index: int) -> bool:
    readers = network.consumers[index]
    return (
        network.nodes[index].op.affine is not None
        and len(readers) == 1
        and index != network.output
        and network.nodes[readers[0]].op.diagonal
    )


def _needed(network: Network) -> tuple[bool, ...]:
    nodes, found = network.nodes, [False] * len(network.nodes)
    for index in reversed(range(len(nodes))):
        for reader in network.consumers[index]:
            op = nodes[reader].op
            passes = op.diagonal or op.moves
            found[index] |= len(nodes[reader].inputs) > 1 and op.affine is None
            found[index] |= passes and found[reader]
    return tuple(found)


def _cut(network: Network) -> tuple[bool, ...]:
    furthest = accumulate((max(rs, default=0) for rs in network.consumers), max, initial=0)
    numbered = zip(range(len(network.nodes)), furthest, strict=False)
    return tuple(index >= last for index, last in numbered)
