"""Small transformers, built by hand as architectures build them: post-norm with biases (BERT), and
pre-norm with rotary positions, shared keys and gated layers (Qwen3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gamma import ops
from gamma.network.graph import Builder, Network

Array = Any


class Maker:
    """Adds layers with random weights; ``spread`` are powers of two that scale rows."""

    def __init__(self, shape: tuple[int, ...], seed: int, spread: int = 0) -> None:
        self.builder, self.rng, self.spread = (
            Builder(ops.Input(), shape),
            np.random.default_rng(seed),
            spread,
        )

    def add(self, op: Any, *inputs: int, name: str = "") -> int:
        return self.builder.add(op, *inputs, name=name)

    def matrix(self, m: int, n: int) -> Array:
        scale = 2.0 ** self.rng.integers(-self.spread, self.spread + 1, (m, 1))
        return (self.rng.standard_normal((m, n)) * scale / np.sqrt(n)).astype(np.float32)

    def vector(self, n: int, about: float) -> Array:
        return (about + 0.3 * self.rng.standard_normal(n)).astype(np.float32)

    def dense(self, x: int, m: int, bias: bool = True, name: str = "") -> int:
        n = self.builder.nodes[x].shape[-1]
        return self.add(
            ops.Gemm(self.matrix(m, n), self.vector(m, 0.0) if bias else None), x, name=name
        )

    def norm(self, x: int, centred: bool) -> int:
        n = self.builder.nodes[x].shape[-1]
        y = self.add(ops.Normalize(-1, 1e-6, centred), x)
        return self.add(ops.Scale(self.vector(n, 1.0), self.vector(n, 0.0) if centred else None), y)

    def heads(self, x: int, count: int) -> int:
        n, d = self.builder.nodes[x].shape
        return self.add(ops.Reshape((n, count, d // count)), x)

    def rotated(self, x: int) -> int:
        n, count, size = self.builder.nodes[x].shape
        half = size // 2
        angle = np.arange(n)[:, None] * 50.0 ** (-np.arange(half) / half)
        cos, sin = (np.tile(f(angle), 2).reshape(n, 1, size) for f in (np.cos, np.sin))
        sin = sin * np.where(np.arange(size) < half, -1.0, 1.0)
        pair = np.roll(np.arange(size), half)
        index = np.arange(n * count * size).reshape(-1, size)[:, pair].ravel()
        other = self.add(ops.Gather(index, (n, count, size)), x)
        parts = self.add(ops.Scale(cos), x), self.add(ops.Scale(sin), other)
        return self.add(ops.Add(), *parts)

    def attention(self, q: int, k: int, v: int) -> int:
        n, count, size = self.builder.nodes[q].shape
        groups = self.builder.nodes[k].shape[1]
        q = self.add(ops.Transpose((1, 0, 2)), q)
        q = self.add(ops.Reshape((groups, count // groups * n, size)), q)
        k, v = self.add(ops.Transpose((1, 2, 0)), k), self.add(ops.Transpose((1, 0, 2)), v)
        scores = self.add(ops.MatMul(), q, k, name=self.free("scores"))
        scores = self.add(ops.Scale(np.array([1 / np.sqrt(size)]), None, 2.0**-50), scores)
        mixed = self.add(ops.MatMul(), self.add(ops.Softmax(), scores), v)
        mixed = self.add(ops.Reshape((count, n, size)), mixed)
        return self.add(ops.Reshape((n, count * size)), self.add(ops.Transpose((1, 0, 2)), mixed))

    def free(self, name: str) -> str:
        return f"{name}.{len(self.builder.nodes)}"


def post_norm(seed: int = 0, spread: int = 0, blocks: int = 2, n: int = 3, d: int = 8) -> Network:
    """LayerNorm after every sum, biases everywhere, GELU."""
    m = Maker((n, d), seed, spread)
    x = m.norm(m.add(ops.Scale(np.ones(1), m.rng.standard_normal((n, d))), 0), True)
    for _ in range(blocks):
        q, k, v = (m.heads(m.dense(x, d), 2) for _ in range(3))
        x = m.norm(m.add(ops.Add(), x, m.dense(m.attention(q, k, v), d)), True)
        inner = m.add(ops.Gelu(), m.dense(x, 2 * d))
        x = m.norm(m.add(ops.Add(), x, m.dense(inner, d)), True)
    return m.builder.build(x)


def pre_norm(seed: int = 0, spread: int = 0, blocks: int = 2, n: int = 3, d: int = 8) -> Network:
    """Root mean square norms, of queries and keys too, rotary positions, shared keys, gates."""
    m = Maker((n, d), seed, spread)
    x = 0
    for _ in range(blocks):
        y = m.norm(x, False)
        q, k, v = (m.heads(m.dense(y, c * 4, False), c) for c in (4, 2, 2))
        q, k = (m.rotated(m.norm(part, False)) for part in (q, k))
        x = m.add(ops.Add(), x, m.dense(m.attention(q, k, v), d, False))
        y = m.norm(x, False)
        gate = m.add(ops.Silu(), m.dense(y, 2 * d, False))
        inner = m.add(ops.Mul(), gate, m.dense(y, 2 * d, False))
        x = m.add(ops.Add(), x, m.dense(inner, d, False))
    return m.builder.build(m.norm(x, False))


MAKERS = {"post": post_norm, "pre": pre_norm}
