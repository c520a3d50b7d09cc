"""The input sets gamma bounds over: boxes and norm balls, batched."""

from __future__ import annotations

from copy import copy
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from gamma.decimals import above, below
from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.tensor.exactly import exact_float, exact_floats, exact_integer

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


class Box(Frozen):
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
        force_setattr(self, "lower", lower)
        force_setattr(self, "upper", upper)
        if self.center is not None:
            center = _exact64(self.center, "the centre of the ball")
            if center.shape != lower.shape:
                raise UsageError(
                    f"the ball's centre has shape {center.shape}, its box {lower.shape}"
                )
            force_setattr(self, "center", center)
        if self.radius is not None:
            if self.center is None:
                raise UsageError("a ball needs a centre; use Box.l2 or Box.l1")
            force_setattr(self, "radius", _radius(self.radius))

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

    def __len__(self) -> int:
        if not self.lower.ndim:
            raise TypeError("len() of a box of one number, which has no axis")
        return len(self.lower)

    def __repr__(self) -> str:
        """Shape, kind and extent in one line."""
        if not self.lower.size:
            return f"Box(shape={self.shape})"
        ends = f"{below(float(self.lower.min()))}, {above(float(self.upper.max()))}"
        ball = f", L{self.norm} radius {self.radius:g}" if self.radius is not None else ""
        widest = above(float((self.upper / 2 - self.lower / 2).max()))
        free = int((self.lower < self.upper).sum())
        return (
            f"Box(shape={self.shape}{ball}, in [{ends}], {free} of {self.lower.size} entries "
            f"vary, by at most ±{widest})"
        )

    def __contains__(self, x: npt.ArrayLike) -> bool:
        """Whether the point lies in the set, decided exactly.

        The box counts as one set: of a batch, every point has to lie in its own. Raises UsageError
        when ``x`` has another shape.
        """
        point = exact_floats(x, "x").astype(np.float64)
        if point.shape != self.shape:
            raise UsageError(f"x has shape {point.shape}, the box {self.shape}")
        if not ((self.lower <= point) & (point <= self.upper)).all():
            return False
        return self.center is None or self.radius is None or self._in_ball(point)

    def _in_ball(self, point: Float64, center: Float64 | None = None) -> bool:
        center = self.center if center is None else center
        assert center is not None and self.radius is not None
        pairs = zip(point.ravel().tolist(), center.ravel().tolist(), strict=True)
        steps = [abs(Fraction(a) - Fraction(c)) for a, c in pairs if a != c]
        if self.norm == "1":
            return sum(steps, Fraction(0)) <= Fraction(self.radius)
        return sum((s * s for s in steps), Fraction(0)) <= Fraction(self.radius) ** 2

    def sample(self, n: int = 1, seed: int = 0) -> Float64:
        """``n`` points of the set (n, *shape), the same for one seed.

        Uniform in an interval; in a ball they lie in all directions and at all distances, not
        uniformly. The box counts as one set, as for ``in``.
        """
        count = exact_integer(n, "n", least=0)
        random = np.random.default_rng(exact_integer(seed, "seed", least=0))
        share = random.random((count, *self.shape))
        points = np.clip((1 - share) * self.lower + share * self.upper, self.lower, self.upper)
        if self.center is None or self.radius is None:
            return points
        with np.errstate(all="ignore"):
            return self._towards_centre(points, random)

    def _towards_centre(self, points: Float64, random: np.random.Generator) -> Float64:
        """Points of the interval pulled into the ball."""
        assert self.center is not None and self.radius is not None
        nearest = np.clip(self.center, self.lower, self.upper)

        def length(step: Float64) -> float:
            return float(abs(step).sum() if self.norm == "1" else np.sqrt(np.square(step).sum()))

        room = max(self.radius - length(nearest - self.center), 0.0) * (1 - 1e-9)
        for index, point in enumerate(points):
            far = length(point - nearest)
            factor = min(1.0, room * random.random() / far) if far else 0.0
            moved = np.clip(nearest + factor * (point - nearest), self.lower, self.upper)
            # What rounding puts outside all the same is the centre, or what is nearest to it.
            points[index] = moved if self._in_ball(moved) else nearest
        return points

    def split(self, axis: int | tuple[int, ...]) -> tuple[Box, Box]:
        """Two halves that share the middle of one entry: together they are the set.

        ``axis`` is the entry's index, a tuple or the number in row-major order.
        """
        entry = axis if isinstance(axis, tuple) else exact_integer(axis, "axis")
        try:
            where = entry if isinstance(entry, tuple) else np.unravel_index(entry, self.shape)
            low, high = float(self.lower[where]), float(self.upper[where])
        except (IndexError, ValueError, TypeError):
            raise UsageError(f"axis {axis}: no entry of a box of shape {self.shape}") from None
        middle = min(max(low / 2 + high / 2, low), high)
        upper, lower = self.upper.copy(), self.lower.copy()
        upper[where] = lower[where] = middle
        return self._with(self.lower, upper, self.center), self._with(
            lower, self.upper, self.center
        )

    def batched(self, input_shape: tuple[int, ...]) -> Box:
        """The same set with a leading batch axis, entries arranged as the network's input.

        Raises UsageError when the sizes do not fit, or when a ball does not meet its interval.
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
        centre = None if self.center is None else self.center.reshape(target)
        same = self
        if target != shape:
            same = self._with(self.lower.reshape(target), self.upper.reshape(target), centre)
        same._check_meets()
        return same

    def _check_meets(self) -> None:
        """Every ball of a batched set meets its interval: in an empty set everything would hold."""
        if self.center is None:
            return
        nearest = np.clip(self.center, self.lower, self.upper)
        away = (nearest != self.center).reshape(len(nearest), -1).any(axis=1)
        for k in np.flatnonzero(away).tolist():
            if not self._in_ball(nearest[k], self.center[k]):
                raise UsageError(
                    f"box {k}: no point of its interval is within {self.radius:g} (L{self.norm}) "
                    "of the ball's centre: the set holds no input"
                )

    def slice(self, start: int, stop: int) -> Box:
        """Boxes ``start`` to ``stop`` of a batched set."""
        if start == 0 and stop >= len(self.lower):
            return self
        centre = None if self.center is None else self.center[start:stop]
        return self._with(self.lower[start:stop], self.upper[start:stop], centre)

    def _with(self, lower: Float64, upper: Float64, center: Float64 | None) -> Box:
        """The same set with its arrays arranged otherwise; they were checked before."""
        box = copy(self)
        force_setattr(box, "lower", lower)
        force_setattr(box, "upper", upper)
        force_setattr(box, "center", center)
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
