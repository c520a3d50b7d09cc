"""When first rows of inner neurons end at affine forms of an earlier node, and which then do not.

Affine forms (`gamma.propagate.rows.affine`) pay where a network is a chain of wide blocks that all
paths pass: one product takes the place of the walk through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.propagate.blocks import row_cost
from gamma.propagate.facts import facts_of
from gamma.propagate.options import Options
from gamma.propagate.rows.affine import AffineForms, affine_forms, largest_gaps
from gamma.propagate.rows.descend import Descent, Tape
from gamma.propagate.rows.start import both_signs

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Nanoseconds of all rows of a node from where on later rows end at its affine forms.
FROM = 1.5e8
# Nodes this many times smaller than that node get rows that go all the way.
_FEW = 4


def worthwhile(network: Network, index: int, batch: int, options: Options) -> bool:
    """Whether rows of later neurons shall end at affine forms of this node."""
    nodes, facts = network.nodes, facts_of(network)
    size = facts.sizes[index]
    entries = batch * size * facts.sizes[0]
    return (
        tuning.enabled("affine_forms")
        and facts.cut[index]
        and any(nodes[r].op.normalizes for r in network.consumers[index])
        and 2 * size * row_cost(network, index) > FROM
        and entries * options.dtype.itemsize <= options.row_bytes
    )


def varying(source: NodeBounds) -> Indices:
    """The entries of the flat input that vary in some box."""
    return np.flatnonzero((source.radius.reshape(len(source.lower), -1) > 0).any(axis=0))


def input_rows(
    descent: Descent, index: int, boxes: Array, neurons: Array, columns: Indices, options: Options
) -> list[Array]:
    """Bounds of neurons and of their negatives, and their rows and constants over the input.

    Each is (2, neurons, ...), rows at the ``columns`` alone.
    """
    frontier, d, box = both_signs(descent, index, boxes, neurons)
    tape = Tape(inputs_only=True)
    ends = descent.run(frontier, d, box, options.check, tape=tape)
    assert tape.input is not None and tape.constant is not None
    parts = ends, tape.input[:, columns], tape.constant
    return [part.reshape(2, len(box) // 2, *part.shape[1:]) for part in parts]


def forms_of(
    parts: Sequence[list[Array]], known: NodeBounds, source: NodeBounds, columns: Indices
) -> tuple[Float64, AffineForms]:
    """Ends (2, neurons) and affine forms of a node from `input_rows` of all its neurons."""
    ends, rows, constant = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    batch, size = len(known.lower), known.lower[0].size
    rows, constant = rows.reshape(2, batch, size, -1), constant.reshape(2, batch, size)
    lower, negated = zip(rows, constant, strict=True)
    return ends, affine_forms(lower, negated, known, source, columns)


def deciding(network: Network, index: int, above: int, known: NodeBounds) -> Mask:
    """Neurons (batch, size) of a node behind node ``above``, whose forms first rows ended at, that
    decide most: they get rows that go all the way.

    All of a node that has few; else those whose lines leave the largest gaps.
    """
    sizes = facts_of(network).sizes
    few = _FEW * sizes[index] <= sizes[above]
    worth = np.full((len(known.lower), sizes[index]), few)
    for reader in [] if few else network.consumers[index]:
        worth |= largest_gaps(network.nodes[reader].op, known)
    return worth
