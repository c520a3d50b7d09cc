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

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma import tuning
from gamma.frozen import Frozen
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


class Precision(Frozen, eq=True):
    """What the bounds promise and the type that rows are multiplied in.

    Attributes:
        guarantee: "real" or "float32". dtype: of the coefficient rows.
    """

    guarantee: str = "real"
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))


class NodeSlopes(Frozen, eq=True):
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


class Diagonal(Frozen, eq=True):
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
        done = _compiled(None, bounds, inside, dtype, carried)
        if done is not None:
            return done
    if (slopes is None or default) and op.compiled:
        from gamma.ops.parallel import lines_of

        lines = lines_of(op, inside, bounds, dtype)
    elif slopes is None or default:
        lines = op.lines(inside.lower, inside.upper, dtype)
    else:
        lines = op.lines_of(slopes, inside.lower, inside.upper, dtype)
    low_intercept, high_intercept = lines.lower_intercept, lines.upper_intercept
    if how.guarantee == "float32":
        noise = op.stray(inside)
        low_intercept, high_intercept = low_intercept - noise, high_intercept + noise
    if tuning.enabled("fused_layers"):
        four = lines.lower_slope, low_intercept, lines.upper_slope, high_intercept
        done = _compiled(four, bounds, inside, dtype, carried)
        if done is not None:
            return done
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


def _compiled(
    lines: tuple[Float64, Float64, Float64, Float64] | None,
    bounds: NodeBounds,
    inside: NodeBounds,
    dtype: np.dtype[Any],
    carried: LinearCharge | None,
) -> Diagonal | None:
    """`diagonal` in one call of the C library: of a ReLU, or of lines (slope, intercept; below and
    above)."""
    four = None
    if lines is not None:
        low, below, high, above = _flat(*lines)
        four = low, below, high, above
    given, factors = compiled_inputs(bounds, inside, dtype, carried)
    done = kernels.line_tables(four, *given, dtype, factors)
    if done is None:
        return None
    slopes, constants, total = done
    loss = underflow_loss(total, dtype, carried)
    return Diagonal(slopes[0], slopes[1], constants[0], constants[1], loss)


def compiled_inputs(
    bounds: NodeBounds, inside: NodeBounds, dtype: np.dtype[Any], carried: LinearCharge | None
) -> tuple[tuple[Float64, Float64, Float64, Float64, Float64 | None], tuple[float, float]]:
    """What the kernels that make tables take: ends, centres and charge, flat; factors."""
    lower, upper, centre, after = _flat(inside.lower, inside.upper, inside.centre, bounds.centre)
    charge = None if carried is None else carried.weight.reshape(after.shape)
    factors = rounding.gamma_factor(after.shape[1] + 8, np.float64), 1.01 * UNIT[dtype]
    return (lower, upper, centre, after, charge), factors


def underflow_loss(total: Float64, dtype: np.dtype[Any], carried: LinearCharge | None) -> Float64:
    """What rows lose at a node, of their kernels' sums of radii and charges."""
    loss: Float64 = 2 * UNDERFLOW[dtype] * total + TINY
    return loss if carried is None else loss + carried.loss


def _flat(*parts: Float64) -> list[Float64]:
    return [np.ascontiguousarray(p).reshape(len(p), p[0].size) for p in parts]


def add_constants(
    up: Array, down: Array, d: Float64, box: Indices, lower_const: Float64, upper_const: Float64
) -> None:
    """d (R,) plus the constants of the lines: below for rows >= 0 (``up``), above for ``down``."""
    kernels.dot_rows(up, d, box, lower_const)
    d -= abs(d) * 2.0**-50 + TINY
    kernels.dot_rows(down, d, box, upper_const)


class Pick(Frozen, eq=True):
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
