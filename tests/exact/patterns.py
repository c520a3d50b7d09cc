"""Tiny ReLU networks decided exactly: activation patterns, and rational linear programmes on each.

A pattern says of every ReLU on which side of 0 its input is; the inputs that have it are a polytope
on which the network is affine. The programmes are Seidel's: rows one by one, and where one is
violated the optimum lies on its plane, a programme with an input less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flint

from gamma import ops
from gamma.network.graph import Network
from gamma.network.property import Conjunction, LinearConstraint

Q = Any  # flint.fmpq
Row = tuple[tuple[Q, ...], Q]
"""(a, b) for a·x + b; as a condition a·x + b <= 0."""
ZERO = flint.fmpq(0)


def rational(value: Any) -> Q:
    """A float, an int or a Fraction as a rational."""
    return flint.fmpq(*value.as_integer_ratio())


def value(row: Row, x: Sequence[Q]) -> Q:
    return sum((a * v for a, v in zip(row[0], x, strict=True)), row[1])


def minimise(
    c: Sequence[Q], rows: Sequence[Row], low: Sequence[Q], high: Sequence[Q]
) -> list[Q] | None:
    """A point of the box that meets all rows with the least c·x, None when none meets them."""
    x = [a if k >= 0 else b for k, a, b in zip(c, low, high, strict=True)]
    for number, row in enumerate(rows):
        if value(row, x) <= 0:
            continue
        i = max(range(len(x)), key=lambda k: abs(row[0][k]), default=-1)
        if i < 0 or row[0][i] == 0:
            return None
        unit = tuple(flint.fmpq(int(k == i)) for k in range(len(x)))
        ends = [(tuple(-u for u in unit), low[i]), (unit, -high[i])]
        inner = [_on_plane(r, row, i) for r in (*rows[:number], *ends)]
        goal, _ = _on_plane((tuple(c), ZERO), row, i)
        rest = minimise(goal, inner, _without(low, i), _without(high, i))
        if rest is None:
            return None
        known = value((_without(row[0], i), row[1]), rest)
        x = [*rest[:i], -known / row[0][i], *rest[i:]]
    return x


def _without(values: Sequence[Q], i: int) -> tuple[Q, ...]:
    return (*values[:i], *values[i + 1 :])


def _on_plane(row: Row, plane: Row, i: int) -> Row:
    """A row where the plane's is 0, without input i."""
    factor = row[0][i] / plane[0][i]
    a = tuple(v - factor * p for v, p in zip(row[0], plane[0], strict=True))
    return _without(a, i), row[1] - factor * plane[1]


@dataclass(frozen=True)
class Piece:
    """A polytope of the box, and the outputs on it."""

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]


class Pieces:
    """All pieces of a network of Gemm and Relu layers over a box."""

    def __init__(self, net: Network, lower: Sequence[Any], upper: Sequence[Any]) -> None:
        self.low, self.high = [*map(rational, lower)], [*map(rational, upper)]
        unit = [
            tuple(flint.fmpq(int(i == k)) for i in range(len(lower))) for k in range(len(lower))
        ]
        self.all = [Piece((), tuple((u, ZERO) for u in unit))]
        for node in net.nodes[1:]:
            if isinstance(node.op, ops.Gemm):
                self.all = [Piece(p.rows, _affine(node.op, p.outputs)) for p in self.all]
            else:
                assert isinstance(node.op, ops.Relu)
                self.all = [part for piece in self.all for part in self._relu(piece)]

    def least(self, row: Row, rows: Sequence[Row]) -> Q | None:
        """The least value of a form where rows are met, None when they are nowhere."""
        x = minimise(row[0], rows, self.low, self.high)
        return None if x is None else value(row, x)

    def _relu(self, piece: Piece) -> list[Piece]:
        parts = [Piece(piece.rows, ())]
        for form in piece.outputs:
            negated = tuple(-a for a in form[0]), -form[1]
            nothing = tuple(ZERO for _ in form[0]), ZERO
            grown = []
            for part in parts:
                below, above = self.least(form, part.rows), self.least(negated, part.rows)
                if (above is not None and above < 0) or (below is not None and below >= 0):
                    rows = part.rows if below >= 0 else (*part.rows, negated)
                    grown.append(Piece(rows, (*part.outputs, form)))
                if below is not None and below < 0:
                    rows = part.rows if above >= 0 else (*part.rows, form)
                    grown.append(Piece(rows, (*part.outputs, nothing)))
            parts = grown
        return parts

    def value(self, constraint: LinearConstraint) -> Q:
        """The least value of the constraint's left side less its bound."""
        return min(
            found
            for piece in self.all
            if (found := self.least(_form(constraint, piece), piece.rows)) is not None
        )

    def reachable(self, conjunction: Conjunction) -> bool:
        """Whether some input meets all constraints, none of them strict."""
        free = tuple(ZERO for _ in self.low), ZERO
        return any(
            self.least(free, (*piece.rows, *(_form(c, piece) for c in conjunction))) is not None
            for piece in self.all
        )


def _affine(op: ops.Gemm, inputs: tuple[Row, ...]) -> tuple[Row, ...]:
    found = []
    for weights, shift in zip(op.weight, op.bias, strict=True):  # type: ignore[arg-type]
        a, b = [ZERO] * len(inputs[0][0]), rational(float(shift))
        for w, (c, d) in zip(weights, inputs, strict=True):
            factor = rational(float(w))
            a, b = [s + factor * t for s, t in zip(a, c, strict=True)], b + factor * d
        found.append((tuple(a), b))
    return tuple(found)


def _form(constraint: LinearConstraint, piece: Piece) -> Row:
    """The constraint is that this is at most 0."""
    a, b = [ZERO] * len(piece.outputs[0][0]), -rational(constraint.bound)
    for i, factor in constraint.y:
        c, d = piece.outputs[i]
        a = [s + rational(factor) * t for s, t in zip(a, c, strict=True)]
        b = b + rational(factor) * d
    for i, factor in constraint.x:
        a[i] = a[i] + rational(factor)
    return tuple(a), b
