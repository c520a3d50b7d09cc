"""Products of two values that both depend on the input: entry by entry, and of matrices.

A matrix product is a sum of K entrywise products, so both operators share one rule: bounds of x·y
at the corners of a box, and the planes of `gamma.ops.bilinear` (McCormick 1976).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gamma.errors import UsageError
from gamma.ops import bilinear
from gamma.ops.base import Array, Cut, Float64, Operator, Shape
from gamma.ops.bilinear import Planes
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY, LinearCharge
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import product
from gamma.ops.execution import overflowed
from gamma.ops.tables import Indices, NodeSlopes, Precision
from gamma.tensor import rounding

LONG = 16
"""Times as many entries along a row of terms as rows from which on they are not transposed."""
BLOCK = 1 << 17
"""Terms at once: one megabyte for each of a dozen arrays."""
TERMS_LIMIT = 1 << 21
"""Terms of one box's matrix product up to which each has a plane of its own: above, all of them
take the plane through the middle, which needs matrix products only."""


class Product(Operator):
    """What `Mul` and `MatMul` share: sums of terms x·y.

    Terms have a shape of their own, that of the node for `Mul` and (..., I, K, J) for `MatMul`.
    """

    several = True

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Product | None:
        return self

    def factors(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Views (batch, ...) of both inputs that broadcast to the terms."""
        raise NotImplementedError

    def blocks(self, *parts: Array) -> Iterator[tuple[Array, ...]]:
        """Parts (batch, ...) that broadcast to the terms, some terms of every entry at a time."""
        raise NotImplementedError

    def joined(self, parts: list[Array]) -> Array:
        """What was made of each block, as terms (batch, ...)."""
        raise NotImplementedError

    def total(self, terms: Array) -> Array:
        """Sums of terms (batch, ...) for each entry of the node."""
        raise NotImplementedError

    def term_shape(self, x: Shape, y: Shape) -> Shape:
        """Shape of the terms."""
        a, b = self.factors(*(np.broadcast_to(np.int8(0), (1, *s)) for s in (x, y)))
        return np.broadcast_shapes(a.shape, b.shape)[1:]

    def term_count(self, x: Shape, y: Shape) -> int:
        """Number of terms."""
        return math.prod(self.term_shape(x, y))

    def back(self, which: int, rows: Array, slopes: Array, box: Indices, shape: Shape) -> Array:
        """Rows (R, *node) times the terms' slopes, summed onto input ``which``: (R, *shape)."""
        raise NotImplementedError

    def table_size(self, *inputs: Shape) -> int:
        terms = self.term_count(*inputs)
        return terms if terms <= TERMS_LIMIT else 0

    def table_bytes(self, itemsize: int, *inputs: Shape) -> int:
        # Two planes over both factors of each term.
        slopes = 4 * itemsize * self.table_size(*inputs)
        return slopes + super().table_bytes(itemsize, *inputs)

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        box = np.arange(len(gradient))
        other = self.factors(*inputs)[::-1]
        return tuple(
            self.back(which, gradient, other[which], box, x.shape[1:])
            for which, x in enumerate(inputs)
        )

    def propagate(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        x, y = inputs
        many = self.term_count(x.lower.shape[1:], y.lower.shape[1:]) > TERMS_LIMIT
        lower, upper = self._about_centres(x, y) if many else self._at_corners(x, y)
        if how.guarantee == "float32":
            noise = self.float32_noise(x, y)
            lower, upper = rounding.down(lower - noise), rounding.up(upper + noise)
        return NodeBounds(lower, upper, rounding.midpoint(lower, upper))

    def _at_corners(self, x: NodeBounds, y: NodeBounds) -> tuple[Float64, Float64]:
        """Every term's exact image of its box, summed; a single term is rounded once."""
        (x_low, y_low), (x_high, y_high) = (
            self.factors(*ends) for ends in ((x.lower, y.lower), (x.upper, y.upper))
        )
        sums = []
        for ends in self.blocks(x_low, x_high, y_low, y_high):
            low, high = image(*ends)
            sums.append([self.total(t) for t in (low, high, np.maximum(abs(low), abs(high)))])
        lower, upper, size = (sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True))
        k = self.summed(x.lower.shape[1:])
        if k > 1:
            error = size * (rounding.gamma_factor(k + 2, np.float64) * (1 + 2.0**-20))
            lower, upper = rounding.down(lower - error), rounding.up(upper + error)
        return lower, upper

    def _about_centres(self, x: NodeBounds, y: NodeBounds) -> tuple[Float64, Float64]:
        """x·y within |c_x| r_y + r_x |c_y| + r_x r_y of c_x c_y, as products of matrices."""
        centre, sizes = self.forward(x.centre, y.centre), [abs(b.centre) for b in (x, y)]
        reach = self.forward(sizes[0] + x.radius, y.radius) + self.forward(x.radius, sizes[1])
        g = rounding.gamma_factor(x.lower.shape[-1] + 8, np.float64)
        reach = (reach + g * self.forward(*sizes)) * (1 + g) * (1 + 2.0**-40) + TINY
        return rounding.down(centre - reach), rounding.up(centre + reach)

    def float32_noise(self, x: NodeBounds, y: NodeBounds) -> Float64:
        """How far any float32 execution, its sum in any order, may lie from the real product.

        Infinite where one may overflow, and where an input may have.
        """
        k = self.summed(x.lower.shape[1:])
        far = [np.maximum(abs(b.lower), abs(b.upper)) for b in (x, y)]
        size = self.forward(*far) * (1 + 2.0**-20) + TINY
        gamma = rounding.gamma_factor(k + 1, np.float32)
        noise = gamma * size + k * 2.0**-148
        return overflowed(noise, size + noise)

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[Array, ...]:
        return tuple(b.lower < b.upper for b in inputs)

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> Planes:
        x, y = inputs
        noise = self.float32_noise(x, y) if how.guarantee == "float32" else 0.0
        given = slopes is not None and not (slopes.lower is None and slopes.upper is None)
        many = self.term_count(x.lower.shape[1:], y.lower.shape[1:]) > TERMS_LIMIT
        if many and not given:
            return bilinear.through_the_middle(self, inputs, after.centre, how.dtype, noise)
        return bilinear.per_term(self, inputs, after.centre, how.dtype, noise, slopes)

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        noise = self.float32_noise(*before) if how.guarantee == "float32" else 0.0
        return product(self, inputs, before, after, noise)


