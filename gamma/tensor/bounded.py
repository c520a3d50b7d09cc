"""BoundedTensor: an array of closed intervals that always contains the true value."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from gamma.decimals import above, below
from gamma.errors import UsageError
from gamma.frames import frame
from gamma.frozen import Frozen
from gamma.tensor import functions, kernels
from gamma.tensor.exactly import exact_floats, fitting
from gamma.tensor.products import matmul_interval, matmul_point
from gamma.tensor.rounding import (
    down,
    fraction_down,
    fraction_up,
    gamma_factor,
    midpoint,
    radius_about,
    to_down,
    to_up,
    up,
)

Array = npt.NDArray[Any]
Operand = Any  # BoundedTensor, array or number


class BoundedTensor(Frozen):
    """Intervals [lower, upper], entry by entry; every operation rounds outward.

    ``lower, upper = tensor`` are its two ends. An index is one of NumPy's, for both ends at once,
    and ``len`` counts along the first axis. A comparison with numbers is True where it holds for
    every value of the interval: neither ``tensor > 0`` nor ``tensor <= 0`` may hold.

    Attributes:
        lower, upper: float32 or float64 arrays of one dtype and shape, read-only views (the data
            is not copied). Infinite ends mean "no bound on this side".

    Raises UsageError on NaN, crossed ends, an empty end (lower = inf, upper = -inf), and shapes
    that differ.
    """

    lower: Array
    upper: Array

    __array_ufunc__ = None  # array + tensor calls __radd__ instead of looping over entries

    def __post_init__(self) -> None:
        lower, upper = exact_floats(self.lower, "lower"), exact_floats(self.upper, "upper")
        if lower.shape != upper.shape:
            raise UsageError(f"bounds have shapes {lower.shape} and {upper.shape}, expected one")
        if lower.dtype != upper.dtype:
            lower, upper = lower.astype(np.float64), upper.astype(np.float64)
        # A comparison finds NaN as well as crossed ends. Where upper ends are finite too, none is
        # beyond every number.
        if np.count_nonzero((lower <= upper) & np.isfinite(upper)) < lower.size:
            _check(lower, upper)
        lower, upper = lower.view(), upper.view()
        lower.setflags(write=False)
        upper.setflags(write=False)
        force_setattr(self, "lower", lower)
        force_setattr(self, "upper", upper)

    def __iter__(self) -> Iterator[Array]:
        return iter((self.lower, self.upper))

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of bounds of one number, which have no axis")
        return len(self.lower)

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError(
            "bounds are two arrays: np.asarray(bounds.lower), np.asarray(bounds.upper), or "
            "np.stack(list(bounds)) for both"
        )

    def __bool__(self) -> bool:
        raise TypeError("bounds have no truth value: compare them, as in (bounds > 0).all()")

    def __gt__(self, other: Operand) -> npt.NDArray[np.bool_]:
        a, b = self._pair(other)
        return np.asarray(a.lower > b.upper)

    def __ge__(self, other: Operand) -> npt.NDArray[np.bool_]:
        a, b = self._pair(other)
        return np.asarray(a.lower >= b.upper)

    def __lt__(self, other: Operand) -> npt.NDArray[np.bool_]:
        a, b = self._pair(other)
        return np.asarray(a.upper < b.lower)

    def __le__(self, other: Operand) -> npt.NDArray[np.bool_]:
        a, b = self._pair(other)
        return np.asarray(a.upper <= b.lower)

    @classmethod
    def from_point(cls, x: npt.ArrayLike) -> BoundedTensor:
        """The intervals [x, x]."""
        values = exact_floats(x, "x")
        return cls(values, values)

    @classmethod
    def from_epsilon(cls, x: npt.ArrayLike, epsilon: npt.ArrayLike) -> BoundedTensor:
        """The intervals [x − epsilon, x + epsilon], rounded outward in x's dtype."""
        values, radius = exact_floats(x, "x"), exact_floats(epsilon, "epsilon").astype(np.float64)
        if not (radius >= 0).all():
            raise UsageError("epsilon has negative or NaN entries, expected zero or more")
        wide = values.astype(np.float64)
        with fitting("epsilon"):
            ends = np.broadcast_to(radius, wide.shape)
        return cls._outward(wide - ends, wide + ends, values.dtype)

    @classmethod
    def _outward(cls, lower: Array, upper: Array, dtype: np.dtype[Any]) -> BoundedTensor:
        """Ends one correctly rounded operation away from the truth, moved out and narrowed."""
        return cls(to_down(down(lower), dtype), to_up(up(upper), dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of intervals."""
        return self.lower.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.lower.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.lower.ndim

    @property
    def size(self) -> int:
        """Number of intervals."""
        return self.lower.size

    @property
    def width(self) -> Array:
        """upper − lower, rounded up; 0 for a point."""
        with np.errstate(all="ignore"):
            gap = self.upper - self.lower
        return np.where(gap == 0, gap, up(gap))

    @property
    def center(self) -> Array:
        """A point of each interval near its middle (0 where unbounded on both sides)."""
        return midpoint(self.lower, self.upper).astype(self.dtype)

    @property
    def radius(self) -> Array:
        """At least the distance from ``center`` to either end."""
        return to_up(radius_about(self.lower, self.upper, self.center), self.dtype)

    def __repr__(self) -> str:
        """Shape, dtype, the least and greatest end, and the mean width, in one line."""
        if not self.size:
            return f"BoundedTensor(shape={self.shape}, {self.dtype})"
        ends = f"{below(float(self.lower.min()))}, {above(float(self.upper.max()))}"
        with np.errstate(all="ignore"):
            mean = float(np.mean(self.width, dtype=np.float64))
        return (
            f"BoundedTensor(shape={self.shape}, {self.dtype}, in [{ends}], mean width {mean:.4g})"
        )

    def _repr_html_(self) -> str:
        rows = (
            (", ".join(map(str, index)), float(self.lower[index]), float(self.upper[index]))
            for index in np.ndindex(self.shape)
        )
        from gamma import markup

        return markup.intervals(repr(self), rows, self.size)

    def to_pandas(self) -> Any:
        """A DataFrame with the columns lower and upper, a row for each entry (needs pandas)."""
        index = list(np.ndindex(self.shape)) if self.ndim > 1 else None
        return frame({"lower": self.lower.ravel(), "upper": self.upper.ravel()}, index)

    def contains(self, x: Operand) -> bool:
        """Whether every entry of a point array, or every interval of a tensor, lies inside."""
        if isinstance(x, BoundedTensor):
            low, high = x.lower, x.upper
        else:
            low = high = exact_floats(x, "x")
        with fitting("x"):
            return bool(((self.lower <= low) & (high <= self.upper)).all())

    def intersect(self, other: BoundedTensor) -> BoundedTensor:
        """What both contain; UsageError where nothing is left."""
        with fitting("intersection"):
            ends = np.maximum(self.lower, other.lower), np.minimum(self.upper, other.upper)
        return BoundedTensor(*ends)

    def astype(self, dtype: npt.DTypeLike) -> BoundedTensor:
        """The same intervals in float32 or float64, rounded outward."""
        with fitting("dtype"):
            wanted = np.dtype(dtype)
        if wanted not in (np.float32, np.float64):
            raise UsageError(f"dtype {wanted}: expected float32 or float64")
        return BoundedTensor(to_down(self.lower, wanted), to_up(self.upper, wanted))

    def _pair(self, other: Operand) -> tuple[BoundedTensor, BoundedTensor]:
        """Both operands in one dtype and one shape; a number is enclosed in this dtype."""
        if isinstance(other, BoundedTensor):
            right = other
        elif isinstance(other, numbers.Rational | float):
            if other != other or other in (np.inf, -np.inf):
                raise UsageError(f"operand {other}: expected a finite number")
            value = Fraction(other)
            right = BoundedTensor(
                to_down(fraction_down(value), self.dtype), to_up(fraction_up(value), self.dtype)
            )
        else:
            right = BoundedTensor.from_point(other)
        dtype = np.result_type(self.dtype, right.dtype)
        with fitting("operands"):
            shape = np.broadcast_shapes(self.shape, right.shape)
        return self._spread(dtype, shape), right._spread(dtype, shape)

    def _spread(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> BoundedTensor:
        if self.dtype == dtype and self.shape == shape and self.lower.flags.c_contiguous:
            if self.upper.flags.c_contiguous:
                return self
        ends = (np.broadcast_to(end.astype(dtype), shape) for end in (self.lower, self.upper))
        return BoundedTensor(*(np.ascontiguousarray(end).reshape(shape) for end in ends))

    def __neg__(self) -> BoundedTensor:
        return BoundedTensor(-self.upper, -self.lower)

    def __add__(self, other: Operand) -> BoundedTensor:
        a, b = self._pair(other)
        with np.errstate(all="ignore"):
            return BoundedTensor(down(a.lower + b.lower), up(a.upper + b.upper))

    __radd__ = __add__

    def __sub__(self, other: Operand) -> BoundedTensor:
        a, b = self._pair(other)
        with np.errstate(all="ignore"):
            return BoundedTensor(down(a.lower - b.upper), up(a.upper - b.lower))

    def __rsub__(self, other: Operand) -> BoundedTensor:
        return (-self).__add__(other)

    def __mul__(self, other: Operand) -> BoundedTensor:
        a, b = self._pair(other)
        return BoundedTensor(*kernels.interval_mul(a.lower, a.upper, b.lower, b.upper))

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> BoundedTensor:
        """Quotients; the whole line where the divisor contains 0."""
        a, b = self._pair(other)
        return BoundedTensor(*functions.divide(a.lower, a.upper, b.lower, b.upper))

    def __rtruediv__(self, other: Operand) -> BoundedTensor:
        a, b = self._pair(other)
        return BoundedTensor(*functions.divide(b.lower, b.upper, a.lower, a.upper))

    def __matmul__(self, other: Operand) -> BoundedTensor:
        """(..., n) @ (n, k) with a point matrix or a tensor, by midpoint and radius."""
        dtype = self.dtype
        with fitting("matrix product"):
            if isinstance(other, BoundedTensor):
                ends = matmul_interval(self.lower, self.upper, other.lower, other.upper)
                dtype = np.result_type(self.dtype, other.dtype)
            else:
                ends = matmul_point(self.lower, self.upper, exact_floats(other, "matrix"))
        return BoundedTensor(to_down(ends[0], dtype), to_up(ends[1], dtype))

    def __rmatmul__(self, other: Operand) -> BoundedTensor:
        """point matrix (k, n) @ (n,) or (n, j)."""
        matrix = exact_floats(other, "matrix")
        return (self.transpose() @ matrix.T).transpose()

    def sum(self, axis: int | tuple[int, ...] | None = None) -> BoundedTensor:
        """Sum over ``axis`` in float64, error charged."""
        low, high = self.lower.astype(np.float64), self.upper.astype(np.float64)
        with np.errstate(all="ignore"), fitting("sum"):
            ends = low.sum(axis), high.sum(axis)
            count = max(self.size // max(np.size(ends[0]), 1), 1)
            factor = gamma_factor(2 * count + 4, np.float64)
            charges = (factor * np.abs(end).sum(axis) for end in (low, high))
            lower, upper = (end + s * c for end, s, c in zip(ends, (-1, 1), charges, strict=True))
        return BoundedTensor._outward(lower, upper, self.dtype)

    def __getitem__(self, index: Any) -> BoundedTensor:
        with fitting("index"):
            return BoundedTensor(self.lower[index], self.upper[index])

    def slice_axis(self, axis: int, start: int, stop: int, step: int = 1) -> BoundedTensor:
        """Entries start:stop:step along ``axis``."""
        if not -self.ndim <= axis < self.ndim:
            raise UsageError(f"axis {axis} of a tensor with {self.ndim} axes")
        index = [slice(None)] * self.ndim
        index[axis] = slice(start, stop, step)
        return self[tuple(index)]

    @staticmethod
    def stack(tensors: Sequence[BoundedTensor], axis: int = 0) -> BoundedTensor:
        """Tensors of one shape along a new axis."""
        with fitting("stack"):
            lower, upper = zip(*tensors, strict=True)
            return BoundedTensor(np.stack(lower, axis), np.stack(upper, axis))

    @staticmethod
    def concat(tensors: Sequence[BoundedTensor], axis: int = 0) -> BoundedTensor:
        """Tensors one after another along ``axis``."""
        with fitting("concat"):
            lower, upper = zip(*tensors, strict=True)
            return BoundedTensor(np.concatenate(lower, axis), np.concatenate(upper, axis))

    def reshape(self, *shape: int) -> BoundedTensor:
        """The same intervals in another shape."""
        with fitting("reshape"):
            return BoundedTensor(self.lower.reshape(shape), self.upper.reshape(shape))

    def transpose(self, *axes: int) -> BoundedTensor:
        """Axes permuted (reversed when none are given)."""
        order = axes or None
        with fitting("transpose"):
            return BoundedTensor(self.lower.transpose(order), self.upper.transpose(order))

    def relu(self) -> BoundedTensor:
        """max(x, 0), exact."""
        return self.clip(0.0, None)

    def clip(self, low: float | None, high: float | None) -> BoundedTensor:
        """min(max(x, low), high); exact when the limits are numbers of this dtype."""
        lower, upper = self.lower, self.upper
        if low is not None:
            lower = np.maximum(lower, to_down(low, self.dtype))
            upper = np.maximum(upper, to_up(low, self.dtype))
        if high is not None:
            lower = np.minimum(lower, to_down(high, self.dtype))
            upper = np.minimum(upper, to_up(high, self.dtype))
        return BoundedTensor(lower, upper)

    def leaky_relu(self, alpha: float = 0.01) -> BoundedTensor:
        """x where x >= 0, alpha·x elsewhere (alpha in [0, 1])."""
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha {alpha}: expected a number in [0, 1]")
        scaled = BoundedTensor(np.minimum(self.lower, 0), np.minimum(self.upper, 0)) * alpha
        return BoundedTensor(
            np.where(self.lower >= 0, self.lower, scaled.lower),
            np.where(self.upper >= 0, self.upper, np.minimum(scaled.upper, 0)),
        )

    def abs(self) -> BoundedTensor:
        """|x|, exact."""
        low, high = np.abs(self.lower), np.abs(self.upper)
        crosses = (self.lower <= 0) & (self.upper >= 0)
        return BoundedTensor(np.where(crosses, 0, np.minimum(low, high)), np.maximum(low, high))

    def _apply(self, function: functions.Monotone) -> BoundedTensor:
        ends = functions.monotone(function, self.lower, self.upper)
        return BoundedTensor(to_down(ends[0], self.dtype), to_up(ends[1], self.dtype))

    def square(self) -> BoundedTensor:
        """x², never below 0."""
        size = self.abs()
        return (size * size).clip(0.0, None)

    def sqrt(self) -> BoundedTensor:
        """√x; UsageError where an interval reaches below 0."""
        if (self.lower < 0).any():
            raise UsageError("sqrt of an interval that reaches below 0")
        return self._apply(functions.SQRT)

    def exp(self) -> BoundedTensor:
        """eˣ."""
        return self._apply(functions.EXP)

    def tanh(self) -> BoundedTensor:
        """tanh x."""
        return self._apply(functions.TANH)

    def sigmoid(self) -> BoundedTensor:
        """1/(1 + e⁻ˣ)."""
        return self._apply(functions.SIGMOID)


def _check(lower: Array, upper: Array) -> None:
    """Refuse what is no interval of numbers."""
    good = (lower <= upper) & (lower < np.inf) & (upper > -np.inf)
    if np.count_nonzero(good) < lower.size:
        where = tuple(int(i) for i in np.argwhere(~good)[0])
        raise UsageError(
            f"bounds at index {where}: found [{lower[where]}, {upper[where]}], "
            "expected lower <= upper, no NaN, and no end beyond every number"
        )
