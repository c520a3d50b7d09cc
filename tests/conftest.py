"""Shared fixtures: the benchmark data beside the checkout, when it is there."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


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
