"""Rows of neurons over an image, made in one call: the rows of their node's own matrix.

Of convolutions and of sums of images, whose rows touch few pixels, and of dense layers. Not a
second rule: see `gamma.propagate.rows.start`, whose rows and constants these are.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops import Conv, Gemm
from gamma.ops.affine import cast_weight
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Frontier
from gamma.propagate.rows.met import charge_parts, factors_of
from gamma.propagate.rows.moves import Start, image_shape, read_by
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import DENSE_FROM, Windows
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Pixels(Frozen):
    """How the rows of one node start.

    Attributes:
        sources: nodes that they start over. size: of windows. image: of these nodes.
        carried: the constants cost what the node's reader carries, by these factors; else, of rows
            that are the weights', what narrows them.
    """

    starts: kernels.Starts
    sources: tuple[int, ...]
    size: tuple[int, int]
    image: tuple[int, int]
    carried: bool
    factors: tuple[float, ...]

    @property
    def aligned(self) -> tuple[Start, ...]:
        """How the rows lie to each other: what `course.aligned` finds out."""
        whole = self.size == self.image
        return tuple((s, self.size, whole, (0, 0)) for s in sorted(self.sources, reverse=True))


def pixels_of(tables: Tables, index: int) -> Pixels | None:
    """How rows of node ``index`` start; None where they do not start so."""
    if not tables.windowed or tables.split or tables.bounds[index].spread is None:
        return None
    made = planned_pixels(tables.network, index, tables.how.dtype)
    if made is None or (made.carried and not tables.carried(index)):
        return None
    if not facts_of(tables.network).image[made.sources[0]]:
        return None
    return made


def planned_pixels(network: Network, index: int, dtype: np.dtype[Any]) -> Pixels | None:
    """How rows of node ``index`` start over an image, where nothing is known but the network."""
    key = "rows.pixels", index, dtype.char
    made: Pixels | None = network.cached(key, partial(_planned, index=index, dtype=dtype))
    return made


def start(
    tables: Tables, made: Pixels, index: int, boxes: Int64, neurons: Int64, above: int | None
) -> tuple[Frontier, Float64, Float64 | None, Int64]:
    """Rows, their constants, those of their negatives with ``above``, and boxes: see `Starts`."""
    centre, charge = tables.bounds[index].centre, charge_parts(tables, index)
    found = made.starts.rows(boxes, neurons, centre, charge, made.factors, above)
    box, y, x = found.where.T
    array = found.array.reshape(len(found.array), *made.size, -1)
    rows = Windows(array, found.place, box, y, x, made.image)
    frontier: Frontier = {made.sources[0]: rows}
    for source in made.sources[1:]:
        frontier[source] = rows.copy()
    return frontier, found.d, found.opposite, found.box


def _planned(network: Network, index: int, dtype: np.dtype[Any]) -> Pixels | None:
    node, facts = network.nodes[index], facts_of(network)
    op = node.op.affine
    if facts.image[index] and isinstance(op, Conv):
        return _convolved(network, index, op, dtype)
    if facts.image[index] and node.op.signs is not None:
        return _summed(network, index, dtype)
    if isinstance(op, Gemm) and len(node.shape) == 1:
        return _dense(network, index, op, dtype)
    return None


def _convolved(network: Network, index: int, op: Conv, dtype: np.dtype[Any]) -> Pixels | None:
    node = network.nodes[index]
    (source,) = node.inputs
    shape = network.nodes[source].shape
    stored = isinstance(op.weight, np.ndarray)
    if len(shape) != 3 or not stored or not facts_of(network).carried[index]:
        return None
    window, weight = op.window(shape), cast_weight(op, op.weight, "weight", dtype, False)
    spans = zip(window.kernel, window.dilations, strict=True)
    height, width = ((size - 1) * step + 1 for size, step in spans)
    framed = height * width >= DENSE_FROM * math.prod(window.image)
    image = window.image if framed else (height, width)
    neurons = kernels.Neurons(
        node.size,
        math.prod(node.shape[1:]),
        node.shape[2],
        len(weight) // op.group,
        weight.shape[1],
        window.kernel,
        window.strides,
        window.dilations,
        window.pads[:2],
        (*image, shape[0]),
        framed,
    )
    starts = kernels.starts(neurons, weight, dtype)
    factors = factors_of(network, index, dtype)
    return Pixels(starts, (source,), image, window.image, True, factors)


def _summed(network: Network, index: int, dtype: np.dtype[Any]) -> Pixels | None:
    node = network.nodes[index]
    channels, height, width = node.shape
    plain = len(set(node.inputs)) == len(node.inputs) and min(node.op.signs or (0,)) > 0
    if not plain or not facts_of(network).carried[index]:
        return None
    one = 1, 1
    geometry = one, one, one, (0, 0), (1, 1, channels)
    neurons = kernels.Neurons(
        node.size, height * width, width, channels, channels, *geometry, False
    )
    starts = kernels.starts(neurons, None, dtype)
    factors = factors_of(network, index, dtype)
    return Pixels(starts, node.inputs, one, (height, width), True, factors)


def _dense(network: Network, index: int, op: Gemm, dtype: np.dtype[Any]) -> Pixels | None:
    """Over the image, or the vector, whose entries, in their order, the layer reads."""
    source, last = read_by(network, index)
    vector = len(network.nodes[source].shape) == 1 and facts_of(network).convolves
    if not (vector or facts_of(network).image[source]) or not isinstance(op.weight, np.ndarray):
        return None
    channels, height, width = image_shape(network, source)
    weight, image, one = cast_weight(op, op.weight, "weight", dtype, False), (height, width), (1, 1)
    kernel, own = (one, weight.shape[1]) if last else (image, channels)
    neurons = kernels.Neurons(
        len(weight), 1, 1, len(weight), own, kernel, one, one, (0, 0), (*kernel, own), True
    )
    starts = kernels.starts(neurons, weight, dtype)
    factors = factors_of(network, index, dtype, start=True)
    return Pixels(starts, (source,), image, image, False, factors)
