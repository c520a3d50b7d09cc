"""What a result has to say about how it was bounded: what a reader would take for granted."""

from __future__ import annotations

from gamma import tuning
from gamma.methods import REFINING
from gamma.network.graph import Network
from gamma.propagate.ellipsotopes import suited, too_large
from gamma.propagate.memory.planning import CAPS, MemoryPlan
from gamma.propagate.options import DEFAULT_ROW_BYTES
from gamma.tensor.box import Box


def remarks(network: Network, box: Box, method: str, plan: MemoryPlan | None) -> tuple[str, ...]:
    """Sentences about a walk over batched boxes, ``plan`` when it was streamed: without norm caps,
    without sets."""
    if not any(node.op.normalizes for node in network.nodes):
        return ()
    found = []
    if plan is not None and CAPS not in plan.parts and tuning.enabled("norm_caps"):
        found.append(
            "bounds are not cut at what norms leave possible: the memory limit has no room for that"
        )
    if method in REFINING and plan is None and suited(network) and tuning.enabled("ellipsotopes"):
        found.append(too_large(network, box, DEFAULT_ROW_BYTES))
    return tuple(filter(None, found))
