"""Small networks whose rows rise, of every kind of layer, and boxes of theirs."""

from __future__ import annotations

import numpy as np

from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Relu, Reshape, Transpose
from gamma.propagate.alpha import AlphaWalk
from gamma.propagate.cases import CaseWalk
from gamma.tensor.box import Box
from tests.verify.known import dense

SIZES = (5, 19, 33, 17, 3)


def network(seed: int) -> Network:
    """Small integers, so that a product of few of them is exact."""
    rng = np.random.default_rng(seed)
    shapes = zip(SIZES, SIZES[1:], strict=False)
    return dense(*((rng.integers(-2, 3, (m, n)).tolist(), rng.integers(-2, 3, m).tolist())
                   for n, m in shapes))  # fmt: skip


def claim(made: AlphaWalk) -> None:
    """Bounds of hidden layers whose upper lines have slopes 1/2 and 3/4, or are exact.

    That nobody proved them is nothing to executors.
    """
    rng = np.random.default_rng(9)
    for index in range(1, made.network.output):
        known, shape = made.bounds[index], made.bounds[index].lower.shape
        size = known.lower.size
        if not made.network.nodes[index + 1].op.hinge:
            continue
        low = -rng.choice([0.5, 0.25, 0.125], size)
        high = rng.choice([1, 3], size) * -low
        low[:3], high[:3] = -0.5, -0.125  # dead ones
        high = np.minimum(high, known.upper.ravel())
        wide = (known.lower.ravel() <= low) & (low <= high) & ((high < 0) | (high % 0.125 == 0))
        off = known.upper.ravel() < 0
        low = np.where(wide, low, np.maximum(known.lower.ravel(), np.where(off, -np.inf, 0.0)))
        high = np.where(wide, high, np.maximum(known.upper.ravel(), low))
        made.bounds[index].intersect(low.reshape(shape), high.reshape(shape), "claimed")
        made.descent.forget(index)


def step_by_step(walk: CaseWalk) -> CaseWalk:
    """The same without the one call."""
    with tuning.disabled("fused_ascent"):
        other = CaseWalk(walk.made, *walk._asked)
        assert other._dense is None
    assert walk._dense is not None
    return other


def images(group: int = 1, channels: int = 1) -> Network:
    """Convolutions with strides and pads, then a dense layer, of small integers."""
    rng, build = np.random.default_rng(0), Builder(Input(), (channels, 5, 5))
    first = rng.integers(-2, 3, (4, channels, 3, 3)).astype(np.float32)
    second = rng.integers(-2, 3, (4, 4 // group, 2, 2)).astype(np.float32)
    last = build.add(Relu(), build.add(Conv(first, None, (1, 1), (1, 1, 1, 1)), 0))
    last = build.add(Relu(), build.add(Conv(second, None, (2, 2), group=group), last))
    last = build.add(Reshape((16,)), last)
    return build.build(build.add(Gemm(rng.integers(-2, 3, (3, 16)).astype(np.float32)), last))


def residual() -> Network:
    """Sums and differences of dense layers, of what a ReLU reads and makes, and of the input."""
    rng, build = np.random.default_rng(7), Builder(Input(), (5,))

    def layer(source: int, n: int, m: int) -> int:
        weight = rng.integers(-1, 2, (m, n)).astype(np.float32)
        return build.add(Gemm(weight, rng.integers(-2, 3, m).astype(np.float64)), source)

    first = build.add(Relu(), layer(0, 5, 9))
    read = build.add(Add((1, -1)), layer(first, 9, 9), first)
    second = build.add(Relu(), read)
    last = build.add(Relu(), build.add(Add((-1, 1)), read, layer(second, 9, 9)))
    return build.build(build.add(Add(), layer(last, 9, 3), layer(0, 5, 3)))


def residual_images(whole: bool = False) -> Network:
    """Convolutions around convolutions, and channels last; no gradient is 0 but for rounding,
    which Adam would make a step of. Of small integers where it is to be evaluated exactly."""
    rng, build = np.random.default_rng(2), Builder(Input(), (6, 5, 2))

    def conv(source: int, out: int, channels: int, size: int, stride: int) -> int:
        shape = out, channels, size, size
        made = rng.integers(-2, 3, shape) if whole else rng.standard_normal(shape)
        weight = made.astype(np.float32)
        pads = (size // 2,) * 4
        return build.add(Conv(weight, None, (stride, stride), pads), source)

    first = build.add(Relu(), conv(build.add(Transpose((2, 0, 1)), 0), 3, 2, 3, 1))
    long = conv(build.add(Relu(), conv(first, 4, 3, 3, 2)), 4, 4, 3, 1)
    last = build.add(Relu(), build.add(Add(), long, conv(first, 4, 3, 1, 2)))
    last = build.add(Relu(), build.add(Add(), conv(last, 4, 4, 3, 1), last))
    last = build.add(Reshape((36,)), build.add(Transpose((1, 2, 0)), last))
    return build.build(build.add(Gemm(rng.integers(-2, 3, (3, 36)).astype(np.float32)), last))


def some_boxes(net: Network, count: int) -> Box:
    """Boxes around different places, the first around 0."""
    rng, radius = np.random.default_rng(4), 0.5 / 2.0 ** np.arange(count)
    one = np.ones((count, *net.input_shape)) * radius.reshape(-1, *[1] * len(net.input_shape))
    centre = rng.integers(-4, 5, one.shape) / 8
    centre[0] = 0
    return Box(centre - one, centre + one)
