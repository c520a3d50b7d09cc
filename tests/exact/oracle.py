"""The truth: a network evaluated in exact rationals, or in 400-bit balls where it is irrational.

Nothing here uses the operators' own arithmetic: every operator is spelled out again from its
definition. Rational operators map ``fmpq`` to ``fmpq`` exactly. A transcendental one turns its
entries into ``arb`` balls of proved radius; a bound is wrong when it lies beyond the whole ball.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import flint
import numpy as np
from flint import arb, fmpq

from gamma import ops
from gamma.network.graph import Network, Node

BITS = 400
Numbers = Any  # object arrays of fmpq or arb


def exact(values: Any) -> Numbers:
    """Floats as exact rationals, shape kept."""
    array = np.asarray(values, dtype=np.float64)
    out = np.empty(array.shape, object)
    for index in np.ndindex(*array.shape):
        out[index] = fmpq(*float(array[index]).as_integer_ratio())
    return out


def _map(function: Any, values: Numbers) -> Numbers:
    out = np.empty(values.shape, object)
    for index in np.ndindex(*values.shape):
        out[index] = function(values[index])
    return out


def _ball(value: Any) -> arb:
    return value if isinstance(value, arb) else arb(value)


def _max(a: Any, b: Any) -> Any:
    if isinstance(a, arb) or isinstance(b, arb):
        return _ball(a).max(_ball(b))
    return a if a >= b else b


def _min(a: Any, b: Any) -> Any:
    return -_max(-a, -b)


def q(value: float) -> fmpq:
    """One float as a rational."""
    return fmpq(*float(value).as_integer_ratio())


class Truth:
    """Exact values of every node at one point.

    ``wobble`` in [-1, 1] places uncertain coefficients (Scale, ReduceSum with errors) within their
    stated error: each is a network the bounds must hold for.
    """

    def __init__(self, network: Network, wobble: float = 0.0) -> None:
        self.network, self.wobble = network, q(wobble)

    def __call__(self, point: Any) -> list[Numbers]:
        previous = flint.ctx.prec
        flint.ctx.prec = BITS
        try:
            shape = self.network.input_shape
            values = [exact(point).reshape(shape)]
            for node in self.network.nodes[1 : self.network.output + 1]:
                values.append(self._node(node, [values[i] for i in node.inputs]))
            return values
        finally:
            flint.ctx.prec = previous

    def _node(self, node: Node, inputs: list[Numbers]) -> Numbers:
        op = node.op
        method = getattr(self, f"_{type(op).__name__.lower()}", None)
        if method is not None:
            result = method(op, *inputs)
        else:
            result = elementwise(op, inputs[0])
        assert result.shape == node.shape, (op, result.shape, node.shape)
        return result

    # -- linear ----------------------------------------------------------------------------------

    def _gemm(self, op: ops.Gemm, x: Numbers) -> Numbers:
        weight = exact(op.weight)
        out = np.empty((*x.shape[:-1], weight.shape[0]), object)
        for lead in np.ndindex(*x.shape[:-1]):
            for k in range(weight.shape[0]):
                total = fmpq(0) if op.bias is None else q(op.bias[k])
                for a, b in zip(weight[k], x[lead], strict=True):
                    total = total + b * a
                out[(*lead, k)] = total
        return out

    def _conv(self, op: ops.Conv, x: Numbers) -> Numbers:
        rank = op.weight.ndim - 2
        weight, kernel = exact(op.weight), op.weight.shape[2:]
        per_group_in, per_group_out = op.weight.shape[1], op.weight.shape[0] // op.group
        shape = op.shape(x.shape)
        out = np.empty(shape, object)
        for place in np.ndindex(*shape):
            channel, position = place[0], place[1:]
            first = channel // per_group_out * per_group_in
            total = fmpq(0) if op.bias is None else q(op.bias[channel])
            for c, *at in itertools.product(range(per_group_in), *map(range, kernel)):
                spot = [
                    position[a] * op.strides[a] + at[a] * op.dilations[a] - op.pads[a]
                    for a in range(rank)
                ]
                if all(0 <= s < n for s, n in zip(spot, x.shape[1:], strict=True)):
                    total = total + x[(first + c, *spot)] * weight[(channel, c, *at)]
            out[place] = total
        return out

    def _convtranspose(self, op: ops.ConvTranspose, x: Numbers) -> Numbers:
        rank = op.weight.ndim - 2
        weight, kernel = exact(op.weight), op.weight.shape[2:]
        shape = op.shape(x.shape)
        out = np.empty(shape, object)
        per_in, per_out = op.weight.shape[0] // op.group, op.weight.shape[1]
        for place in np.ndindex(*shape):
            out[place] = fmpq(0) if op.bias is None else q(op.bias[place[0]])
        for source in np.ndindex(*x.shape):
            group = source[0] // per_in
            for c, *at in itertools.product(range(per_out), *map(range, kernel)):
                spot = [
                    source[a + 1] * op.strides[a] + at[a] * op.dilations[a] - op.pads[a]
                    for a in range(rank)
                ]
                if all(0 <= s < n for s, n in zip(spot, shape[1:], strict=True)):
                    where = (group * per_out + c, *spot)
                    out[where] = out[where] + x[source] * weight[(source[0], c, *at)]
        return out

    def _scale(self, op: ops.Scale, x: Numbers) -> Numbers:
        factor = np.broadcast_to(exact(op.scale), x.shape)
        result = x * factor * (1 + self.wobble * q(op.scale_error))
        if op.shift is not None:
            result = result + np.broadcast_to(exact(op.shift), x.shape)
        return result + np.broadcast_to(exact(op.shift_error), x.shape) * self.wobble

    def _add(self, op: ops.Add, *inputs: Numbers) -> Numbers:
        total = inputs[0] * op.signs[0]
        for sign, x in zip(op.signs[1:], inputs[1:], strict=True):
            total = total + x * sign
        return total

    def _concat(self, op: ops.Concat, *inputs: Numbers) -> Numbers:
        return np.concatenate(inputs, axis=op.axis)

    def _reducesum(self, op: ops.ReduceSum, x: Numbers) -> Numbers:
        factor = q(op.scale) * (1 + self.wobble * q(op.scale_error))
        total = np.add.reduce(x, axis=op.axes, keepdims=op.keepdims)
        return np.asarray(total * factor, dtype=object)

    def _reshape(self, op: ops.Reshape, x: Numbers) -> Numbers:
        return x.reshape(op.target)

    def _transpose(self, op: ops.Transpose, x: Numbers) -> Numbers:
        return x.transpose(op.perm)

    def _gather(self, op: ops.Gather, x: Numbers) -> Numbers:
        flat, out = x.reshape(-1), np.empty(op.index.size, object)
        for k, i in enumerate(op.index.reshape(-1)):
            out[k] = q(op.fill) if i < 0 else flat[i]
        return out.reshape(op.target)

    def _mul(self, op: ops.Mul, x: Numbers, y: Numbers) -> Numbers:
        a, b = np.broadcast_arrays(x, y)
        return np.asarray(a * b, dtype=object)

    def _matmul(self, op: ops.MatMul, x: Numbers, y: Numbers) -> Numbers:
        outer = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        a = np.broadcast_to(x, (*outer, *x.shape[-2:]))
        b = np.broadcast_to(y, (*outer, *y.shape[-2:]))
        out = np.empty((*outer, x.shape[-2], y.shape[-1]), object)
        for place in np.ndindex(*out.shape):
            *lead, i, j = place
            pairs = zip(a[(*lead, i)], b[(*lead, slice(None), j)], strict=True)
            out[place] = sum((p * q for p, q in pairs), fmpq(0))
        return out

    def _softmax(self, op: ops.Softmax, x: Numbers) -> Numbers:
        moved = np.moveaxis(x, op.axis, -1)
        out = np.empty(moved.shape, object)
        count = np.broadcast_to(moved.shape[-1] if op.seen is None else op.seen, out.shape[:-1])
        for lead in np.ndindex(*out.shape[:-1]):
            group = moved[lead][: count[lead]]
            out[lead] = arb(0)
            for k, own in enumerate(group):
                # About the entry itself: e^x alone may leave the range of a ball.
                odds = sum((_ball(v - own).exp() for v in group), arb(0))
                out[(*lead, k)] = 1 / odds
        return np.moveaxis(out, -1, op.axis)

    def _logsoftmax(self, op: ops.LogSoftmax, x: Numbers) -> Numbers:
        return _map(lambda v: v.log(), self._softmax(ops.Softmax(op.axis), x))

    def _normalize(self, op: ops.Normalize, x: Numbers) -> Numbers:
        grouped = x.reshape(*x.shape[: op.axis % x.ndim], -1)
        out, d = np.empty(grouped.shape, object), grouped.shape[-1]
        for lead in np.ndindex(*out.shape[:-1]):
            group = grouped[lead]
            c = group - sum(group) / d if op.centred else group
            root = _ball(sum(c * c) / d + q(op.epsilon)).sqrt()
            out[lead] = _map(lambda v, root=root: _ball(v) / root, c)
        return out.reshape(x.shape)

    def _reducemax(self, op: ops.ReduceMax, x: Numbers) -> Numbers:
        moved = np.moveaxis(x, op.axis, -1)
        out = np.empty(moved.shape[:-1], object)
        for lead in np.ndindex(*out.shape):
            best = moved[lead][0]
            for value in moved[lead][1:]:
                best = _max(best, value)
            out[lead] = best
        return out


def elementwise(op: Any, x: Numbers) -> Numbers:
    """f of every entry."""
    kind = type(op).__name__
    if kind == "PRelu":
        slope = np.broadcast_to(exact(op.slope), x.shape)
        return _map(lambda v: _max(v, _ZERO), x) + slope * _map(lambda v: _min(v, _ZERO), x)
    if kind in RATIONAL:
        return _map(lambda v: RATIONAL[kind](op, v), x)
    if kind == "Pow" and float(op.exponent).is_integer():
        return _map(lambda v: v ** int(op.exponent), x)
    return _map(lambda v: REAL[kind](op, _ball(v)), x)


def _sign(_: Any, v: Any) -> Any:
    return fmpq((v > 0) - (v < 0))


def _floor(v: Any) -> Any:
    return v.floor() if isinstance(v, arb) else fmpq(v.p // v.q)


def _nearest(v: Any) -> Any:
    """The nearest whole number, halves to even ones; a ball that a half touches stays wide."""
    low, high = _floor(v + fmpq(1, 2)), -_floor(fmpq(1, 2) - v)
    if isinstance(v, arb):
        return low.union(high)
    return low if low == high or int(low.p) % 2 == 0 else high


_ZERO, _ONE = fmpq(0), fmpq(1)
RATIONAL: dict[str, Any] = {
    "Relu": lambda op, v: _max(v, _ZERO),
    "LeakyRelu": lambda op, v: _max(v, _ZERO) + q(op.alpha) * _min(v, _ZERO),
    "Clip": lambda op, v: _clip(v, op.min, op.max),
    "Abs": lambda op, v: _max(v, -v),
    "Sign": _sign,
    "HardSigmoid": lambda op, v: _max(_ZERO, _min(_ONE, q(op.alpha) * v + q(op.beta))),
    "HardSwish": lambda op, v: v * _max(_ZERO, _min(fmpq(6), v + 3)) / 6,
    "Reciprocal": lambda op, v: 1 / v,
    "Floor": lambda op, v: _floor(v),
    "Ceil": lambda op, v: -_floor(-v),
    "Round": lambda op, v: _nearest(v),
}


def _clip(v: Any, low: float, high: float) -> Any:
    v = v if math.isinf(low) else _max(v, q(low))
    return v if math.isinf(high) else _min(v, q(high))


def _sigmoid(v: arb) -> arb:
    return 1 / (1 + (-v).exp())


def _gelu(op: Any, v: arb) -> arb:
    if op.approximate == "none":
        return v * (-v / arb(2).sqrt()).erfc() / 2
    inner = (arb(2) / arb.pi()).sqrt() * (v + q(0.044715) * v**3)
    return v * _sigmoid(2 * inner)


def _elu(op: Any, v: arb) -> arb:
    return v if v > 0 else q(op.alpha) * v.expm1()


REAL: dict[str, Any] = {
    "Sigmoid": lambda op, v: _sigmoid(v),
    "Tanh": lambda op, v: v.tanh(),
    "Elu": _elu,
    "Softplus": lambda op, v: v.exp().log1p(),
    "Exp": lambda op, v: v.exp(),
    "Log": lambda op, v: v.log(),
    "Sqrt": lambda op, v: v.sqrt(),
    "Pow": lambda op, v: v ** _ball(q(op.exponent)),
    "Erf": lambda op, v: v.erf(),
    "Gelu": _gelu,
    "Silu": lambda op, v: v * _sigmoid(v),
    "Sin": lambda op, v: v.sin(),
    "Cos": lambda op, v: v.cos(),
    "Tan": lambda op, v: v.tan(),
    "Asin": lambda op, v: v.asin(),
    "Acos": lambda op, v: v.acos(),
    "Atan": lambda op, v: v.atan(),
    "Sinh": lambda op, v: v.sinh(),
    "Cosh": lambda op, v: v.cosh(),
    "Asinh": lambda op, v: v.asinh(),
    "Acosh": lambda op, v: v.acosh(),
    "Atanh": lambda op, v: v.atanh(),
}


def above(bound: float, value: Any) -> bool:
    """Whether ``bound`` certainly lies above the true value: a wrong lower bound."""
    if math.isinf(bound):
        return bound > 0
    return bool(q(bound) > value) if isinstance(value, fmpq) else bool(arb(q(bound)) > value)


def below(bound: float, value: Any) -> bool:
    """Whether ``bound`` certainly lies below the true value: a wrong upper bound."""
    return above(-bound, -value)


def violations(lower: Any, upper: Any, truth: Numbers) -> int:
    """How many entries' bounds the true values escape."""
    count = 0
    low, high, value = np.ravel(lower), np.ravel(upper), truth.reshape(-1)
    previous = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        for a, b, v in zip(low.tolist(), high.tolist(), value, strict=True):
            count += above(a, v) or below(b, v)
    finally:
        flint.ctx.prec = previous
    return count
