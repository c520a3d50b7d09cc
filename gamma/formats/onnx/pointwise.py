"""Several operators that are one function of one value: products, quotients and choices.

Two values that depend on the input may be multiplied, divided or chosen between when both are
elementwise functions of the same value: the whole is then a `Composite` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Value, Variable
from gamma.frozen import Frozen
from gamma.ops import Composite, Operator
from gamma.ops.composite import Choose, Fixed, Over, Step, Times

# Steps of one composite, and choices in it: each choice doubles its cost.
_STEPS = 64
_CHOICES = 4


class Condition(Frozen):
    """A comparison that depends on the input: left > right (>= unless strict)."""

    left: Value
    right: Value
    strict: bool


class Joined(Frozen):
    """Not (of one part), And, Or of conditions."""

    op: str
    parts: tuple[Any, ...]


Test = Condition | Joined


def compared(op: str, a: Value, b: Value) -> Condition | None:
    """The comparison operator's condition; None where equality is asked."""
    if op in ("Less", "LessOrEqual"):
        a, b = b, a
    if op not in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return None
    return Condition(a, b, op in ("Less", "Greater"))


def tests_of(test: Test) -> list[Condition]:
    """The comparisons in a condition."""
    if isinstance(test, Condition):
        return [test]
    return [c for part in test.parts for c in tests_of(part)]


class _Steps:
    """Steps over one base value under construction."""

    def __init__(self, t: Translation, base: int, inside: Sequence[int]) -> None:
        self.steps: list[Step] = []
        self.place = {base: 0}
        for node in inside:
            found = t.builder.nodes[node]
            inputs = tuple(self.place[i] for i in found.inputs)
            self.place[node] = self._emit(found.op, inputs)

    def _emit(self, op: Any, inputs: tuple[int, ...]) -> int:
        if not op.composed:
            return self.add(op, *inputs)
        places = list(inputs)
        for step in op.composed:
            places.append(self.add(step.op, *(places[i] for i in step.inputs)))
        return places[-1]

    def add(self, op: Operator | Fixed | Times | Over | Choose, *inputs: int) -> int:
        self.steps.append(Step(op, inputs))
        return len(self.steps)

    def value(self, x: Value) -> int:
        """The place of a variable or of a constant that is one number."""
        if isinstance(x, Variable):
            return self.place[x.node]
        return self.add(Fixed(float(x.array.reshape(-1)[0])), 0)

    def choose(self, test: Test, a: int, b: int) -> int:
        """a where the test holds, b elsewhere."""
        if isinstance(test, Condition):
            left, right = self.value(test.left), self.value(test.right)
            return self.add(Choose(test.strict), left, right, a, b)
        if test.op == "Not":
            return self.choose(test.parts[0], b, a)
        first, second = test.parts
        if test.op == "And":
            return self.choose(first, self.choose(second, a, b), b)
        return self.choose(first, a, self.choose(second, a, b))


def joined(
    t: Translation, call: Call, values: Sequence[Value], make: Callable[[_Steps], int]
) -> Variable | None:
    """The composite that ``make`` finishes over the values' common source.

    None where they have none, and where it takes too many steps.
    """
    variables = [v for v in values if isinstance(v, Variable)]
    numbers = [v for v in values if isinstance(v, Constant)]
    dims = t.broadcast(call, *values)
    found = _common(t, {v.node for v in variables})
    if found is None or any(v.dims != dims for v in variables) or not all(map(_single, numbers)):
        return None
    base, inside = found
    made = _Steps(t, base, inside)
    made.place[-1] = make(made)
    choices = sum(isinstance(s.op, Choose) for s in made.steps)
    if len(made.steps) > _STEPS or choices > _CHOICES:
        return None
    source = Variable(base, dims, variables[0].dtype)
    return t.emit(call, Composite(tuple(made.steps)), source, dims=dims)


def times(t: Translation, call: Call, a: Variable, b: Variable) -> Variable | None:
    """a · b as a function of one value."""
    return joined(t, call, [a, b], lambda s: s.add(Times(), s.value(a), s.value(b)))


def over(t: Translation, call: Call, a: Variable, b: Variable) -> Variable | None:
    """a / b as a function of one value."""
    return joined(t, call, [a, b], lambda s: s.add(Over(), s.value(a), s.value(b)))


def chosen(t: Translation, call: Call, test: Test, a: Value, b: Value) -> Variable:
    """a where the test holds, b elsewhere. Raises UnsupportedError."""
    operands = [v for c in tests_of(test) for v in (c.left, c.right)]
    found = joined(t, call, [a, b, *operands], lambda s: s.choose(test, s.value(a), s.value(b)))
    if found is None:
        raise t.fail(
            call,
            "a choice by a comparison that depends on the input; supported where all are "
            "functions, entry by entry, of one value of the network, of at most "
            f"{_STEPS} steps and {_CHOICES} choices, and constants are single numbers",
        )
    return found


def _common(t: Translation, roots: set[int]) -> tuple[int, list[int]] | None:
    """The nearest value of which all roots are elementwise functions, and the nodes between."""
    pending, inside = set(roots), list[int]()
    while len(pending) > 1:
        node = max(pending)
        if not t.builder.nodes[node].op.alike or len(inside) >= _STEPS:
            return None
        pending.remove(node)
        inside.append(node)
        pending.update(t.builder.nodes[node].inputs)
    return pending.pop(), sorted(inside)


def _uniform(array: Array) -> bool:
    return array.size > 0 and bool((array == array.reshape(-1)[0]).all())


def _single(value: Constant) -> bool:
    """One known finite float in every entry."""
    array = value.array
    return (
        array.dtype.kind == "f"
        and value.certain
        and _uniform(array)
        and bool(np.isfinite(array.reshape(-1)[0]))
    )
