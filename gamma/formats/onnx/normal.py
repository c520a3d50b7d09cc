"""Batch normalisation as one scale and one shift, with honest errors."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gamma.formats.onnx.arguments import Inputs, need, optional
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Float64, Value
from gamma.ops.execution import LOST, UNIT, Execution
from gamma.tensor.rounding import two_product, two_sum

_EPSILON = float(np.float32(1e-5))


def batch_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    if attribute(call, "training_mode", 0) or not attribute(call, "spatial", 1):
        raise t.fail(call, "in training mode or not spatial: export the network for inference")
    if isinstance(x, Constant):
        raise t.fail(call, "is applied to a constant: store its result in the file instead")
    weights = [t.weight(call, optional(inputs, i), "statistics") for i in range(1, 5)]
    if len(x.dims) < 2 or any(w.shape != (x.dims[1],) for w in weights):
        raise t.malformed(call, f"needs one statistic per channel of {list(x.dims)}")
    epsilon = attribute(call, "epsilon", _EPSILON)
    if epsilon < 0 or (weights[3].astype(np.float64) + epsilon <= 0).any():
        raise t.malformed(call, "variance + epsilon is not positive")
    scale, scale_error, shift, shift_error = scales_and_shifts(
        weights[0], weights[1], weights[2], weights[3], epsilon
    )
    shape = (-1, *(1,) * (len(x.dims) - 2))
    factor = Constant(scale.reshape(shape), scale_error.reshape(shape))
    offset = Constant(shift.reshape(shape), shift_error.reshape(shape))
    gain, bias, mean, variance = (abs(w.astype(np.float64)).reshape(shape) for w in weights)
    execution = _execution(gain, bias, mean, 1 / np.sqrt(variance + epsilon), variance + epsilon)
    return t.scale(call, x, factor, offset, execution)


def _execution(
    gain: Float64, bias: Float64, mean: Float64, inverse: Float64, variance: Float64
) -> Execution:
    """(x − mean)·gain/√variance + bias in any order of its steps, or with gain/√variance first.

    At most 12 roundings (a reciprocal root may take two), and one loss to underflow for each of the
    products that may be formed, times what it is multiplied with later.
    """
    steps, joint = 12 * UNIT, gain * inverse
    largest = np.max(np.broadcast_arrays(1.0, gain, inverse, joint), axis=0)
    constants = np.max(np.broadcast_arrays(largest, variance), axis=0)
    return Execution(
        steps * joint + 4 * LOST,
        steps * (joint * mean + bias) + 4 * LOST * (1 + gain + inverse + mean),
        largest * (1 + 2.0**-20),
        (largest * mean + bias) * (1 + 2.0**-20) + constants,
    )


def scales_and_shifts(
    gain: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> tuple[Float64, Float64, Float64, Float64]:
    """`scale_and_shift` of every channel: in pairs of float64 numbers where these keep about 100
    bits, in fractions where a number is too large or small for that.

    Products and sums of pairs are Dekker's (Numer. Math. 18, 1971); one Newton step each doubles
    the digits of the root and of the quotient.
    """
    parts = g, b, m, v = tuple(w.astype(np.float64) for w in (gain, bias, mean, variance))
    with np.errstate(all="ignore"):
        high, low = two_sum(v, np.full_like(v, epsilon))
        root = np.sqrt(high)
        square, rest = two_product(root, root)
        correction = ((high - square) - rest + low) / (2 * root)
        inverse = 1 / root
        one, rest = two_product(inverse, root)
        tail = inverse * (((1 - one) - rest) - inverse * correction)
        product, rest = two_product(g, inverse)
        scale, scale_low = two_sum(product, rest + g * tail)
        product, rest = two_product(m, scale)
        total, lost = two_sum(b, -product)
        shift, shift_low = two_sum(total, lost - (rest + m * scale_low))
        # Each step loses a few units of 2^-106 of what it works on.
        scale_error = (abs(scale_low) + _PAIR * abs(scale)) * (1 + 2.0**-50)
        size = abs(b) + abs(m * scale)
        shift_error = (abs(shift_low) + _PAIR * size) * (1 + 2.0**-50)
    sizes = np.abs(np.stack([*parts, high, scale]))
    safe = ((sizes == 0) | ((sizes > 2.0**-200) & (sizes < 2.0**200))).all(axis=0)
    results = (scale, scale_error, shift, shift_error)
    for k in np.flatnonzero(~safe):
        row = scale_and_shift(float(g[k]), float(b[k]), float(m[k]), float(v[k]), epsilon)
        for array, value in zip(results, row, strict=True):
            array[k] = value
    return results


# Bounds the relative error of the pairs above: a few dozen units of 2^-106, charged with 2^10.
_PAIR = 2.0**-96


def scale_and_shift(
    gain: float, bias: float, mean: float, variance: float, epsilon: float
) -> tuple[float, float, float, float]:
    """gain/√(variance+ε) and bias − mean·that, with the absolute error of each.

    The root is taken to about 128 bits, so that both results are float64 numbers nearest to the
    real ones, up to the last place, even where bias and mean·scale cancel.
    """
    radicand = Fraction(variance) + Fraction(epsilon)
    # √(p/q) = √(p q)/q; shifted so that the integer root has at least 128 bits.
    square = radicand.numerator * radicand.denominator
    shift = max(0, 256 - square.bit_length())
    shift += shift % 2
    root = math.isqrt(square << shift)
    inverse = Fraction(radicand.denominator << (shift // 2), root)
    # root <= √ < root + 1, so 1/root exceeds the true inverse by at most inverse/root.
    slack = Fraction(0) if root * root == square << shift else inverse / root
    exact_scale = Fraction(gain) * inverse
    exact_shift = Fraction(bias) - Fraction(mean) * exact_scale
    scale, shift_value = float(exact_scale), float(exact_shift)
    scale_slack = abs(Fraction(gain)) * slack
    return (
        scale,
        _above(abs(Fraction(scale) - exact_scale) + scale_slack),
        shift_value,
        _above(abs(Fraction(shift_value) - exact_shift) + abs(Fraction(mean)) * scale_slack),
    )


def _above(value: Fraction) -> float:
    """A float64 at or above the fraction."""
    return 0.0 if value == 0 else math.nextafter(float(value), math.inf)
