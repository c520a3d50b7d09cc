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
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.domain import Facts
from gamma.propagate.facts import facts_of
from gamma.tensor.box import Box

if TYPE_CHECKING:
    from gamma.propagate.ranges import Known
    from gamma.propagate.walks import Walk

BLOCK = re.compile(r"blk\.(\d+)\.")
"""How the nodes of a block are called."""
VACUOUS = 0.95
"""Share of its cap from which a bound is called vacuous: caps may include roundings to float16."""


def norm_caps(
    network: Network, box: Box, guarantee: str, thrifty: bool, deadline: float | None = None
) -> Facts:
    """Proved ends of the nodes behind norms, for all boxes of a batch together.

    Nothing is taken from the box but the range of what is added to a norm's output. Empty where
    there is no norm, and under the guarantee float32: caps are those of real arithmetic. With
    ``thrifty`` they leave out the norms of whole layers, which cost more than an interval pass.
    """
    if not facts_of(network).normalizes or guarantee != "real" or not tuning.enabled("norm_caps"):
        return {}
    from gamma.propagate.ranges import Known, range_walk

    source = Known(network.input_shape, box.lower.min(axis=0), box.upper.max(axis=0))
    found = range_walk(network, source, norms_alone=True, thrifty=thrifty, deadline=deadline)
    return useful(network, dict(enumerate(found)))


def useful(network: Network, found: Mapping[int, Known]) -> Facts:
    """Finite ends of nodes that compute something, where they fit the nodes' shapes."""
    made = {}
    for index, known in found.items():
        node = network.nodes[index]
        fits = _fits(known.lower, node.shape) and _fits(known.upper, node.shape)
        if fits and known.finite and node.inputs and not node.op.moves and not node.op.bounded:
            ends = (np.broadcast_to(end, node.shape)[None] for end in (known.lower, known.upper))
            made[index] = next(ends), next(ends)
    return made


def _fits(end: npt.NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    pairs = zip(end.shape, shape, strict=False)
    return end.ndim == len(shape) and all(n in (1, size) for n, size in pairs)


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


def _width(lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]) -> float:
    with np.errstate(all="ignore"):
        return float(np.mean(upper - lower))


def joined(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of two batches, the wider bound of every block."""
    if not first:
        return second
    pairs = zip(first, second, strict=True)
    return [a if a["width"] >= b["width"] else b for a, b in pairs]
