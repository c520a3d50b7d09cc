"""The nightly run says so when it compared less than it was asked to."""

from __future__ import annotations

import sys

import pytest

from benches import nightly_exact


@pytest.mark.parametrize(("asked", "status"), [(0, 0), (10, 1)])
def test_too_few_comparisons_are_a_failure(
    asked: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"nightly --seconds 0 --bounds 0 --limit 0 --comparisons {asked}"
    monkeypatch.setattr(sys, "argv", words.split())
    assert nightly_exact.main() == status
    assert (f"0 of {asked} comparisons within 0 s" in capsys.readouterr().out) == bool(status)
