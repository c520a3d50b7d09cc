"""Where a bound's looseness arose: what each relaxation cost the row, along its trajectory.

Where the relaxed network is when a row takes its bound (`gamma.propagate.rows.sweep`), an
activation has a value on the row's line and another on its function. The coefficient times the
difference is what that relaxation gave away for this row; a layer's sum says what is to be gained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.propagate.rows.block import blocks_of
from gamma.propagate.rows.own import Tape
from gamma.propagate.rows.sweep import trajectory
from gamma.propagate.walks import Walk

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


def losses(made: Walk, frontier: Mapping[int, Array], d: Float64, box: Array) -> dict[int, float]:
    """For one row (1, size) per node: nonlinear node -> what its relaxation costs the bound.

    Plain floating point: an explanation, not a bound.
    """
    tape, tables = Tape(), made.descent.tables
    made.descent.run(blocks_of(frontier, slice(0, 1)), d[:1].copy(), box[:1], tape=tape)
    steps = trajectory(tables, tape, box[:1])
    found = {}
    with np.errstate(all="ignore"):
        for index, (rows, _, _) in tape.passed.items():
            node = made.network.nodes[index]
            inputs = [_values(made, i, steps[i], box) for i in node.inputs]
            true = node.op.forward(*inputs).reshape(1, -1)
            keep = tables.columns(index)
            true = true if keep is None else true[:, keep]
            centre = made.bounds[index].centre.reshape(len(made.bounds[index].centre), -1)[box[:1]]
            centre = centre if keep is None else centre[:, keep]
            gap = rows * (true - centre - steps[index])
            found[index] = float(np.nansum(np.maximum(gap, 0.0)))
    return found


def _values(made: Walk, index: int, steps: Array, box: Array) -> Array:
    """The trajectory's values of a whole node, float64 (1, *shape)."""
    known = made.bounds[index]
    values = known.centre[box[:1]].reshape(1, -1).copy()
    # A dead neuron that was left out of the rows stands at its centre, below 0.
    readers = made.network.consumers[index]
    keep = made.descent.tables.columns(readers[0]) if len(readers) == 1 else None
    if keep is not None and steps.shape[1] == len(keep):
        values[:, keep] += steps
    else:
        values += steps
    whole: Array = values.reshape(1, *made.network.nodes[index].shape)
    return whole
