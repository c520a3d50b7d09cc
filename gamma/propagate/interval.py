"""The interval pass (IBP): bounds of a node from bounds of its inputs.

Linear nodes use the centred form of docs/numerics.md: the product with the centre and the
product of |L| with the radius, both in float64, and one error term each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network, Node
from gamma.ops import Elementwise, Gemm, Linear, ReduceMax, Relu, Reshape
from gamma.ops.base import Weighted, cast_weight
from gamma.ops.bounds import NodeBounds, check_order, clean
from gamma.ops.execution import FLOAT32_MAX
from gamma.ops.tables import Precision
from gamma.runtime import choices
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_TINY = 2.0**-1000
# Inputs of a layer that are 0 in all boxes are left out when at most this share is live, and there
# are enough of them to look.
_LIVE, _SOME_TERMS = 0.8, 128
_ROWS = 16


def input_bounds(box: Box) -> NodeBounds:
    """Bounds of the input node for a batched box (the hull of a ball)."""
    centre = rounding.midpoint(box.lower, box.upper)
    return NodeBounds(box.lower, box.upper, centre)


def interval_step(
    node: Node, inputs: Sequence[NodeBounds], guarantee: str, dtype: npt.DTypeLike = np.float64
) -> NodeBounds:
    """Interval bounds of one node, with products of radii in ``dtype``.

    Raises UnsupportedError for an operator without a rule.
    """
    op = node.op
    if isinstance(op, Linear):
        if op.moves:
            return _moved(op, inputs)
        if guarantee == "real" and tuning.enabled("fused_layers"):
            done = _dense(node, op, inputs, dtype) or _finished(node, op, inputs, dtype)
            if done is not None:
                return done
        return _linear(node, op, inputs, guarantee, dtype)
    if isinstance(op, Elementwise):
        return _function(node, op, inputs[0], guarantee)
    if isinstance(op, ReduceMax):
        lower, upper = op.interval(inputs[0].lower, inputs[0].upper)
        if guarantee == "float32":
            noise = op.stray(inputs[0])
            lower, upper = lower - noise, upper + noise
        return _centred(*clean(lower, upper, node.name))
    found = op.propagate(inputs, Precision(guarantee, np.dtype(dtype)))
    lower, upper = found.lower, found.upper
    if guarantee == "float32":
        lower, upper = _float32_range(lower, upper)
    return _centred(*clean(lower, upper, node.name))


def _function(node: Node, op: Elementwise, x: NodeBounds, guarantee: str) -> NodeBounds:
    if isinstance(op, Relu) and (guarantee == "real" or not x.unbounded):
        lower, upper, centre, radius = kernels.relu(x.lower, x.upper)
        return NodeBounds(lower, upper, centre, _radius=radius)  # exact: clean bounds stay clean
    lower, upper = op.interval(x.lower, x.upper)
    if guarantee == "float32":
        noise = op.stray(x)
        lower, upper = _float32_range(lower - noise, upper + noise)
    return _centred(*clean(lower, upper, node.name))


def _float32_range(lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """Where an end is beyond half the largest float32 an execution may overflow: both are lost."""
    lower, upper = rounding.down(lower), rounding.up(upper)
    lost = ~(np.maximum(-lower, upper) <= FLOAT32_MAX / 2)
    return np.where(lost, -np.inf, lower), np.where(lost, np.inf, upper)


def _centred(lower: Float64, upper: Float64) -> NodeBounds:
    return NodeBounds(lower, upper, rounding.midpoint(lower, upper))


def _moved(op: Linear, inputs: Sequence[NodeBounds]) -> NodeBounds:
    """Entries that are copied or filled in: exact."""
    if isinstance(op, Reshape):  # nothing to compute; passing it costs nothing either
        shape = (len(inputs[0].lower), *op.target)
        x = inputs[0]
        return NodeBounds(x.lower.reshape(shape), x.upper.reshape(shape), x.centre.reshape(shape))
    centre = op.forward(*(b.centre for b in inputs))
    low = op.forward(*(b.lower for b in inputs))
    high = op.forward(*(b.upper for b in inputs))
    spread = op.linear([b.radius for b in inputs], absolute=True)
    return NodeBounds(low, high, centre, spread, np.zeros_like(centre))


def _linear(
    node: Node, op: Linear, inputs: Sequence[NodeBounds], guarantee: str, dtype: npt.DTypeLike
) -> NodeBounds:
    """z = L c + b, spread = |L| r; [z - R, z + R] with R covering every rounding."""
    n = op.terms_for(node_shape(inputs[0]))
    centres = [b.centre for b in inputs]
    product, spread = _products(op, centres, [b.radius for b in inputs], dtype)
    offset = op.offset()
    centre = product if offset is None else product + offset.astype(np.float64)
    size = _magnitude(op, centres)
    g = rounding.gamma_factor(n + 4, np.float64)
    offset_size = 0.0 if offset is None else abs(offset.astype(np.float64))
    noise = g * (size + offset_size) + op.uncertainty * size + op.offset_uncertainty + _TINY
    spread = spread * ((1 + g) * (1 + op.uncertainty) * (1 + 2.0**-50)) + _TINY
    if guarantee == "float32":
        noise = noise + op.float32_noise(_reach(inputs))
    strayed = op.strayed(_reach(inputs), guarantee == "float32")
    noise = noise if strayed is None else noise + strayed
    noise = noise * (1 + 2.0**-50)
    reach = spread + noise
    lower, upper = (
        rounding.down(centre - reach * (1 + 2.0**-50)),
        rounding.up(centre + reach * (1 + 2.0**-50)),
    )
    if guarantee == "float32":
        lower, upper = _float32_range(lower, upper)
    lower, upper = clean(lower, upper, node.name)
    centre = np.where(np.isfinite(centre), centre, 0.0)
    return NodeBounds(lower, upper, centre, spread, np.broadcast_to(noise, centre.shape))


def _dense(
    node: Node, op: Linear, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
) -> NodeBounds | None:
    """`_linear` for a dense layer, in one call of the C library."""
    x = inputs[0]
    if not isinstance(op, Gemm) or x.lower.ndim != 2 or op.weight_error is not None:
        return None
    factors = rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty
    weight, bias, row_sum = op.cached("dense.interval", lambda: dense_constants(op))
    if few_boxes(op, len(x.lower)):
        done = kernels.dense_interval(weight, bias, row_sum, x.lower, x.upper, x.centre, factors)
    elif in_tiles(op):
        kind = np.dtype(np.float32 if _single(op, dtype) else np.float64)
        forward = op.cached("forward", lambda: _transposed(op, np.float64, False, True))
        sizes = op.cached(f"forward.{kind.char}", lambda: _transposed(op, kind, True, True))
        made_up = _made_up_by(op.terms) if kind == np.float32 else (1.0, 0.0)
        live = _LIVE if tuning.enabled("compress") else -1.0
        lower, upper, centre = map(np.ascontiguousarray, (x.lower, x.upper, x.centre))
        done = kernels.dense_boxes(
            forward, sizes, bias, row_sum, lower, upper, centre, (*factors, *made_up, live)
        )
    else:
        done = None
    if done is None:
        return None
    (centre, spread, noise, lower, upper), crossed = done
    if crossed:
        check_order(lower, upper, node.name)
    return NodeBounds(lower, upper, centre, spread, noise)


def _finished(
    node: Node, op: Linear, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
) -> NodeBounds | None:
    """`_linear` with all that follows its products in one call of the C library."""
    inexact = isinstance(op, Weighted) and op.weight_error is not None
    if kernels.isa == "numpy" or inexact or np.any(op.offset_uncertainty):
        return None
    centres, radii = [b.centre for b in inputs], [b.radius for b in inputs]
    centre, spread = (np.ascontiguousarray(p) for p in _products(op, centres, radii, dtype))
    total, bias = op.cached(f"finish.{centre.shape[1:]}", lambda: _constants(op, centres))
    g = rounding.gamma_factor(op.terms_for(node_shape(inputs[0])) + 4, np.float64)
    done = kernels.interval_finish(centre, spread, bias, total, centres, (g, op.uncertainty))
    if done is None:
        return None
    (noise, lower, upper), crossed = done
    if crossed:
        check_order(lower, upper, node.name)
    return NodeBounds(lower, upper, centre, spread, noise)


def _constants(op: Linear, centres: Sequence[Float64]) -> tuple[Float64, Float64 | None]:
    """`_row_sum` and the offset of every entry, in float64."""
    total, offset = np.ascontiguousarray(_row_sum(op, centres)[0]), op.offset()
    if offset is None:
        return total, None
    return total, np.array(np.broadcast_to(offset, total.shape), np.float64, order="C")


def dense_constants(op: Gemm) -> tuple[Float64, Float64 | None, Float64]:
    """Weight as stored, bias and Σ|W| per row (rounded up), in float64."""
    weight = cast_weight(op, op.weight, "weight", op.weight.dtype, False)
    step = max(1, (1 << 20) // max(1, 8 * weight.shape[1]))  # a large weight is never cast whole
    parts = [
        abs(weight[start : start + step].astype(np.float64)).sum(axis=1)
        for start in range(0, len(weight), step)
    ]
    total = np.concatenate(parts) * (1 + 2.0**-20)
    bias = None if op.bias is None else np.ascontiguousarray(op.bias, dtype=np.float64)
    return weight, bias, total


def node_shape(bounds: NodeBounds) -> tuple[int, ...]:
    """Shape of the node, without the batch axis."""
    return bounds.lower.shape[1:]


def few_boxes(op: Gemm, count: int) -> bool:
    """Whether a dense layer's weight is read once for ``count`` boxes, not multiplied twice."""
    dtype = "d" if op.weight.itemsize == 8 else "f"
    return choices.choose("interval.dense", dtype, count) == "fused"


