"""Spectral norms of whole layers, by other threads while the walk goes layer by layer.

They depend on weights and gains alone. Most of their work is one factorisation after another, which
one thread has to do, as the walk itself has for much of its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.errors import ResourceError
from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.propagate.ranges import spectral
from gamma.propagate.ranges.matrix import Matrix
from gamma.runtime import workers

if TYPE_CHECKING:
    from gamma.propagate.ranges.sets import Sphere

Float64 = npt.NDArray[np.float64]
LAYERS = ("Gemm", "StoredGemm")
"""Operators with one matrix for every position."""


class LayerNorm(Frozen):
    """What `spectral.of_layer` says of a layer that reads a vector scaled by ``gain``."""

    gain: Float64
    centred: bool
    find: Callable[[], tuple[float, float]]

    def fits(self, gain: Float64, source: Sphere) -> bool:
        """Whether the layer reads ``source`` so."""
        return self.centred == source.centred and np.array_equal(self.gain, gain)


@contextmanager
def layer_norms(
    network: Network, thrifty: bool, deadline: float | None
) -> Iterator[Mapping[int, LayerNorm]]:
    """By node, of the dense layers behind a normalisation whose norm their readers ask for; none
    of a ``thrifty`` walk.

    `LayerNorm.find` raises ResourceError when the deadline (time.monotonic) has passed.
    """
    asked = {
        index: read
        for index, node in enumerate(network.nodes[: network.output])
        if not thrifty and (read := _reads(network, node)) is not None and _asked(network, index)
    }
    tasks = [partial(_of_layer, network.nodes[i].op, *read, deadline) for i, read in asked.items()]
    with workers.ahead(tasks) as found:
        finds = [partial(found.__getitem__, number) for number in range(len(tasks))]
        yield {i: LayerNorm(*asked[i], find) for i, find in zip(asked, finds, strict=True)}


def _of_layer(op: Any, gain: Float64, centred: bool, deadline: float | None) -> tuple[float, float]:
    if deadline is not None and time.monotonic() > deadline:
        raise ResourceError("the time limit was reached")
    return spectral.of_layer(Matrix(op.weight, getattr(op, "turned", False)), gain, centred)


def _reads(network: Network, node: Node) -> tuple[Float64, bool] | None:
    """Gain, and whether the mean is taken off, of the normalised vector that a layer reads."""
    if node.op.name not in LAYERS or node.op.inexact:  # type: ignore[attr-defined]
        return None
    scale = network.nodes[node.inputs[0]]
    norm = network.nodes[scale.inputs[0]] if scale.inputs else scale
    if (norm.op.name, scale.op.name) != ("Normalize", "Scale"):
        return None
    op: Any = norm.op
    gain: Float64 = scale.op.scale.astype(np.float64).reshape(-1)  # type: ignore[attr-defined]
    along = op.axis % len(norm.shape) == len(norm.shape) - 1
    return (gain, op.centred) if along and gain.size == scale.shape[-1] else None


def _asked(network: Network, index: int) -> bool:
    """Whether a reader keeps the norm of the node: a product, or a function that shrinks it."""
    if network.nodes[index].shape[-1] <= spectral.BLOCK:
        return False
    return any(
        (node.op.name == "Mul" and len({network.nodes[i].shape for i in node.inputs}) == 1)
        or (node.op.shrinks and not only_gates(network, reader))
        for reader in network.consumers[index]
        for node in [network.nodes[reader]]
    )


def only_gates(network: Network, index: int) -> bool:
    """Whether every reader multiplies the node by a linear one, whose norm is then enough."""
    nodes = network.nodes
    readers = [nodes[r] for r in network.consumers[index]]
    others = [[i for i in r.inputs if i != index] for r in readers]
    return bool(readers) and all(
        r.op.name == "Mul" and all(nodes[i].op.affine is not None for i in other) and other
        for r, other in zip(readers, others, strict=True)
    )
