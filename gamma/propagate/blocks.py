"""How many rows walk together: as many as memory allows, in enough blocks for several threads.

The cut depends on sizes alone, never on the number of threads: bounds are the same bits for any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

from gamma.methods import FORWARD, REFINING
from gamma.network.graph import Network, Node
from gamma.ops.dense_interval import in_tiles
from gamma.propagate.facts import facts_of
from gamma.runtime import choices, workers

T = TypeVar("T")

# Rows of a block below which its products waste the bandwidth that the weights need.
_LEAST_ROWS = 32
# The same where rows pass convolutions, whose weights are small: a register block of these.
_LEAST_WINDOWS = 10
_MOST_BLOCKS = 16
# Least shares in a block where there are more than two.
_SHARES = 16
# Shares from which on blocks walk at once although one call of the C library takes each all the way
# and is shared itself: what is left around it is worth threads then.
_INSIDE = 64
# Blocks that are handed out at once.
_TASKS = 4096
# Nanoseconds that a block keeps the interpreter at a node of a network with normalisations, whose
# rows go node by node: threads would take turns.
_NODE = 6e4
# Boxes of an interval pass below which a share wastes the weights' bandwidth; its work comes in
# larger pieces than rows do, so less of it is worth a thread.
_LEAST_BOXES = 64
_INTERVAL_SHARE = 3.0
# Boxes of a walk that is a share, at least, and nanoseconds of its rows: what is around its calls
# takes as long as a third of a box of a small network. And so many times as many at most.
_WALK_BOXES, _WALK, _WALKS = 4, 1e7, 8
# Nanoseconds of an interval pass: a product of centre and radius, one of two variables; all passes
# over a neuron behind a layer in C, over one that is moved or scaled, over a function's, over one
# of a group (of softmax, of a normalisation).
_PRODUCT, _PAIR, _PASSES, _PASS, _CURVE, _GROUP = 0.08, 1.0, 10.0, 50.0, 90.0, 240.0

# Nanoseconds on one core: an operation of a dense product behind ReLUs (many of whose columns are
# dropped) and of others, one of a convolution's, one entry of the latter's columns, one entry of a
# row in all other passes.
_DENSE, _WHOLE_DENSE, _CONVOLUTION, _COLUMN, _ENTRY = 0.002, 0.0125, 0.0125, 1.0, 0.7

FORWARD_GAIN = 16.0
"""Times the work of forward forms that rows of all neurons are worth: these are tighter, but four
halvings of a box take as long."""
HOPELESS = 4.0
"""Times the limit from which on an expected time is not worth a trial."""

_by_memory: ContextVar[bool] = ContextVar("gamma_blocks_by_memory", default=False)

_WHOLE = 1 << 30


@contextmanager
def by_memory() -> Iterator[None]:
    """Cut by memory alone: for work that is shared among threads already."""
    token = _by_memory.set(True)
    try:
        yield
    finally:
        _by_memory.reset(token)


def block_length(
    network: Network,
    index: int,
    count: int,
    each: int,
    most: int,
    times: int = 1,
    inside: Callable[[], bool] = bool,
) -> int:
    """Items per block for ``count`` items of ``each`` rows from node ``index`` down.

    What is done with a block takes so many ``times`` as long as a descent of float32 rows, most of
    it inside calls that threads share if ``inside`` says so. Memory holds ``most`` items at once: a
    block takes half of it at most, so that two can walk, where there are threads for two.
    """
    rows, blocks, worth = count * each, -(-count // max(1, most // 2)), 0.0
    few = _LEAST_WINDOWS if facts_of(network).convolves else _LEAST_ROWS
    if rows >= 2 * few and not _by_memory.get():
        least = max(1.0, choices.limit("rows.share"))
        if facts_of(network).normalizes:
            least = max(least, _NODE * index * times)
        worth = min(rows / few, rows * row_cost(network, index) / least)
        worth = 0.0 if 2 <= worth * times < _INSIDE and inside() else worth
    # Asked last: a small network gets by without knowing how many there are.
    if max(worth * times, blocks) >= 2 and workers.workers() == 1:
        blocks, worth = -(-count // max(1, most)), 0
    if worth * times >= 2:
        # More than two serve more processors and even out, where a block stays far longer: each
        # takes some hundred calls.
        blocks = max(blocks, 2, min(int(worth) // _SHARES, _MOST_BLOCKS))
        blocks += blocks % 2
    return -(-count // blocks)


def in_blocks(
    network: Network,
    index: int,
    count: int,
    bound: Callable[[slice], T],
    each: int,
    most: int,
    times: int = 1,
    inside: Callable[[], bool] = bool,
) -> list[T]:
    """``bound`` of every block of ``count`` items, several at once: see `block_length`."""
    step = block_length(network, index, count, each, most, times, inside)
    results: list[T] = []
    for first in range(0, count, step * _TASKS):  # millions of tasks would take gigabytes
        starts = range(first, min(first + step * _TASKS, count), step)
        tasks = [partial(bound, slice(start, start + step)) for start in starts]
        results += workers.run(tasks, max(1, most // step))
    return results


def evenly(count: int, most: int, unit: int = 1) -> Iterator[slice]:
    """Parts of ``most`` items at most, as long as each other but for a unit: of the last part of an
    uneven cut, threads would share little."""
    parts = -(-count // most)
    step = max(unit, unit * -(-count // (unit * max(1, parts))))
    return (slice(start, start + step) for start in range(0, count, step))


def boxes_per_share(network: Network, count: int) -> int:
    """Boxes of one share of ``count`` when all that is asked is their interval bounds."""
    if count < 2 * _LEAST_BOXES:
        return count
    dense = (op for node in network.nodes if (op := node.op.dense) is not None)
    if not facts_of(network).convolves and not all(map(in_tiles, dense)):
        return count  # the BLAS shares the products of large dense layers by itself
    least = max(1.0, choices.limit("rows.share") * _INTERVAL_SHARE)
    shares = min(count // _LEAST_BOXES, int(count * _box_cost(network) / least), _MOST_BLOCKS)
    shares -= shares % 2
    return -(-count // shares) if shares >= 2 else count


def boxes_with_rows(network: Network, method: str, count: int, most: int) -> int:
    """Boxes of one walk of ``count`` whose neurons get rows; ``most``: that one call takes. Threads
    with walks of their own wait for each other at the end alone."""
    least = network.cached(("blocks.walk", method), partial(_least_walk, method=method))
    if min(count, most) < 2 * least:
        return count
    shares = 2 * -(-count // (2 * min(_WALKS * least, most)))
    return -(-count // shares)


def _least_walk(network: Network, method: str) -> int:
    box = 1e9 * expected_seconds(network, method, 1, network.nodes[network.output].size)
    return max(_WALK_BOXES, int(_WALK / box))


def boxes_at_once(network: Network, limit_bytes: int = 256 << 20) -> int:
    """How many boxes one walk takes: bounds and tables of all nodes are alive together."""
    total = facts_of(network).neurons + facts_of(network).tables // 2
    return max(1, limit_bytes // (total * 8 * 12))


def expected_seconds(
    network: Network, method: str, boxes: int, questions: int, varying: int = 0
) -> float:
    """Roughly, on one core, of bounding ``questions`` rows over each of ``boxes`` boxes.

    For CROWN as if half of the neurons that activations read had rows of their own. ``varying``
    inputs (0: all) give forward forms as many columns; the middle, and sizes twice, come to them.
    """
    total = _box_cost(network)
    if method in FORWARD:
        total *= 1 + (varying or network.nodes[0].size) + 3
    if method not in ("ibp", "forward"):
        total += questions * row_cost(network, network.output)
    if method in REFINING:
        plan = facts_of(network)
        relaxed = [i for i in range(1, network.output) if plan.relaxed[i]]
        total += sum(plan.sizes[i] * row_cost(network, i) for i in relaxed)
    return boxes * total * 1e-9


def bounding_method(network: Network, varying: int) -> str:
    """ "forward+crown" where ``varying`` inputs are so few, and neurons so many, that rows of all
    these cost `FORWARD_GAIN` times as much; else "crown"."""
    rows, forms = (expected_seconds(network, m, 1, 1, varying) for m in ("crown", "forward+crown"))
    return "forward+crown" if rows > FORWARD_GAIN * forms else "crown"


def may_end(network: Network, method: str, questions: int, seconds: float) -> bool:
    """Whether a walk over one box is not known beforehand to take far longer than ``seconds``."""
    return expected_seconds(network, method, 1, questions) <= HOPELESS * seconds


def _box_cost(network: Network) -> float:
    """Nanoseconds, roughly, of the interval bounds of one box."""
    return network.cached("blocks.box", _interval_cost)


def _interval_cost(network: Network) -> float:
    return sum(node.size * _entry_cost(network, node) for node in network.nodes[1:])


def _entry_cost(network: Network, node: Node) -> float:
    op = node.op
    if op.keeps_order or op.matrix_terms or op.hinge:
        return _PRODUCT * op.matrix_terms + _PASSES
    if op.affine is not None:
        return _PASS
    if op.diagonal:
        return _CURVE
    pair = len(node.inputs) > 1
    terms = op.summed(*(network.nodes[i].shape for i in node.inputs)) if pair else 0
    return _PAIR * terms + (_PASS if pair else _GROUP)


def row_cost(network: Network, index: int, dense: bool = False) -> float:
    """Nanoseconds, roughly, that one row from node ``index`` down to the input takes.

    A row that starts at one pixel costs what its windows cost, unless it is ``dense``.
    """
    key = "blocks.row", index, dense
    return network.cached(key, partial(_row_cost, index=index, dense=dense))


def _row_cost(network: Network, index: int, dense: bool) -> float:
    total = 0.0
    nodes = network.nodes
    # Node -> height and width of the window that a row has there.
    pixel = _image(nodes[index].shape) and not dense
    reach = {index: (1, 1) if pixel else (_WHOLE, _WHOLE)}
    for i in range(index, -1, -1):
        if i not in reach:
            continue
        node, op = nodes[i], nodes[i].op
        h, w = reach[i]
        entries = node.size
        if _image(node.shape):
            h, w = min(h, node.shape[1]), min(w, node.shape[2])
            entries = node.shape[0] * h * w
        conv = op.correlation
        if op.matrix_terms and conv is None:
            read = nodes[node.inputs[0]].op
            kept = read.affine is None and not read.hinge and node.inputs[0] > 0
            total += (_WHOLE_DENSE if kept else _DENSE) * 2 * entries * op.matrix_terms
        else:
            total += _ENTRY * entries
        if conv is not None:
            total += (_CONVOLUTION * 2 * entries + _COLUMN * h * w * conv.group) * conv.terms
            window = conv.window(nodes[node.inputs[0]].shape)
            h, w = (
                (size - 1) * stride + (kernel - 1) * dilation + 1
                for size, kernel, stride, dilation in zip(
                    (h, w), window.kernel, window.strides, window.dilations, strict=True
                )
            )
        for source in node.inputs:
            windowed = conv is not None or op.diagonal or op.entrywise
            kept = windowed and _image(node.shape) and _image(nodes[source].shape)
            here = (h, w) if kept else (_WHOLE, _WHOLE)
            before = reach.get(source, (0, 0))
            reach[source] = max(here[0], before[0]), max(here[1], before[1])
    return total


def _image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3
