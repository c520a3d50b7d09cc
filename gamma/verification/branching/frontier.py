"""Open sub-problems as a struct of arrays: one column per attribute, one row per sub-problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Items = dict[str, Array]
"""Columns of some sub-problems, with as many rows each."""
ALONE = 64
"""Up to so many sub-problems take longer in two parts than as one."""


class Frontier:
    """The open sub-problems, the worst bound first.

    Columns are free but for ``bound`` (float64, a lower bound that holds on the whole sub-problem)
    and ``depth``. Once they take more than ``most_bytes`` the deepest come first, which closes
    more than it opens; ``full`` says that this has happened.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.full = most_bytes, False
        self._columns: Items = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> Array:
        """One column of all open sub-problems."""
        return self._columns[name][: self._count]

    @property
    def nbytes(self) -> int:
        """Bytes of the open sub-problems."""
        return sum(c.nbytes // max(len(c), 1) for c in self._columns.values()) * self._count

    @property
    def worst(self) -> float:
        """The least bound of all, infinity when nothing is open."""
        return float(self["bound"].min()) if self._count else np.inf

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, none before the first push."""
        return tuple(self._columns)

    def widen(self, columns: Mapping[str, tuple[int, int]]) -> None:
        """Columns (rows, width) get a larger width; what is new has the value that is given."""
        for name, (width, blank) in columns.items():
            old = self._columns[name]
            short = ((0, 0), (0, width - old.shape[1]))
            self._columns[name] = np.pad(old, short, constant_values=blank)

    def push(self, items: Mapping[str, Array]) -> None:
        """Add sub-problems."""
        more = len(items["bound"])
        if not self._columns:
            self._columns = {name: column[:0].copy() for name, column in items.items()}
        if self._count + more > len(self._columns["bound"]):
            room = max(256, 2 * len(self._columns["bound"]), self._count + more)
            for name, column in self._columns.items():
                grown = np.empty((room, *column.shape[1:]), column.dtype)
                grown[: self._count] = column[: self._count]
                self._columns[name] = grown
        for name, column in items.items():
            self._columns[name][self._count : self._count + more] = column
        self._count += more
        self.full |= self.nbytes > self.most_bytes

    def everything(self) -> Items:
        """All columns of all open sub-problems (views)."""
        return {name: self[name] for name in self._columns}

    def take(self, count: int) -> Items:
        """Remove up to ``count`` sub-problems, the worst, and return them."""
        key = self["bound"] if self.nbytes <= self.most_bytes else -self["depth"].astype(float)
        chosen = np.arange(self._count)
        if count < self._count:
            chosen = np.sort(np.argpartition(key, count - 1)[:count])
        return self.remove(chosen)

    def remove(self, chosen: Array) -> Items:
        """Remove the sub-problems ``chosen`` (ascending) and return them."""
        items = {name: column[chosen] for name, column in self._columns.items()}
        left = self._count - len(chosen)
        # The last ones move into the places that became free.
        holes = chosen[chosen < left]
        stays = np.ones(self._count - left, bool)
        stays[chosen[chosen >= left] - left] = False
        movers = left + np.flatnonzero(stays)
        for column in self._columns.values():
            column[holes] = column[movers]
        self._count = left
        return items


class Column(NamedTuple):
    """What a column of a stored frontier must be: dtype, width (None: any, -1: no second axis), and
    the ends of its values."""

    dtype: str
    width: int | None
    low: Any
    high: Any


def fitting(items: Mapping[str, Array], columns: Mapping[str, Column]) -> Items:
    """Stored columns, checked. Raises ValueError that names a column which does not fit."""
    if set(items) != set(columns):
        raise ValueError(f"the columns {', '.join(sorted(set(items) ^ set(columns)))[:80]}")
    count = len(items["bound"]) if items["bound"].ndim else 0
    for name, (dtype, width, low, high) in columns.items():
        column = items[name]
        fits = column.dtype == dtype and column.ndim == (1 if width == -1 else 2)
        fits = fits and len(column) == count
        fits = fits and (width in (None, -1) or column.shape[1] == width)
        if not fits or not ((column >= low) & (column <= high)).all():
            raise ValueError(f"column {name}")
    return dict(items)


def stored(items: Mapping[str, Array], kind: str) -> Items:
    """Columns under names that say what they are of."""
    return {f"{kind}.{name}": column for name, column in items.items()}


def named(state: Mapping[str, Array], kind: str) -> Items:
    """The columns that `stored` put under ``kind``."""
    return {n.partition(".")[2]: a for n, a in state.items() if n.partition(".")[0] == kind}


def chosen(items: Mapping[str, Array], which: Array) -> Items:
    """The rows ``which`` of some columns."""
    return {name: column[which] for name, column in items.items()}


def divided(items: Items, most: int) -> list[Items]:
    """The items in parts of up to ``most``, as even in size and number as may be: threads that
    share them end together. Never depends on how many threads there are."""
    count = len(items["bound"])
    pairs = -(-count // (2 * most))
    parts = 1 if count <= min(most, ALONE) else 2 * pairs
    ends = [number * count // parts for number in range(parts + 1)]
    return [
        {name: column[first:last] for name, column in items.items()}
        for first, last in zip(ends, ends[1:], strict=False)
    ]


def joined(parts: list[Items]) -> Items:
    """Columns one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
