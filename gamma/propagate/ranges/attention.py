"""Attention: chances sum to 1, so what they mix stays in the hull of the values and in their ball.

A mean Σ p_j (M x_j + c) is M x̄ + c with x̄ = Σ p_j x_j in the same ball, for every head a mean of
its own. Scores are products of two vectors: at most the product of their norms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.network.graph import Node
from gamma.ops import MatMul, Softmax
from gamma.ops.bounds import NodeBounds
from gamma.ops.execution import overflowed
from gamma.ops.softmax import float32_errors
from gamma.propagate.ranges import layout
from gamma.propagate.ranges.context import Context
from gamma.propagate.ranges.sets import SLACK, TINY, Form, Image, Known
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]


def softmax(walk: Context, node: Node, op: Softmax, inputs: Sequence[Known]) -> Known:
    """Chances: in [0, 1], with sum 1; the image of the scores where positions are told apart."""
    (x,) = inputs
    rank = len(node.shape)
    last = op.axis % rank == rank - 1
    lower, upper = np.zeros((1,) * rank), np.ones((1,) * rank)
    made = Known(node.shape, lower, upper, None, 0.0 if last else None)
    if walk.executed and last:
        terms = max(node.shape[-1], walk.positions)
        share, lost = float32_errors(terms)
        made = replace(made, upper=upper + share + lost, excess=(share + terms * lost) * SLACK)
    if x.lower.shape[op.axis % rank] == 1 or walk.everywhere:
        return made
    found = op.propagate([full_bounds(x)], walk.how)
    return made.within(found.lower[0], found.upper[0])


def full_bounds(x: Known) -> NodeBounds:
    """As the one box of a batch."""
    low, high = (np.array(end)[None] for end in x.bounds)
    return NodeBounds(low, high, rounding.midpoint(low, high))


def matmul(walk: Context, node: Node, op: MatMul, inputs: Sequence[Known]) -> Known:
    """Means of values where the left side sums to 1, else products of vectors."""
    a, b = inputs
    if a.excess is not None:
        made = _means(walk, node, a, b)
        if walk.everywhere or a.lower.size == 1:
            return made
        better = _products(walk, node, op, a, b)
        return made.within(better.lower, better.upper)
    made = _products(walk, node, op, a, b)
    if a.form is None and b.form is None:
        return made
    rank = len(node.shape)
    most = layout.lifted(a.norm(-1), rank) * layout.lifted(b.norm(-2), rank) * SLACK + TINY
    if walk.executed:  # Σ|x||y| is at most the product of the norms, too
        most = (most + _summed(most, a.shape[-1])) * SLACK
    return made.within(-most, most)


def _summed(size: Float64, terms: int) -> Float64:
    """How far float32 sums of so many products may lie from theirs, of sizes ``size`` together."""
    noise = rounding.gamma_factor(terms + 1, np.float32) * size + terms * 2.0**-148
    return overflowed(noise, size + noise)


def _products(walk: Context, node: Node, op: MatMul, a: Known, b: Known) -> Known:
    bounds = []
    for x, axis in ((a, -1), (b, -2)):
        wide = list(x.lower.shape)
        wide[axis] = x.shape[axis]
        low, high = (np.array(np.broadcast_to(e, wide))[None] for e in (x.lower, x.upper))
        bounds.append(NodeBounds(low, high, rounding.midpoint(low, high)))
    found = op.propagate(bounds, walk.how)
    lower, upper = found.lower[0], found.upper[0]
    return Known(
        node.shape,
        np.where(np.isnan(lower), -np.inf, lower),
        np.where(np.isnan(upper), np.inf, upper),
    )


def _means(walk: Context, node: Node, chances: Known, values: Known) -> Known:
    """Σ p_j v_j with p >= 0 and |Σ p - 1| <= excess."""
    rank, excess = len(node.shape), chances.excess or 0.0
    low = layout.lifted(values.lower, rank).min(axis=-2, keepdims=True)
    high = layout.lifted(values.upper, rank).max(axis=-2, keepdims=True)
    if excess:
        lost = np.maximum(abs(low), abs(high)) * (excess * SLACK)
        low, high = rounding.down(low - lost), rounding.up(high + lost)
    form = _mean_form(node, values, excess) if isinstance(values.form, Image) else None
    made = Known(node.shape, low, high, form)
    if not walk.executed:
        return made
    size = np.maximum(abs(low), abs(high)) * ((1 + excess) * SLACK)
    return made.strayed(_summed(size, max(chances.shape[-1], walk.positions)))


def _mean_form(node: Node, values: Known, excess: float) -> Form | None:
    form, rank = values.form, len(node.shape)
    assert isinstance(form, Image)
    if len(values.shape) != rank or any(
        p.shape[-2] != 1 for p in (form.row, form.block, form.scale)
    ):
        return None
    low = (form.shift - form.error).min(axis=-2, keepdims=True)
    high = (form.shift + form.error).max(axis=-2, keepdims=True)
    shift = 0.5 * low + 0.5 * high
    size = abs(low) + abs(high)
    error = (rounding.radius_about(low, high, shift) + 2.0**-50 * size + excess * size) * SLACK
    # Every head has a mean of its own.
    heads = [a for a in range(rank - 2) if form.row.shape[a] > 1 or form.block.shape[a] > 1]
    form = layout.apart(form, heads, node.shape)
    stretch = (1 + excess) * SLACK
    source = replace(
        form.source, radius=form.source.radius * stretch, stray=form.source.stray * stretch
    )
    return replace(form, source=source, shift=shift, error=error)
