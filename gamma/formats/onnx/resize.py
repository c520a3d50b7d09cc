"""Resize and Upsample: which input entries each output entry copies or weighs."""

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
from gamma.formats.onnx.einsum import along
from gamma.formats.onnx.interpolate import Kernel, axis_matrix, cubic_kernel, linear_kernel
from gamma.formats.onnx.read import Call
from gamma.formats.onnx.translation import Translation, attribute
from gamma.formats.onnx.values import Array, Constant, Shape, Value
from gamma.frozen import Frozen

_MODES = ("half_pixel", "half_pixel_symmetric", "asymmetric", "pytorch_half_pixel", "align_corners")
_LONGEST = 1 << 16
# An operation on fractions costs as much as so many entries made.
_FRACTION = 64
_EDGE = (
    "a scale falls on a rounding edge, where exact arithmetic and float32 copy different entries; "
    "export with sizes that divide"
)


class _Target(Frozen, eq=True):
    """What a Resize node asks for: per axis a length and a scale, and how to read the input."""

    lengths: Shape
    scales: list[Fraction]
    mode: str


def upsample(t: Translation, call: Call, inputs: Inputs) -> Value:
    """Upsample (7, 9) and Resize 10: output coordinate over the scale.

    Nearest takes its floor. The standard is silent on shrinking axes there; onnxruntime takes the
    ceiling, and so do we.
    """
    x = need(t, call, inputs, 0)
    given: Value | None = optional(inputs, 1)
    if t.opset < 9:
        given = Constant(np.array(attribute(call, "scales", (0.0,)), np.float64))
    scales = _scales(t, call, given, len(x.dims))
    lengths = tuple(_length(t, call, n, s) for n, s in zip(x.dims, scales, strict=True))
    target = _Target(lengths, scales, "asymmetric")
    kind = attribute(call, "mode", "nearest")
    if kind in ("linear", "bilinear"):
        return _interpolated(t, call, x, target, linear_kernel())
    if kind != "nearest":
        raise t.fail(call, f"mode {kind!r}, expected nearest or linear")
    return _copied(t, call, x, target, "simple")


def resize(t: Translation, call: Call, inputs: Inputs) -> Value:
    if t.opset < 11:
        return upsample(t, call, inputs)
    x = need(t, call, inputs, 0)
    mode = attribute(call, "coordinate_transformation_mode", "half_pixel")
    kind = attribute(call, "mode", "nearest")
    if kind not in ("nearest", "linear", "cubic") or mode not in _MODES:
        raise t.fail(
            call, f"mode {kind!r}, {mode!r}; expected nearest, linear or cubic with one of "
            f"{', '.join(_MODES)}"
        )  # fmt: skip
    target = _target(t, call, x, inputs, mode)
    if kind == "nearest":
        return _copied(t, call, x, target, attribute(call, "nearest_mode", "round_prefer_floor"))
    kernel = linear_kernel()
    if kind == "cubic":
        kernel = cubic_kernel(Fraction(attribute(call, "cubic_coeff_a", -0.75)))
    return _interpolated(t, call, x, target, kernel)


def _target(t: Translation, call: Call, x: Value, inputs: Inputs, mode: str) -> _Target:
    rank = len(x.dims)
    axes = axes_in(t, call, attribute(call, "axes", tuple(range(rank))), rank)
    sizes = optional(inputs, 3)
    scales, lengths = [Fraction(1)] * rank, list(x.dims)
    if sizes is None or sizes.dims == (0,):
        given = _scales(t, call, optional(inputs, 2), len(axes))
        for axis, scale in zip(axes, given, strict=True):
            scales[axis], lengths[axis] = scale, _length(t, call, x.dims[axis], scale)
        return _Target(tuple(lengths), scales, mode)
    wanted = ints(t, call, sizes, "the sizes")
    if len(wanted) != len(axes) or min(wanted, default=0) < 1:
        raise t.malformed(call, f"sizes {list(wanted)[:8]}")
    policy = attribute(call, "keep_aspect_ratio_policy", "stretch")
    ratios = [Fraction(n, x.dims[axis]) for axis, n in zip(axes, wanted, strict=True)]
    if policy in ("not_larger", "not_smaller"):
        common = min(ratios) if policy == "not_larger" else max(ratios)
        wanted = tuple(math.floor(common * x.dims[axis] + Fraction(1, 2)) for axis in axes)
        ratios = [common] * len(axes)
    elif policy != "stretch":
        raise t.malformed(call, f"keep_aspect_ratio_policy {policy!r}")
    for axis, n, ratio in zip(axes, wanted, ratios, strict=True):
        scales[axis], lengths[axis] = ratio, n
    return _Target(tuple(lengths), scales, mode)


def _interpolated(t: Translation, call: Call, x: Value, target: _Target, kernel: Kernel) -> Value:
    """One matrix product per axis that changes."""
    _reachable(t, call, target)
    outside = bool(attribute(call, "exclude_outside", 0)) and kernel.reach > 1
    smooth = bool(attribute(call, "antialias", 0))
    for axis, (n, length, scale) in enumerate(
        zip(x.dims, target.lengths, target.scales, strict=True)
    ):
        if n == length and scale == 1:
            continue
        if target.mode == "align_corners" and n * scale != length:
            raise t.fail(call, "aligned corners and a length that is no whole number: runtimes "
                         "differ, export with sizes")  # fmt: skip
        t.charge(call, (length, n))
        stretch = max(1 / scale, Fraction(1)) if smooth else Fraction(1)
        t.charge(call, (length, math.ceil(4 * kernel.reach * stretch), _FRACTION), kept=False)

        def place(i: int, n: int = n, length: int = length, scale: Fraction = scale) -> Fraction:
            found: Fraction = _place(i, n, length, scale, target.mode, Fraction)
            # Linear weights of the border are those of the border's entry, however far outside.
            return (
                found
                if kernel.reach > 1 or smooth
                else min(max(found, Fraction(0)), Fraction(n - 1))
            )

        def slack(i: int, n: int = n, scale: Fraction = scale) -> float:
            return 2.0**-21 * (float((i + 1) / scale) + n + 1)

        weight = axis_matrix(n, length, place, slack, kernel, stretch, outside)
        x = along(t, call, x, axis, weight)
    return x


def _reachable(t: Translation, call: Call, target: _Target) -> None:
    if min(target.lengths) < 1 or max(target.lengths) > _LONGEST:
        raise t.fail(call, f"makes shape {list(target.lengths)}")


def _scales(t: Translation, call: Call, value: Value | None, count: int) -> list[Fraction]:
    array = constant(t, call, value, "the scales").array
    if array.shape != (count,) or array.dtype.kind != "f" or not (array > 0).all():
        raise t.malformed(call, f"scales of shape {list(array.shape)}, expected {count} positive")
    return [Fraction(float(s)) for s in array]


def _copied(t: Translation, call: Call, x: Value, target: _Target, rounding: str) -> Value:
    _reachable(t, call, target)
    picks = [
        _sources(t, call, n, length, scale, target.mode, rounding)
        for n, length, scale in zip(x.dims, target.lengths, target.scales, strict=True)
    ]
    return t.move(call, x, target.lengths, lambda a, _: a[np.ix_(*picks)])


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
