"""Fixtures of tests that hold bounds against exact truth."""

from __future__ import annotations

from collections.abc import Iterator

import flint
import pytest

from gamma.tensor import kernels
from tests.exact.oracle import BITS


@pytest.fixture(params=("numpy", "best"))
def arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    """NumPy and the best compiled kernels take different paths; both must pay every term."""
    with kernels.pinned(request.param if request.param == "numpy" else kernels.available()[0]):
        yield


@pytest.fixture
def precise() -> Iterator[None]:
    """Balls of many bits."""
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    yield
    flint.ctx.prec = previous
