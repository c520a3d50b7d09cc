"""safetensors files: a header checked before anything is believed, and mapped tensors.

The layout is an 8-byte little-endian header length N, N bytes of JSON, and the tensor bytes:
``{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {...}}``.
Every count is checked against the file's size before memory is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import FormatError, UnsupportedError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network, Source
from gamma.runtime import resident
from gamma.runtime.files import open_regular, refused
from gamma.tensor.weights import Weight

Array = npt.NDArray[Any]

HEADER_LIMIT = 4 << 20  # bytes of JSON; a 64-layer language model needs about 0.1 MB
MAX_AXES = 16

# Bits per element of every dtype the format defines (the header is checked for all of them).
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
# Stored form of the dtypes gamma can use. BF16 is read as its bits and widened below.
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}

# Names that only models with attention have.
ATTENTION = re.compile(
    r"(^|[._])(self_attn|attention|attn|c_attn|word_embeddings|embed_tokens)[._]"
)


class TensorEntry(Frozen, eq=True):
    """One tensor of the header; ``begin`` and ``end`` count bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class TensorFile(Mapping[str, Array]):
    """A checked file: name -> array, mapped and widened on access, NaN and infinity refused.

    F64, F32 and I64 tensors are read-only views of the mapped file; F16 and BF16 widen exactly to
    float32. Other dtypes raise UnsupportedError when asked for.
    """

    path: Path
    entries: dict[str, TensorEntry]
    metadata: dict[str, str]
    _map: Callable[[], mmap.mmap | bytes] = field(repr=False)

    def __getitem__(self, name: str) -> Array:
        entry = self.entries[name]
        if entry.dtype not in STORED:
            raise UnsupportedError.at(
                self.path,
                name,
                f"dtype {entry.dtype} is not a weight gamma reads, expected F64, F32, F16 or BF16",
            )
        count = math.prod(entry.shape)
        if count == 0:
            raise FormatError.at(self.path, name, f"tensor is empty, shape {list(entry.shape)}")
        flat = np.frombuffer(self._map(), STORED[entry.dtype], count, entry.begin)
        array = _native(flat, entry.dtype)
        if array.dtype.kind == "f":
            self._require_finite(name, array, entry.shape)
        return array.reshape(entry.shape)

    def weight(self, name: str) -> Weight:
        """The tensor as a weight source: nothing is widened or checked before it is read."""
        entry = self.entries[name]
        if entry.dtype not in STORED or entry.dtype == "I64":
            raise UnsupportedError.at(
                self.path,
                name,
                f"dtype {entry.dtype} is not a weight gamma reads, expected F64, F32, F16 or BF16",
            )
        if entry.begin == entry.end:
            raise FormatError.at(self.path, name, f"tensor is empty, shape {list(entry.shape)}")
        raw = np.frombuffer(self._map(), np.uint8, entry.end - entry.begin, entry.begin)
        rows = raw.reshape(math.prod(entry.shape[:-1]), -1)
        return Weight(entry.shape, entry.dtype.lower(), rows, name, self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def _require_finite(self, name: str, flat: Array, shape: tuple[int, ...]) -> None:
        step = 1 << 20  # a mask of the whole of a large tensor would not fit the memory promise
        for begin in range(0, flat.size, step):
            part = flat[begin : begin + step]
            wrong = np.flatnonzero(~np.isfinite(part))
            if flat.nbytes >= 1 << 16:
                resident.release(part)  # a large file is read again, layer by layer, when used
            if wrong.size:
                where = begin + int(wrong[0])
                index = [int(i) for i in np.unravel_index(where, shape)]
                raise FormatError.at(
                    self.path, name, f"weight at index {index} is {flat[where]}, expected finite"
                )

    def sha256(self) -> str:
        """Digest of the whole file."""
        with open_regular(self.path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def open_tensors(path: str | Path) -> TensorFile:
    """Check the header of ``path`` against the file and map it.

    Raises FormatError for anything that is not exactly a safetensors file.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = _header_length(path, stream.read(8), size)
            text = stream.read(length)
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None
    entries, metadata = parse_header(path, text, size - 8 - length)
    shift = 8 + length
    placed = {
        name: TensorEntry(e.dtype, e.shape, e.begin + shift, e.end + shift)
        for name, e in entries.items()
    }
    return TensorFile(path, placed, metadata, _lazy_map(path, size))


def _header_length(path: Path, prefix: bytes, size: int) -> int:
    if len(prefix) < 8:
        raise FormatError.at(
            path, "header", f"file has {size} bytes, expected at least 8; it is truncated"
        )
    length = int.from_bytes(prefix, "little")
    if length > HEADER_LIMIT:
        raise FormatError.at(
            path,
            "header",
            f"claims {length} bytes, more than the {HEADER_LIMIT} allowed; "
            "this is not a safetensors file, or a damaged one",
        )
    if length > size - 8:
        raise FormatError.at(
            path, "header", f"claims {length} bytes, the file has {size - 8} left; it is truncated"
        )
    return length


def _lazy_map(path: Path, size: int) -> Callable[[], mmap.mmap | bytes]:
    """The file's bytes, mapped once on first use; the views keep the mapping alive."""
    opened: list[mmap.mmap | bytes] = []

    def mapped() -> mmap.mmap | bytes:
        if not opened:
            with open_regular(path) as stream:
                opened.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            if len(opened[0]) < size:
                raise FormatError.at(path, "", "the file shrank while it was read")
        return opened[0]

    return mapped


def _native(flat: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F16":
        return flat.astype(np.float32)
    if not flat.flags.aligned or not flat.dtype.isnative:
        return flat.astype(flat.dtype.newbyteorder("="))
    return flat


def parse_header(
    path: str | Path, text: bytes, data_bytes: int
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Tensors (offsets relative to the data) and metadata of a header's JSON ``text``.

    Raises FormatError unless the tensors tile the ``data_bytes`` exactly, without overlap.
    """
    document = parse_json(path, "header", text)
    if not isinstance(document, dict):
        raise FormatError.at(path, "header", "expected a JSON object of tensors")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError.at(path, "header", "__metadata__ must map names to strings")
    for name in document:
        if not plain_name(name):
            raise FormatError.at(path, "header", f"tensor name {shorten(name)} is not plain text")
    entries = {name: _entry(path, name, item) for name, item in document.items()}
    position, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if entry.begin != position:
            kind = "overlap" if entry.begin < position else "leave a gap"
            raise FormatError.at(
                path,
                name,
                f"its bytes start at {entry.begin}, expected {position}: they {kind} "
                f"after {before}",
            )
        position, before = entry.end, name
    if position != data_bytes:
        what = "truncated" if position > data_bytes else "followed by unknown bytes"
        raise FormatError.at(
            path, "header", f"tensors take {position} bytes, the file holds {data_bytes}: {what}"
        )
    return entries, metadata


def _entry(path: str | Path, name: str, item: object) -> TensorEntry:
    if not isinstance(item, dict) or set(item) != {"dtype", "shape", "data_offsets"}:
        raise FormatError.at(path, name, "expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise FormatError.at(path, name, f"unknown dtype {shorten(dtype)}")
    if not _counts(shape) or len(shape) > MAX_AXES:
        raise FormatError.at(
            path, name, f"shape {shorten(shape)} is not a list of at most {MAX_AXES} sizes"
        )
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError.at(path, name, f"data_offsets {shorten(offsets)} are not [begin, end]")
    needed = math.prod(shape) * BITS[dtype] // 8
    if needed != offsets[1] - offsets[0]:
        raise FormatError.at(
            path,
            name,
            f"shape {shorten(shape)} of {dtype} needs {needed} bytes, "
            f"data_offsets give {offsets[1] - offsets[0]}",
        )
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: object) -> bool:
    """Whether ``value`` is a list of integers in [0, 2^63)."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in value)


def plain_name(name: str) -> bool:
    """Whether a name from a file can be shown as it is: one line, no control characters."""
    return name.isprintable() and len(name) <= 256


def shorten(value: object, limit: int = 80) -> str:
    """Text of a value from a file, cut to one short line for an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def parse_json(path: str | Path, where: str, text: bytes | str) -> Any:
    """JSON without duplicate keys, NaN or Infinity; FormatError otherwise."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise FormatError.at(path, where, f"duplicate key {shorten(twice)}")
        return result

    def refuse(name: str) -> None:
        raise FormatError.at(path, where, f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise FormatError.at(path, where, "JSON is nested too deeply") from None
    except ValueError as error:  # covers JSONDecodeError, UnicodeDecodeError, over-long integers
        reason = str(error).splitlines()[0]
        raise FormatError.at(path, where, f"not valid JSON ({shorten(reason, 120)})") from None


def load_safetensors(path: str | Path, **options: Any) -> Network:
    """The network of a safetensors file.

    A file written by ``gamma.save`` spells its graph out and takes no options. A plain state_dict
    needs ``activation`` (and ``input_shape``, ``strides``, ``pads`` where weights cannot tell): see
    ``gamma.architectures.mlp.build``.

    Raises:
        FormatError: a damaged or hostile file, NaN or infinite weights, unused tensors.
        UsageError: a plain state_dict and not enough options to know the network.
    """
    from gamma.architectures import mlp
    from gamma.formats import spelled

    tensors = open_tensors(path)
    source = Source(tensors.path, tensors.sha256(), "safetensors")
    if spelled.KEY in tensors.metadata:
        spelled.refuse_options(tensors.path, options)
        net = spelled.decode(tensors, tensors.metadata[spelled.KEY], source)
        return _noted(net, tensors)
    if any(ATTENTION.search(name) for name in tensors):
        raise UsageError(
            f"{tensors.path}: these are the weights of a language or speech model; which network "
            'they belong to is in its config.json: give config="config.json", or the folder'
        )
    return _noted(mlp.build(tensors, tensors.path, source=source, **options), tensors)


def _noted(net: Network, tensors: TensorFile) -> Network:
    """The network, with a note where its weights are stored in fewer bits than float32."""
    kinds = sorted({entry.dtype for entry in tensors.entries.values()} & {"F16", "BF16"})
    if not kinds:
        return net
    kind = " and ".join("float16" if k == "F16" else "bfloat16" for k in kinds)
    note = (
        f"weights are stored in {kind}: the bounds are about the network with exactly these "
        f"weights, executions in {kind} round further and are not covered"
    )
    said = (*net.metadata.get("left_out", ()), note)
    return replace(net, notes=(*net.notes, note), metadata={**net.metadata, "left_out": said})
