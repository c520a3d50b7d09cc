"""Linear relaxations as a backward walk uses them: tables of slopes and constants per box.

An operator proves lines (or planes) on its inputs' bounds; a table adds the centres of both sides
and what floating point will cost, so that passing a row is two products (`gamma.ops.charges` and
docs/numerics.md derive the terms). A table knows the way back, from rows over the operator's output
to rows over its inputs, and the way forward: the value that the row's choice of lines has at a
point, which gradients need (docs/architecture.md, "The forward sweep").

Shapes: B tables (one per box, or one per row when slopes belong to rows), R rows, ``box`` (R,) the
table of each row. Slopes are in the rows' dtype, constants float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import (
    TINY,
    UNDERFLOW,
    UNIT,
    LinearCharge,
    outward_constant,
    sum_up,
)
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.elementwise import Elementwise
    from gamma.ops.pooling import ReduceMax

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Of a step of Adam's, as `kernels.ascend` takes them.
Factors = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Precision:
    """What the bounds promise and the type that rows are multiplied in.

    Attributes:
        guarantee: "real" or "float32". dtype: of the coefficient rows.
    """

    guarantee: str = "real"
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))


@dataclass(frozen=True)
class NodeSlopes:
    """Slopes of one node's lines; any finite number is valid, the intercept is proved for it.

    Attributes:
        lower, upper: (B, size) or (rows, size) float64; None: the operator's own choice. For an
            operator of several inputs the last axis has the inputs' slopes one after the other.
    """

    lower: Float64 | None = None
    upper: Float64 | None = None


class Relaxation(Protocol):
    """The linear relaxation of one node.

    Attributes:
        loss: float64 (B,), subtracted once per row: what underflow may cost.
    """

    @property
    def loss(self) -> Float64: ...

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        """Rows (R, size) over the output to rows (R, input size), one part per input.

        ``d`` (R,) gets the constants, ``loss`` and the additions to d excepted; ``rows`` may be
        overwritten.
        """

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        """The lines that ``rows`` chose, at points (R, input size) about the inputs' centres.

        ``rows`` are those that `back` was given. Returns (R, size), about the output's centre.
        """


@dataclass(frozen=True)
class Diagonal:
    """Lines of an elementwise node: slopes and constants (B, size)."""

    lower_slope: Array
    upper_slope: Array
    lower_const: Float64
    upper_const: Float64
    loss: Float64

    @property
    def parts(self) -> tuple[Array, Array, Float64, Float64]:
        """The tables as the kernels take them."""
        return self.lower_slope, self.upper_slope, self.lower_const, self.upper_const

    def columns(self, keep: Array) -> Diagonal:
        """The tables of the neurons ``keep`` alone."""
        low, high, below, above = (np.ascontiguousarray(p[:, keep]) for p in self.parts)
        return Diagonal(low, high, below, above, self.loss)

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        kernels.relax_rows(rows, d, box, *self.parts)
        return (rows,)

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        (x,) = inputs
        low, high, below, above = (p[box] for p in self.parts)
        return np.where(rows >= 0, low * x + below, high * x + above)


@dataclass(frozen=True)
class Hinge:
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
        own = np.clip(slope, 0, 1).astype(self.fixed.dtype, copy=False)
        return HingeRows(self, np.where(self.free > 0, own, self.fixed)[box])


@dataclass(frozen=True)
class Phases:
    """ReLUs of which rows assume a side of 0: entries (row, column), none of them twice.

    Attributes:
        row, column: int64 (n,). active: bool (n,), the input is >= 0 there, else <= 0.
    """

    row: Indices
    column: Indices
    active: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HingeRows:
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
    own = diagonal(op, bounds, inside, how, carried)
    batch = len(inside.lower)
    lower, upper, centre, radius, after = (
        part.reshape(batch, -1)
        for part in (inside.lower, inside.upper, inside.centre, inside.radius, bounds.centre)
    )
    free = (lower < 0) & (upper > 0) & np.isfinite(radius)
    zero = np.zeros_like(centre)
    noise = op.stray(inside).reshape(batch, -1) if how.guarantee == "float32" else zero
    weight = zero if carried is None else 1.01 * carried.weight.reshape(batch, -1)
    # A slope between 0 and 1 is rounded when it meets a row.
    weight = weight + (1.01 * UNIT[how.dtype]) * radius * (1 + 2.0**-40)
    base = outward_constant(zero, -noise, after, zero, -1.0)
    top = outward_constant(centre, -noise, after, weight, -1.0)
    gain = np.where(free, top - base, 0.0)
    base = base - 2.0**-49 * (abs(base) + abs(top))
    # Nothing is rounded where a row is kept or dropped as it is.
    weight = zero if carried is None else 1.01 * carried.weight.reshape(batch, -1)

    def assumed() -> tuple[Float64, ...]:
        sides = (
            outward_constant(line, sign * noise, after, charge, sign)
            for line, charge in ((zero, zero), (centre, weight))
            for sign in (-1.0, 1.0)
        )
        return tuple(side if keep is None else side[:, keep] for side in sides)

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


def diagonal(
    op: Elementwise,
    bounds: NodeBounds,
    inside: NodeBounds,
    how: Precision,
    carried: LinearCharge | None = None,
    slopes: NodeSlopes | None = None,
) -> Diagonal:
    """Tables of an elementwise node; ``inside`` are its input's bounds.

    ``carried`` is the charge of a linear input that this node alone reads.
    """
    dtype = how.dtype
    default = slopes is None or (slopes.lower is None and slopes.upper is None)
    plain = op.hinge and (how.guarantee == "real" or not inside.unbounded)
    if default and plain and tuning.enabled("fused_layers"):
        done = _relu_tables(bounds, inside, dtype, carried)
        if done is not None:
            return done
    if slopes is None or default:
        lines = op.lines(inside.lower, inside.upper, dtype)
    else:
        lines = op.lines_of(slopes, inside.lower, inside.upper, dtype)
    low_intercept, high_intercept = lines.lower_intercept, lines.upper_intercept
    if how.guarantee == "float32":
        noise = op.stray(inside)
        low_intercept, high_intercept = low_intercept - noise, high_intercept + noise
    radius = inside.radius
    batch = len(radius)
    tables = []
    for slope, intercept, sign in (
        (lines.lower_slope, low_intercept, -1.0),
        (lines.upper_slope, high_intercept, 1.0),
    ):
        size = abs(slope)
        charge = np.where((size == 0) | (size == 1), 0.0, size * (1.01 * UNIT[dtype]) * radius)
        if carried is not None:
            charge = charge + size * 1.01 * carried.weight.reshape(radius.shape)
        tables.append(
            outward_constant(slope * inside.centre, intercept, bounds.centre, charge, sign)
        )
    loss = 2 * UNDERFLOW[dtype] * sum_up(radius) + TINY
    if carried is not None:
        loss = (
            loss
            + carried.loss
            + 2 * UNDERFLOW[dtype] * sum_up(carried.weight.reshape(radius.shape))
        )
    flat = [np.ascontiguousarray(t.reshape(batch, -1)) for t in tables]
    cast = [
        np.ascontiguousarray(s.reshape(batch, -1), dtype=dtype)
        for s in (lines.lower_slope, lines.upper_slope)
    ]
    return Diagonal(cast[0], cast[1], flat[0], flat[1], loss)


def _relu_tables(
    bounds: NodeBounds, inside: NodeBounds, dtype: np.dtype[Any], carried: LinearCharge | None
) -> Diagonal | None:
    """`diagonal` of a ReLU in one call of the C library."""
    batch = len(inside.lower)
    n = inside.lower[0].size
    dot = rounding.gamma_factor(n + 8, np.float64)
    flat = [
        np.ascontiguousarray(part).reshape(batch, n)
        for part in (inside.lower, inside.upper, inside.centre, bounds.centre)
    ]
    charge = None if carried is None else carried.weight
    done = kernels.relu_tables(
        flat[0], flat[1], flat[2], flat[3], charge, dtype, (dot, 1.01 * UNIT[dtype])
    )
    if done is None:
        return None
    slopes, constants, total = done
    loss = 2 * UNDERFLOW[dtype] * total + TINY
    if carried is not None:
        loss = loss + carried.loss
    return Diagonal(slopes[0], slopes[1], constants[0], constants[1], loss)


def add_constants(
    up: Array, down: Array, d: Float64, box: Indices, lower_const: Float64, upper_const: Float64
) -> None:
    """d (R,) plus the constants of the lines: below for rows >= 0 (``up``), above for ``down``."""
    kernels.dot_rows(up, d, box, lower_const)
    d -= abs(d) * 2.0**-50 + TINY
    kernels.dot_rows(down, d, box, upper_const)


@dataclass(frozen=True)
class Pick:
    """Lines of a maximum: see `gamma.ops.pooling.MaxLines`, constants as in `Diagonal`.

    Attributes:
        pick: int64 (B, outer), the entry that bounds from below.
        slope: (B, outer, k) of the line above. shapes: of the node and of its input.
    """

    op: ReduceMax
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    pick: Array
    slope: Array
    lower_const: Float64
    upper_const: Float64
    loss: Float64

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        up, down = np.maximum(rows, 0), np.minimum(rows, 0)
        add_constants(up, down, d, box, self.lower_const, self.upper_const)
        spread = down[:, :, None] * self.slope[box]
        pick = self.pick[box]
        taken = np.take_along_axis(spread, pick[:, :, None], axis=2)
        # Where the row is positive the slopes' part is zero, so this sum is exact.
        np.put_along_axis(spread, pick[:, :, None], taken + up[:, :, None], axis=2)
        node, source = self.shapes
        k = self.slope.shape[-1]
        back = self.op._back(spread.reshape(len(rows), *node, k), len(source) + 1)
        return (back.reshape(len(rows), -1),)

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        source = self.shapes[1]
        last = self.op._last(inputs[0].reshape(len(rows), *source))
        entries = last.reshape(len(rows), -1, self.slope.shape[-1])
        low = np.take_along_axis(entries, self.pick[box][:, :, None], axis=2)[..., 0]
        high = (entries * self.slope[box]).sum(axis=2)
        return np.where(rows >= 0, low + self.lower_const[box], high + self.upper_const[box])


def picked(op: ReduceMax, bounds: NodeBounds, inside: NodeBounds, how: Precision) -> Pick:
    """Tables of a ReduceMax node."""
    dtype = how.dtype
    lines = op.lines(inside.lower, inside.upper, dtype)
    centre, radius = op._last(inside.centre), op._last(inside.radius)
    batch = len(centre)
    chosen = np.take_along_axis(centre, lines.pick[..., None], axis=-1)[..., 0]
    zero = np.zeros_like(chosen)
    lower = outward_constant(chosen, zero, bounds.centre, zero, -1.0)
    k = lines.slope.shape[-1]
    heights = lines.slope * centre
    line = heights.sum(axis=-1)
    charge = (abs(lines.slope) * radius).sum(axis=-1) * (1.01 * UNIT[dtype])
    charge = charge + abs(heights).sum(axis=-1) * rounding.gamma_factor(k + 4, np.float64)
    upper = outward_constant(line, lines.intercept, bounds.centre, charge * (1 + 2.0**-40), 1.0)
    if how.guarantee == "float32":
        noise = op.stray(inside)
        lower, upper = lower - noise, upper + noise
    loss = 2 * UNDERFLOW[dtype] * sum_up(radius) * k + TINY
    return Pick(
        op,
        (bounds.lower.shape[1:], inside.lower.shape[1:]),
        lines.pick.reshape(batch, -1),
        np.ascontiguousarray(lines.slope.reshape(batch, -1, k), dtype=dtype),
        np.ascontiguousarray(lower.reshape(batch, -1)),
        np.ascontiguousarray(upper.reshape(batch, -1)),
        loss,
    )
