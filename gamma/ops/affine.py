"""Linear operators: y = L x + offset with L fixed, a forward map and its adjoint.

The walks own the one rule for their rounding (`gamma.ops.charges`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.ops import affine_interval
from gamma.ops.base import Array, Float64, Operator, Shape
from gamma.ops.bounds import NodeBounds
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import linear
from gamma.ops.execution import overflowed, stored
from gamma.ops.tables import Precision
from gamma.runtime import resident
from gamma.tensor import rounding


class Linear(Operator):
    """y = L x + offset with L fixed; x may be several inputs.

    ``terms``: the longest sum behind one output entry (products of a row of L).
    ``adjoint_terms``: the longest sum behind one entry of the adjoint's result.
    ``uncertainty``: relative error of the float64 coefficients against the real operator.
    """

    @property
    def affine(self) -> Linear:
        return self

    @property
    def terms(self) -> int:
        return 1

    def terms_for(self, shape: Shape) -> int:
        """`terms` where it depends on the (first) input's shape."""
        return self.terms

    def summed(self, *inputs: Shape) -> int:
        return self.terms_for(inputs[0])

    @property
    def adjoint_terms(self) -> int:
        return 1

    @property
    def adjoint_products(self) -> int:
        """Products behind one entry of the adjoint's result: each may be lost to underflow."""
        return self.adjoint_terms

    @property
    def unit(self) -> bool:
        """All coefficients are 0 or ±1: products are exact."""
        return False

    @property
    def turns(self) -> str:
        """An image's channels from its first axis to its "last", back to its "first", or ""."""
        return ""

    @property
    def uncertainty(self) -> float:
        return 0.0

    @property
    def offset_uncertainty(self) -> Float64 | float:
        """Absolute error of ``offset`` against the real operator, per entry."""
        return 0.0

    def strayed(self, reach: Sequence[Array], executed: bool) -> Float64 | None:
        """How far L x with the real coefficients (``executed``: with those that a float32 execution
        computes) may lie from L x as stored, for |x| <= reach; None where they are the same."""
        return None

    @property
    def peak(self) -> float:
        """A float32 execution forms no number beyond this times |L||x| + |offset|."""
        return 1.0

    def float32_noise(self, reach: Sequence[Float64]) -> Float64:
        """How far a float32 execution (any order of sums, with or without FMA) strays from y.

        ``reach``: at least |x| of each input. Infinite where an execution may overflow.
        """
        size = self.linear(reach, absolute=True) * (1 + 2.0**-20)
        strayed = self.strayed(reach, True)
        size = size if strayed is None else size + strayed
        most = max(float(r.max(initial=0.0)) for r in reach)
        return self.float32_charge(size, self.terms_for(reach[0].shape[1:]), most)

    def float32_charge(self, size: Float64, n: int, most: float) -> Float64:
        """`float32_noise` of sums of ``n`` products that are at least ``size`` = |L||x| together,
        of inputs of size ``most`` or less."""
        offset = self.offset()
        if offset is not None:
            size = size + abs(offset.astype(np.float64))
        lost, steps = n * 2.0**-148, n + 1
        if not (self.exact_in(np.float32) and stored(offset)):  # coefficients are rounded first
            lost, steps = lost * (1 + most), steps + 2
        noise = rounding.gamma_factor(steps, np.float32) * size + lost
        return overflowed(noise, self.peak * size + noise + self._largest_stored())

    def _largest_stored(self) -> float:
        """Largest coefficient, where the largest float32 may be exceeded."""
        stored = self.stored()
        if stored is None or stored.dtype == np.float32:
            return 0.0
        return float(self.cached("largest", lambda: abs(stored).max(initial=0.0)))

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        return linear(self, inputs, before, after)

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        """L x, or |L| x when ``absolute``: (batch, *in) -> (batch, *out) in the inputs' dtype."""
        raise UsageError(f"{self.name} has no forward map")

    def row_sums(self, shapes: Sequence[Shape]) -> Float64:
        """At least |L|·1 for inputs of these ``shapes``: (1, *output shape)."""
        ones = [np.ones((1, *shape)) for shape in shapes]
        if (
            self.entrywise and ones[0].size > affine_interval.KEPT
        ):  # no dearer than to look at them again
            return np.asarray(self.linear(ones, absolute=True) * (1 + 2.0**-20))
        key = "absolute.sum." + ",".join(str(o.shape) for o in ones)
        total: Float64 = self.cached(key, lambda: self.linear(ones, absolute=True) * (1 + 2.0**-20))
        return total

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """rows (N, *out) times L: one (N, *in) per input, in the rows' dtype."""
        raise UsageError(f"{self.name} has no adjoint")

    # Single rows of L are at hand: rows of neurons start behind the operator.
    reads_rows: ClassVar[bool] = False

    def start_rows(self, neurons: Array, shapes: Sequence[Shape], dtype: npt.DTypeLike) -> Array:
        """Rows ``neurons`` (flat output indices) of L for one input: (N, *in) in ``dtype``."""
        out = self.shape(*shapes)
        unit = np.zeros((len(neurons), int(np.prod(out))), dtype)
        unit[np.arange(len(neurons)), neurons] = 1
        return self.adjoint(unit.reshape(len(neurons), *out), shapes)[0]

    def offset(self) -> Array | None:
        """The constant part, broadcastable to the output shape, as stored; None when zero."""
        return None

    def shifted(self, shift: Array) -> Linear | None:
        """This operator with ``shift`` added to its output, when that needs no rounding."""
        return None

    def stored(self) -> Array | None:
        """The coefficients as stored (None when they are 0 and ±1)."""
        return None

    def exact_in(self, dtype: npt.DTypeLike) -> bool:
        """Whether every coefficient is a number of ``dtype``."""
        weights = self.stored()
        if weights is None or weights.dtype == dtype or np.dtype(dtype) == np.float64:
            return True
        return bool(self.cached("exact32", lambda: (weights.astype(np.float32) == weights).all()))

    @property
    def inexact(self) -> bool:
        """Whether the real coefficients are known within an error per entry only."""
        return False

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        return affine_interval.linear_bounds(self, inputs, how)

    def moved(self, inputs: Sequence[NodeBounds]) -> NodeBounds:
        """`interval_bounds` where entries only move."""
        return affine_interval.moved(self, inputs)

    def fused_interval(
        self, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
    ) -> NodeBounds | None:
        """`interval_bounds` in one call of the C library, for real arithmetic; None: no such."""
        return None

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        """L·centre and |L|·radius, each within γ_n of its absolute sum."""
        return affine_interval.products(self, centres, radii, dtype)

    def forward(self, *inputs: Array) -> Array:
        result = self.linear(inputs)
        offset = self.offset()
        return result if offset is None else result + offset.astype(result.dtype)

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return self.adjoint(gradient, [x.shape[1:] for x in inputs])


