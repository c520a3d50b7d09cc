"""Lists of instances: a model, a property and a time limit in each line."""

from __future__ import annotations

import csv
import hashlib
from io import TextIOWrapper
from pathlib import Path

from gamma.errors import FormatError
from gamma.frozen import Frozen
from gamma.runtime.files import open_regular

LIST_LIMIT = 64 << 20
HEADINGS = ("onnx", "model", "network")

Key = tuple[str, str, int]


class Instance(Frozen, eq=True):
    """One line of a list.

    Attributes:
        model, prop: as the list spells them. folder: what they are relative to.
        timeout: seconds, None when the list gives none.
        number: how many earlier lines have the same model and property.
    """

    model: str
    prop: str
    timeout: float | None
    folder: Path
    number: int = 0

    @property
    def key(self) -> Key:
        """What tells the instances of a list apart."""
        return self.model, self.prop, self.number


def read_list(path: Path) -> list[Instance]:
    """Lines ``model,property,timeout``; paths relative to the list, the timeout may be missing.

    Raises FormatError, with the line, for anything else.
    """
    try:
        with TextIOWrapper(open_regular(path, "give a list"), "utf-8-sig", newline="") as stream:
            text = stream.read(LIST_LIMIT + 1)
    except UnicodeDecodeError:
        raise FormatError.at(
            path, "", "is not text, expected lines model,property,timeout"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise FormatError.at(
            str(path)[:200], "", f"cannot be read: {reason}; give a list"
        ) from None
    if len(text) > LIST_LIMIT:
        raise FormatError.at(path, "", f"is longer than {LIST_LIMIT} characters")
    instances: list[Instance] = []
    seen: dict[tuple[str, str], int] = {}
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    try:
        for cells in rows:
            cells = [cell.strip() for cell in cells]
            first = not instances and bool(cells) and cells[0].lower() in HEADINGS
            if not any(cells) or cells[0].startswith("#") or first:
                continue
            one = _instance(path, f"line {rows.line_num}", cells)
            number = seen.get(one.key[:2], 0)
            seen[one.key[:2]] = number + 1
            instances.append(Instance(one.model, one.prop, one.timeout, path.parent, number))
    except csv.Error as error:
        raise FormatError.at(path, f"line {rows.line_num}", f"{error}") from None
    if not instances:
        raise FormatError.at(path, "", "has no instances, expected lines model,property,timeout")
    return instances


def _instance(path: Path, where: str, cells: list[str]) -> Instance:
    if len(cells) not in (2, 3) or not cells[0] or not cells[1]:
        message = f"{len(cells)} fields, expected model,property,timeout"
        raise FormatError.at(path, where, message)
    timeout = None
    if len(cells) == 3 and cells[2]:
        try:
            timeout = float(cells[2])
        except ValueError:
            timeout = -1.0
        if not 0 < timeout < float("inf"):
            message = f"timeout {cells[2][:40]!r}, expected seconds, more than zero"
            raise FormatError.at(path, where, message)
    return Instance(cells[0], cells[1], timeout, path.parent)


def content_hash(path: Path) -> str | None:
    """SHA-256 of a file as it lies there (``path`` or ``path.gz``); None when it cannot be read."""
    from gamma.formats.compressed import existing

    try:
        with open_regular(existing(path)) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, FormatError):
        return None
