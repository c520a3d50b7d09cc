"""A moment of `make fuzz` for each format, and that it sees what it looks for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("resource")
pytest.importorskip("tokenizers")

from gamma.errors import FormatError, InternalError
from tests.hostile import fuzz


@pytest.fixture(autouse=True)
def _alarms() -> Iterator[None]:
    before = [signal.signal(kind, fuzz._late) for kind in (signal.SIGPROF, signal.SIGALRM)]
    yield
    for kind, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
        signal.signal(kind, handler)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    assert fuzz.run(name, 0.15, 11, tmp_path) > 0
    assert not list(tmp_path.iterdir())


def test_good_files_are_read(tmp_path: Path) -> None:
    """What is changed was readable: of each format a third of the changes could matter."""
    for name, target in fuzz.TARGETS.items():
        good = 0
        for data in fuzz.corpus()[name]:
            (tmp_path / target.name).write_bytes(data)
            try:
                target.read(tmp_path / target.name)
                good += 1
            except fuzz.GammaError:
                pass
            (tmp_path / target.name).unlink()
        assert good > 0, name


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), InternalError("crossed"), FormatError("a\nb")]
)
def test_a_fault_is_kept(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise error

    monkeypatch.setitem(fuzz.TARGETS, "npy", replace(fuzz.TARGETS["npy"], read=broken))
    with pytest.raises(type(error)):
        fuzz.run("npy", 5, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fault-npy-0-0.npy"]


def test_a_slow_reader_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz, "PROCESSOR_SECONDS", 0.05)
    monkeypatch.setitem(fuzz.TARGETS, "npy", replace(fuzz.TARGETS["npy"], read=endless))
    with pytest.raises(fuzz.LateError):
        fuzz.run("npy", 5, 0, tmp_path)