class Mul(Product):
    """y = a · b entry by entry; shapes (without the batch axis) broadcast."""

    def shape(self, *inputs: Shape) -> Shape:
        _two(self.name, inputs)
        try:
            return tuple(int(n) for n in np.broadcast_shapes(*inputs))
        except ValueError:
            a, b = inputs
            raise UsageError(f"Mul: the shapes {a} and {b} do not broadcast") from None

    def factors(self, x: Array, y: Array) -> tuple[Array, Array]:
        rank = max(x.ndim, y.ndim)
        return _lifted(x, rank), _lifted(y, rank)

    def blocks(self, *parts: Array) -> Iterator[tuple[Array, ...]]:
        yield parts

    def joined(self, parts: list[Array]) -> Array:
        return parts[0]

    def total(self, terms: Array) -> Array:
        return terms

    def forward(self, *inputs: Array) -> Array:
        a, b = self.factors(*inputs)
        return a * b

    def back(self, which: int, rows: Array, slopes: Array, box: Indices, shape: Shape) -> Array:
        return _sum_to(rows * slopes[box], shape)


class MatMul(Product):
    """y = a @ b of matrices (..., I, K) and (..., K, J); leading axes broadcast."""

    def shape(self, *inputs: Shape) -> Shape:
        _two(self.name, inputs)
        a, b = inputs
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise UsageError(f"MatMul: shapes {a} and {b}, expected (..., I, K) and (..., K, J)")
        try:
            outer = np.broadcast_shapes(a[:-2], b[:-2])
        except ValueError:
            raise UsageError(f"MatMul: the leading axes of {a} and {b} do not broadcast") from None
        return (*(int(n) for n in outer), a[-2], b[-1])

    def summed(self, *inputs: Shape) -> int:
        return inputs[0][-1]

    def factors(self, x: Array, y: Array) -> tuple[Array, Array]:
        rank = max(x.ndim, y.ndim)
        return _lifted(x, rank)[..., None], _lifted(y, rank)[..., None, :, :]

    def part(self, cut: Cut, *inputs: Shape) -> tuple[Operator, tuple[Cut, ...]]:
        found, whole = [], slice(None)
        for shape, row in zip(inputs, (cut[-1], whole), strict=True):
            lead = shape[:-2]
            own = zip(lead, cut[len(cut) - 1 - len(lead) : -1], strict=True)
            found.append((*(whole if n == 1 else c for n, c in own), row))
        return self, tuple(found)

    def blocks(self, *parts: Array) -> Iterator[tuple[Array, ...]]:
        count = parts[0].shape[-2]
        each = math.prod(np.broadcast_shapes(*(part.shape for part in parts))) // count
        step = max(1, BLOCK // each)
        for start in range(0, count, step):
            yield tuple(part[..., start : start + step, :] for part in parts)

    def joined(self, parts: list[Array]) -> Array:
        return np.concatenate(parts, axis=-2)

    def total(self, terms: Array) -> Array:
        result: Array = terms.sum(axis=-2)
        return result

    def forward(self, *inputs: Array) -> Array:
        rank = max(x.ndim for x in inputs)
        return np.matmul(*(_lifted(x, rank) for x in inputs))

    def back(self, which: int, rows: Array, slopes: Array, box: Indices, shape: Shape) -> Array:
        boxes = np.unique(box)
        if len(boxes) == 1:
            return _sum_to(_contracted(which, rows, slopes[boxes[0]]), shape)
        parts = np.empty((len(rows), *shape), rows.dtype)
        for one in boxes:
            at = np.flatnonzero(box == one)
            parts[at] = _sum_to(_contracted(which, rows[at], slopes[one]), shape)
        return parts


def _two(name: str, inputs: Sequence[Shape]) -> None:
    if len(inputs) != 2:
        raise UsageError(f"{name}: {len(inputs)} inputs, expected 2")


def _lifted(x: Array, rank: int) -> Array:
    """``x`` with axes of length 1 behind the batch axis, ``rank`` in all."""
    return x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:])


