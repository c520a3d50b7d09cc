"""Ellipsotopes: sets middle + G·ξ + [-rest, rest], each block of symbols ξ in a unit ball.

Zonotopes where blocks have one symbol, ellipsoids where there is one block (Kousik, Dai and Gao
2022). A node's set shares symbols with those of other nodes: what both owe to the input, or to an
earlier error, is the same there, and cancels in sums. All arrays are float64 and flat (n,).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.tensor import rounding

if TYPE_CHECKING:
    from gamma.ops.squares import Curved

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_SLACK = 1 + 2.0**-40
_NEGLIGIBLE = 2.0**-24
"""Share of a node's reach up to which ``rest`` passes sums as an interval."""

_keys = count(1)
INPUT = 0
"""Key of the symbols that are the input's own."""


def new_key() -> int:
    """A key that no other symbols have."""
    return next(_keys)


class Symbols(Frozen):
    """Columns (k, n) of k symbols; ``each`` consecutive ones are a block, |ξ_block|₂ <= 1."""

    columns: Float64
    each: int = 1

    @cached_property
    def reach(self) -> Float64:
        """Largest |G·ξ| entry by entry (n,), at least."""
        k, n = self.columns.shape
        if self.each == 1:
            found = abs(self.columns).sum(axis=0)
        else:
            blocks = self.columns.reshape(-1, self.each, n)
            found = np.sqrt(np.einsum("ben,ben->bn", blocks, blocks)).sum(axis=0)
        factor = (1 + rounding.gamma_factor(2 * k + 8, np.float64)) * _SLACK
        if self.each == 1:
            return found * factor  # type: ignore[no-any-return]
        # Squares that underflow, all of them perhaps, hide up to 2^-500 of each block.
        result: Float64 = found * factor + np.where(self.columns.any(axis=0), k * 2.0**-500, 0.0)
        return result


Parts = dict[int, Symbols]


class Ellipsotope(Frozen):
    """Values of a node of ``shape``; ``curved``: the same to second order, where that is known."""

    shape: tuple[int, ...]
    middle: Float64
    rest: Float64
    parts: Parts
    curved: Curved | None = None

    @cached_property
    def swing(self) -> Float64:
        """Largest |value - middle|, at least."""
        total = self.rest.copy()
        for part in self.parts.values():
            total += part.reach
        result: Float64 = total * (1 + (len(self.parts) + 2) * 2.0**-52)
        return result

    @property
    def known(self) -> bool:
        """Whether every number is finite."""
        return bool(np.isfinite(self.swing).all() and np.isfinite(self.middle).all())

    @property
    def ends(self) -> tuple[Float64, Float64]:
        """The least box around the set, rounded outward."""
        return rounding.down(self.middle - self.swing), rounding.up(self.middle + self.swing)

    def radius(self, inside: NodeBounds) -> Float64:
        """At least |value - middle|, where the node's own bounds say more as well."""
        lower, upper = inside.lower.reshape(-1), inside.upper.reshape(-1)
        return np.minimum(self.swing, rounding.radius_about(lower, upper, self.middle))

    def columns(self, key: int, like: Symbols) -> Float64:
        """Columns of the symbols ``key``, zeros where the set has none of them."""
        if key in self.parts:
            return self.parts[key].columns
        return np.zeros((len(like.columns), len(self.middle)))

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
        n = len(self.rest)
        some = np.flatnonzero(self.rest > _NEGLIGIBLE / n * self.swing.sum())
        columns, rest = np.zeros((len(some), n)), self.rest.copy()
        columns[np.arange(len(some)), some] = self.rest[some]
        rest[some] = 0.0
        return Ellipsotope(
            self.shape, self.middle, rest, {**self.parts, new_key(): Symbols(columns)}
        )


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
        parts = {key: Symbols(np.where(which, 0.0, s.columns)) for key, s in self.parts.items()}
        middle, rest = np.where(which, middle, self.middle), np.where(which, rest, self.rest)
        return LinearForms(self.shape, middle, rest, parts)

    @property
    def plain(self) -> bool:
        return True


def shared(inputs: Sequence[Ellipsotope]) -> list[tuple[int, int, list[Float64]]]:
    """All symbols of several sets: key, length of a block, and the columns in each set."""
    found: Parts = {}
    for x in inputs:
        found = {**x.parts, **found}
    return [(key, s.each, [x.columns(key, s) for x in inputs]) for key, s in found.items()]
