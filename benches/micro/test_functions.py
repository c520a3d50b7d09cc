"""Elementwise functions: their interval and their lines, from 4 to 65536 neurons, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops

FUNCTIONS = (ops.Relu(), ops.Sigmoid(), ops.Tanh(), ops.Exp(), ops.Elu(), ops.Gelu())


@pytest.mark.parametrize("what", ["interval", "lines"])
@pytest.mark.parametrize("size", [4, 256, 1 << 12, 1 << 16])
@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: op.name)
def test_function(benchmark: Any, op: Any, size: int, what: str) -> None:
    rng = np.random.default_rng(0)
    lower = rng.standard_normal((1, size))
    upper = lower + rng.random((1, size))
    benchmark.group = f"{what} {size}"
    x = lower + rng.random((1, size)) * (upper - lower)
    y = op.function(x)
    error = 2.0**-40 * abs(y)  # of this evaluation, not of the bounds
    if what == "interval":
        below, above = benchmark(lambda: op.interval(lower, upper))
    else:
        lines = benchmark(lambda: op.lines(lower, upper, np.float32))
        below = lines.lower_slope * x + lines.lower_intercept
        above = lines.upper_slope * x + lines.upper_intercept
    assert (below <= y + error).all() and (y - error <= above).all()
