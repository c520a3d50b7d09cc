"""Where results go: stdout or one atomically written file; notes go to stderr."""

from __future__ import annotations

import codecs
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gamma.errors import UsageError

PLAIN = {"×": "x", "·": "*", "…": "...", "≥": ">=", "≤": "<=", "ε": "epsilon", "–": "-", "µ": "u"}
"""Signs that a terminal without them gets written out; others become a question mark."""


INTERRUPTED = 130
"""The exit status after Ctrl-C."""

# --- the standard streams ---------------------------------------------------------------------


def prepare_streams() -> None:
    """Make stdout and stderr take any text, and exist: the shell may have closed them.

    What is written to a closed stdout is an OSError, as on a full disk; to a closed stderr nothing.
    """
    codecs.register_error("gamma", _plain)
    if sys.stdout is None:
        sys.stdout = open(os.devnull)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="gamma")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in wrong), error.end


def note(text: str, end: str = "\n") -> None:
    """A line on stderr; a stderr that cannot be written never ends a run."""
    try:
        sys.stderr.write(text + end)
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)


def silence(stream: Any) -> None:
    """Let a stream that failed lead to nowhere: the interpreter flushes it once more at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


# --- files ----------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new one."""
    write_bytes(path, text.encode("utf-8", "replace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; a link is followed, a FIFO or a device is written into.

    A file that is replaced keeps its permissions. Raises UsageError when it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if mode is None or stat.S_ISREG(mode):
            _replace(target, content, mode)
        else:
            with target.open("wb", buffering=0) as stream:
                view = memoryview(content)
                while view:
                    view = view[stream.write(view) :]
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _mode(path: Path) -> int | None:
    """Kind and permissions of what stands at ``path``; None when nothing does."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    import tempfile

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".gamma-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is None:
            umask = os.umask(0)
            os.umask(umask)
            mode = 0o666 & ~umask
        os.chmod(name, stat.S_IMODE(mode))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_writable(path: str | None) -> None:
    """Refuse an impossible output file before the work, not after it."""
    if path is None:
        return
    if not path:
        raise UsageError("the output file's name is empty, give a file name")
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if path.endswith(os.sep) or (mode is not None and stat.S_ISDIR(mode)):
            raise UsageError(f"{path}: is a folder, give a file name")
        if not target.parent.is_dir():
            raise UsageError(f"{path}: the folder {target.parent} does not exist")
        if mode is not None and not os.access(target, os.W_OK):
            raise UsageError(f"{path}: may not be written: give another file or its permission")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path[:100]}: cannot be written: {reason}") from None


def deliver(text: str, file: str | None) -> None:
    """Print the result, or write it to ``file`` and keep stdout empty."""
    if not text.endswith("\n"):
        text += "\n"
    if file is None:
        sys.stdout.write(text)
    else:
        write_text(Path(file), text)


def _columns() -> int:
    """Of the terminal behind stderr: a longer line would wrap, and stay."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Progress:
    """One changing line on stderr, only on a terminal and only after a second; a context manager.

    It shows the last message and the time, of the time limit where there is one, also while nothing
    new is told.
    """

    def __init__(self, message: str = "", limit: float | None = None) -> None:
        self.start, self.message, self.limit = time.perf_counter(), message, limit
        self._shown = False
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()

    def __call__(self, message: str) -> None:
        self.message = message

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _tick(self) -> None:
        wait = 1.0
        while not self._over.wait(wait):
            wait = 0.2
            with self._lock:
                self._show()

    def _show(self) -> None:
        if not self.message:
            return
        limit = "" if self.limit is None else f" of {self.limit:g}"
        line = f"{time.perf_counter() - self.start:5.1f}{limit} s  {self.message}"
        shown = "".join(c if c.isprintable() else "?" for c in line)  # a file may name things
        note("\r\x1b[K" + shown[: _columns() - 1], end="")
        self._shown = True

    def say(self, text: str) -> None:
        """A line that stays, above the changing one."""
        with self._lock:
            note(("\r\x1b[K" if self._shown else "") + text)
            self._shown = False

    def clear(self) -> None:
        """Remove the line, for good."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._shown:
            note("\r\x1b[K", end="")
            self._shown = False
