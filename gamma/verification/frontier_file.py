"""Open sub-problems in a file, written while a run works and read by the run that goes on.

An .npz file of plain arrays, replaced as a whole: whoever reads it, at whatever moment the writer
was killed, has the state between two rounds. ``header`` is JSON: schema, kind of the trees, and
hashes of all that the sub-problems are about. What the file says is proved is believed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gamma import __version__
from gamma.errors import FormatError, UsageError
from gamma.formats.save import write_atomically
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.runtime.files import open_regular, refused

Array = npt.NDArray[Any]
State = dict[str, Array]
"""Arrays of one tree."""

SCHEMA = "gamma.frontier/2"
HEADER_LIMIT = 1 << 16
PAUSE, SHARE = 0.5, 20.0
"""Seconds between two writings at least, and how many times what one takes."""


class Saved(Frozen, eq=True):
    """What a file holds: which targets are proved, their bounds, and each tree."""

    path: Path
    kind: str
    proved: Array
    lower: Array
    trees: tuple[State, ...]


def key_of(net: Network, prop: Property, guarantee: str, dtype: str) -> dict[str, str]:
    """Hashes of what sub-problems are about, by the words of a message.

    Raises UsageError for a network that was not read from a file.
    """
    if net.source is None:
        raise UsageError("open sub-problems are kept of networks that were read from a file")
    nodes = [(n.name, n.op.name, n.shape, n.inputs) for n in net.nodes]
    regions = ((r.lower, r.upper, r.unsafe) for r in prop.regions)
    asked = [prop.inputs, prop.outputs, prop.balls, sorted(prop.integers)]
    return {
        "model": _hash([net.source.sha256, nodes, net.output]),
        "property": _hash([*asked, *regions]),
        "guarantee": guarantee,
        "dtype": dtype,
        "version of gamma": __version__,
    }


def _hash(parts: Iterable[Any]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(repr(part).encode() + b"\n")
    return found.hexdigest()


class FrontierFile:
    """Where a run keeps what is open."""

    def __init__(self, path: str | Path, key: Mapping[str, str]) -> None:
        self.path, self.key = Path(path), dict(key)
        self.last, self.took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self.last > max(PAUSE, SHARE * self.took)

    def write(self, kind: str, proved: Array, lower: Array, trees: Sequence[State]) -> None:
        """Replace the file. Raises UsageError where it cannot be written."""
        begin = time.monotonic()
        header = {"schema": SCHEMA, "kind": kind, "trees": len(trees), "about": self.key}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        arrays |= {"proved": proved, "lower": lower}
        for number, state in enumerate(trees):
            arrays |= {f"{number}/{name}": array for name, array in state.items()}

        def save(stream: BinaryIO) -> None:
            np.savez(stream, allow_pickle=False, **arrays)

        write_atomically(self.path, save)
        self.last = time.monotonic()
        self.took = self.last - begin


def read(path: str | Path, key: Mapping[str, str], targets: int) -> Saved:
    """The state in a file about ``key``, with so many targets.

    Raises FormatError for a file that is none, or about something else.
    """
    arrays = _arrays(path)
    header = _header(path, arrays.pop("header", None))
    about = header["about"]
    for name, wanted in key.items():
        if about.get(name) != wanted:
            shown = "" if len(wanted) == 64 else f" ({str(about.get(name))[:40]}, now {wanted})"
            message = f"was written for another {name}{shown}: resume with the same"
            raise refused(path, f"{message}, or start anew without --resume")
    proved, lower = arrays.pop("proved", None), arrays.pop("lower", None)
    fits = (
        proved is not None
        and lower is not None
        and proved.dtype == np.bool_
        and lower.dtype == np.float64
        and proved.shape == lower.shape == (targets,)
    )
    if not fits or proved is None or lower is None or np.isnan(lower).any():
        raise damaged(path, "what is proved")
    trees: list[State] = [{} for _ in range(header["trees"])]
    for name, array in arrays.items():
        number, _, column = name.partition("/")
        if not number.isdecimal() or not column or int(number) >= len(trees):
            raise damaged(path, f"array {name[:40]!r}")
        trees[int(number)][column] = array
    return Saved(Path(path), header["kind"], proved, lower, tuple(trees))


def damaged(path: str | Path, what: str) -> FormatError:
    """The error about a file whose content does not fit together."""
    return refused(path, f"{what} does not fit: the file is damaged, start anew without --resume")


def _arrays(path: str | Path) -> State:
    """The arrays of an .npz file whose members are stored as they are: none is larger than it."""
    try:
        with open_regular(path, "give a file that --open wrote") as stream:
            size = os.fstat(stream.fileno()).st_size
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                plain = all(m.compress_type == zipfile.ZIP_STORED for m in members)
                if not plain or sum(m.file_size for m in members) > size:
                    raise ValueError("compressed members")
                return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        line = " ".join(str(error).split())[:100]
        raise refused(path, f"is no file that --open wrote ({line})") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version} of an array")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        count = int(np.prod(shape, dtype=object))
        data = stream.read()
        if dtype.kind not in "fiub" or fortran or count * dtype.itemsize != len(data):
            raise ValueError(f"array of {dtype}, {shape}")
        return np.frombuffer(data, dtype).reshape(shape).copy()


def _header(path: str | Path, array: Array | None) -> dict[str, Any]:
    try:
        if array is None or array.nbytes > HEADER_LIMIT:
            raise ValueError("no header")
        header = json.loads(array.tobytes())
        known = header["schema"] == SCHEMA and header["kind"] in ("input", "relu", "")
        count = header["trees"]
        if not known or not isinstance(header["about"], dict) or not 0 <= int(count) <= 1 << 20:
            raise ValueError("another schema")
        header["trees"] = int(count)
        return dict(header)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refused(path, f"is no file of open sub-problems (schema {SCHEMA})") from None