def _sum_to(x: Array, shape: Shape) -> Array:
    """Sums (R, *shape) over the axes along which ``shape`` was broadcast."""
    lead = tuple(range(1, x.ndim - len(shape)))
    summed = x.sum(axis=lead) if lead else x
    axes = tuple(a for a, n in enumerate(shape, start=1) if n == 1 and summed.shape[a] > 1)
    result: Array = summed.sum(axis=axes, keepdims=True) if axes else summed
    return result


def _contracted(which: int, rows: Array, slopes: Array) -> Array:
    """Σ_j rows[., i, j]·slopes[i, k, j] (which 0) or Σ_i rows[., i, j]·slopes[i, k, j] (1).

    One product of matrices (R, J)·(J, K) for every i, or (R, I)·(I, K) for every j; of few i and
    many j, terms in the order they lie in.
    """
    if which == 0:
        made = np.moveaxis(rows, 0, -2) @ np.swapaxes(slopes, -1, -2)
        return np.moveaxis(made, -2, 0)
    if LONG * rows.shape[-2] <= rows.shape[-1]:
        summed: Array = np.einsum("r...ij,...ikj->r...kj", rows, slopes)
        return summed
    made = np.moveaxis(np.swapaxes(rows, -1, -2), 0, -2) @ np.moveaxis(slopes, -1, -3)
    return np.swapaxes(np.moveaxis(made, -2, 0), -1, -2)


def image(x_low: Array, x_high: Array, y_low: Array, y_high: Array) -> tuple[Float64, Float64]:
    """Bounds of x·y on boxes: the least and the greatest corner, each rounded once."""
    corners = [_product(x, y) for x in (x_low, x_high) for y in (y_low, y_high)]
    lower, upper = corners[0]
    for low, high in corners[1:]:
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
    return lower, upper


def _product(x: Array, y: Array) -> tuple[Float64, Float64]:
    """x·y rounded down and up, its sign kept: zero is exact. 0·inf may be anything."""
    product = x * y
    known = ~np.isnan(product)
    sign = np.sign(x) * np.sign(y)
    low, high = rounding.down(product), rounding.up(product)
    low = np.where(known & (sign >= 0), np.maximum(low, 0.0), low)
    return low, np.where(known & (sign <= 0), np.minimum(high, 0.0), high)
