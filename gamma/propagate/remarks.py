"""What a result has to say about how it was bounded: what a reader would take for granted."""

from __future__ import annotations

from gamma import tuning
from gamma.methods import REFINING
from gamma.network.graph import Network
from gamma.propagate.ellipsotopes import suited, too_large
from gamma.propagate.options import DEFAULT_ROW_BYTES
from gamma.tensor.box import Box


def remarks(
    network: Network, box: Box, method: str, guarantee: str, streamed: bool
) -> tuple[str, ...]:
    """Sentences about a walk over batched boxes: without norm caps, without sets."""
    if not any(node.op.normalizes for node in network.nodes):
        return ()
    found = []
    if guarantee != "real" or streamed:
        why = "streaming" if streamed else f"the guarantee {guarantee}"
        found.append(f"bounds are not cut at what norms leave possible: {why} has no norm caps")
    if method in REFINING and not streamed and suited(network) and tuning.enabled("ellipsotopes"):
        found.append(too_large(network, box, DEFAULT_ROW_BYTES))
    return tuple(filter(None, found))
