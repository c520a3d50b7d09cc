"""What is asked of a network: boxes of inputs and the unsafe set in each, in exact fractions.

A property describes the *unsafe* set. It holds ("verified") when no input of any region has an
output that satisfies all constraints of one conjunction. Inputs X and outputs Y number the
flattened (row-major) tensors.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from numbers import Rational
from operator import attrgetter, gt, mul
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import PropertyError, UsageError
from gamma.frozen import Frozen
from gamma.network.exact import ZERO, enclose_rows, exact_fractions
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_integer
from gamma.tensor.rounding import fraction_up, to_down, to_up

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

F = TypeVar("F", bound=np.floating[Any])
Terms = tuple[tuple[int, Fraction], ...]
Labels = list[int] | tuple[int, ...] | npt.NDArray[np.integer[Any]]
ONE = Fraction(1)
TOP, BOTTOM = attrgetter("_numerator"), attrgetter("_denominator")  # of Fractions, soon


class LinearConstraint(Frozen, eq=True):
    """The half-space sum(c·Y_i) + sum(c·X_j) <= bound (strict: <), part of the unsafe set.

    Terms are pairs (index, coefficient), sorted by index, without zero coefficients.
    """

    y: Terms
    x: Terms
    bound: Fraction
    strict: bool = False

    def holds(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> bool:
        """Whether the flat float64 points satisfy the constraint, decided in fractions."""
        total = ZERO
        for index, coefficient in self.y:
            total += coefficient * Fraction(float(y[index]))
        for index, coefficient in self.x:
            total += coefficient * Fraction(float(x[index]))
        return total < self.bound if self.strict else total <= self.bound


Conjunction = tuple[LinearConstraint, ...]


class Region(Frozen, eq=True):
    """One box of inputs, ends exact and included, and the unsafe set in it.

    ``unsafe`` is a disjunction of conjunctions; an empty conjunction is the whole region.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    unsafe: tuple[Conjunction, ...]

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise PropertyError(f"region: {len(self.lower)} lower ends, {len(self.upper)} upper")
        kinds = {*map(type, self.lower), *map(type, self.upper)}
        if not kinds <= {Fraction, int}:
            raise UsageError("region: an end of its box is neither a Fraction nor an int")
        if kinds == {Fraction} and not _crossed(self.lower, self.upper):
            return
        for index, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            # Fraction's own comparison takes three times as long, and an image has many.
            if low.numerator * high.denominator > high.numerator * low.denominator:
                raise PropertyError(
                    f"region: X_{index} has its lower end {_shown(low)} above its upper end "
                    f"{_shown(high)}"
                )

    def __repr__(self) -> str:
        """Sizes only: the ends of an image's box would fill screens."""
        return f"Region({len(self.lower)} inputs, {len(self.unsafe)} conjunctions)"


def _crossed(lower: tuple[Fraction, ...], upper: tuple[Fraction, ...]) -> bool:
    """Whether some lower end is above its upper end, without a step of the interpreter for each."""
    below, above = (
        map(mul, map(TOP, lower), map(BOTTOM, upper)),
        map(mul, map(TOP, upper), map(BOTTOM, lower)),
    )
    return any(map(gt, below, above))


def _shown(value: Fraction) -> str:
    """A fraction in few characters."""
    text = str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


class Ball(Frozen, eq=True):
    """The points x with norm(x − center) <= radius in norm "2" or "1", all exact."""

    norm: str
    center: tuple[Fraction, ...]
    radius: Fraction

    def holds(self, x: npt.NDArray[np.float64]) -> bool:
        """Whether the flat float64 point lies in the ball, decided in fractions."""
        steps = [Fraction(float(a)) - c for a, c in zip(x, self.center, strict=True)]
        if self.norm == "1":
            return sum((abs(step) for step in steps), ZERO) <= self.radius
        return sum((step * step for step in steps), ZERO) <= self.radius * self.radius


