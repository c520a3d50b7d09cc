"""Bounds of rows of which only the sign matters: those that are decided early stop early."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gamma.propagate.rows.block import Frontier
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.opposite import follow, known
from gamma.propagate.rows.own import Own

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
OneSided = Callable[..., tuple[Float64, Float64]]
"""`signs` or `one_end`."""


def signs(
    descent: Descent,
    frontier: Frontier,
    d: Float64,
    opposite: Float64,
    box: Indices,
    above: int,
    check: Callable[[], None] | None = None,
) -> tuple[Float64, Float64]:
    """Sound lower bounds (rows,) of rows and of their negatives; arguments are overwritten.

    Rows that the intervals at the first nonlinear node prove to be above 0 end there: what is
    behind it is the widest part of many networks, and changes few signs. The first ``above`` go on:
    ends of neurons that are active are read behind these.
    """
    first = descent.tables.first
    descent.down(frontier, d, box, check, Own(opposite=opposite), first + 1)
    if frontier.keys() != {first}:
        descent.down(frontier, d, box, check, Own(opposite=opposite))
        return known(d), known(opposite)
    rows, near, far = frontier.pop(first), d.copy(), opposite.copy()
    with np.errstate(all="ignore"):
        descent.concretise(first, rows, near, box)
        follow(far, near, d)
    left = np.flatnonzero(~(near >= 0) | (np.arange(len(d)) < above))
    if len(left):
        rows = rows if len(left) == len(d) else rows.take(left)
        d, opposite = d[left], opposite[left]
        descent.down({first: rows}, d, box[left], check, Own(opposite=opposite))
        near[left], far[left] = np.fmax(near[left], d), np.fmax(far[left], opposite)
    return known(near), known(far)


def one_end(
    descent: Descent,
    frontier: Frontier,
    d: Float64,
    opposite: Float64,
    box: Indices,
    above: int,
    check: Callable[[], None] | None = None,
) -> tuple[Float64, Float64]:
    """Like `signs` of rows whose negatives are bounded already: nothing is known of these."""
    return descent.run(frontier, d, box, check), np.full(len(d), -np.inf)
