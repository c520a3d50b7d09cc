"""Lines of one slope on both sides of a smooth function, where they cost nothing.

A row and its negative choose different lines of every neuron, so that both have to go down. Where
the lines are parallel they have the same coefficients, and go as one
(`gamma.propagate.rows.opposite`). On a convex or concave piece the chord and the tangent parallel
to it leave a strip no higher, to third order of its length, than chord and tangent at the middle;
across an inflection it grows, so each box decides for a whole layer; where a layer has further
axes, each position for itself, however positions are cut. Dense networks that are walked in one
call have both kinds of lines, and decide for the rows of each layer (`csrc/simd/parallel.inc`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.bounds import NodeBounds
from gamma.ops.relaxation import PARALLEL, Lines, compiled_parallel
from gamma.ops.tables import NodeSlopes

if TYPE_CHECKING:
    from gamma.ops.elementwise import Elementwise

Float64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Entries of a node whose lines are kept with its bounds, for other tables over them.
_KEPT = 1 << 14


def lines_of(
    op: Elementwise, inside: NodeBounds, after: NodeBounds, dtype: np.dtype[np.floating]
) -> Lines:
    """Lines of every neuron on ``inside``, parallel ones for the boxes where these are as good.

    ``after`` are the bounds of what the function makes of it.
    """
    if inside.lines is not None:
        known, made, kept = inside.lines
        if known is op and made == dtype:
            found: Lines = kept
            return found
    lines = _lines(op, inside, after, dtype)
    if inside.lower.size <= _KEPT:
        inside.lines = op, dtype, lines
    return lines


def _lines(
    op: Elementwise, inside: NodeBounds, after: NodeBounds, dtype: np.dtype[np.floating]
) -> Lines:
    if not tuning.enabled("parallel_lines") or inside.lower.ndim == 1:
        return op.lines(inside.lower, inside.upper, dtype)
    ends = after.lower, after.upper
    done = compiled_parallel(op, inside.lower, inside.upper, ends, dtype)
    if done is not None:
        return done
    return _parallel(op, inside, after, op.lines(inside.lower, inside.upper, dtype), dtype)


def _parallel(
    op: Elementwise,
    inside: NodeBounds,
    after: NodeBounds,
    own: Lines,
    dtype: np.dtype[np.floating],
) -> Lines:
    with np.errstate(all="ignore"):
        ranged = (after.upper - after.lower).sum(axis=-1, keepdims=True)
        # Lines of other slopes take as long to find as the best ones did.
        apart = abs(own.upper_slope - own.lower_slope) * (0.5 * (inside.upper - inside.lower))
        chosen = apart.sum(axis=-1, keepdims=True) <= PARALLEL[0] * ranged
    if not chosen.any():
        return own
    other, first, more = _strips(op, inside.lower, inside.upper, own, dtype)
    chosen &= more.sum(axis=-1, keepdims=True) <= PARALLEL[1] * ranged
    if not chosen.any():
        return own
    below, above = chosen & ~first, chosen & first
    return Lines(
        np.where(below, own.upper_slope, own.lower_slope),
        np.where(below, other.lower_intercept, own.lower_intercept),
        np.where(above, own.lower_slope, own.upper_slope),
        np.where(above, other.upper_intercept, own.upper_intercept),
    )


def _strips(
    op: Elementwise, lower: Float64, upper: Float64, own: Lines, dtype: np.dtype[np.floating]
) -> tuple[Lines, Flags, Float64]:
    """Lines of the other's slope; whether the lower slope serves both better; by how much the strip
    is then higher than the gap of ``own`` lines at the middle."""
    # The best slope is one of both: where one line is a chord that of the chord, and across an
    # inflection that of the line which follows the hull.
    crossed = NodeSlopes(own.upper_slope, own.lower_slope)
    other = op.lines_of(crossed, lower, upper, dtype)
    with np.errstate(all="ignore"):
        low = np.where(
            other.upper_slope == own.lower_slope,
            other.upper_intercept - own.lower_intercept,
            np.inf,
        )
        high = np.where(
            other.lower_slope == own.upper_slope,
            own.upper_intercept - other.lower_intercept,
            np.inf,
        )
        first = low <= high
        gap = (own.upper_slope - own.lower_slope) * (0.5 * (lower + upper))
        gap += own.upper_intercept - own.lower_intercept
        return other, first, np.where(first, low, high) - gap
