"""The input sets gamma bounds over: boxes and norm balls, batched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.tensor.exactly import exact_float, exact_floats

Float64 = npt.NDArray[np.float64]


def _exact64(values: npt.ArrayLike, what: str) -> Float64:
    array = exact_floats(values, what)
    result = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    if not np.isfinite(result).all():
        raise UsageError(f"{what} has NaN or infinite entries, expected finite numbers")
    return result


def _radius(epsilon: float) -> float:
    radius = exact_float(epsilon, "the radius of the ball")
    if not 0 <= radius < np.inf:
        raise UsageError(f"the radius of the ball is {radius}, expected zero or more, and finite")
    return radius


@dataclass(frozen=True, eq=False)
class Box:
    """A set of inputs: the interval [lower, upper], cut with a norm ball when ``norm`` is not inf.

    Attributes:
        lower, upper: float64 (batch, *input shape) or (*input shape).
        norm: "inf", "2" or "1".
        center: float64, centre of the ball (midpoint of the interval for "inf").
        radius: radius of the ball for "2" and "1", one number for all boxes; None for "inf".

    Raises:
        UsageError: NaN, infinite or crossed ends, shapes that differ, a negative radius.
    """

    lower: Float64
    upper: Float64
    norm: str = "inf"
    center: Float64 | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        lower = _exact64(self.lower, "the lower end of the box")
        upper = _exact64(self.upper, "the upper end of the box")
        if lower.shape != upper.shape:
            raise UsageError(f"box ends have shapes {lower.shape} and {upper.shape}")
        if (lower > upper).any():
            where = tuple(int(i) for i in np.argwhere(lower > upper)[0])
            raise UsageError(
                f"box: lower {lower[where]} is above upper {upper[where]} at index {where}"
            )
        if self.norm not in ("inf", "2", "1"):
            raise UsageError(f"norm {self.norm!r}: expected inf, 2 or 1")
        if (self.norm == "inf") != (self.radius is None):
            raise UsageError("a ball needs a radius, an interval has none; use Box.l2 or Box.l1")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        if self.center is not None:
            center = _exact64(self.center, "the centre of the ball")
            if center.shape != lower.shape:
                raise UsageError(
                    f"the ball's centre has shape {center.shape}, its box {lower.shape}"
                )
            object.__setattr__(self, "center", center)
        if self.radius is not None:
            if self.center is None:
                raise UsageError("a ball needs a centre; use Box.l2 or Box.l1")
            object.__setattr__(self, "radius", _radius(self.radius))

    @classmethod
    def linf(
        cls,
        x: npt.ArrayLike,
        epsilon: npt.ArrayLike,
        clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> Box:
        """All points within ``epsilon`` (a number or one per entry) of ``x``, cut to ``clip``."""
        _, lower, upper = _around(x, epsilon, clip)
        return cls(lower, upper)

    @classmethod
    def l2(
        cls,
        x: npt.ArrayLike,
        epsilon: float,
        clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> Box:
        """All points within Euclidean distance ``epsilon`` of ``x``, cut to ``clip``."""
        centre, lower, upper = _around(x, _radius(epsilon), clip)
        return cls(lower, upper, "2", centre, _radius(epsilon))

    @classmethod
    def l1(
        cls,
        x: npt.ArrayLike,
        epsilon: float,
        clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> Box:
        """All points within L1 distance ``epsilon`` of ``x``, cut to ``clip``."""
        centre, lower, upper = _around(x, _radius(epsilon), clip)
        return cls(lower, upper, "1", centre, _radius(epsilon))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the ends, batch axis included when there is one."""
        return self.lower.shape

    def batched(self, input_shape: tuple[int, ...]) -> Box:
        """The same set with a leading batch axis, entries arranged as the network's input.

        Raises UsageError when the sizes do not fit.
        """
        shape = self.lower.shape
        target: tuple[int, ...]
        if shape[1:] == input_shape and len(shape) == len(input_shape) + 1:
            target = shape
        elif shape == input_shape or self.lower.size == int(np.prod(input_shape)):
            target = (1, *input_shape)
        elif len(shape) >= 1 and int(np.prod(shape[1:])) == int(np.prod(input_shape)):
            target = (shape[0], *input_shape)
        else:
            raise UsageError(f"box has shape {shape}, the network takes {input_shape}")
        if target == shape:
            return self
        centre = None if self.center is None else self.center.reshape(target)
        return self._with(self.lower.reshape(target), self.upper.reshape(target), centre)

    def slice(self, start: int, stop: int) -> Box:
        """Boxes ``start`` to ``stop`` of a batched set."""
        if start == 0 and stop >= len(self.lower):
            return self
        centre = None if self.center is None else self.center[start:stop]
        return self._with(self.lower[start:stop], self.upper[start:stop], centre)

    def _with(self, lower: Float64, upper: Float64, center: Float64 | None) -> Box:
        """The same set with its arrays arranged otherwise; they were checked before."""
        box = object.__new__(Box)
        values = (lower, upper, self.norm, center, self.radius)
        for name, value in zip(("lower", "upper", "norm", "center", "radius"), values, strict=True):
            object.__setattr__(box, name, value)
        return box


def _around(
    x: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    clip: tuple[npt.ArrayLike, npt.ArrayLike] | None,
) -> tuple[Float64, Float64, Float64]:
    """Centre and outward-rounded ends of x ± epsilon, cut to ``clip``."""
    centre = _exact64(x, "the centre of the box")
    radius = _exact64(epsilon, "epsilon")
    if (radius < 0).any():
        raise UsageError("epsilon is negative, expected zero or more")
    _check_fits(radius, centre, "epsilon")
    low, high = _sum_outward(centre, -radius, -np.inf), _sum_outward(centre, radius, np.inf)
    if clip is not None:
        if not isinstance(clip, tuple | list) or len(clip) != 2:
            raise UsageError(f"clip: found {clip!r}, expected the pair (low, high)")
        floor, ceiling = _exact64(clip[0], "clip"), _exact64(clip[1], "clip")
        _check_fits(floor, centre, "clip's low end")
        _check_fits(ceiling, centre, "clip's high end")
        if (floor > ceiling).any():
            raise UsageError("clip: the low end is above the high end")
        low, high = np.maximum(low, floor), np.minimum(high, ceiling)
        if (low > high).any():
            raise UsageError("clip leaves nothing of the box: x lies further than epsilon outside")
    return centre, low, high


def _check_fits(values: Float64, centre: Float64, what: str) -> None:
    try:
        fits = np.broadcast_shapes(values.shape, centre.shape) == centre.shape
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"{what} has shape {values.shape}, expected a number or one per entry of {centre.shape}"
        )


def _sum_outward(a: Float64, b: Float64, direction: float) -> Float64:
    """a + b in float64, moved one step in ``direction`` where the sum is inexact (TwoSum)."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    wrong = error < 0 if direction < 0 else error > 0
    return np.where(wrong, np.nextafter(total, direction), total)
