"""Sums and products of sums over constants: exact where that can be proved, else with errors."""

from __future__ import annotations

import math

import numpy as np

from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Array, Constant, Float64
from gamma.ops.exact import narrow
from gamma.ops.execution import overflowed
from gamma.tensor.rounding import gamma_factor

_TINY = 2.0**-1074
_TINY32 = 2.0**-149
# Multiplications of constants that cost as much as one entry made.
_PER_ENTRY = 64
_INTEGER_LIMIT = 1 << 16


def product(t: Translation, call: Call, a: Constant, b: Constant) -> Constant:
    """The matrix product of two constants, (..., m, k) by (..., k, n)."""
    outer = np.broadcast_shapes(a.dims[:-2], b.dims[:-2])
    dims = (*outer, a.dims[-2], b.dims[-1])
    count = a.dims[-1]
    t.charge(call, dims)
    t.charge(call, (math.prod(dims), -(-count // _PER_ENTRY)), kept=False)
    if a.array.dtype.kind in "iu" and b.array.dtype.kind in "iu":
        if math.prod(dims) * count > _INTEGER_LIMIT:
            raise t.fail(call, "a product of large integer matrices")
        return integers(t, call, a.array.astype(object) @ b.array.astype(object), a.dtype)
    t.finite(call, a)
    t.finite(call, b)
    x, y = (v.array.astype(np.float64) for v in (a, b))
    size = abs(x) @ abs(y)
    grain = _grain(x, -1)[..., :, None] * _grain(y, -2)[..., None, :]
    error, noise = _products(a, b, "error"), _products(a, b, "noise")
    single = all(not np.any(v.noise) and _short(v.array) for v in (a, b))
    return _summed(x @ y, size, grain, count, error, noise, single, a.dtype)


def total(t: Translation, call: Call, x: Constant, axes: tuple[int, ...], keep: bool) -> Constant:
    """The sum of a constant over axes."""
    if x.array.dtype.kind in "iu":
        wide = x.array.astype(object).sum(axis=axes, keepdims=keep)
        return integers(t, call, np.asarray(wide), x.dtype)
    t.finite(call, x)
    values = x.array.astype(np.float64)
    count = math.prod(x.dims[a] for a in axes)
    slack = 1 + gamma_factor(count + 4, np.float64)
    error, noise = (
        np.broadcast_to(np.asarray(e, np.float64), x.dims).sum(axis=axes, keepdims=keep) * slack
        for e in (x.error, x.noise)
    )
    size = abs(values).sum(axis=axes, keepdims=keep)
    grain = _grain(values, axes, keep)
    single = not np.any(x.noise) and _short(x.array)
    value = values.sum(axis=axes, keepdims=keep)
    return _summed(value, size, grain, count, error, noise, single, x.dtype)


def integers(t: Translation, call: Call, values: Array, dtype: str) -> Constant:
    """Python integers as a constant of ``dtype``. Raises FormatError where they do not fit."""
    limits = np.iinfo(dtype)
    if any(not limits.min <= int(v) <= limits.max for v in values.reshape(-1)):
        raise t.malformed(call, f"a {dtype} expression overflows")
    return Constant(values.astype(dtype))


def _summed(
    value: Float64, size: Float64, grain: Float64, count: int, error: Float64, noise: Float64,
    single: bool, dtype: str,
) -> Constant:  # fmt: skip
    """A sum of ``count`` terms with sizes ``size`` in all, each a multiple of ``grain``.

    Sums of multiples of a power of two are exact in any order while they fit the mantissa.
    """
    n = count + 2
    exact = (size <= grain * 2.0**52) & (grain >= 2.0**-1000)
    lost = np.where(exact, 0.0, gamma_factor(n, np.float64) * size + n * _TINY)
    error = (error + lost) * (1 + 2.0**-50)
    exact32 = exact & (error == 0) & (size <= grain * 2.0**23) & (grain >= _TINY32)
    step = gamma_factor(n, np.float32) * (size + error + noise) + n * _TINY32
    noise = np.where(single & exact32, 0.0, (noise + step) * (1 + 2.0**-20))
    noise = overflowed(noise, size + error + noise)  # some order of the sum may overflow
    inexact, strays = bool(np.any(error)), bool(np.any(noise))
    return Constant(
        np.asarray(value if inexact else narrow(np.asarray(value))),
        error if inexact else 0.0, dtype, noise if strays else 0.0,
    )  # fmt: skip


def _products(a: Constant, b: Constant, which: str) -> Float64:
    """What the operands' errors (or noise about their real values) add to their product."""
    p, q = (np.broadcast_to(np.asarray(getattr(v, which), np.float64), v.dims) for v in (a, b))
    x, y = (abs(v.array.astype(np.float64)) for v in (a, b))
    if which == "noise":
        x, y = x + a.error, y + b.error
    slack = 1 + gamma_factor(a.dims[-1] + 4, np.float64)
    left = x @ q if np.any(q) else 0.0
    right = p @ (y + q) if np.any(p) else 0.0
    zeros = np.zeros((1,) * max(x.ndim, y.ndim))
    return np.asarray((zeros + left + right) * (slack * slack))


def _grain(x: Float64, axis: int | tuple[int, ...], keep: bool = False) -> Float64:
    """The largest power of two that divides every entry along ``axis``; inf for zeros."""
    mantissa, exponent = np.frexp(x)
    whole = (mantissa * 2.0**53).astype(np.int64)
    lowest = (whole & -whole).astype(np.float64)
    with np.errstate(under="ignore"):
        each = np.where(whole == 0, np.inf, np.ldexp(lowest, exponent - 53))
    result: Float64 = np.min(each, axis=axis, keepdims=keep, initial=np.inf)
    return result


def _short(x: Array) -> bool:
    return x.dtype == np.float32 or narrow(x).dtype == np.float32