def in_tiles(op: Gemm) -> bool:
    """Whether a dense layer's interval step over many boxes is one call, on one thread."""
    size = op.weight.size
    return tuning.enabled("fused_boxes") and choices.choose("interval.boxes", "", size) == "tiled"


def _products(
    op: Linear, centres: list[Float64], radii: list[Float64], dtype: npt.DTypeLike
) -> tuple[Float64, Float64]:
    """L·centre with error at most γ_n of its absolute sum; |L|·radius, low by γ_n of it at most.

    With ``dtype`` float32 the products of radii are rounded in float32 and made up for.
    """
    single = _single(op, dtype)
    if isinstance(op, Gemm):
        if centres[0].ndim == 2 and few_boxes(op, len(centres[0])):
            if tuning.enabled("fused_interval"):
                weight = cast_weight(op, op.weight, "weight", op.weight.dtype, False)
                return kernels.interval_affine(weight, centres[0], radii[0])
        elif centres[0].ndim == 2 and tuning.enabled("fused_layers"):
            return _dense_products(op, centres[0], radii[0], single)
    if not single:
        return op.linear(centres), op.linear(radii, absolute=True)
    narrowed = [kernels.narrow_up(r) for r in radii]
    n = op.terms_for(radii[0].shape[1:])
    return op.linear(centres), _made_up(op.linear(narrowed, absolute=True), n)


