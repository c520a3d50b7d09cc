"""Resize and Upsample, nearest neighbour: which input entry each output entry copies."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from gamma.formats.onnx.arguments import (
    Inputs,
    axes_in,
    constant,
    ints,
    need,
    optional,
)
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value

_MODES = ("half_pixel", "half_pixel_symmetric", "asymmetric", "pytorch_half_pixel", "align_corners")
_LONGEST = 1 << 16
_EDGE = (
    "a scale falls on a rounding edge, where exact arithmetic and float32 copy different entries; "
    "export with sizes that divide"
)


def upsample(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Upsample (7, 9) and Resize 10: floor of the output coordinate over the scale.

    The standard is silent on shrinking axes there; onnxruntime takes the ceiling, and so do we.
    """
    x = need(t, call, inputs, 0)
    if attribute(call, "mode", "nearest") != "nearest":
        raise t.fail(call, f"mode {call.attributes['mode']!r}, expected nearest")
    given: Value | None = optional(inputs, 1)
    if t.opset < 9:
        given = Constant(np.array(attribute(call, "scales", ()), np.float64))
    scales = _scales(t, call, given, len(x.dims))
    lengths = tuple(_length(t, call, n, s) for n, s in zip(x.dims, scales, strict=True))
    return _copied(t, call, x, lengths, scales, "asymmetric", "simple")


def resize(t: Translation, call: Call, inputs: Inputs) -> Value:
    if t.opset < 11:
        return upsample(t, call, inputs)
    x = need(t, call, inputs, 0)
    mode = attribute(call, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(call, "nearest_mode", "round_prefer_floor")
    if attribute(call, "mode", "nearest") != "nearest" or mode not in _MODES:
        raise t.fail(
            call, f"mode {call.attributes.get('mode')!r}, {mode!r}; expected nearest with one of "
            f"{', '.join(_MODES)}"
        )  # fmt: skip
    if attribute(call, "antialias", 0):
        raise t.fail(call, "with antialiasing, expected none")
    rank = len(x.dims)
    axes = axes_in(t, call, attribute(call, "axes", tuple(range(rank))), rank)
    sizes = optional(inputs, 3)
    scales, lengths = [Fraction(1)] * rank, list(x.dims)
    if sizes is not None and sizes.dims != (0,):
        if attribute(call, "keep_aspect_ratio_policy", "stretch") != "stretch":
            raise t.fail(call, "keep_aspect_ratio_policy, expected stretch")
        wanted = ints(t, call, sizes, "the sizes")
        if len(wanted) != len(axes) or min(wanted) < 1:
            raise t.malformed(call, f"sizes {list(wanted)[:8]}")
        for axis, n in zip(axes, wanted, strict=True):
            scales[axis], lengths[axis] = Fraction(n, x.dims[axis]), n
    else:
        given = _scales(t, call, optional(inputs, 2), len(axes))
        for axis, scale in zip(axes, given, strict=True):
            scales[axis], lengths[axis] = scale, _length(t, call, x.dims[axis], scale)
    return _copied(t, call, x, tuple(lengths), scales, mode, rounding)


def _scales(t: Translation, call: Call, value: Value | None, count: int) -> list[Fraction]:
    array = constant(t, call, value, "the scales").array
    if array.shape != (count,) or array.dtype.kind != "f" or not (array > 0).all():
        raise t.malformed(call, f"scales of shape {list(array.shape)}, expected {count} positive")
    return [Fraction(float(s)) for s in array]


def _copied(
    t: Translation, call: Call, x: Value, lengths: Shape, scales: list[Fraction], mode: str,
    rounding: str,
) -> Value:  # fmt: skip
    if min(lengths) < 1 or max(lengths) > _LONGEST:
        raise t.fail(call, f"makes shape {list(lengths)}")
    picks = [
        _sources(t, call, n, length, scale, mode, rounding)
        for n, length, scale in zip(x.dims, lengths, scales, strict=True)
    ]
    return t.move(call, x, lengths, lambda a, _: a[np.ix_(*picks)])


def _sources(
    t: Translation, call: Call, n: int, length: int, scale: Fraction, mode: str, rounding: str
) -> Array:
    """For each output coordinate of an axis, the input coordinate that is copied."""
    if n == length and scale == 1:
        return np.arange(n)
    if rounding == "simple":
        rounding = "ceil" if scale < 1 else "floor"
    places = []
    for i in range(length):
        found = {
            min(max(_rounded(t, call, place, rounding), 0), n - 1)
            for place in (
                _place(i, n, length, scale, mode, Fraction),
                _place(i, n, length, np.float32(scale), mode, np.float32),
            )
        }
        if len(found) > 1:
            raise t.fail(call, _EDGE)
        places.append(found.pop())
    return np.array(places, np.int64)


def _place(i: int, n: int, length: int, scale: Any, mode: str, kind: Any) -> Any:
    """Where output coordinate ``i`` lies in the input, in the arithmetic of ``kind``."""
    half = kind(0.5)
    if mode == "asymmetric":
        return kind(i) / scale
    if mode == "align_corners":
        return kind(i) * kind(n - 1) / kind(length - 1) if length > 1 else kind(0)
    if mode == "pytorch_half_pixel" and length == 1:
        return kind(0)
    place = (kind(i) + half) / scale - half
    if mode == "half_pixel_symmetric":
        place += kind(n) / kind(2) * (kind(1) - kind(length) / (kind(n) * scale))
    return place


def _length(t: Translation, call: Call, n: int, scale: Fraction) -> int:
    """Length of an axis of ``n`` after scaling."""
    length = math.floor(n * scale)
    if length != math.floor(np.float32(n) * np.float32(scale)):
        raise t.fail(call, _EDGE)
    return length


def _rounded(t: Translation, call: Call, place: Any, rounding: str) -> int:
    half = type(place)(0.5)
    functions: dict[str, Callable[[Any], int]] = {
        "floor": math.floor,
        "ceil": math.ceil,
        "round_prefer_floor": lambda p: math.ceil(p - half),
        "round_prefer_ceil": lambda p: math.floor(p + half),
    }
    if rounding not in functions:
        raise t.malformed(call, f"nearest_mode {rounding!r}")
    return functions[rounding](place)
