"""Where results go: stdout or one atomically written file; notes go to stderr."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from gamma.errors import UsageError


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises UsageError when it cannot be written."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def check_writable(path: str | None) -> None:
    """Refuse an impossible output file before the work, not after it."""
    if path is None:
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise UsageError(f"{path}: the folder {folder} does not exist")
    if Path(path).is_dir():
        raise UsageError(f"{path}: is a folder, give a file name")


def deliver(text: str, file: str | None) -> None:
    """Print the result, or write it to ``file`` and keep stdout empty."""
    if not text.endswith("\n"):
        text += "\n"
    if file is None:
        sys.stdout.write(text)
    else:
        write_text(Path(file), text)


class Progress:
    """One changing line on stderr, only on a terminal and only after a second."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.shown = False
        self.active = sys.stderr.isatty()

    def __call__(self, message: str) -> None:
        now = time.perf_counter()
        if not self.active or now - self.start < 1.0 or now - self.last < 0.1:
            return
        self.last, self.shown = now, True
        sys.stderr.write(f"\r\x1b[K{now - self.start:5.1f} s  {message}"[:100])
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.shown = False
