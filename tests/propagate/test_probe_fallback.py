"""A failed probe moves rows to float64, whatever was asked, and the result says so."""

from __future__ import annotations

import numpy as np
import pytest

from gamma.network.graph import Builder
from gamma.ops import HardSigmoid, Input
from gamma.propagate import Specification, bounds, lower_bounds
from gamma.tensor import probe
from gamma.tensor.box import Box


def test_failed_probe_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder(Input(), (1,))
    net = builder.build(builder.add(HardSigmoid(alpha=0.0, beta=0.5), 0))
    box = Box(np.array([[-1.0]]), np.array([[1.0]]))
    rows = Specification(np.ones((1, 1)), None, np.zeros(1), np.zeros(1, np.int64))
    assert lower_bounds(net, box, rows, dtype="float32").dtype == "float32"
    monkeypatch.setattr(probe, "check_arithmetic", lambda: ["subnormal products"])
    found = lower_bounds(net, box, rows, dtype="float32")
    assert found.dtype == "float64" and "subnormal products" in found.used[-1]
    out = bounds(net, box)
    assert (out.lower <= 0.5).all() and (out.upper >= 0.5).all()
