"""Progress: one changing line on a terminal after a second, and nothing anywhere else."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gamma.cli.output import Progress
from gamma.cli.suite import Told

COLUMNS = 60


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What a terminal of 60 columns shows: the other end of stderr.

    No fixture, because pytest puts its own stderr in place between fixtures and tests.
    """
    screen, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with os.fdopen(end, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        yield screen
    os.close(screen)


def shown(screen: int) -> list[str]:
    sys.stderr.flush()
    os.set_blocking(screen, False)
    try:
        text = os.read(screen, 1 << 16).decode()
    except BlockingIOError:
        text = ""
    return text.split("\r\x1b[K")


def awaited(screen: int, word: str) -> str:
    """The line that has the word, as soon as it is there; the machine may be busy."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for line in shown(screen):
            if word in line:
                return line
        time.sleep(0.02)
    raise AssertionError(f"no line with {word}")


def test_one_line_that_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        with Progress("reading", limit=60) as progress:
            line = awaited(screen, "reading")
            assert line.endswith(" of 60 s  reading") and "\n" not in line
            assert float(line.split()[0]) >= 1.0  # not within the first second
            progress("attack: " + "very " * 40 + "long\n\x1b[2J")
            assert len(awaited(screen, "attack: very")) == COLUMNS - 1  # never wraps
            progress.say("something failed")
            assert awaited(screen, "something failed").endswith("something failed\r\n")
            awaited(screen, "attack")
        assert shown(screen)[-1] == ""  # gone at the end
        progress.clear()


def test_a_list_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(3)
    with terminal(monkeypatch) as screen:
        told.line = Progress()
        with told.line:
            told.record({"verdict": "verified"}, 2, 90.0)
            told.step("crown: node 1 of 2, a")
            line = awaited(screen, "1/3")
            assert line.endswith("s  1/3: 1 verified; about 1 min 30 s left; crown: nod")
            failed = {"verdict": "error", "model": "a\n", "property": "b", "error": "missing"}
            told.record(failed, 1, 1.0)
            assert awaited(screen, "missing") == "a? b: error: missing\r\n"


def test_nothing_where_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "err").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("work") as progress:
            progress("more")
            assert progress._thread is None
    assert (tmp_path / "err").read_text() == ""