class Property(Frozen):
    """A union of regions, each with its unsafe set.

    Attributes:
        inputs, outputs: sizes of the flattened input and output; ``outputs`` is 0 while a
            robustness property waits for ``resolve``.
        source, sha256: the file it was read from and the hash of its (expanded) content.
        label: the label a robustness property protects, None otherwise.
        balls: for norm-ball input sets one ball per region, which cuts the region's box.
        integers: inputs that were declared Int; a counterexample must be whole there.
    """

    regions: tuple[Region, ...]
    inputs: int
    outputs: int
    source: Path | None = None
    sha256: str | None = None
    label: int | None = None
    balls: tuple[Ball, ...] = ()
    integers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raises PropertyError for an index or a size that does not fit."""
        checked: set[int] = set()  # conjunctions, by identity: regions share them
        for region in self.regions:
            if len(region.lower) != self.inputs:
                raise PropertyError(f"a region has {len(region.lower)} inputs, not {self.inputs}")
            for conjunction in region.unsafe:
                if id(conjunction) not in checked:
                    checked.add(id(conjunction))
                    for constraint in conjunction:
                        _check_terms(constraint.y, self.outputs, "Y")
                        _check_terms(constraint.x, self.inputs, "X")

    def __eq__(self, other: object) -> bool:
        """Whether it asks the same, whatever file it was read from."""
        return isinstance(other, Property) and self._asked == other._asked

    def __hash__(self) -> int:
        return hash(self._asked)

    @property
    def _asked(self) -> tuple[Any, ...]:
        return self.regions, self.inputs, self.outputs, self.label, self.balls, self.integers

    def __repr__(self) -> str:
        """Sizes and source; the numbers are in ``regions``."""
        conjunctions = sum(len(region.unsafe) for region in self.regions)
        return (
            f"Property({len(self.regions)} regions, {self.inputs} inputs, {self.outputs} outputs, "
            f"{conjunctions} conjunctions, source={str(self.source) if self.source else None!r})"
        )

    @cached_property
    def _ends(self) -> tuple[Float64, Float64, Float64, Float64]:
        """Exact lower ends enclosed (below, above), then the upper ends: (regions, inputs) each.

        They are handed out, and cannot be written to.
        """
        lower = enclose_rows([region.lower for region in self.regions], self.inputs)
        upper = enclose_rows([region.upper for region in self.regions], self.inputs)
        for ends in (*lower, *upper):
            ends.flags.writeable = False
        return (*lower, *upper)

    def region_arrays(
        self, dtype: npt.DTypeLike = np.float64
    ) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
        """Lower and upper ends (regions, inputs) rounded outward to float32 or float64.

        Raises PropertyError when an end lies beyond the range of the dtype.
        """
        lower, _, _, upper = self._ends
        kind = np.dtype(dtype)
        if kind == np.float32:
            return self._in_range(to_down(lower), to_up(upper), "float32")
        if kind != np.float64:
            raise UsageError(f"region arrays in {kind}: expected float32 or float64")
        return self._in_range(lower.copy(), upper.copy(), "float64")

    def box(self, dtype: npt.DTypeLike = np.float64) -> Box:
        """The input set as one batched Box (regions, inputs), rounded outward to the dtype."""
        if np.dtype(dtype) == np.float64:  # not copied: an input may have millions of entries
            low, high = self._in_range(self._ends[0], self._ends[3], "float64")
        else:
            low, high = (ends.astype(np.float64) for ends in self.region_arrays(dtype))
        if not self.balls:
            return Box(low, high)
        first = self.balls[0]
        if any((ball.norm, ball.radius) != (first.norm, first.radius) for ball in self.balls):
            raise UsageError("the regions are balls of different norm or radius: use one each")
        near, above = enclose_rows([ball.center for ball in self.balls], self.inputs)
        away = max(map(_off, near, self.balls)) if (near != above).any() else ZERO
        return Box(low, high, first.norm, near, fraction_up(first.radius + away))

    def inner_float32(self, region: int) -> tuple[Float32, Float32, npt.NDArray[np.bool_]]:
        """The largest float32 box inside the exact box: lower, upper and holds, each (inputs,).

        Where the exact interval contains no float32 number, ``holds`` is False and both ends are
        the float32 nearest to the middle of the interval (a point outside the property).
        """
        _, lower_above, upper_below, _ = (ends[region] for ends in self._ends)
        lower, upper = to_up(lower_above), to_down(upper_below)
        holds = lower <= upper
        exact = self.regions[region]
        for index in np.flatnonzero(~holds):
            low, high = upper[index], lower[index]  # neighbours around the exact interval
            middle = (exact.lower[index] + exact.upper[index]) / 2
            if np.isinf(high):
                nearest = low
            elif np.isinf(low):
                nearest = high
            else:
                nearer_low = middle - Fraction(float(low)) <= Fraction(float(high)) - middle
                nearest = low if nearer_low else high
            lower[index] = upper[index] = nearest
        return lower, upper, holds

    def regions_of(self, x: npt.ArrayLike) -> list[int]:
        """Regions whose exact input set contains the point ``x`` (any float array of the size)."""
        point = self._flat(x, self.inputs, "x")
        if not np.isfinite(point).all():
            return []
        _, lower_above, upper_below, _ = self._ends
        # a float64 is >= the exact end if and only if it is >= the next float64 above that end
        inside = ((point >= lower_above) & (point <= upper_below)).all(axis=1)
        if any(point[index] != np.floor(point[index]) for index in self.integers):
            return []
        found = [int(index) for index in np.flatnonzero(inside)]
        return [k for k in found if not self.balls or self.balls[k].holds(point)]

    def is_unsafe(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[int, int] | None:
        """The (region, conjunction) that input ``x`` with output ``y`` satisfies, or None.

        Decided exactly, without tolerance: the floats are taken as the fractions they are. A
        point with a NaN or infinite entry satisfies nothing.
        """
        if self.outputs == 0:
            raise UsageError("the property does not know the outputs yet: call resolve(outputs)")
        output = self._flat(y, self.outputs, "y")
        if not np.isfinite(output).all():
            return None
        point = self._flat(x, self.inputs, "x")
        for region in self.regions_of(x):
            for number, conjunction in enumerate(self.regions[region].unsafe):
                if all(constraint.holds(point, output) for constraint in conjunction):
                    return region, number
        return None

    def resolve(self, outputs: int, hint: str = "") -> Property:
        """The property for a network with so many outputs; ``hint`` says what else may be wrong.

        Raises PropertyError when the label or the declared outputs do not fit.
        """
        if self.outputs:
            if self.outputs != outputs:
                raise PropertyError.at(
                    self.source,
                    "",
                    f"the property declares {self.outputs} outputs, the network has {outputs}: "
                    f"give the property written for this network{hint}",
                )
            return self
        if self.label is None or not 0 <= self.label < outputs:
            raise PropertyError(f"label {self.label}: expected 0 to {outputs - 1}")
        unsafe = _misclassified(self.label, outputs)
        regions = tuple(replace(region, unsafe=unsafe) for region in self.regions)
        return replace(self, regions=regions, outputs=outputs)

    def _in_range(
        self, lower: npt.NDArray[F], upper: npt.NDArray[F], name: str
    ) -> tuple[npt.NDArray[F], npt.NDArray[F]]:
        beyond = np.isinf(lower) | np.isinf(upper)
        if beyond.any():
            index = int(np.argwhere(beyond)[0][1])
            message = f"an end of its interval is beyond {name}: give bounds within its range"
            raise PropertyError.at(self.source, f"X_{index}", message)
        return lower, upper

    def _flat(self, values: npt.ArrayLike, size: int, name: str) -> npt.NDArray[np.float64]:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise UsageError(f"{name} has dtype {array.dtype}: expected float32 or float64")
        if array.size != size:
            raise UsageError(f"{name} has {array.size} entries, the property has {size}")
        return array.astype(np.float64).ravel()


def _off(center: Float64, ball: Ball) -> Fraction:
    """How far float64 ``center`` is from the ball's own, at most, in either norm."""
    pairs = zip(exact_fractions(center), ball.center, strict=True)
    return sum((abs(a - b) for a, b in pairs if a != b), ZERO)


