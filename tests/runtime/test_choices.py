"""The table of choices, what is stored of it, and gamma tune."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli import tune
from gamma.cli.main import main
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_dense_walk import network as dense
from tests.propagate.test_pooled_walks import residual


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GAMMA_TUNE", raising=False)
    choices.reload()
    yield choices.path()
    choices.reload()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))


def test_ways_by_size(cache: Path) -> None:
    assert not choices.tuned()
    assert choices.choose("rows.product", "f", 10) == "tiled"
    assert choices.choose("rows.product", "f", 1 << 30) == "blas"
    assert choices.choose("interval.dense", "d", choices.limit("interval.dense", "d")) == "fused"
    with choices.using({("rows.product", "f"): 0}):
        assert choices.choose("rows.product", "f", 10) == "blas"
        assert choices.tuned()
    assert choices.choose("rows.product", "f", 10) == "tiled"
    with pytest.raises(KeyError):
        choices.choose("no such thing", "", 1)
    for ways in choices.DEFAULTS.values():
        assert [limit for limit, _ in ways] == sorted(limit for limit, _ in ways)
        assert ways[-1][0] == float("inf")


def test_what_is_stored_is_read_again(cache: Path, capsys: Any) -> None:
    limits = {("rows.product", "f"): 1000.0, ("rows.share", ""): 5e6}
    write(cache, json.dumps(choices.document_of(limits)))
    assert choices.limit("rows.product", "f") == 1000 and choices.limit("rows.share") == 5e6
    assert choices.limit("rows.product", "d") == choices.DEFAULTS["rows.product", "d"][0][0]
    assert choices.tuned() and capsys.readouterr().err == ""


def test_the_environment_switches_it_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cache, json.dumps(choices.document_of({("rows.product", "f"): 1000.0})))
    monkeypatch.setenv("GAMMA_TUNE", "off")
    assert not choices.tuned()


DAMAGED = {
    "not json": "cannot be read",
    "[]": "not a table of this version",
    '{"version": 99}': "not a table of this version",
    '{"version": 1, "host": {}}': "another machine",
    "{" * 100_000: "too large",
    "\x00\xff": "cannot be read",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_ignored_in_one_line(cache: Path, capsys: Any, text: str) -> None:
    write(cache, text)
    assert choices.limit("rows.share") == choices.DEFAULTS["rows.share", ""][0][0]
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and DAMAGED[text] in error and "gamma tune" in error
    assert not choices.tuned() and capsys.readouterr().err == ""


@pytest.mark.parametrize("value", (-1, "4", True, None, 1e300, float("nan")))
def test_limits_that_are_none(cache: Path, capsys: Any, value: Any) -> None:
    document = choices.document_of({}) | {"limits": {"rows.product/f": value}}
    write(cache, json.dumps(document))
    assert not choices.tuned() and "unknown entry" in capsys.readouterr().err


def test_operations_that_are_none(cache: Path, capsys: Any) -> None:
    write(cache, json.dumps(choices.document_of({}) | {"limits": {"rm -rf/": 1}}))
    assert not choices.tuned() and "unknown entry" in capsys.readouterr().err


@pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
def test_tune_measures_stores_shows_and_forgets(cache: Path, capsys: Any) -> None:
    assert main(["tune", "--seconds", "0.3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "gamma.tune/1" and record["file"] == str(cache)
    stored = choices.stored()
    assert set(stored) <= set(choices.DEFAULTS) and len(stored) >= 6
    assert all(row["limit"] >= 0 for row in record["choices"])
    assert main(["tune", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "rows.product float32" in shown and str(cache) in shown
    assert main(["tune", "--reset"]) == 0 and not cache.exists()
    assert not choices.tuned() and main(["tune", "--reset"]) == 0


def test_a_folder_that_cannot_be_written(
    cache: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "calibrate", lambda seconds: {("rows.share", ""): 1e6})
    write(cache.parent, "a file where the folder should be")
    assert main(["tune"]) == 2
    error = capsys.readouterr().err
    assert str(cache) in error and "XDG_CACHE_HOME" in error and "Traceback" not in error


def test_crossings() -> None:
    sizes = [1, 2, 4, 8]
    assert tune.crossing(sizes, lambda n: n, lambda n: 3.0) == 2
    assert tune.crossing(sizes, lambda n: 0.0, lambda n: 1.0) == 8
    assert tune.crossing(sizes, lambda n: 1.0, lambda n: 0.5) == 0


@pytest.mark.parametrize("key", choices.DEFAULTS)
@pytest.mark.parametrize("limit", (0.0, 1e17))
def test_every_way_gives_the_same_bounds(key: tuple[str, str], limit: float) -> None:
    """Ways differ by no more than the rounding that both pay for."""
    for network in (dense(3), residual()):
        shape = (6, *network.input_shape)
        x = np.random.default_rng(0).random(shape)
        for method in ("ibp", "crown"):
            usual = gamma.bounds(network, Box(x - 0.05, x + 0.05), method=method)
            with choices.using({key: limit}):
                other = gamma.bounds(network, Box(x - 0.05, x + 0.05), method=method)
            slack = 1e-4 * (1 + abs(usual.lower) + abs(usual.upper))
            assert (abs(usual.lower - other.lower) <= slack).all()
            assert (abs(usual.upper - other.upper) <= slack).all()


def test_a_pipe_in_place_of_the_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(choices, "path", lambda: tmp_path / "pipe")
    with pytest.raises(ValueError, match="a pipe"):
        choices.stored()
