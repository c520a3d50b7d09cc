"""Arithmetic on constants: exact, or with an absolute error that travels along.

Floats are computed in float64 whatever the file calls them: the network meant is the one in real
arithmetic. A result that float64 cannot hold carries its rounding error; who cannot use an inexact
constant refuses it (`Translation.weight`). Beside it travels how far a float32 execution that
computes the constant step by step may stray: infinitely, where it overflows on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gamma import ops
from gamma.formats.onnx import contract
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Float64
from gamma.ops.elementwise import Elementwise
from gamma.ops.exact import narrow
from gamma.ops.execution import overflowed
from gamma.tensor.rounding import down, midpoint, radius_about, up

_U = 2.0**-53
_U32 = 2.0**-24
_TINY = 2.0**-1074
# Integer arithmetic serves shapes: small arrays, done in Python integers.
_INTEGER_LIMIT = 1 << 16


def binary(t: Translation, call: Call, op: str, a: Constant, b: Constant) -> Constant:
    """a op b for op in Add, Sub, Mul, Div (of integers also Mod, Fmod, Pow), with broadcasting."""
    if a.array.dtype.kind in "iu" and b.array.dtype.kind in "iu":
        return _integers(t, call, op, a, b)
    if op not in _FLOATS:
        raise t.fail(call, "of constants that are no integers")
    t.finite(call, a)
    t.finite(call, b)
    dims = t.broadcast(call, a, b)
    t.charge(call, dims)
    with np.errstate(all="ignore"):
        value, error = _FLOATS[op](_wide(a), _wide(b), a, b)
        carried = _carried(op, _wide(a), _wide(b), value, a, b)
    if not np.isfinite(value).all() or not np.isfinite(error).all():
        raise t.malformed(call, "a constant expression is not a finite number")
    return _result(value, error * (1 + 8 * _U), carried, a.dtype)


def _result(value: Float64, error: Float64, carried: Float64, dtype: str) -> Constant:
    """A constant; ``carried`` is the noise of its operands in it, its own rounding comes on top."""
    single = _short(value) & (error == 0) & (carried == 0)
    with np.errstate(all="ignore"):
        noise = np.where(single, 0.0, (carried + (abs(value) + carried) * _U32) * 1.001 + 2.0**-149)
        noise = overflowed(noise, abs(value) + noise)
    exact = not error.any()
    return Constant(
        narrow(value) if exact else value, 0.0 if exact else error, dtype,
        noise if noise.any() else 0.0,
    )  # fmt: skip


def _carried(op: str, x: Float64, y: Float64, value: Float64, a: Constant, b: Constant) -> Float64:
    """How the operands' noise arrives in the result."""
    p, q = np.asarray(a.noise, np.float64), np.asarray(b.noise, np.float64)
    if op in ("Add", "Sub"):
        return p + q
    if op == "Mul":
        return abs(x) * q + abs(y) * p + p * q
    room = abs(y) * (1 - 2.0**-20) - q
    return (p + abs(value) * (1 + 2.0**-20) * q) / np.where(room > 0, room, 2.0**-1000)


def inverse(t: Translation, call: Call, x: Constant) -> Constant:
    """1/x as the factor of a division by x: a float32 execution divides, it forms no 1/x."""
    found = binary(t, call, "Div", Constant(np.ones((), np.float32)), x)
    noise = _carried("Div", np.ones(()), _wide(x), _wide(found), Constant(np.ones(())), x)
    return Constant(found.array, found.error, found.dtype, noise * 1.001)


def _wide(x: Constant) -> Float64:
    return x.array.astype(np.float64)


def _add(x: Float64, y: Float64, a: Constant, b: Constant) -> tuple[Float64, Float64]:
    total = x + y
    part = total - x
    lost = (x - (total - part)) + (y - part)  # TwoSum: the exact rounding error
    return total, abs(lost) + a.error + b.error


def _sub(x: Float64, y: Float64, a: Constant, b: Constant) -> tuple[Float64, Float64]:
    return _add(x, -y, a, b)


def _mul(x: Float64, y: Float64, a: Constant, b: Constant) -> tuple[Float64, Float64]:
    value = x * y
    lost = np.where(_product_exact(x, y, value), 0.0, abs(value) * _U + _TINY)
    return value, lost + abs(x) * b.error + abs(y) * a.error + np.asarray(a.error) * b.error


def _product_exact(x: Float64, y: Float64, value: Float64) -> Any:
    """Where a float64 product is exact for certain: two float32 numbers, or a power of two."""
    short = (_short(x) & _short(y)) | (value == 0) & ((x == 0) | (y == 0))
    power = (abs(np.frexp(x)[0]) == 0.5) | (abs(np.frexp(y)[0]) == 0.5)
    return short | (power & (abs(value) > 2.0**-1000))


def _short(x: Float64) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        result: Array = x.astype(np.float32) == x
    return result


def _div(x: Float64, y: Float64, a: Constant, b: Constant) -> tuple[Float64, Float64]:
    value = x / y
    back = value * y
    exact = _product_exact(value, y, back) & (back == x)
    lost = np.where(exact, 0.0, abs(value) * _U + _TINY)
    if not np.any(b.error):
        return value, lost + a.error / abs(y)
    # |x'/y' - x/y| <= (ea + |x/y| eb) / (|y| - eb)
    room = abs(y) - b.error
    room = np.where(room > 0, room, np.nan)
    return value, lost + (a.error + (abs(value) + lost) * b.error) / room


