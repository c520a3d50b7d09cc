"""Hostile and odd files end in a right answer or one clear line, in bounded time and memory.

What takes longer than an instant is left to `make fuzz` (`python -m tests.hostile.trial`).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("resource")

from tests.hostile import models, stored, texts, weights
from tests.hostile.running import Case, fault

CASES = {
    case.name: case
    for case in (*models.cases(), *weights.cases(), *stored.cases(), *texts.cases())
    if case.quick
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
@pytest.mark.parametrize("name", CASES)
def test_hostile_file(name: str, tmp_path: Path) -> None:
    assert fault(CASES[name], tmp_path) == ""


def test_faults_are_seen(tmp_path: Path) -> None:
    """The trial itself: it sees refusals that were not expected, tracebacks and missing answers."""
    good = CASES["onnx_gzip_good"]
    assert "expected refused" in fault(Case("", good.write, "refused"), tmp_path)
    bad = CASES["onnx_circle"]
    assert "expected answered" in fault(Case("", bad.write, "answered"), tmp_path)
    assert "SystemExit" in fault(Case("", lambda _: [["inspect", "--no-such-option"]]), tmp_path)
