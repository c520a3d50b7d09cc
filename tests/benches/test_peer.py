"""The comparison with another verifier: made networks are what they say, rows tell what was met."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benches import made, peer
from benches.cases import Case, Peer
from gamma import ops


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_lattice_is_the_largest_of_minima(size: int) -> None:
    """Exact in float64: weights are 0, ±1/2, ±1 behind the first layer's integers."""
    network = made.lattice(size)
    first, second = network.nodes[1].op, network.nodes[2].op
    assert isinstance(first, ops.Gemm) and isinstance(second, ops.Gemm)
    x = np.random.default_rng(0).integers(-4, 5, (20, 2)).astype(np.float64)
    values = (x @ first.weight.T.astype(np.float64) + first.bias) @ second.weight.T
    groups = values.reshape(len(x), size, size)
    found = network.forward(x, np.float64)[:, 0]
    np.testing.assert_allclose(found, groups.min(axis=2).max(axis=1), rtol=1e-12)


def test_every_case_can_be_sent_to_the_other_side() -> None:
    """Plain arrays with the network's own numbers."""
    nodes = peer.exported(made.case("gelu_6x200"))
    assert [n["kind"] for n in nodes[:3]] == ["Input", "Gemm", "Gelu"]
    assert nodes[1]["weight"].shape == (200, 784) and nodes[1]["inputs"] == (0,)


def arguments(**changed: Any) -> argparse.Namespace:
    known = {"data": Path("absent"), "cases": None, "rounds": 1, "seconds": 0.0, "peer": Path("no")}
    return argparse.Namespace(**known | changed)


def test_recorded_figures_stand_in_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the peer its recorded seconds are compared with gamma's own processes."""
    own = made.case("lattice_8")
    known = Case("lattice_8", "lattice", own.network, own.lower, own.upper)
    known.peers["crown", 1] = Peer(1e3, 1.0)
    target = peer.Target("lattices", "crown", 5, 1e9, ("lattice_8",))
    found = peer.compare(known, target, arguments(), there=False)
    assert found.recorded and found.peer == 1e3 and 0 < found.gamma < 1e3
    row = peer.row(target, "lattice_8", found)
    assert "met" in row and "recorded" in row[3]
    slower = peer.Result(1.0, 1.0, 2.0, 1.0, False)
    assert "not met" in peer.row(target, "lattice_8", slower)
