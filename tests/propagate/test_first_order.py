"""First-order widths beside bounds: at least as wide, and equal in the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder
from gamma.ops import Gemm, Input
from gamma.propagate import bounds
from gamma.propagate.first_order import first_order
from tests.architectures import small_models
from tests.architectures.small_models import BERT, GPT2


@pytest.mark.parametrize("config", [BERT, GPT2])
@pytest.mark.parametrize("norm", ["inf", "2"])
def test_bounds_are_wider_and_nearly_equal_for_tiny_radii(
    config: dict[str, Any], norm: str, tmp_path: Path
) -> None:
    model = gamma.open_model(small_models.folder(tmp_path / "m", config, scale=0.25).path)
    x = model.embed([3, 7, 1])
    net = model.network(3, output="last_hidden_state")
    ratios = []
    for radius in (1e-7, 1e-3):
        box = gamma.Box.linf(x, radius) if norm == "inf" else gamma.Box.l2(x, radius)
        table: list[dict[str, Any]] = []
        bounds(net, box, method="crown", dtype="float64", blocks=table)
        ratios.append([row["ratio"] for row in table])
        assert len(table) == 2 and all(ratio >= 1 - 1e-6 for ratio in ratios[-1])
    assert max(ratios[0]) < 1.01
    assert ratios[1][1] > ratios[0][1]
    table = []
    bounds(net, gamma.Box.linf(x, 1e-3), method="ibp", blocks=table)
    assert [row["ratio"] for row in table] == [None, None]


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_of_a_linear_map_they_are_exact(norm: str) -> None:
    """Every weight and radius is a small power of two times a whole number."""
    builder = Builder(Input(), (4,))
    weight = np.array([[1.0, -2.0, 3.0, 8.0], [0.0, 0.5, -4.0, 8.0]], np.float32)
    net = builder.build(builder.add(Gemm(weight), 0))
    x = np.zeros(4)
    lower, upper = np.array([-0.5] * 3 + [0.0]), np.array([0.5] * 3 + [0.0])
    box = gamma.Box(
        lower, upper, norm, None if norm == "inf" else x, None if norm == "inf" else 0.5
    )
    found = first_order(net, 1, box.batched((4,)))
    assert found is not None
    rows = abs(weight[:, :3]).astype(np.float64)
    size = {"inf": rows.sum(1), "2": np.sqrt((rows**2).sum(1)), "1": rows.max(1)}[norm]
    assert found[0].tolist() == [0, 1] and (found[1] == size).all()
