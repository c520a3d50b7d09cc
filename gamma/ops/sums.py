"""Sums of tensors and along axes, and concatenation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.ops import image_interval
from gamma.ops.affine import Linear
from gamma.ops.base import Array, Mask, Shape
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Precision


class Add(Linear):
    """y = Σ ±x_i of inputs of one shape; ``signs`` holds ±1 per input (Sub is (1, -1))."""

    entrywise = True
    alike = True

    signs: tuple[int, ...] = (1, 1)
    several = True

    @property
    def terms(self) -> int:
        return len(self.signs)

    @property
    def unit(self) -> bool:
        return True

    def shape(self, *inputs: Shape) -> Shape:
        if len(inputs) != len(self.signs) or len(set(inputs)) != 1:
            raise UsageError(f"Add: inputs have shapes {inputs}, expected {len(self.signs)} equal")
        return inputs[0]

    def mixes(self, rank: int) -> tuple[int, ...]:
        return ()

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Add | None:
        return self

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        return image_interval.sum_copies(self, shape) if boxes else {}

    def fused_interval(
        self, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
    ) -> NodeBounds | None:
        return image_interval.summed(self, inputs)

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        total = inputs[0].copy() if absolute or self.signs[0] > 0 else -inputs[0]
        for sign, x in zip(self.signs[1:], inputs[1:], strict=True):
            if absolute or sign > 0:
                total += x
            else:
                total -= x
        return total

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        return tuple(rows if sign > 0 else -rows for sign in self.signs)


class Concat(Linear):
    """Joins its inputs along ``axis`` of the shapes without the batch axis."""

    axis: int
    several = True

    @property
    def unit(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    def shape(self, *inputs: Shape) -> Shape:
        rest = {(s[: self.axis], s[self.axis + 1 :]) for s in inputs}
        if len(rest) != 1 or not all(0 <= self.axis < len(s) for s in inputs):
            raise UsageError(f"Concat: inputs {inputs} do not join along axis {self.axis}")
        first = inputs[0]
        length = sum(s[self.axis] for s in inputs)
        return (*first[: self.axis], length, *first[self.axis + 1 :])

    def restricted(self, shape: Shape, source: Mask, kept: Mask) -> tuple[Concat, Hashable]:
        return self, id(self)

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Concat | None:
        return Concat(self.axis - dropped) if alike and self.axis >= dropped else None

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        return np.concatenate(inputs, axis=self.axis + 1)

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        ends = np.cumsum([s[self.axis] for s in shapes])[:-1]
        return tuple(np.ascontiguousarray(p) for p in np.split(rows, ends, axis=self.axis + 1))


class ReduceSum(Linear):
    """Sums over ``axes``, times ``scale``; a mean has scale 1/k with its relative error."""

    axes: tuple[int, ...]
    keepdims: bool = True
    scale: float = 1.0
    scale_error: float = 0.0

    def terms_for(self, shape: Shape) -> int:
        return math.prod(shape[a] for a in self.axes) + 1

    @property
    def unit(self) -> bool:
        return self.scale == 1.0

    @property
    def peak(self) -> float:
        # A mean adds first and divides then.
        return max(1.0, (1 + 2.0**-50) / abs(self.scale)) if self.scale else math.inf

    @property
    def uncertainty(self) -> float:
        return self.scale_error

    def exact_in(self, dtype: object) -> bool:
        return float(np.dtype(dtype).type(self.scale)) == self.scale  # type: ignore[call-overload]

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        distinct = len(set(self.axes)) == len(self.axes)
        if not distinct or any(not 0 <= a < len(shape) for a in self.axes):
            raise UsageError(f"ReduceSum: axes {self.axes} are not distinct axes of {shape}")
        if self.keepdims:
            return tuple(1 if a in self.axes else n for a, n in enumerate(shape))
        return tuple(n for a, n in enumerate(shape) if a not in self.axes)

    def mixes(self, rank: int) -> tuple[int, ...]:
        return self.axes

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> ReduceSum | None:
        if not alike or min(self.axes) < dropped:
            return None
        return replace(self, axes=tuple(a - dropped for a in self.axes))

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        """Numbers that are not negative have no negative sum, in whatever order one rounds it: a
        square root may follow."""
        found, (x,) = super().interval_bounds(inputs, how), inputs
        if self.scale > 0 and found.lower.min(initial=0.0) < 0 <= x.lower.min(initial=0.0):
            known = np.isfinite(found.lower)  # elsewhere an execution may overflow
            found.lower = np.where(known, np.maximum(found.lower, 0.0), found.lower)
            found.reset()
        return found

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        total = x.sum(axis=tuple(a + 1 for a in self.axes), keepdims=self.keepdims)
        factor = abs(self.scale) if absolute else self.scale
        result: Array = total * x.dtype.type(factor)
        return result

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        (shape,) = shapes
        kept = tuple(1 if a in self.axes else n for a, n in enumerate(shape))
        spread = rows.reshape(rows.shape[0], *kept) * rows.dtype.type(self.scale)
        return (np.broadcast_to(spread, (rows.shape[0], *shape)).copy(),)
