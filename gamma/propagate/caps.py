"""Norm caps as facts of a walk: no bound is wider than what the norms alone leave possible.

A bound as wide as its cap says nothing about the inputs that were asked about: it is vacuous.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.errors import ResourceError
from gamma.network.graph import Network, Node
from gamma.ops.bounds import NodeBounds
from gamma.propagate.domain import Facts
from gamma.propagate.facts import facts_of
from gamma.tensor import rounding
from gamma.tensor.box import Box

if TYPE_CHECKING:
    from gamma.propagate.ranges import Known
    from gamma.propagate.walks import Walk

Float64 = npt.NDArray[np.float64]

BLOCK = re.compile(r"blk\.(\d+)\.")
"""How the nodes of a block are called."""
VACUOUS = 0.95
"""Share of its cap from which a bound is called vacuous: caps may include roundings to float16."""
FULL = 0.99
"""Share of its cap from which on a bound is as good as the cap to a layer that reads it."""
MOST_KEPT = 1 << 22
"""Weights up to which what the caps of nodes do not owe to the input is kept with the network."""
LAYERS = ("Gemm", "StoredGemm")
"""Operators whose image of an interval costs a pass over weights."""


def norm_caps(
    network: Network,
    box: Box,
    guarantee: str,
    thrifty: bool,
    deadline: float | None = None,
    streamed: bool = False,
) -> Facts:
    """Proved ends of the nodes behind norms, for all boxes of a batch together.

    Nothing is taken from the box but the range of what is added to a norm's output, and under the
    guarantee float32 what executions of a norm may be off by. Empty where there is no norm. With
    ``thrifty`` they leave out the norms of whole layers, which cost more than an interval pass.
    ``streamed``: weights are given back to the system as soon as they were read.
    """
    if not facts_of(network).normalizes or not tuning.enabled("norm_caps"):
        return {}
    from gamma.propagate.ranges import Known, range_walk

    source = Known(network.input_shape, box.lower.min(axis=0), box.upper.max(axis=0))
    # What a float32 execution of a norm may be off by depends on its input.
    keeps = guarantee == "real" and not streamed and _weights(network) <= MOST_KEPT
    found = range_walk(
        network,
        source,
        guarantee=guarantee,
        norms_alone=True,
        thrifty=thrifty,
        deadline=deadline,
        streamed=streamed,
        kept=network.cached(("caps.kept", thrifty), lambda _: {}) if keeps else None,
    )
    return useful(network, dict(enumerate(found)))


def _weights(network: Network) -> int:
    return network.cached("caps.weights", lambda net: sum(n.op.parameters for n in net.nodes))


def caps_bytes(network: Network) -> int:
    """At most what both ends of all caps take; 0 where there are none."""
    if not facts_of(network).normalizes or not tuning.enabled("norm_caps"):
        return 0
    return sum(16 * node.size for node in network.nodes[1 : network.output + 1] if _capped(node))


def _capped(node: Node) -> bool:
    """Whether a node computes something, and not within limits of its own."""
    return bool(node.inputs) and not node.op.moves and not node.op.bounded


def useful(network: Network, found: Mapping[int, Known]) -> Facts:
    """Finite ends of nodes that compute something, where they fit the nodes' shapes."""
    made = {}
    for index, known in found.items():
        node = network.nodes[index]
        if _capped(node):
            ends = known.ends if known.shape == node.shape else known.ends_over(node.shape)
            if ends is not None:
                made[index] = ends
    return made


class Ceilings:
    """Layers of an interval pass that their caps say all about: their weights are not read.

    Of an input nearly as wide as its cap, the image is wider than the layer's own cap but for a
    hundredth of itself: that cap was made from the input's, by the same weights and norms besides.
    """

    def __init__(self, network: Network, facts: Facts) -> None:
        self._network, self._facts = network, facts
        self._full: set[int] = set()

    def of(self, index: int, batch: int) -> NodeBounds | None:
        """The cap of such a layer over ``batch`` boxes; None for every other node."""
        node = self._network.nodes[index]
        if node.op.name not in LAYERS or index not in self._facts:
            return None
        if not all(i in self._full for i in node.inputs):
            return None
        shape = (batch, *node.shape)
        # As a new array lies in memory: NumPy would keep the order of what is broadcast.
        lower, upper = (np.broadcast_to(end, shape).copy("C") for end in self._facts[index])
        return NodeBounds(lower, upper, rounding.midpoint(lower, upper)).frozen()

    def learn(self, index: int, bounds: NodeBounds) -> None:
        """Remember whether a node, or what it moves, is as wide as its cap in every box."""
        node = self._network.nodes[index]
        if node.op.moves:
            full = all(i in self._full for i in node.inputs)
        elif index in self._facts:
            lower, upper = self._facts[index]
            full = bool((bounds.upper - bounds.lower >= FULL * (upper - lower)).all())
        else:
            full = False
        if full:
            self._full.add(index)


def block_ends(network: Network) -> dict[int, int]:
    """The last node of every block that nodes' names tell."""
    last: dict[int, int] = {}
    for index, node in enumerate(network.nodes[: network.output + 1]):
        match = BLOCK.match(node.name)
        if match and not node.inner:
            last[int(match[1])] = index
    return last


def block_table(made: Walk) -> list[dict[str, Any]]:
    """For the last node of every block: mean width, its share of the norm cap, if it is vacuous;
    of rows over one box also the ratio to the first-order width.

    Empty for a network whose nodes name no blocks. The share is None where there is no cap, the
    ratio where it was not taken.
    """
    network, facts = made.network, made.domain.facts
    rows = []
    for block, index in sorted(block_ends(network).items()):
        known = made.bounds[index]
        width = _width(known.lower, known.upper)
        row: dict[str, Any] = {"block": block, "node": network.nodes[index].name, "width": width}
        cap = _width(*facts[index]) if index in facts else None
        share = None if not cap else min(width / cap, 1.0)
        row |= {"cap": cap, "share": share, "vacuous": _vacuous(width, share)}
        rows.append({**row, "ratio": _ratio(made, index, known)})
    return rows


def _ratio(made: Walk, index: int, known: NodeBounds) -> float | None:
    """Width of some neurons' bounds over their first-order width; None where it is not taken.

    They get rows of their own, which readers that are linear did not ask for.
    """
    if not made.options.relaxes or made.domain.batch != 1:
        return None
    from gamma.propagate.first_order import first_order

    try:
        found = first_order(made.network, index, made.domain.box, made.options.check)
        if found is None or not found[1].sum() > 0:
            return None
        chosen, widths = found
        lower, upper = made.neuron_bounds(index, np.zeros_like(chosen), chosen)
    except ResourceError:
        return None  # the bounds are there: no time for more is no reason to lose them
    low, high = known.lower.reshape(-1)[chosen], known.upper.reshape(-1)[chosen]
    with np.errstate(all="ignore"):
        apart = np.minimum(high, upper) - np.maximum(low, lower)
        ratio = float(apart.sum() / widths.sum())
    return ratio if np.isfinite(ratio) else None


def _vacuous(width: float, share: float | None) -> bool:
    return not np.isfinite(width) or (share is not None and share >= VACUOUS)


def _width(lower: Float64, upper: Float64) -> float:
    with np.errstate(all="ignore"):
        return float(np.mean(upper - lower))


def joined(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of two batches, the wider bound of every block."""
    if not first:
        return second
    pairs = zip(first, second, strict=True)
    return [a if a["width"] >= b["width"] else b for a, b in pairs]