def _single(op: Linear, dtype: npt.DTypeLike) -> bool:
    """Whether radii are multiplied in float32."""
    return (
        np.dtype(dtype) == np.float32
        and isinstance(op, Gemm)  # convolutions of images lose more by the narrowing than they gain
        and op.exact_in(np.float32)
        and tuning.enabled("narrow_spread")
    )


def _dense_products(
    op: Gemm, centre: Float64, radius: Float64, single: bool
) -> tuple[Float64, Float64]:
    """`_products` of many boxes; entries of the input that are 0 in all of them are left out."""
    weight = op.cached("transposed", lambda: _transposed(op, np.float64, False))
    kind = np.float32 if single else np.float64
    size = op.cached(f"transposed.abs.{single}", lambda: _transposed(op, kind, True))
    if tuning.enabled("compress") and op.terms >= _SOME_TERMS:
        live = radius.max(axis=0) != 0
        if np.count_nonzero(live) <= _LIVE * len(live):
            live |= centre.any(axis=0)
            kept = np.flatnonzero(live)
            weight, size = np.take(weight, kept, axis=0), np.take(size, kept, axis=0)
            centre, radius = np.take(centre, kept, axis=1), np.take(radius, kept, axis=1)
    if not single:
        return np.matmul(centre, weight), np.matmul(radius, size)
    reach = kernels.narrow_up(radius)
    return np.matmul(centre, weight), _made_up(np.matmul(reach, size), op.terms)


