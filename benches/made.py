"""Networks made from a seed, of which no file is here: smooth activations, lattices, a generator of
images, an encoder with normalisations."""

from __future__ import annotations

import numpy as np

from benches.cases import Case
from gamma import ops
from gamma.network.graph import Builder, Network

SMOOTH = {
    "sigmoid": ops.Sigmoid(),
    "tanh": ops.Tanh(),
    "gelu": ops.Gelu(),
    "silu": ops.Silu(),
    "softplus": ops.Softplus(),
}
LATTICES = (8, 16, 24)

NAMES = (
    *(f"{name}_6x200" for name in SMOOTH),
    *(f"lattice_{n}" for n in LATTICES),
    "generator",
    "encoder",
)


def case(name: str) -> Case:
    """One of `NAMES`."""
    kind, _, size = name.partition("_")
    if kind == "lattice":
        network, radius = lattice(int(size)), 0.1
    elif kind == "generator":
        network, radius = generator(), 0.01
    elif kind == "encoder":
        network, radius = encoder(), 0.001
    else:
        network, radius = smooth(SMOOTH[kind]), 0.01
    x = np.random.default_rng(1).uniform(0.2, 0.8, network.input_shape).ravel()
    family = kind if kind in ("lattice", "generator", "encoder") else "smooth"
    return Case(name, family, network, x - radius, x + radius)


def smooth(
    activation: ops.Operator, layers: int = 6, width: int = 200, inputs: int = 784
) -> Network:
    """A dense classifier of ``layers`` hidden layers with one activation, as if trained."""
    rng = np.random.default_rng(0)
    builder = Builder(ops.Input(), (inputs,))
    last = 0
    for wide, high in zip((inputs, *[width] * layers), (*[width] * layers, 10), strict=True):
        last = builder.add(activation, last) if last else last
        weight = rng.standard_normal((high, wide)) * np.sqrt(2 / wide)
        bias = rng.standard_normal(high) * 0.1
        last = builder.add(ops.Gemm(weight.astype(np.float32), bias.astype(np.float32)), last)
    return builder.build(last)


def lattice(size: int, inputs: int = 2) -> Network:
    """The largest of ``size`` minima of ``size`` affine functions each, as dense ReLU layers.

    (Two-level lattices: Ferlez and Shoukry 2020; VNN-COMP's tllverifybench writes them so.)
    """
    rng = np.random.default_rng(size)
    builder = Builder(ops.Input(), (inputs,))
    weight = rng.standard_normal((size, inputs))
    last = _dense(builder, 0, weight, rng.standard_normal(size))
    chosen = rng.integers(0, size, (size, size)).ravel()
    last = _dense(builder, last, np.eye(size)[chosen])
    for groups, sign in ((size, -1.0), (1, 1.0)):
        last = _extremes(builder, last, groups, sign)
    return builder.build(last)


def _extremes(builder: Builder, last: int, groups: int, sign: float) -> int:
    """Of each group the largest (sign 1) or least (-1) entry, pair by pair."""
    size = builder.nodes[last].shape[0] // groups
    while size > 1:
        pairs = (size + 1) // 2  # an odd one is paired with itself
        first = np.arange(0, size, 2)
        second = np.minimum(first + 1, size - 1)
        each = np.eye(size)
        total, apart = each[first] + each[second], each[first] - each[second]
        spread = np.stack((total, -total, apart, -apart), axis=1).reshape(4 * pairs, size)
        last = builder.add(ops.Relu(), _dense(builder, last, np.kron(np.eye(groups), spread)))
        # min, max = (a + b ∓ |a - b|) / 2
        gather = np.kron(np.eye(pairs), 0.5 * np.array([[1, -1, sign, sign]]))
        last = _dense(builder, last, np.kron(np.eye(groups), gather))
        size = pairs
    return last


def encoder(positions: int = 4, width: int = 32, blocks: int = 6) -> Network:
    """Blocks of a normalisation and two dense layers around which the input goes, each position
    by itself, and scores of all of them."""
    rng = np.random.default_rng(0)
    builder, last = Builder(ops.Input(), (positions, width)), 0
    for _ in range(blocks):
        up = rng.standard_normal((4 * width, width)) / np.sqrt(width)
        down = rng.standard_normal((width, 4 * width)) / np.sqrt(4 * width)
        inner = builder.add(ops.Normalize(1, 1e-5, True), last)
        inner = builder.add(ops.Relu(), _dense(builder, inner, up))
        last = builder.add(ops.Add(), last, _dense(builder, inner, down))
    last = builder.add(ops.Normalize(1, 1e-5, True), last)
    last = builder.add(ops.Reshape((positions * width,)), last)
    return builder.build(_dense(builder, last, rng.standard_normal((4, positions * width)) / 10))


def generator(inputs: int = 5, channels: tuple[int, ...] = (64, 64, 40, 24)) -> Network:
    """An image of 64 x 64 from a few inputs, and 10 scores of it: about 160,000 neurons.

    (The shape of a conditional generator with its discriminator: Xu et al., VNN-COMP's cgan.)
    """
    rng = np.random.default_rng(0)
    builder, size = Builder(ops.Input(), (inputs,)), 8
    wide = channels[0] * size**2
    weight = rng.standard_normal((wide, inputs)) * np.sqrt(2 / inputs)
    last = _dense(builder, 0, weight, rng.standard_normal(wide) * 0.1)
    last = builder.add(ops.Reshape((channels[0], size, size)), builder.add(ops.Relu(), last))
    for before, after in zip(channels, channels[1:], strict=False):
        # Each pixel of the doubled image sees 2 x 2 of the 4 x 4 kernel's places.
        kernel = rng.standard_normal((before, after, 4, 4)) * np.sqrt(2 / (4 * before))
        up = ops.ConvTranspose(kernel.astype(np.float32), None, (2, 2), (1, 1, 1, 1))
        last, size = builder.add(ops.Relu(), builder.add(up, last)), 2 * size
    kernel = rng.standard_normal((1, channels[-1], 3, 3)) * np.sqrt(1 / (9 * channels[-1]))
    image = ops.Conv(kernel.astype(np.float32), None, (1, 1), (1, 1, 1, 1))
    flat = builder.add(ops.Reshape((size**2,)), builder.add(image, last))
    scores = rng.standard_normal((10, size**2)) / size
    return builder.build(_dense(builder, flat, scores))


def _dense(builder: Builder, last: int, weight: np.ndarray, bias: np.ndarray | None = None) -> int:
    bias = np.zeros(len(weight)) if bias is None else bias
    return builder.add(ops.Gemm(weight.astype(np.float32), bias.astype(np.float32)), last)
