"""A failed probe of float32 moves rows to float64 and says so; one of float64 refuses."""

from __future__ import annotations

import numpy as np
import pytest

from gamma.errors import UnsupportedError
from gamma.network.graph import Builder
from gamma.ops import HardSigmoid, Input
from gamma.propagate import Specification, bounds, lower_bounds
from gamma.propagate.api import enclose
from gamma.tensor import probe
from gamma.tensor.box import Box


def test_failed_probe_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder(Input(), (1,))
    net = builder.build(builder.add(HardSigmoid(alpha=0.0, beta=0.5), 0))
    box = Box(np.array([[-1.0]]), np.array([[1.0]]))
    rows = Specification(np.ones((1, 1)), None, np.zeros(1), np.zeros(1, np.int64))
    assert lower_bounds(net, box, rows, dtype="float32").dtype == "float32"
    monkeypatch.setattr(probe, "check_arithmetic", lambda: ["subnormal products (float32)"])
    found = lower_bounds(net, box, rows, dtype="float32")
    assert found.dtype == "float64" and "subnormal products" in found.used[-1]
    out = bounds(net, box)
    assert (out.lower <= 0.5).all() and (out.upper >= 0.5).all()


@pytest.mark.parametrize(
    "failed", ("round to nearest (float64)", "gradual underflow in the kernels")
)
def test_without_float64_nothing_is_said(monkeypatch: pytest.MonkeyPatch, failed: str) -> None:
    builder = Builder(Input(), (1,))
    net = builder.build(builder.add(HardSigmoid(), 0))
    box = Box(np.array([[-1.0]]), np.array([[1.0]]))
    rows = Specification(np.ones((1, 1)), None, np.zeros(1), np.zeros(1, np.int64))
    monkeypatch.setattr(probe, "check_arithmetic", lambda: [failed])
    for method in ("ibp", "crown-ibp", "crown"):
        with pytest.raises(UnsupportedError, match=failed.split()[0]):
            bounds(net, box, method=method)
    with pytest.raises(UnsupportedError):
        lower_bounds(net, box, rows)
    with pytest.raises(UnsupportedError):
        enclose(net, [[0.0]])
