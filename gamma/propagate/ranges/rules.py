"""From what is known of a node's inputs to what is known of the node: one small rule an operator.

Normalisation makes a sphere, scalings and movements keep it, dense layers read it (`dense`),
attention takes means of values (`attention`), activations that do not exceed their argument keep
its norm. Every other operator gets its interval rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.network.graph import Node
from gamma.ops import (
    Add,
    Elementwise,
    Gather,
    Gemm,
    Mul,
    Normalize,
    Operator,
    Scale,
    StoredGemm,
    Transpose,
)
from gamma.ops.affine_interval import float32_range
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.execution import LOST
from gamma.ops.normalization import least_square
from gamma.ops.products import image
from gamma.ops.tables import Precision
from gamma.propagate.interval import interval_step
from gamma.propagate.ranges import attention, layout, rotary
from gamma.propagate.ranges.context import Context
from gamma.propagate.ranges.dense import dense
from gamma.propagate.ranges.matrix import Matrix
from gamma.propagate.ranges.norms import only_gates
from gamma.propagate.ranges.sets import SLACK, Form, Known, Sphere
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]
REAL = Precision("real", np.dtype(np.float64))
Rule = Callable[[Context, Node, Any, Sequence[Known]], Known]


def known_of(walk: Context, node: Node, inputs: Sequence[Known]) -> Known:
    """What is known of a node; its interval is never NaN and never empty."""
    rule = _RULES.get(node.op.name, plain if node.op.activation is None else _function)
    found = rule(walk, node, node.op, inputs)
    if walk.executed and not node.op.moves:
        found = _executable(found, inputs)
    lower, upper = clean(found.lower, found.upper, node.name)
    return Known(node.shape, lower, upper, found.form, found.excess)


def _executable(found: Known, inputs: Sequence[Known]) -> Known:
    """Nothing is known where float32 may overflow, nor behind (docs/numerics.md)."""
    lower, upper = float32_range(found.lower, found.upper)
    if not all(x.finite for x in inputs):
        lower, upper = np.full_like(lower, -np.inf), np.full_like(upper, np.inf)
    whole = np.isfinite(lower).all() and np.isfinite(upper).all()
    form, excess = (found.form, found.excess) if whole else (None, None)
    return Known(found.shape, lower, upper, form, excess)


def plain(walk: Context, node: Node, op: Operator, inputs: Sequence[Known]) -> Known:
    """The operator's own interval rule on every entry."""
    found = interval_step(node, [attention.full_bounds(x) for x in inputs], walk.guarantee)
    return layout.collapsed(Known(node.shape, found.lower[0], found.upper[0]))


def _function(walk: Context, node: Node, op: Elementwise, inputs: Sequence[Known]) -> Known:
    (x,) = inputs
    if not op.alike:
        return plain(walk, node, op, inputs)
    lower, upper = op.interval(*(np.array(end)[None] for end in (x.lower, x.upper)))
    form: Form | None = None
    if _norms(walk, x) and op.shrinks and not only_gates(walk.network, len(walk.known)):
        form = _ball(x, 1.0)
    made = Known(node.shape, lower[0], upper[0], form)
    return made.strayed(op.stray(_one_box(x.lower, x.upper))[0]) if walk.executed else made


def _one_box(lower: Float64, upper: Float64) -> NodeBounds:
    """As the one box of a batch."""
    low, high = np.array(lower)[None], np.array(upper)[None]
    return NodeBounds(low, high, rounding.midpoint(low, high))


def _norms(walk: Context, x: Known) -> bool:
    """Whether the norm of x is worth finding: it is known, or a layer's may be asked for."""
    return isinstance(x.form, Sphere) or (x.form is not None and not walk.thrifty)


def _ball(x: Known, factor: float) -> Sphere | None:
    """Vectors of at most ``factor`` times the norm of x; None where that is infinite."""
    radius = float(x.norm(-1).max()) * factor * SLACK
    return Sphere.ball(len(x.shape), len(x.shape) - 1, radius) if radius < math.inf else None


