"""Operators that are compositions of others: how files are given them, and what they mean.

`MAKERS` and `FUNCTIONS` belong to those of `files` and `onnx_truth`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb
from hypothesis import strategies as st

from tests.exact.oracle import Numbers, q

Attributes = dict[str, Any]
Shape = tuple[int, ...]


def each(function: Callable[..., Any], *arrays: Numbers) -> Numbers:
    """``function`` of every entry, shapes broadcast."""
    wide = np.broadcast_arrays(*arrays)
    out = np.empty(wide[0].shape, object)
    for at in np.ndindex(*out.shape):
        out[at] = function(*(w[at] for w in wide))
    return out


def decided(test: Any, contrary: Any) -> bool:
    """Whether a comparison holds. Raises ZeroDivisionError where a ball does not decide it."""
    if not test and not contrary:
        raise ZeroDivisionError("the ball meets the threshold")
    return bool(test)


def _celu(a: Attributes, x: Numbers) -> Numbers:
    alpha = q(a["alpha"])
    return each(lambda v: v if arb(v) > 0 else alpha * (arb(v) / alpha).expm1(), x)


def _mish(a: Attributes, x: Numbers) -> Numbers:
    return each(lambda v: arb(v) * arb(v).exp().log1p().tanh(), x)


def _softsign(a: Attributes, x: Numbers) -> Numbers:
    return each(lambda v: v / (1 + abs(v)), x)


def _thresholded(a: Attributes, x: Numbers) -> Numbers:
    edge = q(a["alpha"])
    return each(lambda v: v if decided(v > edge, v <= edge) else q(0), x)


def _shrunk(a: Attributes, x: Numbers) -> Numbers:
    edge, bias = q(a["lambd"]), q(a["bias"])

    def one(v: Any) -> Any:
        if decided(v < -edge, v >= -edge):
            return v + bias
        return v - bias if decided(v > edge, v <= edge) else q(0)

    return each(one, x)


def _compared(kind: str) -> Callable[..., Numbers]:
    def one(v: Any, w: Any) -> bool:
        if kind == "Greater":
            return decided(v > w, v <= w)
        if kind == "Less":
            return decided(v < w, v >= w)
        return decided(v >= w, v < w) if kind == "GreaterOrEqual" else decided(v <= w, v > w)

    return lambda a, x, y: each(one, x, y)


def _where(a: Attributes, test: Numbers, x: Numbers, y: Numbers) -> Numbers:
    return each(lambda t, v, w: v if t else w, test, x, y)


_BEFORE: dict[str, Callable[[Any], Any]] = {
    "L1": abs,
    "L2": lambda v: v * v,
    "SumSquare": lambda v: v * v,
    "LogSum": lambda v: v,
    "LogSumExp": lambda v: arb(v).exp(),
}
_AFTER: dict[str, Callable[[Any], Any]] = {
    "L2": lambda v: arb(v).sqrt(),
    "LogSum": lambda v: arb(v).log(),
    "LogSumExp": lambda v: arb(v).log(),
}


def _norm(kind: str) -> Callable[..., Numbers]:
    def run(a: Attributes, x: Numbers, given: Numbers) -> Numbers:
        axes = tuple(int(i) % x.ndim for i in np.ravel(given))
        total = np.add.reduce(each(_BEFORE[kind], x), axis=axes, keepdims=bool(a["keepdims"]))
        after = _AFTER.get(kind)
        return np.asarray(total) if after is None else each(after, np.asarray(total, object))

    return run


def _mean(a: Attributes, *parts: Numbers) -> Numbers:
    return sum(parts[1:], parts[0]) / q(len(parts))


def _global_norm(a: Attributes, x: Numbers) -> Numbers:
    axes = np.array([q(i) for i in range(2, x.ndim)], object)
    return _norm("L1" if a["p"] == 1 else "L2")({"keepdims": 1}, x, axes)


def divided_by_root(x: Numbers, axes: tuple[int, ...], epsilon: float, centred: bool) -> Numbers:
    """(x - mean)/√(mean((x - mean)²) + epsilon) over some axes."""
    count = math.prod(x.shape[a] for a in axes)

    def mean(v: Numbers) -> Numbers:
        return np.add.reduce(v, axis=axes, keepdims=True) / count

    c = x - mean(x) if centred else x
    return each(lambda v, w: arb(v) / (arb(w) + arb(q(epsilon))).sqrt(), c, mean(c * c))


def _layer(a: Attributes, x: Numbers, scale: Numbers, bias: Numbers) -> Numbers:
    axes = tuple(range(a["axis"] % x.ndim, x.ndim))
    return divided_by_root(x, axes, a["epsilon"], True) * scale + bias


def _instance(a: Attributes, x: Numbers, scale: Numbers, bias: Numbers) -> Numbers:
    wide = [w.reshape(-1, *(1,) * (x.ndim - 2)) for w in (scale, bias)]
    return divided_by_root(x, tuple(range(2, x.ndim)), a["epsilon"], True) * wide[0] + wide[1]


def _lp(a: Attributes, x: Numbers) -> Numbers:
    total = np.add.reduce(x * x, axis=a["axis"], keepdims=True)
    return each(lambda v, w: arb(v) / arb(w).sqrt(), x, total)


FUNCTIONS: dict[str, Callable[..., Numbers]] = {
    "LayerNormalization": _layer,
    "InstanceNormalization": _instance,
    "LpNormalization": _lp,
    "Celu": _celu,
    "Mish": _mish,
    "Softsign": _softsign,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrunk,
    "Where": _where,
    "Mean": _mean,
    "GlobalLpPool": _global_norm,
    **{kind: _compared(kind) for kind in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")},
    **{f"Reduce{kind}": _norm(kind) for kind in _BEFORE},
}


def _choice(s: Any, *values: Any) -> Any:
    return s.n.draw(st.sampled_from(values))


def _activation(s: Any, x: str, shape: Shape) -> None:
    kind = _choice(s, "Celu", "Mish", "Softsign", "ThresholdedRelu", "Shrink")
    options: dict[str, Any] = {}
    if kind in ("Celu", "ThresholdedRelu"):
        options["alpha"] = _choice(s, 1.0, 0.5, 2.5)
    if kind == "Shrink":
        options = {"lambd": _choice(s, 0.5, 1.5), "bias": _choice(s, 0.0, 0.5, -1.0)}
    s.add(kind, x, **options)


def _selected(s: Any, x: str, shape: Shape) -> None:
    """A choice between functions of one value, by a comparison with a number."""
    kind = _choice(s, "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    test = s.raw(kind, x, s.weight(), shape=shape)
    sides = [_choice(s, x, s.add("Mul", x, s.weight()), s.add("Tanh", x), s.weight())
             for _ in range(2)]  # fmt: skip
    s.raw("Where", test, *sides, shape=shape)
    s.last = f"v{len(s.nodes)}"


def _norms(s: Any, x: str, shape: Shape) -> None:
    axes = [a for a in range(1, len(shape)) if _choice(s, True, False)] or [len(shape) - 1]
    kind = _choice(s, *_BEFORE)
    if kind == "LogSum":
        x = s.add("Add", s.add("Abs", x), s.constant(np.float32(1)))
    s.add(f"Reduce{kind}", x, s.ints(*axes), keepdims=_choice(s, 1, 0))


def _averaged(s: Any, x: str, shape: Shape) -> None:
    alike = [name for name, found in s.shapes.items() if found == shape]
    s.add("Mean", x, *(_choice(s, *alike[::-1], s.weight(*shape)) for _ in range(2)))


def _global_norms(s: Any, x: str, shape: Shape) -> None:
    if len(shape) in (3, 4):
        s.add("GlobalLpPool", x, p=_choice(s, 1, 2))


def _linear(s: Any, x: str, shape: Shape) -> None:
    """Movement and interpolation that readers turn into other operators."""
    rank, size = len(shape), math.prod(shape)
    if rank < 2:
        return
    kind = _choice(s, "ScatterND", "ReverseSequence", "CenterCropPad", "Resize", "EyeLike", "Split")
    if kind == "ScatterND":
        index = np.array([[0, s.n.draw(st.integers(0, shape[1] - 1))]], np.int64)
        s.add(kind, x, s.constant(index), s.weight(1, *shape[2:]))
    elif kind == "ReverseSequence":
        length = s.n.draw(st.integers(1, shape[1]))
        s.add(kind, x, s.ints(length), batch_axis=0, time_axis=1)
    elif kind == "CenterCropPad":
        s.add(kind, x, s.ints(1, *(s.n.draw(st.integers(1, 4)) for _ in shape[1:])))
    elif kind == "Resize" and rank in (3, 4):
        sizes = [s.n.draw(st.integers(1, 4)) for _ in shape[2:]]
        options = {"mode": _choice(s, "linear", "nearest")}
        options["coordinate_transformation_mode"] = _choice(s, "half_pixel", "asymmetric")
        s.add(kind, x, "", "", s.ints(*shape[:2], *sizes), **options)
    elif kind == "Split" and size > 1 and shape[-1] > 1:
        s.split(x, rank - 1, s.n.draw(st.integers(1, shape[-1] - 1)))


def _normalised(s: Any, x: str, shape: Shape) -> None:
    """Normalisations, as one operator and spelled out, with epsilons from none to large."""
    rank, epsilon = len(shape), _choice(s, 1e-5, 1e-12, 1.0, 0.0)
    kind = _choice(s, "LayerNormalization", "InstanceNormalization", "LpNormalization", "", "")
    if kind == "LayerNormalization":
        axis = s.n.draw(st.integers(1, rank - 1))
        s.add(kind, x, s.weight(*shape[axis:]), s.weight(*shape[axis:]), axis=axis, epsilon=epsilon)
    elif kind == "LpNormalization":
        # p = 1 is x over the sum of x in onnx's reference, of |x| everywhere else.
        s.add(kind, x, axis=s.n.draw(st.integers(1, rank - 1)), p=2)
    elif kind and rank in (3, 4):
        s.add(kind, x, s.weight(shape[1]), s.weight(shape[1]), epsilon=epsilon)
    elif not kind:
        axes = s.ints(s.n.draw(st.integers(1, rank - 1)))
        c = s.add("Sub", x, s.add("ReduceMean", x, axes)) if _choice(s, True, False) else x
        square = s.add("Mul", c, c)
        v = s.add("Add", s.add("ReduceMean", square, axes), s.constant(np.float32(epsilon)))
        if _choice(s, True, False):
            s.add("Div", c, s.add("Sqrt", v))
        else:
            s.add("Mul", c, s.add("Pow", v, s.constant(np.float32(-0.5))))


MAKERS = {
    "normalised": _normalised,
    "activation": _activation,
    "selected": _selected,
    "norms": _norms,
    "averaged": _averaged,
    "global_norms": _global_norms,
    "linear": _linear,
}
