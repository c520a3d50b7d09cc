"""Layers that transformers share, as nodes: dense layers, norms, attention, rotary positions.

A state is a node of shape (positions, width). Weights stay where they are stored; constants of the
architecture that are irrational (1/√d, cos, sin) carry the error of their float64 value, and what
a float32 execution makes of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.architectures.rope import Rope, amplified, rotary
from gamma.architectures.tensors import Tensors
from gamma.errors import FormatError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Builder
from gamma.ops import (
    Add,
    Gather,
    Gelu,
    Gemm,
    MatMul,
    Mul,
    Normalize,
    ReduceSum,
    Relu,
    Reshape,
    Scale,
    Silu,
    Softmax,
    StoredGemm,
    Transpose,
)
from gamma.ops.base import Operator
from gamma.ops.execution import Execution

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

DIVISORS = "rope_freqs.weight"

ACTIVATIONS: dict[str, Operator] = {
    "gelu": Gelu(),
    "gelu_new": Gelu("tanh"),
    "gelu_pytorch_tanh": Gelu("tanh"),
    "relu": Relu(),
    "silu": Silu(),
    "swish": Silu(),
}
"""Names in config.json, but no variant that differs from these by the digits of a constant."""


class Pooling(Frozen, eq=True):
    """How a sentence embedding is made of the last hidden states.

    Attributes:
        kind: "mean" over the positions, their "first" or "last"; empty where gamma makes none.
        normalised: it is divided by its Euclidean norm.
        problem: why gamma makes none.
    """

    kind: str = ""
    normalised: bool = False
    problem: str = ""


class Layers(Frozen):
    """Adds layers to a builder; the names of nodes are those of the tensors they use."""

    builder: Builder
    tensors: Tensors

    def add(self, op: Operator, *inputs: int, name: str = "") -> int:
        """One node; without a name it is a step within a layer."""
        return self.builder.add(op, *inputs, name=name, inner=not name)

    def width(self, x: int) -> tuple[int, ...]:
        """Shape of a node."""
        return self.builder.nodes[x].shape

    def dense(
        self, x: int, name: str, turned: bool = False, weight: str = "", node: str = ""
    ) -> int:
        """x Wᵀ + b with ``name.weight`` and, where the file has it, ``name.bias``.

        ``turned``: the file stores (inputs, outputs). ``weight``: the weight of another layer.
        ``node``: the node's name, where it is not ``name``.
        """
        source = self.tensors.weight(weight or f"{name}.weight")
        bias = self.tensors.vector(f"{name}.bias") if f"{name}.bias" in self.tensors else None
        if source.kind == "f64":
            array = source.array()
            return self.add(Gemm(array.T if turned else array, bias), x, name=node or name)
        return self.add(StoredGemm(source, bias, turned), x, name=node or name)

    def norm(self, x: int, name: str, epsilon: float, centred: bool, node: str = "") -> int:
        """Layer normalisation (``centred``) or root mean square, with its gain and bias."""
        y = self.add(Normalize(-1, epsilon, centred), x)
        bias = self.tensors.vector(f"{name}.bias") if f"{name}.bias" in self.tensors else None
        gain = self.tensors.vector(f"{name}.weight")
        return self.add(Scale(gain, bias), y, name=node or name)

    def shift(self, x: int, rows: Array, name: str) -> int:
        """x plus constant rows."""
        return self.add(Scale(np.ones(1, np.float32), rows), x, name=name)

    def sum(self, x: int, y: int, name: str = "") -> int:
        """x + y, a residual connection."""
        return self.add(Add(), x, y, name=name)

    def gated(self, x: int, name: str) -> int:
        """W_down (silu(W_gate x) ∘ W_up x), the feed-forward part of Llama and Qwen."""
        gate = self.add(Silu(), self.dense(x, f"{name}_gate"), name=f"{name}_silu")
        inner = self.add(Mul(), gate, self.dense(x, f"{name}_up"), name=f"{name}_mul")
        return self.dense(inner, f"{name}_down")

    def last(self, x: int) -> int:
        """The last position alone: (1, ...)."""
        shape = self.width(x)
        rest = math.prod(shape[1:])
        index = np.arange((shape[0] - 1) * rest, shape[0] * rest)
        return self.add(Gather(index, (1, *shape[1:])), x)

    def at(self, x: int, position: int) -> int:
        """The state at one position, (width,)."""
        width = self.width(x)[1]
        index = np.arange(position * width, (position + 1) * width)
        return self.add(Gather(index, (width,)), x)

    def pooled(self, x: int, pooling: Pooling | None) -> int:
        """One vector (width,) of states (positions, width): a sentence embedding.

        Raises UsageError where the file does not say how, or says what gamma does not make.
        """
        if pooling is None or not pooling.kind:
            why = pooling.problem if pooling else "nothing says how it is made"
            raise UsageError(f"{self.tensors.path}: no sentence embedding: {why}")
        positions = self.width(x)[0]
        if pooling.kind == "mean":
            rounded = 0.0 if positions & (positions - 1) == 0 else 2.0**-53
            mean = ReduceSum((0,), False, 1 / positions, rounded)
            x = self.add(mean, x, name="pooled_states")
        else:
            x = self.at(x, 0 if pooling.kind == "first" else positions - 1)
        if not pooling.normalised:
            return x
        # x/‖x‖ is √d times less than x over its root mean square.
        return self.add(root_scale(self.width(x)[0]), self.add(Normalize(-1, 0.0, False), x))

    def heads(self, x: int, count: int) -> int:
        """(positions, count · size) as (positions, count, size)."""
        positions, width = self.width(x)
        return self.add(Reshape((positions, count, width // count)), x)

    def parts(self, x: int, count: int) -> list[int]:
        """Heads (positions, count · k, size) as ``count`` states of k heads."""
        positions, heads, size = self.width(x)
        index = np.arange(positions * heads * size).reshape(positions, count, -1)
        shape = (positions, heads // count, size)
        return [self.add(Gather(index[:, part].ravel(), shape), x) for part in range(count)]

    def attention(self, q: int, k: int, v: int, causal: bool, name: str) -> int:
        """softmax(q kᵀ/√size) v for heads (positions, count, size), joined: (positions, width).

        Several heads of q may share one of k and v; ``causal`` positions see none behind them.
        Those of q may be the last ones alone.
        """
        positions, count, size = self.width(q)
        whole, groups, _ = self.width(k)
        each = count // groups
        q = self.add(Transpose((1, 0, 2)), q)
        q = self.add(Reshape((groups, each * positions, size)), q)
        k, v = self.add(Transpose((1, 2, 0)), k), self.add(Transpose((1, 0, 2)), v)
        scores = self.add(root_scale(size), self.add(MatMul(), q, k), name=f"{name}_scores")
        seen = np.tile(np.arange(whole - positions, whole) + 1, each) if causal else None
        chances = self.add(Softmax(-1, seen), scores, name=f"{name}_softmax")
        mixed = self.add(MatMul(), chances, v, name=f"{name}_mixed")
        mixed = self.add(Reshape((count, positions, size)), mixed)
        mixed = self.add(Transpose((1, 0, 2)), mixed)
        return self.add(Reshape((positions, count * size)), mixed)

    def rotated(self, x: int, rope: Rope, name: str, first: int = 0) -> int:
        """Heads (positions, count, size) turned by their positions from ``first``:
        cos ∘ x + sin ∘ x'."""
        positions, count, size = self.width(x)
        if rope.gain != 1:
            x = self.add(amplified(rope.gain), x)
        cos, sin, pair = rotary(
            rope, positions, size, self._divisors(size), first, self.tensors.path
        )
        index = np.arange(positions * count * size).reshape(-1, size)[:, pair].ravel()
        other = self.add(Gather(index, self.width(x)), x)
        return self.add(Add(), self.add(cos, x), self.add(sin, other), name=name)

    def _divisors(self, size: int) -> Array | None:
        """Those of the rates of rotary positions, where a GGUF file holds them."""
        if DIVISORS not in self.tensors:
            return None
        found = self.tensors.vector(DIVISORS)
        if not (found > 0).all():
            path = self.tensors.path
            raise FormatError.at(path, DIVISORS, "a divisor of a rate is not above 0")
        return found


def root_scale(size: int) -> Scale:
    """x/√size; a float32 execution may divide by a rounded √size or multiply by its inverse."""
    scale = 1 / math.sqrt(size)
    exact = math.isqrt(size) ** 2 == size and math.isqrt(size) & (math.isqrt(size) - 1) == 0
    if exact:
        return Scale(np.array([scale], np.float32))
    steps = Execution.of(np.array([scale]), None).plus(2.0**-23 * scale, 0.0)
    return Scale(np.array([scale]), None, 2.0**-51, 0.0, steps.packed())