def _normalize(walk: Context, node: Node, op: Normalize, inputs: Sequence[Known]) -> Known:
    (x,) = inputs
    if op.axis % len(x.shape) != len(x.shape) - 1:
        return plain(walk, node, op, inputs)
    before = x = layout.collapsed(x)
    d = x.shape[-1]
    if walk.norms_alone:
        end = np.full((1,) * len(x.shape), np.inf)
        x = Known(x.shape, -end, end)
    wide = (*x.lower.shape[:-1], d)
    found = op.propagate([_one_box(*(np.broadcast_to(e, wide) for e in (x.lower, x.upper)))], REAL)
    made = Known(node.shape, found.lower[0], found.upper[0])
    if not math.isfinite(made.largest):  # 0/0 is among the inputs
        return made
    # mean(c²) <= mean(x²) <= v, and ‖y‖² = d·mean(c²)/(mean(c²) + epsilon).
    v = float(x.plain_norm(-1).max()) ** 2 / d * SLACK
    share = v / (v + op.epsilon) * SLACK if v + op.epsilon < math.inf else 1.0
    rank, root = len(x.shape), math.sqrt(d) * math.sqrt(min(share, 1.0)) * SLACK
    one = np.ones((1,) * rank)
    form = Sphere(rank - 1, one, 0 * one, 0 * one, root, 0.0, op.centred)
    made = Known(node.shape, made.lower, made.upper, form)
    return _normalized(op, before, made) if walk.executed else made


def _normalized(op: Normalize, x: Known, made: Known) -> Known:
    """Float32 executions: all of a vector strays by a share, and every entry by a number."""
    wide = (*x.lower.shape[:-1], x.shape[-1])
    low, high = (np.array(np.broadcast_to(e, wide))[None] for e in (x.lower, x.upper))
    square = least_square(low, high, op.centred) + op.epsilon
    share, number = (part[0] for part in op.float32_errors(low, high, square))
    found, form = made.strayed((made.reach * share + number) * SLACK), made.form
    if found.form is None or not isinstance(form, Sphere):
        return found
    stray = (form.stray + float(share.max()) * (form.radius + form.stray)) * SLACK
    return replace(found, form=replace(form, stray=stray).strayed(number))


def _scale(walk: Context, node: Node, op: Scale, inputs: Sequence[Known]) -> Known:
    """scale·x + shift. Where constants differ along an axis of which x is the same, their hull."""
    (x,) = inputs
    if node.name in walk.factors:
        most = x.reach * (rotary.MOST * (1 + 2.0**-20)) + LOST
        return Known(node.shape, -most, most)
    scale = layout.lifted(op.scale.astype(np.float64), len(x.shape))
    shift = np.zeros((1,) * len(x.shape)) if op.shift is None else op.shift
    shift = layout.lifted(shift.astype(np.float64), len(x.shape))
    doubt = layout.lifted(np.asarray(op.shift_error, np.float64), len(x.shape))
    same = [a for a, n in enumerate(x.lower.shape) if n == 1 < x.shape[a]]
    (s_low, s_high), (t_low, t_high) = (_hull(c, same) for c in (scale, shift))
    doubt = doubt.max(axis=tuple(a for a in same if doubt.shape[a] > 1), keepdims=True)
    lower, upper = image(*np.broadcast_arrays(x.lower, x.upper, s_low, s_high))
    off = doubt
    if op.scale_error:
        far = np.maximum(abs(s_low), abs(s_high)) * x.reach
        off = (far * (op.scale_error * SLACK) + doubt) * SLACK
    if walk.executed:
        noise = op.float32_noise([x.reach[None]])[0]
        off = (off + _most(noise, same)) * SLACK
    middle = 0.5 * t_low + 0.5 * t_high
    lead = tuple(range(len(x.shape) - 1))
    away = rounding.radius_about(t_low, t_high, middle) + off.max(axis=lead, keepdims=True)
    form = x.form
    if not np.array_equal(s_low, s_high) or not np.isfinite(off).all():
        form = None
    elif isinstance(form, Sphere):
        form = form.scaled(s_low, middle, away)
    elif form is not None:
        form = form.scaled(s_low, middle, away, x.reach)
    lower, upper = rounding.down(lower + t_low), rounding.up(upper + t_high)
    if np.any(off > 0):
        lower, upper = rounding.down(lower - off), rounding.up(upper + off)
    return Known(node.shape, lower, upper, form)


