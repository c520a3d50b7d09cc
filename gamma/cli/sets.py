"""Sets of inputs in exact numbers: balls, boxes, and the units in which they are given."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.exact import exact_fractions
from gamma.network.property import Ball, Property, Region


class Units(Frozen, eq=True):
    """The network takes (x - mean) / std of what the user gives.

    Attributes:
        mean, std: of every entry of an input, or of all.
    """

    mean: tuple[Fraction, ...] = (Fraction(0),)
    std: tuple[Fraction, ...] = (Fraction(1),)

    @classmethod
    def of(
        cls,
        mean: Sequence[Fraction] | None,
        std: Sequence[Fraction] | None,
        shape: tuple[int, ...],
    ) -> Units:
        """``mean`` and ``std`` for every channel of ``shape``, the first axis or else the last."""
        if mean is None and std is None:
            return cls()
        given = (mean or (Fraction(0),), std or (Fraction(1),))
        return cls(*(_by_entry(values, shape) for values in given))

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return any(self.mean) or any(s != 1 for s in self.std)

    def applied(self, values: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """(x - mean) / std, exactly."""
        if not self:
            return tuple(values)
        mean, std = (self._each(end, len(values)) for end in (self.mean, self.std))
        return tuple((v - m) / s for v, m, s in zip(values, mean, std, strict=True))

    def removed(self, values: Sequence[Fraction]) -> list[Fraction]:
        """The inverse, of differences: times std."""
        std = self._each(self.std, len(values))
        return [v * s for v, s in zip(values, std, strict=True)]

    def length(self, radius: Fraction) -> Fraction:
        """What a distance in a norm other than L∞ becomes."""
        if len(set(self.std)) > 1:
            raise UsageError(
                "--norm 2 and 1 need one --std for all channels: with several the set is no ball; "
                "give the input as the network takes it, without --mean and --std"
            )
        return radius / self.std[0]

    @staticmethod
    def _each(values: tuple[Fraction, ...], size: int) -> tuple[Fraction, ...]:
        return values * size if len(values) == 1 else values


def _by_entry(values: Sequence[Fraction], shape: tuple[int, ...]) -> tuple[Fraction, ...]:
    if len(values) == 1:
        return tuple(values)
    axes = [axis for axis in (0, -1) if len(shape) > 1 and shape[axis] == len(values)]
    if not axes:
        raise UsageError(
            f"--mean and --std: {len(values)} numbers for an input of shape {shape}; give one, or "
            "one for each channel (the first or the last axis)"
        )
    index = np.indices(shape)[axes[0]].ravel().tolist()
    return tuple(values[k] for k in index)


def between(low: npt.NDArray[Any], high: npt.NDArray[Any], units: Units | None = None) -> Property:
    """All inputs between two arrays."""
    lower, upper = ((units or Units()).applied(exact_fractions(end)) for end in (low, high))
    return Property((Region(lower, upper, ()),), low.size, 0)


def around(
    x: npt.NDArray[Any],
    epsilon: Fraction,
    norm: str,
    clip: tuple[Fraction, Fraction] | None,
    moves: npt.NDArray[np.bool_] | None = None,
    units: Units | None = None,
) -> Property:
    """All inputs within exactly ``epsilon`` of ``x``, cut to ``clip``.

    Where ``moves`` is False an entry stays what it is in ``x``. ``units``: of x, epsilon and clip.
    """
    units = units or Units()
    lower, upper = (list(exact_fractions(x, step)) for step in (-epsilon, epsilon))
    if moves is not None:
        still = np.flatnonzero(~moves)
        for index, value in zip(still.tolist(), exact_fractions(x.ravel()[still]), strict=True):
            lower[index] = upper[index] = value
    if clip is not None:
        low, high = clip
        if low > high:
            raise UsageError(f"--clip {float(low):g} {float(high):g}: LO is above HI")
        lower = [max(v, low) for v in lower]
        upper = [min(v, high) for v in upper]
        for index, (a, b) in enumerate(zip(lower, upper, strict=True)):
            if a > b:
                raise UsageError(
                    f"--clip leaves nothing: entry {index} of the input is "
                    f"{float(x.flat[index]):g}, more than epsilon outside"
                )
    balls: tuple[Ball, ...] = ()
    if norm != "inf":
        balls = (Ball(norm, units.applied(exact_fractions(x)), units.length(epsilon)),)
    region = Region(units.applied(lower), units.applied(upper), ())
    return Property((region,), x.size, 0, balls=balls)


def united(parts: Sequence[Property]) -> Property:
    """All sets as the regions of one property."""
    regions = tuple(region for part in parts for region in part.regions)
    balls = tuple(ball for part in parts for ball in part.balls)
    return Property(regions, parts[0].inputs, 0, balls=balls)
