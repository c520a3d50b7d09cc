"""How large a network may become whose file is small.

A few hundred bytes can join a value with itself until memory is gone, or repeat a node until the
day is over; counts are compared before anything of that size is made.
"""

from __future__ import annotations

from pathlib import Path

from gamma.errors import UnsupportedError
from gamma.network.graph import Network

NODES = 1 << 14
# Neurons, and how many more for each weight: 16 bytes each in interval bounds. Those of VGG16 are
# 27 million.
NEURONS, NEURONS_PER_WEIGHT = 1 << 25, 64


def check_nodes(count: int, path: Path) -> None:
    """Raise UnsupportedError for a graph of more nodes than gamma takes."""
    if count > NODES:
        raise UnsupportedError.at(
            path, "", f"the graph has more than {NODES} nodes: export it without unrolled loops"
        )


def bounded(net: Network, path: Path) -> Network:
    """The network; UnsupportedError when its neurons are too many for the weights it has."""
    neurons = sum(node.size for node in net.nodes)
    most = NEURONS + NEURONS_PER_WEIGHT * net.parameters
    if neurons > most:
        raise UnsupportedError.at(
            path,
            "",
            f"has {neurons} neurons for {net.parameters} weights, gamma takes {most}: "
            "export it for a smaller input",
        )
    return net
