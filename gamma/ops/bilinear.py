"""Planes about products of two variables on a box (McCormick 1976), and rows that pass them.

For any slopes (s, t) and centres c,

    x·y >= s·(x - c_x) + t·(y - c_y) + m,
    m = min over the box's corners of x·y - s·(x - c_x) - t·(y - c_y),

because this difference is bilinear: its extremes on a box are at corners. So slopes are free, and
only m has to be rounded down. McCormick's two planes below have the slopes (y_l, x_l) and
(y_u, x_u); the one through the middle, (c_y, c_x), is their mean. Above: mirror y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, UNDERFLOW, outward_constant, sum_up
from gamma.ops.tables import NodeSlopes, add_constants
from gamma.tensor import rounding

if TYPE_CHECKING:
    from gamma.ops.products import Product

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pair = tuple[Array, Array]
FORWARD_TERMS = 1 << 20
"""Terms of all rows that `Planes.forward` takes at once."""


class Planes(Frozen, eq=True):
    """Planes of every term of a product: slopes that broadcast to (B, *terms), constants (B, size).

    Attributes:
        shapes: of the inputs and of the node. lower, upper: slopes in x and in y.
    """

    op: Product
    shapes: tuple[tuple[int, ...], ...]
    lower: Pair
    upper: Pair
    lower_const: Float64
    upper_const: Float64
    loss: Float64

    def back(self, rows: Array, d: Float64, box: Indices) -> tuple[Array, ...]:
        up, down = np.maximum(rows, 0), np.minimum(rows, 0)
        add_constants(up, down, d, box, self.lower_const, self.upper_const)
        whole, up, down = (r.reshape(len(rows), *self.shapes[2]) for r in (rows, up, down))
        parts = []
        for which, (low, high, shape) in enumerate(
            zip(self.lower, self.upper, self.shapes[:2], strict=True)
        ):
            if low is high:
                part = self.op.back(which, whole, low, box, shape)
            else:
                part = self.op.back(which, up, low, box, shape)
                part = part + self.op.back(which, down, high, box, shape)
            parts.append(part.reshape(len(rows), -1))
        return tuple(parts)

    def forward(self, rows: Array, inputs: tuple[Array, ...], box: Indices) -> Array:
        terms = self.op.term_count(*self.shapes[:2])
        step = max(1, FORWARD_TERMS // terms)
        parts = []
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            points = (x[part].reshape(-1, *s) for x, s in zip(inputs, self.shapes, strict=False))
            parts.append(self._chosen(rows[part], *self.op.factors(*points), box[part]))
        return np.concatenate(parts) if parts else rows

    def _chosen(self, rows: Array, x: Array, y: Array, box: Indices) -> Array:
        low, high = (
            sum(
                self.op.total(s * u + t * v)
                for s, t, u, v in self.op.blocks(slopes[0][box], slopes[1][box], x, y)
            )
            for slopes in (self.lower, self.upper)
        )
        low, high = (np.reshape(part, rows.shape) for part in (low, high))
        return np.where(rows >= 0, low + self.lower_const[box], high + self.upper_const[box])


class Side(Frozen, eq=True):
    """One factor of each term: arrays that broadcast to the terms."""

    lower: Float64
    upper: Float64
    centre: Float64
    radius: Float64

    def mirrored(self) -> Side:
        """Of the negated factor."""
        return Side(-self.upper, -self.lower, -self.centre, self.radius)

    @property
    def parts(self) -> tuple[Float64, Float64, Float64, Float64]:
        """The four arrays."""
        return self.lower, self.upper, self.centre, self.radius


def per_term(
    op: Product,
    inputs: Sequence[NodeBounds],
    centre: Float64,
    dtype: np.dtype[Any],
    noise: Float64 | float,
    slopes: NodeSlopes | None,
) -> Planes:
    """Every term's own best plane, or the planes with the given slopes.

    ``noise`` is how far an execution may lie from the product.
    """
    (x_low, y_low), (x_high, y_high), (x_mid, y_mid), (x_far, y_far) = (
        op.factors(*parts)
        for parts in zip(*((b.lower, b.upper, b.centre, b.radius) for b in inputs), strict=True)
    )
    x, y = Side(x_low, x_high, x_mid, x_far), Side(y_low, y_high, y_mid, y_far)
    factors, loss = _costs(op, inputs, dtype)
    made = []
    for sign, side, given in (
        (-1.0, y, slopes.lower if slopes else None),
        (1.0, y.mirrored(), slopes.upper if slopes else None),
    ):
        own = () if given is None else _given(op, inputs, given, -sign)
        planes = [
            _below(Side(*parts[:4]), Side(*parts[4:8]), parts[8:], dtype, factors)
            for parts in op.blocks(*x.parts, *side.parts, *own)
        ]
        values = [op.total(value) for _, _, value, _ in planes]
        size = sum(op.total(abs(value)) for _, _, value, _ in planes)
        charge = noise + sum(op.total(cost) for *_, cost in planes)
        k = op.summed(inputs[0].lower.shape[1:])
        many = rounding.gamma_factor(2 * k + 8, np.float64) if k > 1 else 0.0
        charge = np.asarray((charge + many * size) * (1 + many) * (1 + 2.0**-40))
        line: Float64 = -sign * sum(values[1:], values[0])
        bent = op.joined([-sign * s for s, *_ in planes]), op.joined([t for _, t, *_ in planes])
        made.append((bent, _constant(line, centre, charge, sign)))
    (lower, low), (upper, high) = made
    cast = [tuple(np.ascontiguousarray(s, dtype=dtype) for s in pair) for pair in (lower, upper)]
    shapes = tuple(b.lower.shape[1:] for b in inputs) + (centre.shape[1:],)
    return Planes(op, shapes, (cast[0][0], cast[0][1]), (cast[1][0], cast[1][1]), low, high, loss)


def _given(op: Product, inputs: Sequence[NodeBounds], slopes: Float64, sign: float) -> Pair:
    """Slopes (B, 2·terms), those in x first, as terms; ``sign`` is -1 where y is mirrored."""
    terms = op.term_shape(*(b.lower.shape[1:] for b in inputs))
    pair = slopes.reshape(len(slopes), 2, *terms)
    return sign * pair[:, 0], pair[:, 1]


def _below(
    x: Side, y: Side, given: Sequence[Array], dtype: np.dtype[Any], factors: tuple[float, float]
) -> tuple[Array, Array, Float64, Float64]:
    """Slopes in x and y, the constant m of the plane below x·y, and what its slopes cost.

    Of the middle plane and McCormick's two the one whose least value on the box is greatest.
    """
    choices = [given] if given else [(y.centre, x.centre), (y.lower, x.lower), (y.upper, x.upper)]
    s, t, value = _plane(x, y, choices[0], dtype)
    best = value - abs(s) * x.radius - abs(t) * y.radius
    for choice in choices[1:]:
        s_new, t_new, found = _plane(x, y, choice, dtype)
        least = found - abs(s_new) * x.radius - abs(t_new) * y.radius
        # Near ties go to the plane through the middle, the mean of both others.
        better = least > best + 2.0**-40 * (abs(least) + abs(best))
        s, t, value, best = (
            np.where(better, new, old)
            for new, old in ((s_new, s), (t_new, t), (found, value), (least, best))
        )
    return s, t, value, factors[0] * abs(s) * x.radius + factors[1] * abs(t) * y.radius


def _plane(
    x: Side, y: Side, slopes: Sequence[Array], dtype: np.dtype[Any]
) -> tuple[Array, Array, Float64]:
    """Slopes as rows have them, and m for these, rounded down."""
    s, t = np.broadcast_arrays(*(_as_rows(part, dtype) for part in slopes))
    least = np.asarray(np.inf)
    for a in (x.lower, x.upper):
        for b in (y.lower, y.upper):
            product, left, right = a * b, s * (a - x.centre), t * (b - y.centre)
            size = abs(product) + abs(left) + abs(right)
            least = np.minimum(least, product - left - right - 2.0**-50 * size)
    return s, t, least


def _as_rows(slope: Array, dtype: np.dtype[Any]) -> Float64:
    """A slope rounded to the rows' type; any finite number is valid."""
    cast = slope.astype(dtype).astype(np.float64)
    return np.where(np.isfinite(cast), cast, 0.0)


