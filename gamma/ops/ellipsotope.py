"""Ellipsotopes: sets middle + G·ξ + [-rest, rest], each block of symbols ξ in a unit ball.

Zonotopes where blocks have one symbol, ellipsoids where there is one block (Kousik, Dai and Gao
2022). A node's set shares symbols with those of other nodes: what both owe to the input, or to an
earlier error, is the same there, and cancels in sums. All arrays are float64 and flat (n,).

Entries at one place, such as a position of a sequence, mostly have symbols that no other place
knows: the columns of a whole matrix would be 0 everywhere else, so that symbols of all places share
columns until an operator mixes places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.squares import Curved

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SLACK = 1 + 2.0**-40
_NEGLIGIBLE = 2.0**-24
"""Share of a node's reach up to which ``rest`` passes sums as an interval."""

MOST_PADDED = 1.5
"""Symbols apart, as a multiple of the entries they are of, up to which they are kept so."""
_keys = count(1)
INPUT = 0
"""Key of the symbols that are the input's own."""


def new_key() -> int:
    """A key that no other symbols have."""
    return next(_keys)


class Symbols(Frozen):
    """Columns (k, n) of k symbols at each place; ``each`` consecutive ones are a block,
    |ξ_block|₂ <= 1.

    ``places``: the n entries are so many runs of one length, each with k symbols of its own.
    """

    columns: Float64
    each: int = 1
    places: int = 1

    @property
    def count(self) -> int:
        """Symbols of all places."""
        return len(self.columns) * self.places

    def moved(self, columns: Float64) -> Symbols:
        """The same symbols with other columns."""
        return Symbols(columns, self.each, self.places)

    def at(self, places: int) -> Symbols:
        """The same with columns for so few places, a divisor: place by place its own symbols."""
        if places == self.places:
            return self
        k, n = self.columns.shape
        joined = self.places // places
        own = self.columns.reshape(k, places, joined, -1)
        whole = np.zeros((joined, k, places, joined, own.shape[-1]))
        for j in range(joined):
            whole[j, :, :, j] = own[:, :, j]
        return Symbols(whole.reshape(joined * k, n), self.each, places)

    @cached_property
    def reach(self) -> Float64:
        """Largest |G·ξ| entry by entry (n,), at least."""
        return kernels.reach(*self.summed)

    @cached_property
    def summed(self) -> tuple[Float64, int, float, float]:
        """As `kernels.reach` takes them: the last two cover sums of so many squares and their
        roots, and squares that underflow, all of them perhaps: up to 2^-500 of each block."""
        k = len(self.columns)
        factor = (1 + rounding.gamma_factor(2 * k + 8, np.float64)) * _SLACK
        return np.ascontiguousarray(self.columns), self.each, factor, k * 2.0**-500


Parts = dict[int, Symbols]


class Ellipsotope(Frozen):
    """Values of a node of ``shape``; ``curved``: the same to second order, where that is known."""

    shape: tuple[int, ...]
    middle: Float64
    rest: Float64
    parts: Parts
    curved: Curved | None = None

    @cached_property
    def _far(self) -> tuple[Float64, int]:
        """Reach about the middle, both ends (3, n), and how many numbers are not finite."""
        parts = [part.summed for part in self.parts.values()]
        rest, middle = np.ascontiguousarray(self.rest), np.ascontiguousarray(self.middle)
        return kernels.swing(parts, rest, middle)

    def reaching(self, far: Float64, lost: int) -> Self:
        """Itself, of which is known what `kernels.swing` finds."""
        self.__dict__["_far"] = far, lost
        return self

    @property
    def swing(self) -> Float64:
        """Largest |value - middle|, at least."""
        found: Float64 = self._far[0][0]
        return found

    @property
    def known(self) -> bool:
        """Whether every number is finite."""
        return not self._far[1]

    @property
    def ends(self) -> tuple[Float64, Float64]:
        """The least box around the set, rounded outward."""
        return self._far[0][1], self._far[0][2]

    def radius(self, inside: NodeBounds) -> Float64:
        """At least |value - middle|, where the node's own bounds say more as well."""
        lower, upper = inside.lower.reshape(-1), inside.upper.reshape(-1)
        return np.minimum(self.swing, rounding.radius_about(lower, upper, self.middle))

    def at(self, apart: int) -> list[Symbols]:
        """All symbols, with columns for no more places than divide ``apart`` (0: any)."""
        return [part.at(math.gcd(part.places, apart)) for part in self.parts.values()]

    @property
    def plain(self) -> bool:
        """Whether ``rest`` is so small that sums may as well take it as an interval."""
        return bool(self.rest.sum() <= _NEGLIGIBLE * self.swing.sum())

    @cached_property
    def spelled(self) -> Ellipsotope:
        """The same set with ``rest`` as symbols, made once for all readers, where it matters.

        What an entry that hardly moves has left, as at positions that nothing reaches, stays.
        """
        if self.plain:
            return self
        some = np.flatnonzero(self.rest > _NEGLIGIBLE / len(self.rest) * self.swing.sum())
        rest = self.rest.copy()
        rest[some] = 0.0
        more = {new_key(): alone(self.shape, some, self.rest[some], MOST_PADDED)}
        made = Ellipsotope(self.shape, self.middle, rest, {**self.parts, **more})
        return made.reaching(*self._far)


