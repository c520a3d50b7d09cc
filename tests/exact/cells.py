"""Tiny ReLU networks of two inputs: the polygons on which they are affine, in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gamma import ops
from gamma.network.graph import Network
from gamma.network.property import Conjunction, LinearConstraint

F = Fraction

Point = tuple[F, F]
Form = tuple[F, F, F]
"""a·x + b·y + c."""


@dataclass(frozen=True)
class Cell:
    """A convex polygon (corners in order; a segment or a point may be left) and its outputs."""

    corners: tuple[Point, ...]
    outputs: tuple[Form, ...]


def at(form: Form, p: Point) -> F:
    return form[0] * p[0] + form[1] * p[1] + form[2]


def clipped(corners: Sequence[Point], form: Form) -> tuple[Point, ...]:
    """The part of a convex polygon where the form is at most 0, its border included."""
    found: list[Point] = []
    for k, p in enumerate(corners):
        q = corners[k - 1]
        a, b = at(form, q), at(form, p)
        if (a < 0 < b) or (b < 0 < a):
            t = a / (a - b)
            found.append((q[0] + t * (p[0] - q[0]), q[1] + t * (p[1] - q[1])))
        if b <= 0:
            found.append(p)
    return tuple(dict.fromkeys(found))


def cells(net: Network, lower: Sequence[F], upper: Sequence[F]) -> list[Cell]:
    """The cells of Gemm layers with ReLUs between them over a box; they cover it."""
    (a, b), (c, d) = lower, upper
    corners = tuple(dict.fromkeys([(a, b), (c, b), (c, d), (a, d)]))
    one, zero = F(1), F(0)
    found = [Cell(corners, ((one, zero, zero), (zero, one, zero)))]
    for node in net.nodes[1:]:
        if isinstance(node.op, ops.Gemm):
            found = [Cell(cell.corners, _affine(node.op, cell.outputs)) for cell in found]
        elif isinstance(node.op, ops.Relu):
            found = [part for cell in found for part in _relu(cell)]
    return found


def _affine(op: ops.Gemm, inputs: tuple[Form, ...]) -> tuple[Form, ...]:
    bias = op.bias if op.bias is not None else [0] * len(op.weight)
    found = []
    for row, shift in zip(op.weight, bias, strict=True):
        weights = [F(float(w)) for w in row]
        terms = [
            sum(w * form[i] for w, form in zip(weights, inputs, strict=True)) for i in range(3)
        ]
        found.append((terms[0], terms[1], terms[2] + F(float(shift))))
    return tuple(found)


def _relu(cell: Cell) -> list[Cell]:
    parts: list[tuple[tuple[Point, ...], tuple[Form, ...]]] = [(cell.corners, ())]
    nothing = (F(0), F(0), F(0))
    for form in cell.outputs:
        negated = (-form[0], -form[1], -form[2])
        grown = []
        for corners, outputs in parts:
            values = [at(form, p) for p in corners]
            if max(values) > 0:
                grown.append((clipped(corners, negated), (*outputs, form)))
            if min(values) < 0 or max(values) <= 0:
                grown.append((clipped(corners, form), (*outputs, nothing)))
        parts = grown
    return [Cell(corners, outputs) for corners, outputs in parts]


def form_of(constraint: LinearConstraint, outputs: tuple[Form, ...]) -> Form:
    """value <= 0 is the constraint."""
    total = [F(0), F(0), -constraint.bound]
    for index, c in constraint.y:
        total = [t + c * o for t, o in zip(total, outputs[index], strict=True)]
    for index, c in constraint.x:
        total[index] += c
    return total[0], total[1], total[2]


def reachable(found: Sequence[Cell], conjunction: Conjunction) -> bool:
    """Whether some point of the cells meets all constraints, none of them strict."""
    for cell in found:
        corners = cell.corners
        for constraint in conjunction:
            corners = clipped(corners, form_of(constraint, cell.outputs)) if corners else ()
        if corners:
            return True
    return False


def least(found: Sequence[Cell], constraint: LinearConstraint) -> F:
    """The least value of the constraint's form over the cells."""
    return min(at(form_of(constraint, c.outputs), p) for c in found for p in c.corners)