_FLOATS: dict[str, Callable[..., tuple[Float64, Float64]]] = {
    "Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div,
}  # fmt: skip


def _integers(t: Translation, call: Call, op: str, a: Constant, b: Constant) -> Constant:
    dims = t.broadcast(call, a, b)
    if np.prod(dims, dtype=object) > _INTEGER_LIMIT:
        raise t.fail(call, f"integer arithmetic on {list(dims)}, expected shapes")
    x, y = a.array.astype(object), b.array.astype(object)
    if op in ("Div", "Mod", "Fmod") and (b.array == 0).any():
        raise t.malformed(call, "an integer division by zero")
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "Add": lambda p, q: p + q,
        "Sub": lambda p, q: p - q,
        "Mul": lambda p, q: p * q,
        "Div": lambda p, q: abs(p) // abs(q) * (1 if (p >= 0) == (q >= 0) else -1),
        "Mod": lambda p, q: p % q,
        "Fmod": lambda p, q: abs(p) % abs(q) * (1 if p >= 0 else -1),
        "Pow": _power,
    }
    result = np.frompyfunc(functions[op], 2, 1)(x, y)
    return contract.integers(t, call, np.asarray(result, object).reshape(dims), a.dtype)


def _power(base: int, exponent: int) -> int:
    """base**exponent, cut off beyond what any integer type holds."""
    if exponent < 0 or (abs(base) > 1 and exponent > 64):
        return 1 << 65
    return int(base**exponent)


def _lipschitz(function: Callable[[Float64], Float64]) -> Callable[..., tuple[Float64, Any]]:
    return lambda x, error: (function(x), np.broadcast_to(error, x.shape))


def _sqrt(x: Float64, error: Any) -> tuple[Float64, Any]:
    root = np.sqrt(x)
    exact = _short(root) & (root * root == x)
    lost = np.where(exact, 0.0, root * _U)
    if not np.any(error):
        return root, lost
    low = np.sqrt(np.maximum(x - error, 0.0)) * (1 - 2 * _U)
    return root, lost + np.where(low > 0, error / (root + low), np.inf)


UNARY: dict[str, Callable[[Float64, Any], tuple[Float64, Any]]] = {
    "Neg": _lipschitz(lambda x: -x),
    "Abs": _lipschitz(lambda x: abs(x)),
    "Relu": _lipschitz(lambda x: np.maximum(x, 0.0)),
    "Sqrt": _sqrt,
}


def unary(t: Translation, call: Call, op: str, x: Constant) -> Constant:
    """One of the functions of `UNARY` of a constant."""
    if x.array.dtype.kind == "i" and op in ("Neg", "Abs"):
        return Constant(-x.array if op == "Neg" else abs(x.array))
    t.finite(call, x)
    with np.errstate(all="ignore"):
        value, error = UNARY[op](_wide(x), x.error)
        _, carried = UNARY[op](_wide(x), x.noise)
    if not np.isfinite(value).all() or not np.isfinite(error).all():
        raise t.malformed(call, "a constant expression is not a finite number")
    if op == "Sqrt":
        return _result(value, error, carried * 1.001, x.dtype)
    return Constant(value if np.any(error) else narrow(value), error, x.dtype, carried)


def function(t: Translation, call: Call, op: Elementwise, x: Constant) -> Constant:
    """An elementwise function of a constant: exact, or the bounds of a point."""
    if op.name in UNARY:
        return unary(t, call, op.name, x)
    if op.name == "Reciprocal":
        return binary(t, call, "Div", Constant(np.ones((), np.float32)), x)
    if isinstance(op, ops.Pow) and op.exponent == 2.0:
        return binary(t, call, "Mul", x, x)
    t.finite(call, x)
    value = _wide(x)
    strays = x.error + np.asarray(x.noise)
    with np.errstate(all="ignore"):
        low, high = op.interval(down(value - x.error), up(value + x.error))
        ends = down(value - strays), up(value + strays)
        image = op.interval(*ends)
        extra = op.float32_noise(*ends, *image)
        noise = np.maximum(up(image[1] + extra) - low, high - down(image[0] - extra))
        centre = midpoint(low, high)
        error = radius_about(low, high, centre)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise t.malformed(call, "a constant expression is not a finite number")
    return Constant(centre, error, x.dtype, up(noise))


def integer_product(
    t: Translation, call: Call, x: Constant, axes: tuple[int, ...], keep: bool
) -> Constant:
    """The product of integers over axes."""
    if x.array.dtype.kind not in "iu" or x.array.size > _INTEGER_LIMIT:
        raise t.fail(call, f"a product of {x.array.size} {x.dtype} constants, expected a shape")
    found = np.prod(x.array.astype(object), axis=axes, keepdims=keep)
    return contract.integers(t, call, np.asarray(found, object), x.dtype)


def total(t: Translation, call: Call, x: Constant, axes: tuple[int, ...], keep: bool,
          mean: bool) -> Constant:  # fmt: skip
    """Sum or mean of a constant over axes."""
    summed = contract.total(t, call, x, axes, keep)
    if not mean:
        return summed
    if x.array.dtype.kind in "iu":
        raise t.fail(call, "a mean of integers")
    count = math.prod(x.dims[a] for a in axes)
    return binary(t, call, "Div", summed, Constant(np.array(float(count))))
