"""Dense layers and elementwise affine maps."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple, replace

from gamma.errors import UsageError
from gamma.ops import dense_interval
from gamma.ops.affine import Linear, Weighted, cast_weight, nonzero, reached
from gamma.ops.base import Array, Cut, Float64, Operator, Shape, cut_to, shortened
from gamma.ops.bounds import NodeBounds
from gamma.ops.exact import along_axis, exact_product, exact_sum
from gamma.ops.execution import PACKED, Execution, overflowed
from gamma.ops.tables import Precision
from gamma.runtime import choices
from gamma.tensor import kernels

# Entries of a weight that stay in cache from one block of rows to the next.
_MOST_PANELS = 1 << 18


class Gemm(Weighted):
    """y = x Wᵀ + b on the last axis; weight (out, in), bias (out,) or None."""

    reads_rows = True

    @property
    def dense(self) -> Gemm:
        return self

    @property
    def terms(self) -> int:
        return int(self.weight.shape[1])

    @property
    def matrix_terms(self) -> int:
        return self.terms

    @property
    def adjoint_terms(self) -> int:
        return int(self.weight.shape[0])

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        bias = (len(self.weight),) if self.bias is None else self.bias.shape
        if self.weight.ndim != 2 or bias != self.weight.shape[:1]:
            raise UsageError(
                f"Gemm: weight {self.weight.shape} and bias {bias}, expected (out, in) and (out,)"
            )
        if not shape or shape[-1] != self.weight.shape[1]:
            raise UsageError(
                f"Gemm: weight {self.weight.shape} needs a last axis of {self.weight.shape[1]}, "
                f"the input has shape {shape}"
            )
        return (*shape[:-1], int(self.weight.shape[0]))

    def shifted(self, shift: Array) -> Linear | None:
        extra = along_axis(shift, -1, int(self.weight.shape[0]))
        bias = None if extra is None else exact_sum(self.bias, extra)
        return None if bias is None else replace(self, bias=bias)

    def offset(self) -> Array | None:
        return self.bias

    def mixes(self, rank: int) -> tuple[int, ...]:
        return (rank - 1,)

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Gemm | None:
        return self  # a matrix that loses an axis it needs is refused by its shape

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        return _product(x, cast_weight(self, self.weight, "weight", x.dtype, absolute).T)

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        return (_product(rows, cast_weight(self, self.weight, "weight", rows.dtype, False)),)

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        if boxes:
            return dense_interval.copies(self, how, boxes, shape)
        found, kind = super().copies(how), how.dtype
        columns = kernels.padded(self.terms, kind)
        size = len(self.weight) * columns * kind.itemsize
        if columns > self.terms and self.tiled(kind):
            found[f"padded.{kind.char}"] = size
        if self.gathers:
            found[f"panels.{kind.char}"] = size
        return found

    @property
    def gathers(self) -> bool:
        """Whether rows may pass between images and the layer as through a convolution."""
        return isinstance(self.weight, np.ndarray) and self.weight.size <= _MOST_PANELS

    def panels(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Array | None:
        """The weight as `kernels.gather` reads it, columns in the order of channels-last images of
        ``shape`` (channels, height, width); made for one shape, None for any other."""

        def arrange() -> tuple[tuple[int, int, int], Array]:
            weight = cast_weight(self, self.weight, "weight", dtype, False)
            flat = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)
            full = np.zeros((len(flat), kernels.padded(self.terms, dtype)), dtype)
            full[:, : self.terms] = flat
            panels = full.reshape(len(flat), -1, kernels.padded(1, dtype)).transpose(1, 0, 2)
            return shape, np.ascontiguousarray(panels)[:, None]

        made, panels = self.cached(f"panels.{dtype.char}", arrange)
        return panels if made == shape else None

    def tiled(self, dtype: np.dtype[Any]) -> bool:
        """Whether rows are multiplied by the weight in C, not by the BLAS."""
        return choices.choose("rows.product", dtype.char, self.weight.size) == "tiled"

    def padded(self, dtype: np.dtype[Any]) -> Array:
        """The weight in ``dtype`` with zero columns up to whole 64 bytes, made once."""
        columns = kernels.padded(self.terms, dtype)
        if columns == self.terms:
            return cast_weight(self, self.weight, "weight", dtype, False)

        def fill() -> Array:
            full = np.zeros((len(self.weight), columns), dtype)
            full[:, : self.terms] = self.weight
            return full

        return self.cached(f"padded.{dtype.char}", fill)  # type: ignore[no-any-return]

    def row_sums(self, shapes: Sequence[Shape]) -> Float64:
        total = dense_interval.constants_of(self)[2]
        return np.broadcast_to(total, (1, *shapes[0][:-1], len(total)))

    def fused_interval(
        self, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
    ) -> NodeBounds | None:
        return dense_interval.fused(self, inputs, dtype)

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        return dense_interval.products(self, centres, radii, dtype)

    def start_rows(self, neurons: Array, shapes: Sequence[Shape], dtype: npt.DTypeLike) -> Array:
        (shape,), weight = shapes, cast_weight(self, self.weight, "weight", dtype, False)
        if len(shape) == 1:
            return weight[neurons]
        places, outputs = np.divmod(neurons, len(weight))
        rows = np.zeros((len(neurons), math.prod(shape[:-1]), shape[-1]), weight.dtype)
        rows[np.arange(len(neurons)), places] = weight[outputs]
        return rows.reshape(-1, *shape)


def _product(x: Array, weight: Array) -> Array:
    """x times weight on the last axis, as one product: `matmul` would make one of each matrix."""
    flat, shape = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), (*x.shape[:-1], weight.shape[1])
    some = nonzero(flat) if x.ndim > 2 else None
    if some is None:
        return _narrowed(flat, weight).reshape(shape)
    result = np.zeros((len(flat), weight.shape[1]), x.dtype)
    result[some] = _narrowed(flat[some], weight)
    return result.reshape(shape)


def _narrowed(x: Array, weight: Array) -> Array:
    """x times weight by the columns of x that are not 0."""
    some = reached(x) if x.ndim == 2 else None
    made: Array = x @ weight if some is None else x[:, some] @ weight[some]
    return made


class Scale(Linear):
    """y = scale · x + shift, entry by entry; both broadcast to the node's shape.

    ``scale_error`` bounds the relative error of ``scale``, ``shift_error`` the absolute error of
    ``shift`` (a number or an array like it), against the real operator: a division by 3 or a
    batch normalisation has no exact float64 coefficients. ``execution`` states what a float32
    execution of the original operators does (`Execution.packed`), where that is more than one
    product and one sum with these constants.
    """

    entrywise = True

    scale: Array
    shift: Array | None = None
    scale_error: float = 0.0
    shift_error: Float64 | float = 0.0
    execution: Array | None = None

    @property
    def executed(self) -> Execution:
        """What a float32 execution does."""
        if self.execution is not None:
            return Execution.unpacked(self.execution)
        return self.cached("executed", lambda: Execution.of(self.scale, self.shift))  # type: ignore[no-any-return]

    def float32_noise(self, reach: Sequence[Float64]) -> Float64:
        (r,), known = reach, self.executed
        noise = known.error * r + known.offset_error
        peak = known.peak * r + known.offset_peak + noise
        return overflowed(noise, peak)

    @property
    def alike(self) -> bool:  # type: ignore[override]
        arrays = (self.scale, self.shift, np.asarray(self.shift_error), *astuple(self.executed))
        return all(a is None or _one_number(a) for a in arrays)

    @property
    def unit(self) -> bool:
        return bool(self.cached("unit", lambda: np.isin(self.scale, (-1.0, 0.0, 1.0)).all()))

    @property
    def independent(self) -> bool:
        return True

    @property
    def uncertainty(self) -> float:
        return self.scale_error

    @property
    def offset_uncertainty(self) -> Float64 | float:
        return self.shift_error

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        shift = () if self.shift is None else self.shift.shape
        try:
            result = np.broadcast_shapes(shape, self.scale.shape, shift)
        except ValueError:
            result = ()
        if result != shape:
            raise UsageError(
                f"Scale: constants {self.scale.shape} and {shift} do not broadcast to the input's "
                f"shape {shape}"
            )
        return shape

    def part(self, cut: Cut, *inputs: Shape) -> tuple[Operator, tuple[Cut, ...]]:
        if self.alike:
            return self, (cut,)
        rank, values = len(inputs[0]), dict[str, Any]()
        for field in self.__struct_fields__:
            array = getattr(self, field)
            if isinstance(array, np.ndarray) and field in PACKED:
                values[field] = np.stack([cut_to(a, cut, rank) for a in array])
            elif isinstance(array, np.ndarray):
                values[field] = cut_to(array, cut, rank)
        return replace(self, **values), (cut,)

    def neutral(self, shape: Shape) -> bool:
        plain = self.scale_error == 0.0 and self.shift is None and self.execution is None
        return plain and bool((self.scale == 1).all())

    def after(self, previous: Operator) -> Linear | None:
        """Scale of scale, or a shift that the layer before takes as its bias; exact only."""
        if self.scale_error or np.any(self.shift_error) or not isinstance(previous, Linear):
            return None
        if isinstance(previous, Scale):
            return self._after_scale(previous)
        if self.shift is None or self.execution is not None or not (self.scale == 1).all():
            return None
        if previous.offset() is not None:
            return None  # two additions may cancel in the sum, never in a float32 execution
        return previous.shifted(self.shift)

    def _after_scale(self, previous: Scale) -> Scale | None:
        if np.any(previous.shift_error):
            return None
        scale = exact_product(self.scale, previous.scale)
        if scale is None:
            return None
        shift = self.shift
        if previous.shift is not None:
            carried = exact_product(self.scale, previous.shift)
            shift = None if carried is None else exact_sum(carried, self.shift)
            if shift is None:
                return None
        # A float32 execution still rounds, underflows and overflows between the two.
        steps = previous.executed.then(previous.scale, previous.shift, self.executed, self.scale)
        return Scale(scale, shift, previous.scale_error, 0.0, steps.packed())

    def stored(self) -> Array:
        return self.scale

    def offset(self) -> Array | None:
        return self.shift

    def mixes(self, rank: int) -> tuple[int, ...]:
        return ()

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Scale | None:
        found: Scale = shortened(self, len(shape) - dropped)
        return found

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        result: Array = x * cast_weight(self, self.scale, "scale", x.dtype, absolute)
        return result

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        return (rows * cast_weight(self, self.scale, "scale", rows.dtype, False),)


def _one_number(array: Array) -> bool:
    return array.size > 0 and bool((array == array.reshape(-1)[0]).all())
