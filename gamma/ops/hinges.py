"""Lines of a ReLU whose lower slopes are free: alpha-CROWN's (Xu et al. 2021), a slope per row.

The lines above, and the prices of floating point, are those of `gamma.ops.tables.diagonal`.
Shapes: B tables (one per box), R rows, ``box`` (R,) the table of each row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import UNIT, LinearCharge, outward_constant
from gamma.ops.tables import Precision, compiled_inputs, diagonal, underflow_loss
from gamma.tensor import kernels

if TYPE_CHECKING:
    from gamma.ops.elementwise import Elementwise

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Of a step of Adam's, as `kernels.ascend` takes them.
Factors = tuple[float, float, float, float, float]


class Hinge(Frozen, eq=True):
    """Lines of a ReLU whose lower slopes are free, per box: (B, size).

    What a lower slope s in [0, 1] costs and adds is at least ``base + s·gain``: both ends of that
    segment are proved, and what is charged is convex in s.

    Attributes:
        free: 1 for neurons that cross 0, else 0, in the rows' dtype. fixed: the operator's own
            slope, which the others have. centre: of the input, in the rows' dtype.
        assumed: makes `sides`, which only rows that assume something need.
    """

    free: Array
    fixed: Array
    base: Float64
    gain: Float64
    upper_slope: Array
    upper_const: Float64
    centre: Array
    loss: Float64
    assumed: Callable[[], tuple[Float64, ...]]

    @cached_property
    def sides(self) -> tuple[Float64, ...]:
        """Constants of the lines of neurons assumed to be <= 0, then of those assumed to be >= 0:
        for positive rows, and for negative ones."""
        return self.assumed()

    @property
    def parts(self) -> tuple[Float64, Float64, Array, Float64]:
        """The tables as the kernels take them."""
        return self.base, self.gain, self.upper_slope, self.upper_const

    def rows(self, slope: Array, box: Indices, assumed: Phases | None = None) -> HingeRows:
        """The lines with a lower slope in [0, 1] for each row, (R, size)."""
        slope = np.clip(slope, 0, 1).astype(self.fixed.dtype, copy=False)
        return HingeRows(self, np.where(self.free[box] > 0, slope, self.fixed[box]), assumed)

    def rows_alike(self, slope: Float64, box: Indices) -> HingeRows:
        """As `rows`, of slopes (B, size) that the rows of a box share at first."""
        return HingeRows(self, self.alike(slope)[box])

    def alike(self, slope: Float64) -> Array:
        """Slopes (B, size) where they are free, clipped to [0, 1]."""
        own = np.clip(slope, 0, 1).astype(self.fixed.dtype, copy=False)
        found: Array = np.where(self.free > 0, own, self.fixed)
        return found


class Phases(Frozen, eq=True):
    """ReLUs of which rows assume a side of 0: entries (row, column), none of them twice.

    Attributes:
        row, column: int64 (n,). active: bool (n,), the input is >= 0 there, else <= 0.
    """

    row: Indices
    column: Indices
    active: npt.NDArray[np.bool_]


class HingeRows(Frozen, eq=True):
    """`Hinge` with the slopes of some rows, (R, size) in their dtype: `fixed` where not `free`.

    Where a row assumes a side of 0, the ReLU is the identity or 0, whatever its slope.
    """

    lines: Hinge
    slope: Array
    assumed: Phases | None = None

    @property
    def loss(self) -> Float64:
        return self.lines.loss

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        if self.assumed is None:
            kernels.relax_own_rows(rows, d, box, self.slope, *self.lines.parts)
            return (rows,)
        at = self.assumed.row, self.assumed.column
        taken = rows[at]
        rows[at] = 0
        kernels.relax_own_rows(rows, d, box, self.slope, *self.lines.parts)
        rows[at] = np.where(self.assumed.active, taken, 0)
        constant = self._side(taken, box)
        added = np.zeros_like(d)
        np.add.at(added, self.assumed.row, taken * constant)
        d += added
        return (rows,)

    def _side(self, taken: Array, box: Indices) -> Float64:
        """Constants of the assumed lines for coefficients (n,)."""
        assert self.assumed is not None
        at = box[self.assumed.row], self.assumed.column
        off_low, off_high, on_low, on_high = (side[at] for side in self.lines.sides)
        low = np.where(self.assumed.active, on_low, off_low)
        return np.where(taken >= 0, low, np.where(self.assumed.active, on_high, off_high))

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        x = np.ascontiguousarray(inputs[0], rows.dtype)
        found = kernels.own_lines(rows, x, box, self.slope, *self.lines.parts)
        if self.assumed is not None:
            at = self.assumed.row, self.assumed.column
            found[at] = np.where(self.assumed.active, x[at], 0) + self._side(rows[at], box)
        return found

    def ascend(
        self, rows: Array, x: Array, box: Indices, memory: tuple[Array, Array], factors: Factors
    ) -> None:
        """Move the slopes, in place, a step of Adam's up the gradients at trajectories ``x``."""
        x = np.ascontiguousarray(x, rows.dtype)
        lines = self.lines
        kernels.ascend(rows, x, box, lines.centre, lines.free, *memory, self.slope, factors)


