"""Linear questions about outputs and inputs as rows of a walk, and the rows over the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNIT, inflated
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.options import Options
from gamma.propagate.rows.block import blocks_of
from gamma.propagate.rows.own import Tape
from gamma.propagate.specification import Specification
from gamma.propagate.walks import Walk, walk
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class InputRows(Frozen):
    """value_r(x) >= coefficients[r]·(x - centre[box[r]]) + constant[r] for every x of the box.

    Holds in exact arithmetic with the numbers stored here.

    Attributes:
        lower: float64 (rows,), sound lower bounds of the values, no less than the rows' own.
        coefficients: (rows, inputs). constant: float64 (rows,). centre: float64 (boxes, inputs).
        bounds: of all nodes.
    """

    lower: Float64
    coefficients: Array
    constant: Float64
    centre: Float64
    bounds: Sequence[NodeBounds]


def input_rows(
    network: Network,
    domain: Domain | Box,
    specification: Specification,
    options: Options,
    slopes: Slopes | None = None,
) -> InputRows:
    """Sound linear bounds of questions in terms of the inputs, for a batch of boxes.

    ``slopes`` (one table per box) replace the operators' own. Raises ResourceError after
    ``options.deadline``.
    """
    made = walk(network, domain, options, slopes=slopes)
    made.adopt()
    tape = Tape(inputs_only=True)
    frontier, d = question(made, specification)
    rows = blocks_of(frontier, slice(None))
    lower = made.descent.run(rows, d, specification.box, options.check, tape=tape)
    assert tape.input is not None and tape.constant is not None
    centre = made.bounds[0].centre
    flat = centre.reshape(len(centre), -1)
    return InputRows(lower, tape.input, tape.constant, flat, made.bounds)


def ask(made: Walk, part: Specification) -> Float64:
    """Lower bounds of the rows of one batch."""
    if not len(part.box):
        return np.zeros(0)
    with np.errstate(all="ignore"):
        return made.rows(*question(made, part), part.box)


def question(made: Walk, part: Specification) -> tuple[dict[int, Array], Float64]:
    """A specification as rows about centres: coefficients by node, and the constants."""
    net, dtype = made.network, made.options.dtype
    output = made.bounds[net.output]
    d = part.constant.copy()
    # Rounded rows enter the walk; what rounding dropped acts on (y - centre), the rest is exact.
    frontier: dict[int, Array] = {}
    with np.errstate(all="ignore"):
        for index, rows in ((net.output, part.output_rows), (0, part.input_rows)):
            if rows is None:
                continue
            known = output if index else made.bounds[0]
            centre = np.ascontiguousarray(known.centre.reshape(len(known.centre), -1))
            reach = np.ascontiguousarray(known.radius.reshape(centre.shape))
            wide = np.ascontiguousarray(rows, dtype=np.float64)
            narrowed = np.ascontiguousarray(wide, dtype=dtype)
            dropped = abs(wide - narrowed.astype(np.float64))
            kernels.dot_rows(wide, d, part.box, centre)
            g = rounding.gamma_factor(wide.shape[1] + 8, np.float64)
            doubt = 0.0 if part.exact else 2.0**-52
            kernels.abs_dot_rows(wide, d, part.box, abs(centre) * (g + doubt) + reach * doubt)
            if dropped.any():
                kernels.abs_dot_rows(dropped, d, part.box, inflated(reach))
            d -= abs(d) * 2.0**-50
            if index in frontier:
                frontier[index] = frontier[index] + narrowed
                weight = inflated(reach * (1.01 * UNIT[dtype]))
                kernels.abs_dot_rows(np.ascontiguousarray(frontier[index]), d, part.box, weight)
            else:
                frontier[index] = narrowed
    return frontier, d
