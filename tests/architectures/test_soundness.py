"""No point of a set leaves its bounds: every architecture, method and guarantee."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamma.formats.model import open_model
from gamma.ops.evaluate import gradient
from gamma.propagate import bounds
from gamma.tensor.box import Box
from tests.architectures import small_models
from tests.architectures.small_models import CONFIGS

POINTS = 10_000
EPSILON = 1e-6
KINDS = [kind for kind in CONFIGS if kind != "qwen2"]


def small(kind: str, path: Path) -> tuple[object, np.ndarray]:
    """A network of three positions, and its input."""
    model = open_model(small_models.folder(path / kind, CONFIGS[kind], scale=0.25).path)
    if model.architecture.text:
        return model.network(3), model.embed([3, 7, 30])
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    return model.network(3), x


def points(net: object, box: Box, count: int) -> np.ndarray:
    """Of the box: inside, at corners, and up and down the gradients of some outputs."""
    r = np.random.default_rng(0)
    low, high = box.lower, box.upper
    inside = low + r.uniform(size=(count // 2, *low.shape)) * (high - low)
    corners = np.where(r.random((count // 2, *low.shape)) < 0.5, low, high)
    steep = []
    for k in range(16):
        seed = np.zeros((1, *net.output_shape))
        seed.reshape(-1)[k] = 1
        _, slope = gradient(net, (0.5 * (low + high))[None], seed)
        steep += [np.where(slope[0] > 0, high, low), np.where(slope[0] > 0, low, high)]
    return np.clip(np.concatenate((inside, corners, steep)), low, high)


@pytest.mark.parametrize("kind", KINDS)
def test_points_stay_inside(kind: str, tmp_path: Path) -> None:
    net, x = small(kind, tmp_path)
    box = Box.linf(x, EPSILON)
    at = points(net, box, POINTS)
    y = net.forward(at, np.float64)
    single = at[:1000].astype(np.float32)
    inside = ((single >= box.lower) & (single <= box.upper)).reshape(len(single), -1).all(axis=1)
    run = net.forward(single[inside], np.float32)
    for method in ("ibp", "crown-ibp", "crown"):
        for guarantee, values in (("real", y), ("float32", np.concatenate((y, run)))):
            found = bounds(net, box, method=method, guarantee=guarantee)
            # The points' values are no exact truth: they err by some 1e-15 themselves.
            assert (values >= found.lower - 1e-12).all(), (method, guarantee)
            assert (values <= found.upper + 1e-12).all(), (method, guarantee)


def test_crown_says_more_than_intervals(tmp_path: Path) -> None:
    """At a small radius intervals explode where linear bounds follow the sensitivity."""
    net, x = small("bert", tmp_path)
    box = Box.linf(x, EPSILON)
    widths = [
        float((b.upper - b.lower).max())
        for b in (bounds(net, box, method=m) for m in ("ibp", "crown"))
    ]
    assert widths[1] < widths[0] / 10
