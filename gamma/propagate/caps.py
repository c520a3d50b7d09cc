"""Norm caps as facts of a walk: no bound is wider than what the norms alone leave possible.

A bound as wide as its cap says nothing about the inputs that were asked about: it is vacuous.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network, Node
from gamma.ops.bounds import NodeBounds
from gamma.propagate.domain import Facts
from gamma.propagate.ranges import Known, range_walk
from gamma.tensor.box import Box

BLOCK = re.compile(r"blk\.(\d+)\.")
"""How the nodes of a block are called."""
VACUOUS = 0.99
"""Share of its cap from which a bound is called vacuous."""


def norm_caps(
    network: Network, box: Box, guarantee: str, thrifty: bool, deadline: float | None = None
) -> Facts:
    """Proved ends of the nodes behind norms, for all boxes of a batch together.

    Nothing is taken from the box but the range of what is added to a norm's output. Empty where
    there is no norm, and under the guarantee float32: caps are those of real arithmetic. With
    ``thrifty`` they leave out the norms of whole layers, which cost more than an interval pass.
    """
    normed = any(node.op.normalizes for node in network.nodes)
    if not normed or guarantee != "real" or not tuning.enabled("norm_caps"):
        return {}
    source = Known(network.input_shape, box.lower.min(axis=0), box.upper.max(axis=0))
    found = range_walk(network, source, norms_alone=True, thrifty=thrifty, deadline=deadline)
    return {
        index: (lower[None], upper[None])
        for index, known in enumerate(found)
        if _useful(network.nodes[index], known)
        for lower, upper in [known.bounds]
    }


def _useful(node: Node, known: Known) -> bool:
    return bool(node.inputs) and not node.op.moves and not node.op.bounded and known.finite


def block_table(
    network: Network, bounds: Sequence[NodeBounds], facts: Facts
) -> list[dict[str, Any]]:
    """For the last node of every block: mean width, its share of the norm cap, if it is vacuous.

    Empty for a network whose nodes name no blocks. The share is None where there is no cap.
    """
    last: dict[int, int] = {}
    for index, node in enumerate(network.nodes[: network.output + 1]):
        match = BLOCK.match(node.name)
        if match and not node.inner:
            last[int(match[1])] = index
    rows = []
    for block, index in sorted(last.items()):
        width = _width(bounds[index].lower, bounds[index].upper)
        row: dict[str, Any] = {"block": block, "node": network.nodes[index].name, "width": width}
        cap = _width(*facts[index]) if index in facts else None
        share = None if not cap else min(width / cap, 1.0)
        rows.append({**row, "cap": cap, "share": share, "vacuous": _vacuous(width, share)})
    return rows


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
