"""Long runs of declarations, bounds on single inputs and conjunctions, read as columns of arrays.

Large property files are little else: ``(assert (<= X_7 0.5))`` a million times, or as many times
``(and (<= X_0 0.5) (>= Y_0 1))`` in one ``or``. What is written in these plain forms is read here
without a Python object per word; whatever else a file holds, errors included, is left to the
readers of the two versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.network.columns import fractions

Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

RUN = 50_000  # commands read at once
SHORTEST = 16  # commands for which arrays pay
# Decimals whose digits without the point fit into 63 bits, if a space or a ')' follows.
NUMBER = r"[+-]?+(?:0?\.[0-9]{1,18}|(?=[0-9.]{2,19}(?![0-9.]))[0-9]++\.[0-9]*+|[0-9]{1,18})"
INDEX = r"(?:0|[1-9][0-9]{0,8})"
COMPARISON = rf"\([<>]= (?:[XY]_{INDEX} {NUMBER}|Y_{INDEX} Y_{INDEX})\)"
CONJUNCTION = rf"\(and\s*+(?:{COMPARISON}\s*+)++\)"
POWERS = 10 ** np.arange(19, dtype=np.int64)

_OPEN, _LESS, _POINT, _MINUS, _PLUS, _COMMA, _SPACE = map(ord, "(<.-+, ")


class Bounds(Frozen):
    """Columns: input ``variable`` is at most (``upper``) or at least numerator/denominator.

    Fractions are in lowest terms; ``at`` is where the text states them.
    """

    variable: Int64
    upper: npt.NDArray[np.bool_]
    numerator: Int64
    denominator: Int64
    at: Int64

    @classmethod
    def joined(cls, parts: list[Bounds]) -> Bounds:
        """All rows of the parts, in order."""
        empty = [np.zeros(0, np.int64)]
        names = ("variable", "upper", "numerator", "denominator", "at")
        columns = [np.concatenate([getattr(p, n) for p in parts] or empty) for n in names]
        columns[1] = columns[1].astype(bool)
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.variable)

    def tightest(self, upper: bool) -> dict[int, Fraction]:
        """The least upper (or greatest lower) bound of every variable that has one."""
        rows = np.flatnonzero(self.upper == upper)
        if not len(rows):
            return {}
        variable = self.variable[rows]
        if (variable[1:] > variable[:-1]).all():  # nothing is stated twice
            values = fractions(self.numerator[rows], self.denominator[rows])
            return dict(zip(variable.tolist(), values, strict=True))
        nearest = self.numerator[rows] / self.denominator[rows]
        order = np.lexsort((nearest if upper else -nearest, self.variable[rows]))
        rows, nearest = rows[order], nearest[order]
        variable = self.variable[rows]
        first = np.r_[True, variable[1:] != variable[:-1]]
        values = fractions(self.numerator[rows[first]], self.denominator[rows[first]])
        result = dict(zip(variable[first].tolist(), values, strict=True))
        # Another value with the first one's float64 may be tighter still: compared exactly.
        rivals = ~first & (nearest == nearest[first][np.cumsum(first) - 1])
        changed = np.diff(self.numerator[rows]) != 0
        rivals[1:] &= changed | (np.diff(self.denominator[rows]) != 0)
        for row in rows[rivals].tolist():
            value = Fraction(int(self.numerator[row]), int(self.denominator[row]))
            key = int(self.variable[row])
            if value < result[key] if upper else value > result[key]:
                result[key] = value
        return result

    def doubtful(self) -> set[int]:
        """Variables whose stated ends are not surely apart, lower below upper, in float64."""
        nearest = self.numerator / self.denominator  # to within 3 of 2^-53
        count = int(self.variable.max(initial=-1)) + 1
        low, high = np.full(count, -np.inf), np.full(count, np.inf)
        np.maximum.at(low, self.variable[~self.upper], nearest[~self.upper])
        np.minimum.at(high, self.variable[self.upper], nearest[self.upper])
        both = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
        low, high = low[both], high[both]
        apart = high - low > (abs(high) + abs(low)) * 2.0**-50
        return set(both[~apart].tolist())

    def place(self, variable: int, value: Fraction, upper: bool) -> int:
        """Where this bound is stated last, -1 if nowhere."""
        same = (self.variable == variable) & (self.upper == upper)
        if max(abs(value.numerator), value.denominator) >= 1 << 63:
            return -1
        same &= (self.numerator == value.numerator) & (self.denominator == value.denominator)
        return int(self.at[same].max(initial=-1))


def runs(pattern: re.Pattern[str], text: str, start: int) -> Iterator[tuple[str, int]]:
    """Pieces of ``text`` from ``start`` on that are plain commands, and where they stand."""
    while (match := pattern.match(text, start)) is not None:
        yield match.group(), start
        start = match.end()


def plain_commands(body: str) -> re.Pattern[str]:
    """What matches up to ``RUN`` commands of one plain form."""
    return re.compile(r"\s*+(?:" + body + r"\s*+){" + f"{SHORTEST},{RUN}" + r"}+", re.ASCII)


def declared(chunk: str, prefix: int, suffix: str = "") -> tuple[Bytes, Int64]:
    """First letters and numbers of names that stand ``prefix`` bytes behind each '('."""
    buffer = np.frombuffer(chunk.encode("ascii"), np.uint8)
    names = np.flatnonzero(buffer == _OPEN) + prefix
    return buffer[names], _digits(buffer, names + 2)[0]


def bounds(chunk: str, start: int, prefix: int, shape: tuple[int, ...] = ()) -> Bounds | None:
    """Bounds ``(assert (<= NAME…INDEX…NUMBER))`` whose index is ``prefix`` bytes behind the '<'.

    With a ``shape`` there is one index per axis between brackets. None where an index is beyond it.
    """
    buffer = np.frombuffer(chunk.encode("ascii"), np.uint8)
    relation = np.flatnonzero((buffer == _LESS) | (buffer == _LESS + 2))
    variable, position = _digits(buffer, relation + prefix)
    inside = np.ones(len(relation), bool)
    for before, size in pairwise((0, *shape)):
        if before:  # a further index, behind a comma and perhaps a space
            inside &= buffer[position] == _COMMA
            position = position + 1
            position = position + (buffer[position] == _SPACE)
            following, position = _digits(buffer, position)
        else:
            following, variable = variable, np.zeros_like(variable)
        inside &= following < size
        variable = variable * size + following
    position = position + (2 if shape else 1)  # "] " or " "
    inside &= buffer[position - 1] == _SPACE
    if not inside.all():
        return None
    numerator, denominator = _numbers(buffer, position)
    upper = buffer[relation] == _LESS
    return Bounds(variable, upper, numerator, denominator, relation - 1 + start)


class Comparisons(Frozen):
    """Columns: ``letter`` variable is at most (``upper``) or at least a number or output ``other``.

    ``group`` is the first comparison of each conjunction, ``other`` -1 where there is a number.
    """

    letter: Bytes
    variable: Int64
    upper: npt.NDArray[np.bool_]
    numerator: Int64
    denominator: Int64
    other: Int64
    at: Int64
    group: Int64


def comparisons(chunk: str, start: int) -> Comparisons:
    """What a run of `CONJUNCTION` holds."""
    buffer = np.frombuffer(chunk.encode("ascii"), np.uint8)
    relation = np.flatnonzero((buffer == _LESS) | (buffer == _LESS + 2))
    variable, position = _digits(buffer, relation + len("<= X_"))
    named = buffer[position + 1] == ord("Y")
    value, denominator = _numbers(buffer, position + np.where(named, len(" Y_"), 1))
    group = np.searchsorted(relation, np.flatnonzero(buffer == ord("n")))  # of "and" alone
    return Comparisons(
        buffer[relation + 3], variable, buffer[relation] == _LESS, value, denominator,
        np.where(named, value, -1), relation - 1 + start, group,
    )  # fmt: skip


def _numbers(buffer: Bytes, position: Int64) -> tuple[Int64, Int64]:
    """Numerators and denominators, coprime, of the decimals that start at ``position``."""
    sign = buffer[position]
    position = position + ((sign == _MINUS) | (sign == _PLUS))
    value, position = _digits(buffer, position)
    fraction = position + (buffer[position] == _POINT)
    value, position = _digits(buffer, fraction, value)
    denominator = POWERS[position - fraction]
    divisor = np.gcd(value, denominator)
    return np.where(sign == _MINUS, -value, value) // divisor, denominator // divisor


def _digits(buffer: Bytes, position: Int64, value: Int64 | None = None) -> tuple[Int64, Int64]:
    """The numbers whose digits start at ``position`` (appended to ``value``), and their ends."""
    value = np.zeros(len(position), np.int64) if value is None else value
    while True:
        digit = buffer[position] - np.uint8(48)  # wraps around for what stands below "0"
        more = digit < 10
        if not more.any():
            return value, position
        value = np.where(more, value * 10 + digit, value)
        position = position + more
