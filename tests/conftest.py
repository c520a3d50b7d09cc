"""Shared fixtures: the benchmark data beside the checkout, when it is there."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


# The same examples in every run, and no time limit per example: CI machines are slow at times.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest) -> None:
    """A test draws from its module's generator the same alone, after others and in any process."""
    generator = getattr(request.module, "RNG", None)
    if isinstance(generator, np.random.Generator):
        seed = zlib.crc32(request.node.name.encode())
        generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the benchmark data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("benchmark data (../shared/data) is not present on this machine")
    return SHARED


def open_data(path: Path) -> bytes:
    """Bytes of ``path``, or of ``path.gz`` decompressed where the plain file is absent."""
    if path.exists():
        return path.read_bytes()
    return gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