class _Errors(Linear, kw_only=True):
    weight_error: Array | None = None
    weight_noise: Array | None = None


class Weighted(_Errors):
    """A linear operator with a weight and a bias; the weight may be a computed constant.

    ``weight_error`` bounds, entry by entry, how far the real weight lies from the stored one;
    ``weight_noise`` how far any float32 execution's weight lies from the real one (None: 0).
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in (self.weight_error, self.weight_noise):
            if part is not None and part.shape != self.weight.shape:
                raise UsageError(
                    f"{self.name}: errors of shape {part.shape} for a weight {self.weight.shape}"
                )

    def stored(self) -> Array:
        return self.weight

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        return cast_bytes(self.weight, how.dtype)

    def stray_copies(self, how: Precision, turned: int = 0) -> dict[Hashable, int]:
        """`copies` of `strayed`: the errors in float64, and once more as they are multiplied
        (``turned`` bytes, where that is no plain array)."""
        executed = how.guarantee == "float32"
        if self.weight_error is None and (self.weight_noise is None or not executed):
            return {}
        size = 8 * self.weight.size
        return {f"strayed.{executed}": size + (turned or size)}

    @property
    def inexact(self) -> bool:
        return self.weight_error is not None

    def strayed(self, reach: Sequence[Array], executed: bool) -> Float64 | None:
        parts = [self.weight_error, self.weight_noise if executed else None]
        known = [p.astype(np.float64) for p in parts if p is not None]
        if not known:
            return None
        blank: Any = {
            "weight": sum(known),
            "bias": None,
            "weight_error": None,
            "weight_noise": None,
        }
        errors: Linear = self.cached(f"strayed.{executed}", lambda: replace(self, **blank))
        found: Float64 = errors.linear(reach, absolute=True) * (1 + 2.0**-20)
        return found


def nonzero(x: Array) -> npt.NDArray[np.int64] | None:
    """Rows of a matrix that are not 0, where half of them are: rows that start at one position of a
    sequence have nothing at the others. Their products are 0."""
    if len(x) < 2 or 2 * np.count_nonzero(x[:, :1]) > len(x):  # most of them begin with a number
        return None
    some = np.flatnonzero(x.any(axis=1))
    return some if 2 * len(some) <= len(x) else None


def reached(x: Array) -> slice | None:
    """The columns of a matrix outside of which it is 0, where these are half of all at most: rows
    that start in one head of an attention have nothing in the others."""
    if len(x) < 2 or _far_apart(np.flatnonzero(x[0]), x.shape[1]):
        return None
    some = np.flatnonzero(x.any(axis=0))
    if not len(some):
        return slice(0, 0)
    return None if _far_apart(some, x.shape[1]) else slice(int(some[0]), int(some[-1]) + 1)


def _far_apart(some: npt.NDArray[np.int64], n: int) -> bool:
    """Whether sorted places are spread over more than half of ``n``."""
    return len(some) > 0 and 2 * int(some[-1] + 1 - some[0]) > n


def cast_bytes(weight: Array, dtype: np.dtype[Any]) -> dict[Hashable, int]:
    """What `cast_weight` with the key "weight" keeps, as `Operator.copies`."""
    same = weight.dtype == dtype and weight.flags.c_contiguous
    return {} if same else {f"weight.{dtype.char}": weight.size * dtype.itemsize}


def cast_weight(
    op: Operator, weight: Array, key: str, dtype: npt.DTypeLike, absolute: bool
) -> Array:
    """``weight`` in C order and ``dtype``, absolute when asked; computed once per record."""
    wanted = np.dtype(dtype)
    if weight.dtype == wanted and not absolute and weight.flags.c_contiguous:
        return weight
    name = f"{key}.{wanted.char}{'.abs' if absolute else ''}"
    return op.cached(  # type: ignore[no-any-return]
        name,
        lambda: resident.contiguous(abs(weight) if absolute else weight, wanted),
    )
