"""The regression suite: what counts as worse, what is skipped, and counts that repeat."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benches import regression
from gamma.cli.measuring import timed


def test_margins() -> None:
    before = {"same": 100.0, "worse": 100.0, "better": 100.0}
    now = {"same": 100.5, "worse": 102.0, "better": 90.0, "new": 5.0}
    worse, better = regression.compare("instructions", now, before)
    assert [line.split(": ")[1] for line in worse] == ["worse"]
    assert [line.split(": ")[1] for line in better] == ["better"]
    assert regression.compare("ratios", {"same": 190.0}, before) == ([], [])


def test_counts_belong_to_a_compiler(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(regression, "compiler", lambda: ("cc", "cc 1"))
    monkeypatch.setattr(regression, "BASELINE", tmp_path / "baseline.json")
    recorded = {"instructions": {"cc 2": {"k": 1.0}}}
    with pytest.raises(regression.AbsentError, match="cc 1"):
        regression.baseline("instructions", recorded)
    regression.record({"instructions": {"k": 3.0}, "ratios": {"r": 1.0}}, recorded)
    stored = json.loads((tmp_path / "baseline.json").read_text())
    assert stored["instructions"] == {"cc 1": {"k": 3.0}, "cc 2": {"k": 1.0}}
    assert regression.baseline("instructions", stored) == {"k": 3.0}
    assert regression.baseline("ratios", stored) == {"r": 1.0}


def test_without_valgrind_it_is_skipped(monkeypatch: Any) -> None:
    monkeypatch.setattr(regression.shutil, "which", lambda _: None)
    figures, skipped = regression.collect(["instructions"])
    assert figures == {} and "not installed" in skipped[0]


def test_the_recorded_baseline_is_complete() -> None:
    recorded = json.loads(regression.BASELINE.read_text())
    expected = set(regression.bounded())
    assert set(recorded["allocations"]) == expected
    trees = {f"branching {name}" for name in regression.BRANCHING}
    assert set(recorded["ratios"]) == expected | trees
    expected = {f"{entry} avx2" for entry in regression.kernel_entries()}
    for compiler, counts in recorded["instructions"].items():
        assert set(counts) == expected, f"make regression RECORD=--record ({compiler})"


def test_a_kernel_the_driver_forgets_is_an_error() -> None:
    entries = sorted(regression.kernel_entries())
    listing = "\n".join(f"{i + 1} ... ???:{name} [driver]" for i, name in enumerate(entries))
    assert regression._counts(listing) == {name: i + 1 for i, name in enumerate(entries)}
    with pytest.raises(ValueError, match=entries[-1]):
        regression._counts("\n".join(listing.splitlines()[:-1]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_instruction_counts_repeat(tmp_path: Path) -> None:
    program = tmp_path / "count"
    regression.build(program)
    try:
        first = regression.counted(program)
    except regression.AbsentError as reason:
        pytest.skip(str(reason))
    assert min(first.values()) > 1000
    # The instruction set that is named is the one that ran: scalar code takes several a number.
    assert first["gamma_dot_f32 avx2"] < 2 * 64 * 256
    again = regression.counted(program)
    assert all(abs(again[name] - count) <= 0.001 * count for name, count in first.items())


def test_the_calibration_is_worth_timing() -> None:
    assert timed(regression._calibration, 0.01).cpu > 1e-5