def _most(constant: Float64, axes: Sequence[int]) -> Float64:
    """The most along ``axes``."""
    along = tuple(a for a in axes if constant.shape[a] > 1)
    return np.asarray(constant.max(axis=along, keepdims=True))


def _hull(constant: Float64, axes: Sequence[int]) -> tuple[Float64, Float64]:
    along = tuple(a for a in axes if constant.shape[a] > 1)
    return constant.min(axis=along, keepdims=True), constant.max(axis=along, keepdims=True)


def _add(walk: Context, node: Node, op: Add, inputs: Sequence[Known]) -> Known:
    lower = upper = np.zeros((1,) * len(node.shape))
    for sign, x in zip(op.signs, inputs, strict=True):
        low, high = (x.lower, x.upper) if sign > 0 else (-x.upper, -x.lower)
        lower, upper = rounding.down(lower + low), rounding.up(upper + high)
    made = Known(node.shape, lower, upper)
    if walk.executed:
        size = sum((x.reach for x in inputs), np.zeros(1)) * SLACK
        most = max(x.largest for x in inputs)
        made = made.strayed(op.float32_charge(size, len(inputs), most))
    turn = walk.turns.get(node.name)
    return made if turn is None else rotary.turned(walk, turn, made)


def _mul(walk: Context, node: Node, op: Mul, inputs: Sequence[Known]) -> Known:
    """a∘b: ‖a∘b‖ <= max|a|·‖b‖, and the other way round."""
    a, b = inputs
    rank = len(node.shape)
    ends = [layout.lifted(e, rank) for e in (a.lower, a.upper, b.lower, b.upper)]
    lower, upper = image(*np.broadcast_arrays(*ends))
    form: Form | None = None
    if a.shape == b.shape and not (a.form is None and b.form is None):
        balls = [_ball(x, y.largest) for x, y in ((a, b), (b, a)) if _norms(walk, x)]
        form = min((s for s in balls if s is not None), key=lambda s: s.radius, default=None)
    made = Known(node.shape, lower, upper, form)
    if not walk.executed:
        return made
    return made.strayed(op.float32_noise(_one_box(*ends[:2]), _one_box(*ends[2:]))[0])


def _dense(walk: Context, node: Node, op: Gemm | StoredGemm, inputs: Sequence[Known]) -> Known:
    if op.inexact:
        return plain(walk, node, op, inputs)
    prepared = walk.layer_norms.get(len(walk.known))
    matrix = Matrix(op.weight, getattr(op, "turned", False), prepared)
    x, charge = layout.collapsed(inputs[0]), None
    if walk.executed:
        charge = partial(op.float32_charge, n=matrix.n, most=x.largest)
    return dense(matrix, op.bias, x, charge)


def _reshape(walk: Context, node: Node, op: Operator, inputs: Sequence[Known]) -> Known:
    return layout.collapsed(layout.reshaped(inputs[0], node.shape))


def _transpose(walk: Context, node: Node, op: Transpose, inputs: Sequence[Known]) -> Known:
    return layout.transposed(inputs[0], op.perm)


def _gather(walk: Context, node: Node, op: Gather, inputs: Sequence[Known]) -> Known:
    found = layout.gathered(op, inputs[0])
    return plain(walk, node, op, inputs) if found is None else found


_RULES: dict[str, Rule] = {
    "Normalize": _normalize,
    "Scale": _scale,
    "Add": _add,
    "Mul": _mul,
    "Gemm": _dense,
    "StoredGemm": _dense,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Gather": _gather,
    "Softmax": attention.softmax,
    "MatMul": attention.matmul,
}
"""By the operator's name."""


def joint(record: type[Operator]) -> bool:
    """Whether ranges keep more of an operator's output than an interval: a norm, a ball."""
    return record.__name__ in _RULES or record.shrinks
