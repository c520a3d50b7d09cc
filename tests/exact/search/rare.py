"""Operators that files seldom have: how files are given them, and what they mean.

`MAKERS` and `FUNCTIONS` belong to those of `files` and `onnx_truth`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb
from hypothesis import strategies as st

from tests.exact.oracle import Numbers, q
from tests.exact.search.spelled import Attributes, Shape, decided, divided_by_root, each


def _product(a: Attributes, x: Numbers, axes: Numbers) -> Numbers:
    over = tuple(int(i) % x.ndim for i in np.ravel(axes))
    return np.asarray(np.multiply.reduce(x, axis=over, keepdims=bool(a["keepdims"])), object)


def _groups(a: Attributes, x: Numbers, scale: Numbers, bias: Numbers) -> Numbers:
    """Of operator sets from 21 on: a gain and a shift for each channel."""
    count = a["num_groups"]
    flat = x.reshape(x.shape[0], count, -1)
    made = divided_by_root(flat, (2,), a["epsilon"], True).reshape(x.shape)
    wide = [part.reshape(-1, *(1,) * (x.ndim - 2)) for part in (scale, bias)]
    return made * wide[0] + wide[1]


def _moments(a: Attributes, x: Numbers) -> Numbers:
    """(x - mean)/(√variance + 1e-9)."""
    axes = tuple(a["axes"])
    count = math.prod(x.shape[i] for i in axes)
    c = x - np.add.reduce(x, axis=axes, keepdims=True) / count
    variance = np.add.reduce(c * c, axis=axes, keepdims=True) / count
    least = arb(q(float(np.float32(1e-9))))
    return each(lambda v, w: arb(v) / (arb(w).max(arb(0)).sqrt() + least), c, variance)


def _lp_pool(a: Attributes, x: Numbers) -> Numbers:
    kernel, strides, pads = a["kernel_shape"], a["strides"], a["pads"]
    rank = len(kernel)
    counts = [
        (x.shape[i + 2] + pads[i] + pads[i + rank] - kernel[i]) // strides[i] + 1
        for i in range(rank)
    ]
    out = np.empty((*x.shape[:2], *counts), object)
    for at in np.ndindex(*out.shape):
        total = q(0)
        for offset in itertools.product(*map(range, kernel)):
            spot = [at[i + 2] * strides[i] - pads[i] + offset[i] for i in range(rank)]
            if all(0 <= s < n for s, n in zip(spot, x.shape[2:], strict=True)):
                v = x[(*at[:2], *spot)]
                total = total + (abs(v) if a["p"] == 1 else v * v)
        out[at] = total if a["p"] == 1 else arb(total).sqrt()
    return out


def _likelihood(
    a: Attributes, x: Numbers, target: Numbers, weight: Numbers | None = None
) -> Numbers:
    """The loss over axis 1 of (batch, classes, ...)."""
    out, shares = np.empty(target.shape, object), np.empty(target.shape, object)
    for at in np.ndindex(*target.shape):
        label = int(target[at])
        shares[at] = q(1) if weight is None else weight[label]
        out[at] = -x[(at[0], label, *at[1:])] * shares[at]
    if a["reduction"] == b"none":
        return out
    total = np.asarray(out.sum(), object)
    return total if a["reduction"] == b"sum" else np.asarray(out.sum() / shares.sum(), object)


def _cross_entropy(a: Attributes, x: Numbers, *more: Numbers) -> Numbers:
    powers = each(lambda v: arb(v).exp(), x)
    total = np.add.reduce(powers, axis=1, keepdims=True)
    return _likelihood(a, each(lambda v, w: arb(v) - arb(w).log(), x, total), *more)


def _floor(v: Any) -> Any:
    low = arb(v).floor()
    if not low.is_exact():
        raise ZeroDivisionError("the ball meets a whole number")
    return q(float(low))


def _rounded(v: Any) -> Any:
    low = _floor(v)
    rest = v - low
    if decided(rest > q(0.5), rest <= q(0.5)):
        return low + 1
    return low if rest < q(0.5) or int(low.p) % 2 == 0 else low + 1


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": _product,
    "GroupNormalization": _groups,
    "MeanVarianceNormalization": _moments,
    "LpPool": _lp_pool,
    "NegativeLogLikelihoodLoss": _likelihood,
    "SoftmaxCrossEntropyLoss": _cross_entropy,
    "Floor": lambda a, x: each(_floor, x),
    "Ceil": lambda a, x: each(lambda v: -_floor(-v), x),
    "Round": lambda a, x: each(_rounded, x),
    "CastLike": lambda a, x, like: x,
}


def _choice(s: Any, *values: Any) -> Any:
    return s.n.draw(st.sampled_from(values))


def _multiplied(s: Any, x: str, shape: Shape) -> None:
    axes = [a for a in range(1, len(shape)) if _choice(s, True, False)] or [len(shape) - 1]
    s.add("ReduceProd", x, s.ints(*axes), keepdims=_choice(s, 1, 0))


def _whole(s: Any, x: str, shape: Shape) -> None:
    kind = _choice(s, "Floor", "Ceil", "Round", "CastLike")
    s.add(kind, x, *([s.weight()] if kind == "CastLike" else []))


def _grouped(s: Any, x: str, shape: Shape) -> None:
    if len(shape) not in (3, 4):
        return
    epsilon = _choice(s, 1e-5, 1.0, 1e-12)
    if _choice(s, True, False):
        axes = [0, *(a for a in range(1, len(shape)) if _choice(s, True, False)), len(shape) - 1]
        s.add("MeanVarianceNormalization", x, axes=sorted(set(axes)))
        return
    count = _choice(s, *[g for g in (1, 2, 3) if shape[1] % g == 0])
    parts = (s.weight(shape[1]), s.weight(shape[1]))
    options = {"num_groups": count, "epsilon": epsilon}
    s.last = s.raw("GroupNormalization", x, *parts, shape=shape, **options)


def _norm_pool(s: Any, x: str, shape: Shape) -> None:
    if len(shape) not in (3, 4):
        return
    kernel = [s.n.draw(st.integers(1, min(3, n))) for n in shape[2:]]
    options: dict[str, Any] = {"kernel_shape": kernel, "p": _choice(s, 1, 2)}
    options["pads"] = [s.n.draw(st.integers(0, k - 1)) for k in kernel] * 2
    options["strides"] = [_choice(s, 1, 2) for _ in kernel]
    s.add("LpPool", x, **options)


def _loss(s: Any, x: str, shape: Shape) -> None:
    if len(shape) != 3:
        x = s.add("Reshape", x, s.ints(1, shape[-1], math.prod(shape[:-1])))
        shape = s.shapes[x]
    labels = [[s.n.draw(st.integers(0, shape[1] - 1)) for _ in range(shape[2])]]
    inputs = [s.constant(np.array(labels, np.int64))]
    if _choice(s, True, False):
        inputs.append(s.weight(shape[1]))
    kind = _choice(s, "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    s.add(kind, x, *inputs, reduction="none")


MAKERS = {
    "multiplied": _multiplied,
    "whole": _whole,
    "grouped": _grouped,
    "norm_pool": _norm_pool,
    "loss": _loss,
}
UNDRAWN = {
    "Attention": "operator set 23; tests/formats/test_onnx_attention.py holds it exactly",
    **dict.fromkeys(("If", "Loop"), "graphs of operators that are drawn"),
    **dict.fromkeys(
        ("DequantizeLinear", "QuantizeLinear", "QLinearMatMul", "QLinearConv"),
        "steps and Round, which is drawn: test_onnx_quantised",
    ),
    "Mod": "of floats: operator set 28",
    "NonZero": "of constants alone",
    "OneHot": "of constants alone",
    "RMSNormalization": "operator set 23; `spelled` draws what it is made of",
    "Scatter": "operator sets to 10; ScatterElements since",
    "SimplifiedLayerNormalization": "only onnxruntime defines it; as RMSNormalization",
    "Swish": "operator set 24; `gated` draws it spelled out",
    "com.microsoft.SkipLayerNormalization": "only onnxruntime defines it; as LayerNormalization",
    "com.microsoft.SkipSimplifiedLayerNormalization": "as SimplifiedLayerNormalization",
}
"""Operators of files that the search never draws, and why."""
