"""A checked GGUF file: typed metadata, and tensors as weights that stay in the mapped file."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.gguf.header import Header, TensorInfo, parse_header
from gamma.formats.gguf.types import NO_WEIGHTS
from gamma.formats.gguf.values import ArrayValue, Scalar, Value
from gamma.runtime.files import open_regular, refused
from gamma.tensor.weights import Weight


@dataclass(frozen=True, eq=False)
class GgufFile(Mapping[str, Weight]):
    """Tensor name -> `Weight` on the mapped file. Every offset lies inside the file."""

    path: Path
    header: Header
    _map: mmap.mmap = field(repr=False)

    @property
    def metadata(self) -> dict[str, Value]:
        """Typed values by key."""
        return self.header.metadata

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Kind, shape and place of every tensor, in the file's order."""
        return self.header.tensors

    @property
    def architecture(self) -> str:
        """``general.architecture``; FormatError when the file names none."""
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        """The string of ``key``; FormatError when it is missing or no string."""
        value = self._scalar(key, "a string")
        if not isinstance(value, str):
            raise FormatError.at(self.path, key, f"is {value!r}, expected a string")
        return value

    def whole(self, key: str) -> int:
        """The integer of ``key``; FormatError when it is missing or no integer."""
        value = self._scalar(key, "an integer")
        if type(value) is not int:
            raise FormatError.at(self.path, key, f"is {value!r}, expected an integer")
        return value

    def number(self, key: str) -> float:
        """The finite number of ``key``; FormatError when it is missing or no number."""
        value = self._scalar(key, "a number")
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise FormatError.at(self.path, key, f"is {value!r}, expected a finite number")
        return value

    def __getitem__(self, name: str) -> Weight:
        info = self.header.tensors[name]
        if info.kind in NO_WEIGHTS:
            raise UnsupportedError.at(
                self.path, name, f"type {info.kind} is not a weight, expected floats"
            )
        raw = np.frombuffer(self._map, np.uint8, info.end - info.begin, info.begin)
        rows = math.prod(info.shape[:-1])
        return Weight(info.shape, info.kind, raw.reshape(rows, -1), name, self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.tensors)

    def __len__(self) -> int:
        return len(self.header.tensors)

    def sha256(self) -> str:
        """Digest of the whole file."""
        with open_regular(self.path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _scalar(self, key: str, expected: str) -> Scalar:
        found = self.metadata.get(key)
        if found is None:
            raise FormatError.at(self.path, key, f"the file has no such key, expected {expected}")
        if isinstance(found.value, ArrayValue):
            raise FormatError.at(self.path, key, f"is an {found.type}, expected {expected}")
        return found.value


def open_gguf(path: str | Path) -> GgufFile:
    """Map ``path`` and check its header.

    Raises:
        FormatError: not a GGUF file of version 2 or 3, or a damaged one.
        UnsupportedError: a big-endian file, version 1.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            if size < 24:
                raise FormatError.at(
                    path, "header", f"file has {size} bytes, expected at least 24; it is truncated"
                )
            mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refused(path, f"cannot be read: {reason}") from None
    return GgufFile(path, parse_header(path, memoryview(mapped), size), mapped)