def through_the_middle(
    op: Product,
    inputs: Sequence[NodeBounds],
    centre: Float64,
    dtype: np.dtype[Any],
    noise: Float64 | float,
) -> Planes:
    """The plane with slopes (c_y, c_x) for every term, by products of matrices.

    With rounded slopes (s, t) a term differs from it by (c_y - s)(x - c_x) + (c_x - t)(y - c_y)
    + (x - c_x)(y - c_y).
    """
    x, y = inputs
    s, t = _as_rows(y.centre, dtype), _as_rows(x.centre, dtype)
    (gx, gy), loss = _costs(op, inputs, dtype)
    gaps = [abs(c - r) * (1 + 2.0**-50) for c, r in ((y.centre, s), (x.centre, t))]
    line = op.forward(x.centre, y.centre)
    size = op.forward(abs(x.centre), abs(y.centre))
    left = op.forward(x.radius, gaps[0] + gx * abs(s))
    right = op.forward(gaps[1] + gy * abs(t), y.radius)
    many = rounding.gamma_factor(x.lower.shape[-1] + 8, np.float64)
    reach = (left + right + op.forward(x.radius, y.radius)) * (1 + many) * (1 + 2.0**-40)
    charge: Float64 = reach + many * size * (1 + many) + noise + TINY
    low, high = (_constant(line, centre, charge, sign) for sign in (-1.0, 1.0))
    turned, upright = (p.astype(dtype) for p in op.factors(t, s))
    shapes = (x.lower.shape[1:], y.lower.shape[1:], centre.shape[1:])
    pair = upright, turned
    return Planes(op, shapes, pair, pair, low, high, loss)


def _costs(
    op: Product, inputs: Sequence[NodeBounds], dtype: np.dtype[Any]
) -> tuple[tuple[float, float], Float64]:
    """Relative errors of rows onto each input, and what underflow may lose in them."""
    shapes = [b.lower.shape[1:] for b in inputs]
    terms = op.term_count(*shapes)
    factors, loss = [], np.full(len(inputs[0].lower), TINY)
    for b in inputs:
        summed = terms // b.lower[0].size
        factors.append(rounding.gamma_factor(summed + 2, dtype) * (1 + 2.0**-40))
        loss = loss + 2 * UNDERFLOW[dtype] * summed * sum_up(b.radius)
    return (factors[0], factors[1]), loss * (1 + 2.0**-40)


def _constant(line: Float64, centre: Float64, charge: Float64, sign: float) -> Float64:
    """Constants (B, size), infinite where they are not known."""
    made = outward_constant(line, np.zeros_like(line), centre, charge, sign)
    return np.ascontiguousarray(
        np.where(np.isnan(made), sign * np.inf, made).reshape(len(made), -1)
    )