class LinearForms(Ellipsotope):
    """Linear forms in the input's own symbols, and an interval that never becomes symbols: as many
    columns as inputs vary, however deep the network is."""

    @classmethod
    def of(cls, x: Ellipsotope) -> LinearForms:
        """The set, with the reach of all other symbols in ``rest``."""
        rest, own = x.rest, {key: part for key, part in x.parts.items() if key == INPUT}
        for key, part in x.parts.items():
            if key != INPUT:
                rest = rounding.up(rest + part.reach)
        return cls(x.shape, x.middle, rest, own)

    def replaced(self, which: Array, middle: Float64, rest: Float64) -> LinearForms:
        """The set with the entries ``which`` as intervals about ``middle``."""
        if not which.any():
            return self
        parts = {key: s.moved(np.where(which, 0.0, s.columns)) for key, s in self.parts.items()}
        middle, rest = np.where(which, middle, self.middle), np.where(which, rest, self.rest)
        return LinearForms(self.shape, middle, rest, parts)

    @property
    def plain(self) -> bool:
        return True


def alone(shape: tuple[int, ...], some: Indices, reach: Float64, padded: float) -> Symbols:
    """A symbol for each of the entries ``some`` of a node, places being all axes but the last.

    Not apart where places have so different numbers of them that this would be more than
    ``padded`` times as many.
    """
    places, n = math.prod(shape[:-1]), math.prod(shape)
    place = some // max(n // max(places, 1), 1)
    at = np.bincount(place, minlength=1)
    if int(at.max()) * places > padded * len(some):
        places, slot, k = 1, np.arange(len(some)), max(len(some), 1)
    else:
        slot, k = np.arange(len(some)) - (np.cumsum(at) - at)[place], max(int(at.max()), 1)
    columns = np.zeros((k, n))
    columns[slot, some] = reach
    return Symbols(columns, 1, places)


def shared(inputs: Sequence[Ellipsotope], apart: int) -> list[tuple[int, Symbols, list[Float64]]]:
    """All symbols of several sets: key, one set's, and the columns in each set.

    An operator keeps ``apart`` places apart (0: every entry).
    """
    kept: dict[int, int] = {}
    for x in inputs:
        for key, part in x.parts.items():
            kept[key] = math.gcd(part.places, kept.get(key, apart))
    found = []
    for key, places in kept.items():
        own = [x.parts[key].at(places) if key in x.parts else None for x in inputs]
        first = next(part for part in own if part is not None)
        k = len(first.columns)
        columns = [
            np.zeros((k, len(x.middle))) if part is None else part.columns
            for x, part in zip(inputs, own, strict=True)
        ]
        found.append((key, first, columns))
    return found


def added(signs: Sequence[int], inputs: Sequence[Ellipsotope]) -> Parts:
    """All symbols of a sum of sets, plus or minus; those of one set alone stay as they are."""
    places: dict[int, int] = {}
    found: Parts = {}
    for x in inputs:
        for key, part in x.parts.items():
            places[key] = math.gcd(part.places, places.get(key, 0))
    for sign, x in zip(signs, inputs, strict=True):
        for key, part in x.parts.items():
            own, known = part.at(places[key]), found.get(key)
            if known is not None:
                columns = known.columns
                own = own.moved(columns + own.columns if sign > 0 else columns - own.columns)
            elif sign < 0:
                own = own.moved(-own.columns)
            found[key] = own
    return found
