"""The one door for input files: regular files only, whatever a path names.

A FIFO or a terminal would block for ever, opening a device can change it, and a path may hold a
NUL or more characters than the system takes. Each is one FormatError here.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from gamma.errors import FormatError, UsageError

SHOWN = 300  # characters of a path that a message repeats

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _NotRegularError(OSError):
    """Raised inside ``open`` for what is no regular file."""


def path_of(value: object) -> Path:
    """A path that a caller gave. Raises UsageError for what is none."""
    if isinstance(value, str | Path) or hasattr(value, "__fspath__"):
        if value == "":  # the working folder to Path
            raise UsageError("path is empty: give a file or a folder")
        try:
            return Path(value)
        except TypeError:  # of bytes
            pass
    raise UsageError(f"path is {type(value).__name__}, expected a string or a Path")


def open_regular(path: str | Path, hint: str = "check the path") -> BufferedReader:
    """Open a regular file for reading, without ever waiting for another process.

    Raises:
        FormatError: it is missing (``hint`` says what to do), not a regular file, or unreadable.
    """
    try:
        return open(path, "rb", opener=_open)
    except FileNotFoundError:
        raise refused(path, f"no such file: {hint}") from None
    except IsADirectoryError:
        raise refused(path, "is a folder, expected a regular file: give a file") from None
    except (OSError, ValueError) as error:
        raise refused(path, _reason(error)) from None


def file_mode(path: str | Path) -> int | None:
    """The mode of what ``path`` names, links followed; None when it names nothing.

    Raises FormatError where the system cannot say.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise refused(path, _reason(error)) from None


def refused(path: str | Path, message: str) -> FormatError:
    """The error that names ``path``, cut to a readable length."""
    text = str(path)
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]}...{text[-SHOWN // 4 :]}"
    return FormatError.at("".join(c if c.isprintable() else "?" for c in text), "", message)


def _open(path: str, flags: int) -> int:
    """Looked at before it is opened (a device may react), and again once nobody can swap it."""
    _require_regular(os.stat(path).st_mode)
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _require_regular(os.fstat(handle).st_mode)
    except OSError:
        os.close(handle)
        raise
    return handle


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "special")
        raise _NotRegularError(f"is {kind}, expected a regular file: give a file")


def _reason(error: Exception) -> str:
    if isinstance(error, _NotRegularError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be opened ({error.strerror or error}): check the path"
    return f"cannot be opened ({error}): check the path"  # a NUL, a lone surrogate
