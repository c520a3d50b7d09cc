"""Fixtures of tests of walks."""

from __future__ import annotations

import pytest

from gamma.propagate import dense_form


@pytest.fixture
def none_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of narrow networks go abreast: these take the way of wide ones."""
    monkeypatch.setattr(dense_form, "_NARROW", 0)