def _transposed(op: Gemm, dtype: npt.DTypeLike, absolute: bool, padded: bool = False) -> Array:
    """The weight as (in, out) in ``dtype``: rows of dead inputs are left out without a search."""
    m, n = op.weight.shape
    turned = np.zeros((n, kernels.padded(m, np.dtype(dtype)) if padded else m), dtype)
    for start in range(0, m, _ROWS):  # so many lines of the weight stay in cache while it turns
        turned[:, start : start + _ROWS][:, : m - start] = op.weight[start : start + _ROWS].T
    return np.abs(turned, out=turned) if absolute else turned


def _made_up(spread: Array, n: int) -> Float64:
    """A float32 sum of n products >= 0, so enlarged that it is not below the exact sum."""
    factor, least = _made_up_by(n)
    wide: Float64 = np.multiply(spread, factor, dtype=np.float64)
    wide += least
    return wide


def _made_up_by(n: int) -> tuple[float, float]:
    """Factor and addend of `_made_up`."""
    return (1 + rounding.gamma_factor(n + 1, np.float32)) * (1 + 2.0**-50), n * 2.0**-148


def _magnitude(op: Linear, centres: Sequence[Float64]) -> Float64:
    """At least |L||c|, entry by entry: |L|·1 times the largest |c| of each input's box.

    It is only ever multiplied by 2^-53-sized factors, so one cached product serves every call.
    """
    total = _row_sum(op, centres)
    largest = np.max([kernels.largest(c) for c in centres], axis=0)
    result: Float64 = total * largest.reshape(-1, *(1,) * (total.ndim - 1))
    return result


def _row_sum(op: Linear, centres: Sequence[Float64]) -> Float64:
    """At least |L|·1 for inputs of these shapes: (1, *output shape)."""
    ones = [np.ones((1, *c.shape[1:])) for c in centres]
    key = "absolute.sum." + ",".join(str(o.shape) for o in ones)
    total: Float64 = op.cached(key, lambda: op.linear(ones, absolute=True) * (1 + 2.0**-20))
    return total


def _reach(inputs: Sequence[NodeBounds]) -> list[Float64]:
    """The largest size of every entry of the inputs."""
    return [np.maximum(abs(b.lower), abs(b.upper)) for b in inputs]


def interval_pass(
    network: Network, box: Box, guarantee: str = "real", upto: int | None = None
) -> list[NodeBounds]:
    """IBP bounds of every node for a batched box."""
    bounds = [input_bounds(box)]
    last = network.output if upto is None else upto
    with np.errstate(all="ignore"):
        for node in network.nodes[1 : last + 1]:
            bounds.append(interval_step(node, [bounds[i] for i in node.inputs], guarantee))
    return bounds
