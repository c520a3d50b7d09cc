"""Bounds recomputed from checkpoints are the bounds that were kept, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops, tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.propagate import StreamingConfig, StreamingVerifier
from gamma.propagate.api import _options
from gamma.propagate.store import checkpoints
from gamma.propagate.streaming import StreamingWalk
from gamma.tensor.box import Box
from tests.exact.families import SHAPES, Draw, box

SOME = ("mlp", "convolution", "pictures", "line", "residual", "movement", "scaled", "repeated")


def deep(layers: int, width: int) -> Network:
    rng = np.random.default_rng(0)
    builder = Builder(ops.Input(), (width,))
    at: Any = 0
    for layer in range(layers):
        weight = rng.normal(0, (2 / width) ** 0.5, (width, width)).astype(np.float32)
        at = builder.add(ops.Gemm(weight, None), at)
        at = builder.add(ops.Relu(), at) if layer < layers - 1 else at
    return builder.build(at)


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("interval", [1, 2, 5, 100])
@pytest.mark.parametrize("shape", SOME)
def test_streaming_is_crown_with_another_store(
    shape: str, interval: int, dtype: str, guarantee: str
) -> None:
    net = SHAPES[shape](Draw("plain", np.random.default_rng(3)))
    boxes = box("wide", net.input_shape, np.random.default_rng(0), 3)
    verifier = StreamingVerifier(StreamingConfig(checkpoint_interval=interval))
    for row_bytes in (1, 48 << 20):
        asked: Any = {"dtype": dtype, "guarantee": guarantee, "row_bytes": row_bytes}
        with tuning.disabled("fused_network", "fused_walk"):
            plain = gamma.bounds(net, boxes, method="crown-ibp", **asked)
        streamed = verifier.propagate_crown_streaming(net, boxes, **asked)
        np.testing.assert_array_equal(streamed.lower, plain.lower)
        np.testing.assert_array_equal(streamed.upper, plain.upper)


def test_one_extra_forward_pass_and_one_segment_alive() -> None:
    net = deep(20, 16)
    many = Box(np.full(16, -0.1), np.full(16, 0.1)).batched(net.input_shape)
    options = _options(net, "crown-ibp", "real", "float32", None, 48 << 20)
    with tuning.disabled("fused_network", "fused_walk", "row_threads"):
        walk = StreamingWalk(net, many, options, 5)
        store: Any = walk.bounds
        assert len(store._live) < 6
        walk.output()
    assert 0 < store.recomputed <= net.output
    assert len(store._kept) + len(store._live) < len(net.nodes) / 2
    assert len(walk.backward._tables) <= 6
    assert [b.lower.tobytes() for b in store] == [
        store[i].lower.tobytes() for i in range(len(store))
    ]


@pytest.mark.parametrize("shape", SOME)
def test_checkpoints_are_cut_nodes(shape: str) -> None:
    net = SHAPES[shape](Draw("plain", np.random.default_rng(3)))
    for cut in checkpoints(net, 1):
        for node in net.nodes[cut + 1 :]:
            assert min(node.inputs) >= cut


def test_interval_below_one() -> None:
    with pytest.raises(UsageError, match="expected at least 1"):
        StreamingConfig(checkpoint_interval=0)
