"""Which way to take, by size: one table for every place that has more than one.

    choices.choose("rows.product", "f", 400 * 300)        "tiled" or "blas"

An entry says up to which size each way is taken; the last one has no end. The defaults were
measured on one kind of machine and are good on others. ``gamma tune`` measures this machine and
stores its own limits in the user's cache; GAMMA_TUNE=off ignores them. Ways differ in time, never
in soundness: bounds are the same up to the rounding that they pay for.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from gamma.errors import FormatError
from gamma.runtime.files import open_regular

VERSION = 1
"""Of the file format."""

Ways = tuple[tuple[float, str], ...]

_END = float("inf")

DEFAULTS: dict[tuple[str, str], Ways] = {
    # Boxes of a dense layer's interval step: weights read once for all, or two products.
    ("interval.dense", "f"): ((4, "fused"), (_END, "blas")),
    ("interval.dense", "d"): ((4, "fused"), (_END, "blas")),
    # Entries of the weight in that step for more boxes: tiles in C on one thread, or the BLAS.
    ("interval.boxes", ""): ((1 << 19, "tiled"), (_END, "blas")),
    # Entries of the weight that rows are multiplied by: the C product on one thread, or the BLAS.
    ("rows.product", "f"): ((1 << 20, "tiled"), (_END, "blas")),
    ("rows.product", "d"): ((1 << 20, "tiled"), (_END, "blas")),
    # Entries of the first rows on an image: whole images, or windows that grow.
    ("rows.start", ""): ((1 << 15, "frames"), (_END, "windows")),
    # Nanoseconds of work in a block of rows: alone, or enough for a thread of its own.
    ("rows.share", ""): ((7e5, "alone"), (_END, "threads")),
    # Bytes of an array: from the C library, which takes new pages for larger ones, or the pool.
    ("memory.array", ""): ((1 << 17, "system"), (_END, "pool")),
}
"""(operation, character of the dtype) -> (largest size, way), in ascending order."""

_table: dict[tuple[str, str], Ways] = {}


def choose(operation: str, dtype: str, size: float) -> str:
    """The way to take for ``size``. Raises KeyError for an operation that has no entry."""
    if not _table:
        _load()
    for limit, way in _table[operation, dtype]:
        if size <= limit:
            return way
    raise KeyError(operation)  # the last limit is infinite


def limit(operation: str, dtype: str = "") -> float:
    """The largest size of an operation's first way."""
    if not _table:
        _load()
    return _table[operation, dtype][0][0]


def tuned() -> bool:
    """Whether limits of this machine are in use."""
    if not _table:
        _load()
    return _table != DEFAULTS


@contextmanager
def using(limits: dict[tuple[str, str], float]) -> Iterator[None]:
    """Other limits inside the block, for tests and calibration (the whole process's)."""
    if not _table:
        _load()
    before = dict(_table)
    _table.update({key: with_limit(key, value) for key, value in limits.items()})
    try:
        yield
    finally:
        _table.clear()
        _table.update(before)


def with_limit(key: tuple[str, str], value: float) -> Ways:
    """The ways of an entry with another limit for the first."""
    first, *rest = DEFAULTS[key]
    return ((value, first[1]), *rest)


# -- this machine's table ------------------------------------------------------------------------


def path() -> Path:
    """The file of calibrated limits: in XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "gamma" / f"tune-{VERSION}.json"


@lru_cache(maxsize=1)
def host() -> dict[str, str]:
    """What limits depend on: processor, instruction set, BLAS, Python's NumPy."""
    import numpy as np

    from gamma.tensor import kernels

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": processor(),
        "isa": kernels.isa,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "numpy": np.__version__,
    }


def processor() -> str:
    """The processor's name as the system tells it, or the machine type."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def stored() -> dict[tuple[str, str], float]:
    """Limits of this machine from the cache; {} without a file, ValueError for one of no use."""
    file = path()
    if not file.exists():
        return {}
    try:
        with open_regular(file) as stream:
            content = stream.read((1 << 16) + 1)
        if len(content) > 1 << 16:
            raise ValueError("is too large")
        document = json.loads(content.decode("utf-8"))
    except FormatError as error:
        raise ValueError(f"cannot be read ({error})") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from None
    return parsed(document)


def parsed(document: Any) -> dict[tuple[str, str], float]:
    """Limits in a document that `document_of` wrote here. Raises ValueError for any other."""
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("is not a table of this version")
    if document.get("host") != host():
        raise ValueError("was measured on another machine or with other libraries")
    limits = document.get("limits")
    if not isinstance(limits, dict):
        raise ValueError("holds no limits")
    found = {}
    for name, value in limits.items():
        key = tuple(str(name).split("/", 1))
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18
        if len(key) != 2 or key not in DEFAULTS or not good:
            raise ValueError(f"holds an unknown entry {str(name)[:40]!r}")
        found[key[0], key[1]] = float(value)
    return found


def document_of(limits: dict[tuple[str, str], float]) -> dict[str, Any]:
    """What is stored for these limits."""
    named = {"/".join(key): value for key, value in limits.items()}
    return {"version": VERSION, "host": host(), "limits": named}


def _load() -> None:
    table = dict(DEFAULTS)
    if os.environ.get("GAMMA_TUNE") != "off":
        try:
            table.update({key: with_limit(key, value) for key, value in stored().items()})
        except ValueError as error:
            print(
                f"gamma: {path()} {error}: ignored; run gamma tune again, or gamma tune --reset",
                file=sys.stderr,
            )
    _table.update(table)


def reload() -> None:
    """Read the stored limits again when the next choice is made."""
    _table.clear()