def _check_terms(terms: Terms, size: int, letter: str) -> None:
    for index, coefficient in terms:
        if type(index) is not int or not 0 <= index < size:
            raise PropertyError(
                f"{letter}_{index}: expected a whole number from 0 to {size - 1} as its index"
            )
        if not isinstance(coefficient, Rational):
            raise UsageError(f"{letter}_{index}: coefficient {coefficient!r} is no Fraction")


def _misclassified(label: int, outputs: int) -> tuple[Conjunction, ...]:
    """Y_label − Y_j <= 0 for some other j."""
    return tuple(
        (LinearConstraint(tuple(sorted(((label, ONE), (j, -ONE)))), (), ZERO),)
        for j in range(outputs)
        if j != label
    )


@overload
def robustness(box: Box, label: int, outputs: int | None = None) -> Property: ...


@overload
def robustness(box: Box, label: Labels, outputs: int | None = None) -> list[Property]: ...


def robustness(
    box: Box, label: int | Labels, outputs: int | None = None
) -> Property | list[Property]:
    """The property that every input of ``box`` is classified as ``label``.

    A tie counts as unsafe. Without ``outputs`` the number of classes is left open until
    ``resolve`` (which ``gamma.verify`` calls). The whole box is one region. A list of labels goes
    with a batch of boxes (labels, *input shape) and gives a list of properties.

    Raises:
        UsageError: labels that are no numbers, or not one for each box. PropertyError: a label
            that is no output.
    """
    if isinstance(label, list | tuple | np.ndarray):
        if not box.lower.ndim or len(box) != len(label):
            raise UsageError(
                f"{len(label)} labels for a box of shape {box.shape}: expected one for each"
            )
        parts = [box.slice(k, k + 1) for k in range(len(box))]
        return [robustness(part, one, outputs) for part, one in zip(parts, label, strict=True)]
    lower, upper = exact_fractions(box.lower), exact_fractions(box.upper)
    balls: tuple[Ball, ...] = ()
    if box.norm != "inf":
        if box.center is None or box.radius is None:
            raise UsageError("a norm ball needs a centre and a radius")
        balls = (Ball(box.norm, exact_fractions(box.center), Fraction(float(box.radius))),)
    number = exact_integer(label, "label")
    waiting = Property((Region(lower, upper, ()),), len(lower), 0, label=number, balls=balls)
    return waiting if outputs is None else waiting.resolve(outputs)


__all__ = [
    "Ball",
    "Conjunction",
    "LinearConstraint",
    "Property",
    "Region",
    "robustness",
]
