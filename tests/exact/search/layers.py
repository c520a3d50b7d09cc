"""Networks of layers wide enough for whole vectors, panels and blocks of sums, and not wider:
exact arithmetic has to keep up."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gamma import ops
from gamma.network.graph import Builder, Network
from tests.exact.search.graphs import FUNCTIONS
from tests.exact.search.numbers import Numbers

Array = Any
MOST = 1500
"""Products of a layer."""
_WIDTHS = (3, 1, 2, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 33, 40, 65, 80, 130)
_SMOOTH = ("Sigmoid", "Tanh", "Silu", "Softplus", "Gelu", "Elu")


def _zeros(n: Numbers, weight: Array) -> Array:
    """The weight with zeros: none, most, in rows, in columns, or in a corner."""
    kind = n.draw(st.sampled_from(("none", "none", "most", "rows", "columns", "corner")))
    rng = np.random.default_rng(n.draw(st.integers(0, 9999)))
    kept = np.ones(weight.shape, bool)
    if kind == "most":
        kept = rng.random(weight.shape) < 0.15
    elif kind == "rows":
        kept[rng.random(len(weight)) < 0.5] = False
    elif kind == "columns":
        kept[:, rng.random(weight.shape[1]) < 0.6] = False
    elif kind == "corner":
        kept[: len(weight) // 2, weight.shape[1] // 3 :] = False
    zero = weight.dtype.type(n.number(0.0, -0.0))
    return np.where(kept, weight, zero)


def _bias(n: Numbers, count: int) -> Array | None:
    return n.array(count, bias=True) if n.draw(st.booleans()) else None


def _activation(n: Numbers, b: Builder, kinds: tuple[str, ...]) -> None:
    """A ReLU, another function, or none, behind the last node."""
    name = n.draw(st.sampled_from(("Relu", "Relu", "Relu", "", *kinds)))
    if name:
        b.add(n.draw(st.sampled_from(FUNCTIONS[name])), len(b.nodes) - 1, name=f"v{len(b.nodes)}")


def _dense(n: Numbers, b: Builder, width: int, source: int) -> int:
    weight = _zeros(n, n.array(width, b.nodes[source].shape[-1]))
    return b.add(ops.Gemm(weight, _bias(n, width)), source, name=f"v{len(b.nodes)}")


def _width(n: Numbers, before: int) -> int:
    return n.draw(st.sampled_from([w for w in _WIDTHS if w * before <= MOST and w <= 40]))


def _image(n: Numbers, b: Builder) -> None:
    """A convolution that keeps or shrinks the image, or its sum with what came before."""
    source = len(b.nodes) - 1
    channels, height, width = b.nodes[source].shape
    side = n.draw(st.sampled_from([k for k in (3, 1, 2) if k <= min(height, width) + 1]))
    stride = n.draw(st.sampled_from((1, 1, 2)))
    group = n.draw(st.sampled_from([g for g in (1, 1, 1, 2, 3) if channels % g == 0]))
    out = group * n.draw(st.sampled_from([k for k in (2, 1, 3, 8, 9) if k * group <= 9]))
    before, behind = n.draw(st.integers(0, side - 1)), n.draw(st.integers(0, side - 1))
    if n.draw(st.booleans()):  # as many pixels as before, for a sum
        stride, before, behind = 1, (side - 1) // 2, side // 2
    pads = (before, before, behind, behind)
    if before + behind + min(height, width) < side:
        return
    while out * channels // group * side * side * height * width > 2 * MOST and out > group:
        out -= group
    weight = _zeros(n, n.array(out, channels // group, side, side))
    op = ops.Conv(weight, _bias(n, out), (stride, stride), pads, (1, 1), group)
    made = op.shape(b.nodes[source].shape)
    if min(made) < 1:
        return
    last = b.add(op, source, name=f"v{len(b.nodes)}")
    alike = [i for i, node in enumerate(b.nodes[:last]) if node.shape == made]
    if alike and n.draw(st.booleans()):
        signs = tuple(n.draw(st.sampled_from((1, -1))) for _ in range(2))
        inputs = (last, n.draw(st.sampled_from(alike[::-1])))
        b.add(ops.Add(signs), *inputs, name=f"v{len(b.nodes)}")


def layers(n: Numbers, flat: bool) -> Network:
    """Dense layers behind none (``flat``) or some convolutions, with sums or without, between
    activations of few kinds."""
    kinds = n.draw(st.sampled_from(((), (), _SMOOTH, *((k,) for k in _SMOOTH), tuple(FUNCTIONS))))
    depth, sums = n.draw(st.integers(1, 4)), n.draw(st.sampled_from((False, False, True)))
    if flat or n.draw(st.booleans()):
        b = Builder(ops.Input(), (n.draw(st.sampled_from(_WIDTHS)),), name="x")
    else:
        channels, height = n.draw(st.sampled_from((1, 2, 3, 8, 9))), n.draw(st.integers(1, 5))
        b = Builder(ops.Input(), (channels, height, n.draw(st.integers(1, 5))), name="x")
        for _ in range(n.draw(st.integers(0, 2))):
            _image(n, b)
            _activation(n, b, kinds)
        size = b.nodes[-1].size
        if size > 130:
            return b.build(len(b.nodes) - 1)
        if n.draw(st.booleans()):
            turned = n.draw(st.sampled_from(((1, 2, 0), (0, 2, 1), (2, 0, 1))))
            b.add(ops.Transpose(turned), len(b.nodes) - 1, name=f"v{len(b.nodes)}")
        b.add(ops.Reshape((size,)), len(b.nodes) - 1, name=f"v{len(b.nodes)}")
        depth = (depth + 1) // 2
    for layer in range(depth):
        source = len(b.nodes) - 1
        width = _width(n, b.nodes[source].size)
        last = _dense(n, b, width, source)
        alike = [i for i, node in enumerate(b.nodes[:last]) if node.shape == (width,)]
        if sums and n.draw(st.booleans()):
            if not alike:  # beside another layer of the same source
                alike = [_dense(n, b, width, source)]
            signs = tuple(n.draw(st.sampled_from((1, -1))) for _ in range(2))
            inputs = (last, n.draw(st.sampled_from(alike)))
            b.add(ops.Add(signs), *inputs, name=f"v{len(b.nodes)}")
        if layer + 1 < depth or n.draw(st.sampled_from((False, False, True))):
            _activation(n, b, kinds)
    if len(b.nodes) == 1:
        b.add(ops.Relu(), 0, name="v1")
    return b.build(len(b.nodes) - 1)