def hinge(
    op: Elementwise,
    bounds: NodeBounds,
    inside: NodeBounds,
    how: Precision,
    carried: LinearCharge | None = None,
    keep: Array | None = None,
) -> Hinge:
    """`Hinge` of a ReLU, of the neurons ``keep`` alone when given; else as `diagonal`.

    Where a neuron is not free, its lines are the operator's own.
    """
    batch = len(inside.lower)
    centre, after = inside.centre.reshape(batch, -1), bounds.centre.reshape(batch, -1)
    zero = np.zeros_like(centre)
    charge = zero if carried is None else 1.01 * carried.weight.reshape(batch, -1)

    def noise() -> Float64:
        return op.stray(inside).reshape(batch, -1) if how.guarantee == "float32" else zero

    def assumed() -> tuple[Float64, ...]:
        # Nothing is rounded where a row is kept or dropped as it is.
        sides = (
            outward_constant(line, sign * noise(), after, weight, sign)
            for line, weight in ((zero, zero), (centre, charge))
            for sign in (-1.0, 1.0)
        )
        return tuple(side if keep is None else side[:, keep] for side in sides)

    if how.guarantee == "real" or not inside.unbounded:
        done = _compiled(bounds, inside, how.dtype, carried, keep, assumed)
        if done is not None:
            return done
    own = diagonal(op, bounds, inside, how, carried)
    lower, upper, radius = (
        part.reshape(batch, -1) for part in (inside.lower, inside.upper, inside.radius)
    )
    free = (lower < 0) & (upper > 0) & np.isfinite(radius)
    # A slope between 0 and 1 is rounded when it meets a row.
    weight = charge + (1.01 * UNIT[how.dtype]) * radius * (1 + 2.0**-40)
    base = outward_constant(zero, -noise(), after, zero, -1.0)
    top = outward_constant(centre, -noise(), after, weight, -1.0)
    gain = np.where(free, top - base, 0.0)
    base = base - 2.0**-49 * (abs(base) + abs(top))
    parts: tuple[Array, ...] = (
        free.astype(how.dtype),
        own.lower_slope,
        np.where(free, base, own.lower_const),
        gain,
        own.upper_slope,
        own.upper_const,
        centre.astype(how.dtype),
    )
    if keep is not None:
        parts = tuple(np.ascontiguousarray(p[:, keep]) for p in parts)
    free, fixed, base, gain, slope, above, middle = parts
    return Hinge(free, fixed, base, gain, slope, above, middle, own.loss, assumed)


def _compiled(
    bounds: NodeBounds,
    inside: NodeBounds,
    dtype: np.dtype[Any],
    carried: LinearCharge | None,
    keep: Array | None,
    assumed: Callable[[], tuple[Float64, ...]],
) -> Hinge | None:
    """`hinge` in one call of the C library."""
    if not tuning.enabled("fused_layers"):
        return None
    given, factors = compiled_inputs(bounds, inside, dtype, carried)
    done = kernels.hinge_tables(*given, keep, dtype, factors)
    if done is None:
        return None
    (fixed, upper, free, middle), (below, above, gain), total = done
    loss = underflow_loss(total, dtype, carried)
    return Hinge(free, fixed, below, gain, upper, above, middle, loss, assumed)
