"""Rows for neurons of one node, as they start on their way down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.charges import linear_charge
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Frontier, dense, unit
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.pixels import pixels_of, start
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import starts
from gamma.runtime import choices

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
AT_ONCE = 1 << 20  # neurons whose indices are held


def both_signs(
    descent: Descent, index: int, boxes: Array, neurons: Array
) -> tuple[Frontier, Float64, Array]:
    """Rows for lower bounds of neurons, then those of their negatives, ready to go down."""
    if (made := pixels_of(descent.tables, index)) is not None:
        frontier, d, _, box = start(descent.tables, made, index, boxes, neurons, None)
        return frontier, d, box
    frontier, centre, cost = _start(descent, index, boxes, neurons)
    d = np.concatenate((centre - cost, -centre - cost))
    d -= abs(d) * 2.0**-50
    both: Frontier = {i: frontier.pop(i).negated_too() for i in list(frontier)}
    return both, d, np.concatenate((boxes, boxes))


def one_sign(
    descent: Descent, index: int, boxes: Array, neurons: Array, above: int
) -> tuple[Frontier, Float64, Float64]:
    """Rows for lower bounds of the first ``above`` neurons and of the others' negatives.

    And the constants of the rows and of their negatives.
    """
    if (made := pixels_of(descent.tables, index)) is not None:
        frontier, d, other, _ = start(descent.tables, made, index, boxes, neurons, above)
        assert other is not None
        return frontier, d, other
    frontier, centre, cost = _start(descent, index, boxes, neurons)
    centre[above:] *= -1
    d, opposite = centre - cost, -centre - cost
    d -= abs(d) * 2.0**-50
    opposite -= abs(opposite) * 2.0**-50
    signed: Frontier = {i: frontier.pop(i).negated_from(above) for i in list(frontier)}
    return signed, d, opposite


def _start(
    descent: Descent, index: int, boxes: Array, neurons: Array
) -> tuple[Frontier, Float64, Float64]:
    """Rows that say ``neuron - centre`` over earlier nodes, the centres, and their cost."""
    tables = descent.tables
    index, neurons = _before_moves(tables, index, neurons)
    node, bounds, dtype = tables.network.nodes[index], tables.bounds[index], tables.how.dtype
    centre = bounds.centre.reshape(len(bounds.centre), -1)[boxes, neurons]
    op = node.op.affine
    if op is not None and op.reads_rows and index not in tables.split:
        inputs = [tables.bounds[i] for i in node.inputs]
        at = (boxes, neurons)
        charge = linear_charge(op, bounds, inputs, dtype, start=True, at=at)
        before = node.inputs[0]
        rows = op.start_rows(neurons, [tables.network.nodes[before].shape], dtype)
        columns = tables.columns(before)
        rows = rows if columns is None else rows.take(columns, axis=1)
        cost = (charge.weight + charge.loss) * (1 + 2.0**-50)
        return {before: dense(rows, math.prod(rows.shape[1:]))}, centre, cost
    d = np.zeros(len(neurons))
    frontier: Frontier = {index: _unit_rows(tables, index, boxes, neurons)}
    if tables.carried(index):  # by a reader that these rows do not pass
        charge = tables.charge(index)
        d -= (charge.weight[boxes, neurons] + charge.loss[boxes]) * (1 + 2.0**-50)
    if op is not None and index not in tables.split:
        # A row and its negative pass the linear node alike: it is passed once for both.
        with np.errstate(all="ignore"):
            descent.pass_linear(index, frontier.pop(index), d, boxes, frontier)
    return frontier, centre, -d


def _before_moves(tables: Tables, index: int, neurons: Array) -> tuple[int, Array]:
    """The neurons of the dense layer whose entries are moved to ``neurons`` of node ``index``.

    Its rows start behind it, with no product. The same node and neurons where there is no such.
    """
    nodes, at, found = tables.network.nodes, index, neurons
    while nodes[at].op.moves and len(nodes[at].inputs) == 1 and at not in tables.split:
        (source,) = nodes[at].inputs
        shape = nodes[source].shape
        numbers = np.arange(1.0, math.prod(shape) + 1).reshape(1, *shape)
        moved = nodes[at].op.affine.linear([numbers])  # type: ignore[union-attr]
        found = moved.reshape(-1)[found].astype(np.int64) - 1
        if (found < 0).any():  # filled in
            return index, neurons
        at = source
    op = nodes[at].op.affine
    return (at, found) if op is not None and op.reads_rows else (index, neurons)


def _unit_rows(tables: Tables, index: int, boxes: Array, neurons: Array) -> Any:
    """One coefficient 1 per row: a window of one pixel on an image, a dense row elsewhere."""
    node, dtype = tables.network.nodes[index], tables.how.dtype
    if facts_of(tables.network).image[index] and tuning.enabled("windows"):
        entries = len(neurons) * node.size
        if choices.choose("rows.start", "", entries) == "windows":
            return starts(neurons, boxes, node.shape, dtype)
    return unit(neurons, node.size, dtype)


def pixel_by_pixel(
    mask: npt.NDArray[np.bool_], shape: tuple[int, ...]
) -> Iterator[tuple[Array, Array]]:
    """Boxes and flat indices of the neurons in ``mask`` (batch, size), in parts.

    Neurons of one pixel come together: a block of rows then has few places (`Windows`). A part is
    of `AT_ONCE` neurons, or one pixel: indices of millions would take more memory than bounds do.
    """
    size = mask.shape[1]
    channels = shape[0] if len(shape) == 3 else 1
    pixels = size // max(1, channels)
    some = max(1, AT_ONCE // max(1, size))
    step = max(1, AT_ONCE // max(1, channels)) if some == 1 else pixels
    images = mask.reshape(len(mask), channels, pixels).swapaxes(1, 2)
    for box in range(0, len(mask), some):
        for first in range(0, pixels, max(1, step)):
            boxes, pixel, channel = np.nonzero(images[box : box + some, first : first + step])
            if len(boxes):
                yield boxes + box, channel * pixels + (pixel + first)
