"""Products and quotients of two variables; those that are functions of one become that function."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gamma.formats.onnx.pointwise import over, times
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Value, Variable, strip
from gamma.frozen import Frozen
from gamma.ops import Erf, Gelu, MatMul, Mul, Operator, Pow, Reciprocal, Scale, Sigmoid, Silu
from gamma.ops.execution import ANYTHING, LOST, UNIT, Execution


class Factor(Frozen, eq=True):
    """A real number: a fraction and how far, relatively, the number may lie from it.

    ``largest``: at least the product of its factors that are larger than 1, here or inverted.
    """

    value: Fraction
    error: float = 0.0
    largest: float = 1.0

    @classmethod
    def of(cls, value: float, error: float = 0.0, tame: bool = True) -> Factor:
        size = max(abs(value), 1 / abs(value)) if value else 1.0
        return cls(Fraction(value), error, size * (1 + 2.0**-40) if tame else ANYTHING)

    def __mul__(self, other: Factor) -> Factor:
        return self._joined(self.value * other.value, other, other.error)

    def __truediv__(self, other: Factor) -> Factor:
        # 1/(1-e) <= 1 + 2e for the tiny e that arise here.
        return self._joined(self.value / other.value, other, 2 * other.error)

    def _joined(self, value: Fraction, other: Factor, error: float) -> Factor:
        return Factor(value, _joint(self.error, error), self.largest * other.largest)

    def constant(self) -> Constant:
        """As a float64 constant with its absolute error."""
        nearest = float(self.value)
        rounding = abs(Fraction(nearest) - self.value)
        if rounding == 0 and self.error == 0.0:
            return Constant(np.array(nearest))
        bound = float(rounding) + abs(nearest) * self.error * (1 + 2.0**-50)
        return Constant(np.array(nearest), np.array(math.nextafter(bound, math.inf)))


def _joint(a: float, b: float) -> float:
    return 0.0 if a == b == 0.0 else (a + b + a * b) * (1 + 2.0**-50)


_ROOT = Factor.of(math.sqrt(2.0), 2.0**-53)
# x·sigmoid(kx) = silu(kx)/k, x·(1 + erf(kx)) = (√2/k)·gelu(√2 k x).
_GATED: dict[str, tuple[Operator, Factor | None]] = {
    "Sigmoid": (Silu(), None),
    "Erf": (Gelu(), _ROOT),
}
_ONE = Factor(Fraction(1))
_STEPS = 4


def product(t: Translation, call: Call, a: Variable, b: Variable) -> Value:
    """a · b where both depend on the input."""
    if a.node == b.node and a.dims == b.dims:
        return t.emit(call, Pow(2.0), a, dims=a.dims)
    if a.dims == b.dims:
        for x, gate in ((a, b), (b, a)):
            found = _gated(t, call, x, gate)
            if found is not None:
                return found
    found = times(t, call, a, b)
    return t.emit(call, Mul(), a, b, dims=t.broadcast(call, a, b)) if found is None else found


def matrix_product(t: Translation, call: Call, a: Variable, b: Variable) -> Variable:
    """a @ b where both depend on the input."""
    try:
        outer = np.broadcast_shapes(a.dims[:-2], b.dims[:-2])
    except ValueError:
        raise t.malformed(call, "the matrices do not fit together") from None
    dims = (*(int(n) for n in outer), a.dims[-2], b.dims[-1])
    stacks = (t.as_shape(call, x, x.dims if len(x.dims) == 2 else strip(x.dims)) for x in (a, b))
    return t.emit(call, MatMul(), *stacks, dims=dims)


def divide(t: Translation, call: Call, a: Value, b: Variable) -> Value:
    """a / b for a variable b: a function of one value, else a times the reciprocal.

    A float32 execution rounds the quotient once: what the two steps are charged covers that.
    """
    found = over(t, call, a, b) if isinstance(a, Variable) else None
    if found is not None:
        return found
    inverse = t.emit(call, Reciprocal(), b, dims=b.dims)
    if isinstance(a, Variable):
        return t.emit(call, Mul(), a, inverse, dims=t.broadcast(call, a, inverse))
    return t.scale(call, inverse, a)


def _gated(t: Translation, call: Call, x: Variable, gate: Variable) -> Variable | None:
    """x · gate when the gate is a sigmoid or 1 + erf of a multiple of x's source."""
    source, factor = _peel(t, x.node)
    function, outer = _gate(t, gate.node)
    op, below = t.builder.nodes[function].op, t.builder.nodes[function].inputs
    if len(below) != 1:
        return None
    base, slope = _peel(t, below[0])
    if base != source or slope.value == 0:
        return None
    value = Variable(source, x.dims, x.dtype)
    if op.name not in _GATED:
        return None
    made, root = _GATED[op.name]
    inside, after = (
        (slope, outer * factor) if root is None else (root * slope, outer * factor * root)
    )
    return _activation(t, call, value, made, inside, after / slope)


def _gate(t: Translation, node: int) -> tuple[int, Factor]:
    """The Sigmoid or Erf in c·sigmoid(.) or c·(1 + erf(.)), and c; else a node of another kind."""
    function, outer = _peel(t, node)
    op = t.builder.nodes[function].op
    if isinstance(op, Sigmoid):
        return function, outer
    if not isinstance(op, Scale) or op.shift is None or np.any(op.shift_error) or op.scale_error:
        return 0, _ONE
    inner = t.builder.nodes[function].inputs[0]
    scale, shift = _uniform(op.scale), _uniform(op.shift)
    if scale is None or scale != shift or not isinstance(t.builder.nodes[inner].op, Erf):
        return 0, _ONE
    return inner, outer * Factor.of(scale)


def _activation(
    t: Translation, call: Call, x: Variable, op: Operator, inside: Factor, after: Factor
) -> Variable:
    largest = inside.largest * after.largest
    scaled = t.scale(call, x, inside.constant(), None, _executed(inside, largest))
    made = t.emit(call, op, scaled, dims=x.dims)
    return t.scale(call, made, after.constant(), None, _executed(after, largest))


def _executed(factor: Factor, largest: float) -> Execution:
    """A float32 execution multiplies by the file's factors, up to `_STEPS` on each of two paths.

    ``largest``: the product of all of them that exceed 1. No intermediate result is larger than
    that times |x|, and no loss to underflow grows by more.
    """
    size, lost = abs(float(factor.value)), 8 * _STEPS * LOST * largest
    return Execution(
        np.asarray(8 * _STEPS * UNIT * size + lost),
        np.asarray(lost),
        np.asarray(largest),
        np.asarray(largest),
    )


def _peel(t: Translation, node: int) -> tuple[int, Factor]:
    """The node below multiplications by one number each, and the product of those numbers."""
    factor = _ONE
    for _ in range(_STEPS):
        op = t.builder.nodes[node].op
        if not isinstance(op, Scale) or op.shift is not None or np.any(op.shift_error):
            return node, factor
        value = _uniform(op.scale)
        if value is None:
            return node, factor
        factor = factor * Factor.of(value, op.scale_error, _tame(op))
        node = t.builder.nodes[node].inputs[0]
    return node, factor


def _tame(op: Scale) -> bool:
    """Whether a float32 execution computes the factor itself to three roundings."""
    return bool((op.executed.error <= 3 * UNIT * abs(op.scale) + LOST).all())


def _uniform(array: Array) -> float | None:
    """The one number that the array holds everywhere."""
    first = array.reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None
