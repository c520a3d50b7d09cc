"""Results as lines of JSON that survive whatever happens to the process that writes them.

A line is appended with one write and synced before the next instance counts as done. Each has a
checksum; a torn last line is cut off when the file is opened again, a damaged one is passed over.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gamma.errors import ResourceError, UsageError

SCHEMA = "gamma.suite/1"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Record = dict[str, Any]


def seal(record: Record) -> str:
    """The line of a record: strict JSON with the checksum of everything else as ``sha256``."""
    return _text({**record, "sha256": _checksum(record)}) + "\n"


def unseal(line: str) -> Record | None:
    """The record of a line, None when it is damaged or of another kind."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return None
    found = record.pop("sha256", None)
    return record if found == _checksum(record) else None


def _text(record: Record) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _checksum(record: Record) -> str:
    return hashlib.sha256(_text(record).encode()).hexdigest()


def read_lines(stream: IO[bytes]) -> tuple[list[Record], int, int]:
    """The records of a file, how many lines are damaged, and where the last whole line ends."""
    found, damaged, end = [], 0, 0
    for line in stream:
        if not line.endswith(b"\n"):
            break  # the write of this line was cut short
        end += len(line)
        record = unseal(line.decode("utf-8", "replace"))
        if record is None:
            damaged += 1
        else:
            found.append(record)
    return found, damaged, end


class Records:
    """The result file, open for appending; a context manager.

    Attributes:
        found: the records it already had, in file order.
        damaged: number of complete lines that were passed over.

    Raises:
        UsageError: it cannot be written, is in use by another run, or has records that neither
            ``resume`` keeps nor ``force`` replaces.
    """

    def __init__(self, path: Path, resume: bool = False, force: bool = False) -> None:
        self.path = path
        self.found: list[Record] = []
        self.damaged = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        try:
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):
                raise UsageError(f"{path}: is not a regular file, give a file name with -o")
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._lock()
            if force:
                os.ftruncate(self._file, 0)
            if os.fstat(self._file).st_size and not resume:
                raise UsageError(
                    f"{path}: has results already; give --resume to complete them, --force to "
                    "replace them, or another file"
                )
            self._read()
            _sync_folder(path.parent)
        except OSError as error:
            os.close(self._file)
            raise self._unwritable(error) from None
        except BaseException:
            os.close(self._file)
            raise

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"{self.path}: cannot be written: {error.strerror or error}")

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self.path}: another run is writing it, wait or stop it") from None

    def _read(self) -> None:
        with open(self._file, "rb", closefd=False) as stream:
            stream.seek(0)
            self.found, self.damaged, end = read_lines(stream)
        if os.fstat(self._file).st_size != end:
            os.ftruncate(self._file, end)

    def append(self, record: Record) -> None:
        """Write a record and wait until it is on the disk.

        Raises ResourceError when there is no room; the file is then as it was before.
        """
        data = seal(record).encode()
        before = os.fstat(self._file).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError as error:
            try:
                os.ftruncate(self._file, before)
            except OSError:
                pass  # the next run cuts the torn line off
            if error.errno in FULL:
                raise ResourceError(
                    f"{self.path}: no room for results ({error.strerror}); what is done is kept: "
                    "free some space and go on with --resume"
                ) from None
            raise self._unwritable(error) from None

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


def _sync_folder(folder: Path) -> None:
    """Make the file's name as durable as its content, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
