"""--stream and --memory, as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.network.graph import Builder
from gamma.ops import Clip, Input
from tests.propagate.memory.test_streaming import deep


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    network = deep(12, 40)
    model, point = tmp_path / "deep.safetensors", tmp_path / "x.npy"
    gamma.save(network, model)
    np.save(point, np.full(5, 0.5, np.float32))
    return str(model), str(point)


def run(capsys: Any, *words: str) -> tuple[int, str, str]:
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("method", ("ibp", "crown-ibp", "crown"))
def test_streamed_bounds_are_the_same(files: tuple[str, str], capsys: Any, method: str) -> None:
    words = ["bounds", files[0], "--input", files[1], "--epsilon", "0.01", "--method", method]
    status, plain, _ = run(capsys, *words, "--json")
    assert status == 0
    status, streamed, _ = run(capsys, *words, "--stream", "--memory", "64MB", "--json", "--explain")
    assert status == 0
    a, b = json.loads(plain), json.loads(streamed)
    assert a["bounds"] == b["bounds"] and a["memory"]["planned_bytes"] is None
    assert 0 < b["memory"]["planned_bytes"] <= 64_000_000
    assert b["explain"]["memory"]["limit_bytes"] == 64_000_000


def test_the_plan_is_printed(files: tuple[str, str], capsys: Any) -> None:
    words = ["verify", files[0], "--input", files[1], "--epsilon", "0.01", "--label", "0"]
    status, out, _ = run(capsys, *words, "--stream", "--explain", "--no-attack")
    assert status in (0, 4)
    assert "memory plan:" in out and "checkpoints every 10 layers, exact" in out


def test_a_limit_that_cannot_be_kept(files: tuple[str, str], capsys: Any) -> None:
    words = ["bounds", files[0], "--input", files[1], "--epsilon", "0.01"]
    status, _, err = run(capsys, *words, "--memory", "100kB")
    assert status == 5
    assert "needs at least" in err and "MiB" in err and "Traceback" not in err


@pytest.mark.parametrize("size", ("0", "1e999", "abc", "-5MB", ""))
def test_sizes_that_are_none(files: tuple[str, str], capsys: Any, size: str) -> None:
    words = ["bounds", files[0], "--input", files[1], "--epsilon", "0.01"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, f"--memory={size}"])
    assert stopped.value.code == 2 and "expected a size" in capsys.readouterr().err


def test_ranges_and_overflow_have_a_limit(tmp_path: Path, capsys: Any) -> None:
    builder = Builder(Input(), (50_000,))
    for node in range(4):
        builder.add(Clip(0.0, 1.0 + node), node)
    gamma.save(builder.build(4), tmp_path / "wide.safetensors")
    words = [str(tmp_path / "wide.safetensors"), "--input", "zeros", "--epsilon", "1"]
    for command in ("ranges", "overflow"):
        assert run(capsys, command, *words, "--memory", "1GB")[0] == 0
        status, _, err = run(capsys, command, *words, "--memory", "800kB")
        assert (status, err.count("\n")) == (5, 1) and "memory: " in err and "800,000" in err
