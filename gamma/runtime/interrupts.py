"""Ctrl-C that waits until the work has come to a point where what it found so far can be told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_asked = False


class Interrupted(KeyboardInterrupt):
    """Ctrl-C inside `patient`; ``partial`` is what the work that it ended can say, if anything."""

    partial: Any = None


def check() -> None:
    """Raise Interrupted when Ctrl-C was pressed inside `patient`; work calls it now and then."""
    if _asked:
        raise Interrupted


@contextmanager
def patient() -> Iterator[None]:
    """In the block the first Ctrl-C is raised by the next `check`, a second one at once.

    Does nothing outside the main thread, and where the process handles or ignores SIGINT itself.
    """
    global _asked
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        _asked = False
        signal.signal(signal.SIGINT, signal.default_int_handler)
