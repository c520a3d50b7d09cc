"""``gamma bounds`` when the time is over before the bounds are there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.cli import bounds
from gamma.cli.main import main
from tests.propagate.memory.test_streaming import deep


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A question whose optimised slopes take far longer than a millisecond."""
    gamma.save(deep(12, 40), tmp_path / "deep.safetensors")
    np.save(tmp_path / "x.npy", np.full(5, 0.5, np.float32))
    model, point = str(tmp_path / "deep.safetensors"), str(tmp_path / "x.npy")
    return ["bounds", model, "--input", point, "--epsilon", "0.1", "--method", "alpha"]


def test_late_bounds_are_intervals(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--timeout", "0.001", "--json", "--all-layers"]) == 5
    late = json.loads(capsys.readouterr().out)
    assert late["method"] == {"asked": "alpha", "used": ["ibp"]}
    assert any("0.001 s was reached" in note and "intervals" in note for note in late["notes"])
    assert main([*words[:-1], "ibp", "--json", "--all-layers"]) == 0
    early = json.loads(capsys.readouterr().out)
    assert late["bounds"] == early["bounds"] and late["layers"] == early["layers"]
    assert main([*words, "--timeout", "0.001"]) == 5
    assert capsys.readouterr().out.startswith("BOUNDS  every output of the set lies inside")


def test_intervals_that_take_long_are_left_to_the_user(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "GRACE", 0.0)
    assert main([*words, "--timeout", "0.001"]) == 5
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "--method ibp" in err
