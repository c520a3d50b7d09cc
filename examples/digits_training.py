"""Adversarial training of small ReLU networks in plain NumPy.

Three layer kinds are enough for the shipped digits networks: convolution, flatten and affine, with
a ReLU after every weighted layer but the last. Nothing here is used by gamma itself: the point is
that the example networks can be remade from this folder alone, without a deep-learning framework.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Affine:
    """``x -> x @ weight.T + bias``: (batch, inputs) to (batch, outputs)."""

    weight: Array
    bias: Array
    gradients: list[Array] = field(default_factory=list)
    _x: Array = field(default_factory=lambda: np.zeros(0))

    def forward(self, x: Array) -> Array:
        self._x = x
        return x @ self.weight.T + self.bias

    def backward(self, gradient: Array) -> Array:
        self.gradients = [gradient.T @ self._x, gradient.sum(0)]
        return gradient @ self.weight


@dataclass
class Convolution:
    """Cross-correlation, as ONNX Conv: weight is (out, in, height, width)."""

    weight: Array
    bias: Array
    stride: int
    pad: int
    gradients: list[Array] = field(default_factory=list)
    _windows: Array = field(default_factory=lambda: np.zeros(0))
    _shape: tuple[int, ...] = ()

    def forward(self, x: Array) -> Array:
        p, s = self.pad, self.stride
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        view = np.lib.stride_tricks.sliding_window_view(padded, self.weight.shape[2:], (2, 3))
        self._windows = view[:, :, ::s, ::s]  # (batch, in, rows, columns, height, width)
        self._shape = padded.shape
        y = np.tensordot(self._windows, self.weight, ((1, 4, 5), (1, 2, 3)))
        return np.moveaxis(y, 3, 1) + self.bias[:, None, None]

    def backward(self, gradient: Array) -> Array:
        p, s = self.pad, self.stride
        rows, columns = gradient.shape[2:]
        self.gradients = [
            np.tensordot(gradient, self._windows, ((0, 2, 3), (0, 2, 3))),
            gradient.sum((0, 2, 3)),
        ]
        padded = np.zeros(self._shape)
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                part = np.tensordot(gradient, self.weight[:, :, i, j], ((1,), (0,)))
                target = padded[:, :, i : i + s * rows : s, j : j + s * columns : s]
                target += np.moveaxis(part, 3, 1)
        return padded[:, :, p : padded.shape[2] - p, p : padded.shape[3] - p]


@dataclass
class Classifier:
    """Weighted layers with a ReLU between them; images (batch, 1, 8, 8) to scores (batch, 10)."""

    layers: list[Affine | Convolution]
    _masks: list[NDArray[np.bool_]] = field(default_factory=list)
    _shapes: list[tuple[int, ...]] = field(default_factory=list)

    def forward(self, x: Array) -> Array:
        self._masks, self._shapes = [], []
        for number, layer in enumerate(self.layers):
            self._shapes.append(x.shape)
            if isinstance(layer, Affine):
                x = x.reshape(len(x), -1)
            x = layer.forward(x)
            if number < len(self.layers) - 1:
                self._masks.append(x > 0)
                x = np.where(self._masks[-1], x, 0.0)
        return x

    def backward(self, gradient: Array) -> Array:
        """Gradient with respect to the input; each layer keeps that of its parameters."""
        for number in reversed(range(len(self.layers))):
            if number < len(self.layers) - 1:
                gradient = gradient * self._masks[number]
            gradient = self.layers[number].backward(gradient).reshape(self._shapes[number])
        return gradient

    def accuracy(self, x: Array, labels: NDArray[np.int64]) -> float:
        return float((self.forward(x).argmax(1) == labels).mean())


def mlp(rng: np.random.Generator) -> Classifier:
    """The fully connected network 64-64-32-10."""
    return Classifier([_affine(rng, 64, 64), _affine(rng, 64, 32), _affine(rng, 32, 10)])


def cnn(rng: np.random.Generator) -> Classifier:
    """Two convolutions (1 to 8 channels, then 8 to 16 at stride 2) and one affine layer."""
    first = Convolution(_normal(rng, (8, 1, 3, 3)), np.zeros(8), stride=1, pad=1)
    second = Convolution(_normal(rng, (16, 8, 3, 3)), np.zeros(16), stride=2, pad=1)
    return Classifier([first, second, _affine(rng, 256, 10)])


def _affine(rng: np.random.Generator, inputs: int, outputs: int) -> Affine:
    return Affine(_normal(rng, (outputs, inputs)), np.zeros(outputs))


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))


def loss_gradient(scores: Array, labels: NDArray[np.int64]) -> Array:
    """Gradient of the mean cross-entropy with respect to the scores."""
    probability = np.exp(scores - scores.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    probability[np.arange(len(labels)), labels] -= 1.0
    return probability / len(labels)


def attack(
    net: Classifier, x: Array, labels: NDArray[np.int64], epsilon: float, steps: int, start: Array
) -> Array:
    """Projected gradient ascent of the loss in the clipped infinity-norm ball, from ``start``."""
    lower, upper = np.clip(x - epsilon, 0, 1), np.clip(x + epsilon, 0, 1)
    moved = np.clip(start, lower, upper)
    for _ in range(steps):
        gradient = net.backward(loss_gradient(net.forward(moved), labels))
        moved = np.clip(moved + 2.5 * epsilon / steps * np.sign(gradient), lower, upper)
    return moved


def train(
    net: Classifier,
    x: Array,
    labels: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    epsilon: float,
    epochs: int,
    decay: float,
    rate: float = 2e-3,
    batch: int = 64,
) -> None:
    """Adam on adversarial examples whose radius grows to ``epsilon`` over the first half.

    ``decay`` is decoupled L1 shrinkage: it leaves fewer neurons near their kink, which is what a
    linear relaxation pays for.
    """
    first = [[np.zeros_like(layer.weight), np.zeros_like(layer.bias)] for layer in net.layers]
    second = [[np.zeros_like(layer.weight), np.zeros_like(layer.bias)] for layer in net.layers]
    step = 0
    for epoch in range(epochs):
        radius = epsilon * min(1.0, 2.0 * epoch / epochs)
        pace = rate * 0.5 * (1.0 + np.cos(np.pi * epoch / epochs))
        order = rng.permutation(len(x))
        for begin in range(0, len(x), batch):
            chosen = order[begin : begin + batch]
            images, answers = x[chosen], labels[chosen]
            start = images + rng.uniform(-radius, radius, images.shape)
            images = attack(net, images, answers, radius, 4, start)
            net.backward(loss_gradient(net.forward(images), answers))
            step += 1
            for number, layer in enumerate(net.layers):
                for kind, value in enumerate((layer.weight, layer.bias)):
                    g = layer.gradients[kind]
                    m, v = first[number][kind], second[number][kind]
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    scale = pace * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                    value -= scale * m / (np.sqrt(v) + 1e-8)
                    if kind == 0:
                        value -= np.clip(value, -pace * decay, pace * decay)
