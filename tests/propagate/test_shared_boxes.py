"""Many boxes are shared among threads; the cut depends on sizes alone."""

from __future__ import annotations

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.propagate import blocks
from gamma.propagate.blocks import boxes_per_share, boxes_with_rows
from gamma.propagate.choosing import in_shares
from gamma.propagate.options import options_of
from gamma.runtime import choices, workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_dense_walk import network as dense
from tests.propagate.test_pooled_walks import residual


def test_only_large_batches_are_cut() -> None:
    network = residual()
    with choices.using({("rows.share", ""): 1.0}):
        assert boxes_per_share(network, 128) == 64
        assert boxes_per_share(network, 512) == 64
        assert boxes_per_share(network, 127) == 127
        assert boxes_per_share(dense(1, (6, 400, 400, 5)), 512) == 64
        with choices.using({("interval.boxes", ""): 400.0 * 399}):
            assert boxes_per_share(dense(1, (6, 400, 400, 5)), 512) == 512  # the BLAS shares that
    with choices.using({("rows.share", ""): 1e17}):
        assert boxes_per_share(network, 512) == 512


@pytest.mark.parametrize("method", ("ibp", "crown-ibp"))
@pytest.mark.parametrize("intermediate", (False, True))
def test_the_number_of_threads_changes_no_bit(method: str, intermediate: bool) -> None:
    network = residual(image=6)
    x = np.random.default_rng(0).random((130, *network.input_shape))
    region = Box(x - 0.02, x + 0.02)
    found = []
    with choices.using({("rows.share", ""): 1.0}):
        for count in (1, 2, 4):
            with workers.limited(count):
                out = gamma.bounds(network, region, method=method, intermediate=intermediate)
            found.append(out if intermediate else {"output": out})
    for other in found[1:]:
        for name, bounds in found[0].items():
            assert bounds.lower.shape[0] == 130
            assert (bounds.lower == other[name].lower).all()
            assert (bounds.upper == other[name].upper).all()
    whole = gamma.bounds(network, region, method=method, intermediate=intermediate)
    whole = whole if intermediate else {"output": whole}
    for name, bounds in found[0].items():
        slack = 1e-5 * (1 + abs(bounds.lower) + abs(bounds.upper))
        assert (abs(bounds.lower - whole[name].lower) <= slack).all()


def test_boxes_whose_neurons_get_rows_are_cut_into_walks_of_a_few() -> None:
    network = residual(64, 16)
    shares = {1: 1, 7: 7, 8: 4, 9: 5, 16: 8, 63: 32, 64: 32, 65: 17, 96: 24, 128: 32, 1024: 32}
    assert {count: boxes_with_rows(network, "crown", count, 64) for count in shares} == shares
    assert [boxes_with_rows(network, "crown", count, 9) for count in (7, 12, 26)] == [7, 6, 7]
    assert boxes_with_rows(network, "crown", 26, 7) == 26
    small = residual(1, 3)  # whose rows take no longer than what is around them
    assert boxes_with_rows(small, "crown", 128, 256) == 128


@pytest.mark.skipif(kernels.isa == "numpy", reason="needs the compiled kernels")
@pytest.mark.parametrize("method", ("crown", "alpha"))
def test_a_walk_of_few_boxes_finds_what_it_does_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits for any number of threads, whether these share the walks or their inside."""
    monkeypatch.setattr(blocks, "_WALK", 1.0)
    monkeypatch.setattr(blocks, "_WALK_BOXES", 1)
    monkeypatch.setattr(blocks, "_WALKS", 4)
    network = residual(image=6)
    x = np.random.default_rng(0).random((18, *network.input_shape))
    region = Box(x - 0.02, x + 0.02)
    options = options_of(network, method, "real", "auto", None, 1 << 24)
    alone = [
        gamma.bounds(network, region.slice(b, b + 3), method=method, steps=2)
        for b in range(0, 18, 3)
    ]
    for threads in (1, 2, 3, 4, 5):
        with workers.limited(threads):
            assert in_shares(network, options, region, 100) == (3, threads in (1, 2, 3))
            found = gamma.bounds(network, region, method=method, steps=2)
        for end in ("lower", "upper"):
            parts = np.concatenate([getattr(part, end) for part in alone])
            assert (getattr(found, end) == parts).all()
    ball = Box.l2(x, 0.1)
    with workers.limited(2):
        assert in_shares(network, options, region, 5) == (3, False)  # of memory for both
        assert in_shares(network, options, region, 3) == (3, False)
        assert in_shares(network, options, region.slice(0, 1), 100) == (100, False)
        assert in_shares(network, options, ball, 100) == (100, False)
        with tuning.disabled("walks_apart"):
            assert in_shares(network, options, region, 100) == (100, False)
