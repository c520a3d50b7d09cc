"""Reading VNN-LIB property files, version 1.0 or 2.0, plain or gzip."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gamma.formats.compressed import PROPERTY_LIMIT, expanding, read_bytes
from gamma.formats.vnnlib1 import read_text
from gamma.network.property import Property
from gamma.runtime.files import path_of
from gamma.telemetry import spanned

VERSION = re.compile(r"(?:\s++|;[^\n]*+\n)*+\(\s*+vnnlib-version\b")


@spanned("property")
def read_vnnlib(path: str | Path, gzip_ratio: float | None = None) -> Property:
    """Read a property file; where ``path`` does not exist, ``path.gz`` is read.

    Numbers are exact fractions. Which version it is says the content. ``gzip_ratio`` is how many
    times its size a gzip file may expand to (100 unless given).

    Raises:
        FormatError: not a readable VNN-LIB file; the line names file, line and column.
        UnsupportedError: a construct gamma does not read (nothing is ever dropped), or more of
            them than it takes.
        PropertyError: inputs without bounds, conditions that contradict each other.
    """
    with expanding(gzip_ratio):
        source = read_bytes(path_of(path), PROPERTY_LIMIT)
    # bytes that are not UTF-8 may stand in comments; elsewhere the reader refuses them
    text = source.data.decode("utf-8", "backslashreplace").removeprefix("\ufeff")
    return read_string(text, source.path, source.sha256)


def read_string(text: str, path: Path | None = None, sha256: str | None = None) -> Property:
    """``read_vnnlib`` of a text; ``path`` is named in messages, both are recorded."""
    with _without_collection():
        if VERSION.match(text):
            from gamma.formats.vnnlib2 import read_text as read_text2

            return read_text2(text, path, sha256)
        return read_text(text, path, sha256)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for reference cycles: readers make none, and it takes half of their time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
