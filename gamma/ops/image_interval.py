"""Interval propagation through convolutions, centre and radius in one pass over the weight, and
through the sums between them: one call of the C library each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.affine import cast_bytes
from gamma.ops.affine_interval import KEPT, finish_bytes, stepped
from gamma.ops.bounds import NodeBounds
from gamma.runtime import workers
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.convolution import Conv
    from gamma.ops.sums import Add
    from gamma.ops.tables import Precision

Float64 = npt.NDArray[np.float64]
# A panel may be padded with zeros to so many times its channels; more of them pay only where the
# whole work is so few operations that two products would cost more in calls.
_PADDED, _FEW_OPERATIONS = 1.25, 5e6
# Operations of the boxes of one call: a few milliseconds.
_CALL_OPERATIONS = 5e7


class Step(NamedTuple):
    """What the step of one operator on inputs of one shape needs, made once.

    Attributes:
        weight, offset: kept here so that memory which runs short finds them. kernel: with these.
        shape: of the output. boxes: of one call. most: boxes from which on two products are faster.
    """

    weight: Float64
    offset: Float64 | None
    kernel: kernels.Convolution
    shape: tuple[int, ...]
    boxes: int
    most: float


def fused(op: Conv, x: NodeBounds) -> NodeBounds | None:
    """The linear rule, in one call of the C library for some boxes each."""
    if kernels.isa == "numpy" or not tuning.enabled("fused_image"):
        return None
    step, batch = prepared(op, x.lower.shape[1:]), len(x.lower)
    if step is None or batch > step.most:
        return None
    centre, radius = np.ascontiguousarray(x.centre), x.radius
    out = np.empty((5, batch, *step.shape))

    def run(first: int) -> int:
        return step.kernel.run(centre, radius, out, (first, min(first + step.boxes, batch)))

    if batch <= step.boxes:
        return stepped(out, run(0), op.name)
    tasks = [partial(run, first) for first in range(0, batch, step.boxes)]
    return stepped(out, sum(workers.run(tasks)), op.name)


def summed(op: Add, inputs: Sequence[NodeBounds]) -> NodeBounds | None:
    """The linear rule for a sum of inputs, in one call of the C library."""
    if kernels.isa == "numpy" or not tuning.enabled("fused_image"):
        return None
    row_sum, factors = sum_constants(op, inputs[0].lower.shape[1:])
    centres = [np.ascontiguousarray(x.centre) for x in inputs]
    done = kernels.sum_interval(centres, [x.radius for x in inputs], op.signs, row_sum, factors)
    return None if done is None else stepped(*done, op.name)


def sum_constants(op: Add, shape: tuple[int, ...]) -> tuple[Float64, tuple[float, float]]:
    """The sums of the rows of ``op`` on inputs of ``shape``, and the factors of its step."""
    row_sum: Float64 = op.cached(f"sum.{shape}", lambda: op.row_sums([shape] * op.terms)[0])
    return row_sum, (rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty)


def prepared(op: Conv, shape: tuple[int, ...]) -> Step | None:
    """The step of ``op`` on inputs of ``shape``, made once; None where its products are better."""
    made: Step | None = op.cached(f"image.{shape}", lambda: _prepared(op, shape))
    return made


def _prepared(op: Conv, shape: tuple[int, ...]) -> Step | None:
    """The constants of ``op`` on inputs of ``shape``; None where its products are better alone."""
    window, found = op.window(shape), op.shape(shape)
    groups, out = op.group, op.weight.shape[0] // op.group
    operations, most = _work(op, shape)
    if op.inexact or most < 1:
        return None
    weight, offset = in_panels(op.weight, groups, window.kernel), op.offset()
    if offset is not None:
        offset = np.array(np.broadcast_to(offset, found), np.float64, order="C")
    spans = (*window.kernel, *window.strides, *window.dilations)
    kernel = kernels.convolution(
        weight,
        offset,
        np.ascontiguousarray(op.row_sums([shape])[0]),
        (rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty),
        kernels.Image(
            kernels.Frame(spans, *window.pads[:2]),
            (groups, op.weight.shape[1], *window.image),
            (groups, out, *window.positions),
        ),
    )
    boxes = max(1, int(_CALL_OPERATIONS // operations))
    return None if kernel is None else Step(weight, offset, kernel, found, boxes, most)


def _work(op: Conv, shape: tuple[int, ...]) -> tuple[int, float]:
    """Operations of a box on an input of ``shape``; boxes from which on two products are faster."""
    out, (height, width) = op.weight.shape[0] // op.group, op.window(shape).positions
    panels = -(-out // kernels.PANEL)
    operations = 4 * op.group * panels * kernels.PANEL * height * width * op.terms
    filled = panels * kernels.PANEL <= _PADDED * out
    return operations, math.inf if filled else _FEW_OPERATIONS // operations


def copies(op: Conv, how: Precision, boxes: int, shape: tuple[int, ...]) -> dict[Hashable, int]:
    """`Operator.copies` of the interval step on inputs of ``shape``; not of its gates."""
    found = {"weight.d.abs": 8 * op.weight.size} | op.stray_copies(how)
    _, most = _work(op, shape)
    ready = most >= 1 and how.guarantee == "real" and not op.inexact
    if ready:
        panels = -(-(len(op.weight) // op.group) // kernels.PANEL)
        size = 8 * op.group * panels * kernels.PANEL * op.weight[0].size
        ends = 8 * math.prod(op.shape(shape)) if op.bias is not None else 0
        found[f"image.{shape}"] = size + ends
    if ready and boxes <= most:
        return found | {f"absolute.sum.{(1, *shape)}": 8 * math.prod(op.shape(shape))}
    return found | cast_bytes(op.weight, np.dtype(np.float64)) | finish_bytes(op, how, shape)


def sum_copies(op: Add, shape: tuple[int, ...]) -> dict[Hashable, int]:
    """`Operator.copies` of a sum of inputs of ``shape``."""
    entries, ones = 8 * math.prod(shape), ",".join([str((1, *shape))] * op.terms)
    found: dict[Hashable, int] = {f"sum.{shape}": entries}
    if entries <= 8 * KEPT:
        found[f"absolute.sum.{ones}"] = entries
    return found


def in_panels(weight: npt.NDArray[np.floating], groups: int, kernel: tuple[int, int]) -> Float64:
    """A kernel (out, in/group, *k) as (groups, panels, kh, kw, in/group, `kernels.PANEL`)."""
    out, channels = weight.shape[0] // groups, weight.shape[1]
    panels = -(-out // kernels.PANEL)
    full = np.zeros((groups, panels * kernels.PANEL, channels, *kernel))
    full[:, :out] = weight.reshape(groups, out, channels, *kernel)
    split = full.reshape(groups, panels, kernels.PANEL, channels, *kernel)
    return np.ascontiguousarray(split.transpose(0, 1, 4, 5, 3, 2))
