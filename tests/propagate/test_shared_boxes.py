"""Interval bounds of many boxes are shared among threads; the cut depends on sizes alone."""

from __future__ import annotations

import numpy as np
import pytest

import gamma
from gamma.propagate.blocks import boxes_per_share
from gamma.runtime import choices, workers
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
