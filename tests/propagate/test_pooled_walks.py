"""Walks take their large arrays from the pool, and give them back."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Conv, Gemm, Input, Relu, Reshape
from gamma.runtime import choices, heap, pool, workers
from gamma.runtime.pool import TensorPool
from gamma.tensor.box import Box


def residual(channels: int = 6, image: int = 10) -> Network:
    rng = np.random.default_rng(0)

    def conv(out: int, into: int) -> Conv:
        weight = rng.standard_normal((out, into, 3, 3)).astype(np.float32) / 5
        return Conv(weight, rng.standard_normal(out).astype(np.float32) / 5, pads=(1, 1, 1, 1))

    builder = Builder(Input(), (3, image, image))
    first = builder.add(Relu(), builder.add(conv(channels, 3), 0))
    second = builder.add(Relu(), builder.add(conv(channels, channels), first))
    both = builder.add(Add((1, 1)), builder.add(conv(channels, channels), second), first)
    flat = builder.add(Reshape((channels * image * image,)), builder.add(Relu(), both))
    size = channels * image * image
    weight = rng.standard_normal((20, size)).astype(np.float32) / 20
    hidden = builder.add(Relu(), builder.add(Gemm(weight), flat))
    last = rng.standard_normal((5, 20)).astype(np.float32)
    return builder.build(builder.add(Gemm(last), hidden))


def box(network: Network) -> Box:
    x = np.random.default_rng(1).random(network.input_shape)
    return Box.linf(x, 0.02)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[TensorPool]:
    """A pool that lends arrays of any size, for one thread."""
    mine = TensorPool()
    monkeypatch.setattr(pool._local, "pool", mine, raising=False)
    for state in ("owned", "kept"):  # a bench may have run in this process before
        monkeypatch.setitem(heap._process, state, False)
    with workers.limited(1), choices.using({("memory.array", ""): 1}):
        yield mine


def test_steady_verifications_live_off_the_pool(fresh: TensorPool) -> None:
    network = residual()
    for _ in range(3):
        gamma.bounds(network, box(network))
    assert TensorPool.current() is fresh
    before = fresh.statistics()
    for _ in range(20):
        gamma.bounds(network, box(network))
    after = fresh.statistics()
    hits, misses = after.hits - before.hits, after.misses - before.misses
    assert hits >= 100, "the walk takes its arrays elsewhere"
    assert hits / (hits + misses) >= 0.95
    gc.collect()
    assert fresh.statistics().lent_bytes == 0


def test_a_thousand_calls_hold_no_more_than_a_few(fresh: TensorPool) -> None:
    rng = np.random.default_rng(2)
    builder = Builder(Input(), (4,))
    node = builder.add(Gemm(rng.standard_normal((9, 4)).astype(np.float32)), 0)
    node = builder.add(Relu(), node)
    node = builder.add(Gemm(rng.standard_normal((8, 9)).astype(np.float32)), node)
    network = builder.build(builder.add(Gemm(rng.standard_normal((2, 8)).astype("f")), node))
    region = Box(np.full(4, -1.0), np.full(4, 1.0))
    for _ in range(10):
        gamma.bounds(network, region)
    before = fresh.statistics()
    for _ in range(1000):
        gamma.bounds(network, region)
    after = fresh.statistics()
    assert after.held_bytes == before.held_bytes and after.misses == before.misses
    assert after.hits >= before.hits + 1000


def test_bounds_are_the_same_bits_without_the_pool(fresh: TensorPool) -> None:
    network = residual()
    for dtype in ("float32", "float64"):
        pooled = gamma.bounds(network, box(network), dtype=dtype)
        with tuning.disabled("pool"):
            count = fresh.statistics().hits + fresh.statistics().misses
            plain = gamma.bounds(network, box(network), dtype=dtype)
            assert fresh.statistics().hits + fresh.statistics().misses == count
        assert (pooled.lower == plain.lower).all() and (pooled.upper == plain.upper).all()
