"""Batch normalisation as one scale and one shift, with honest errors."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gamma.formats.onnx.arguments import Inputs, need, optional
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Constant, Value

_EPSILON = float(np.float32(1e-5))


def batch_normalization(t: Translation, call: Call, inputs: Inputs) -> Value:
    x = need(t, call, inputs, 0)
    if attribute(call, "training_mode", 0) or not attribute(call, "spatial", 1):
        raise t.fail(call, "in training mode or not spatial: export the network for inference")
    if isinstance(x, Constant):
        raise t.fail(call, "is applied to a constant: store its result in the file instead")
    if any(call.outputs[1:]) and t.opset >= 14:
        raise t.fail(call, "returns statistics: export the network for inference")
    weights = [t.weight(call, optional(inputs, i), "statistics") for i in range(1, 5)]
    if len(x.dims) < 2 or any(w.shape != (x.dims[1],) for w in weights):
        raise t.malformed(call, f"needs one statistic per channel of {list(x.dims)}")
    rows = zip(*(w.tolist() for w in weights), strict=True)
    epsilon = attribute(call, "epsilon", _EPSILON)
    if epsilon < 0 or (weights[3].astype(np.float64) + epsilon <= 0).any():
        raise t.malformed(call, "variance + epsilon is not positive")
    found = [scale_and_shift(g, b, m, v, epsilon) for g, b, m, v in rows]
    scale, scale_error, shift, shift_error = (np.array(v) for v in zip(*found, strict=True))
    shape = (-1, *(1,) * (len(x.dims) - 2))
    factor = Constant(scale.reshape(shape), scale_error.reshape(shape))
    gain, bias, mean = (abs(w.astype(np.float64)) for w in weights[:3])
    # What x − mean, the division and the sum round in a float32 execution, underflow included.
    magnitude = abs(mean * scale) + bias + gain * 2.0**-100
    offset = Constant(shift.reshape(shape), shift_error.reshape(shape))
    return t.scale(call, x, factor, offset, magnitude.reshape(shape) * (1 + 2.0**-40))


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
