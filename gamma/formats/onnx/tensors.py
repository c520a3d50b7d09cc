"""TensorProto to NumPy: counts are checked against the bytes present before memory is taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UnsupportedError
from gamma.frozen import Frozen
from gamma.runtime import resident
from gamma.runtime.files import open_regular

Array = npt.NDArray[Any]

MAX_AXES = 16
EMPTY_LIMIT = 1 << 20  # product of the other axes of a tensor with an axis of length 0
# TensorProto.DataType -> (little-endian storage, dtype of the value, typed field, its item dtype).
# float16 and bfloat16 widen exactly to float32; their typed field holds bit patterns.
_TYPES: dict[int, tuple[str, str, str]] = {
    1: ("<f4", "float32", "float_data"),
    2: ("u1", "uint8", "int32_data"),
    3: ("i1", "int8", "int32_data"),
    4: ("<u2", "uint16", "int32_data"),
    5: ("<i2", "int16", "int32_data"),
    6: ("<i4", "int32", "int32_data"),
    7: ("<i8", "int64", "int64_data"),
    9: ("?", "bool", "int32_data"),
    10: ("<f2", "float32", "int32_data"),
    11: ("<f8", "float64", "double_data"),
    12: ("<u4", "uint32", "uint64_data"),
    13: ("<u8", "uint64", "uint64_data"),
    16: ("bfloat16", "float32", "int32_data"),
    21: ("uint4", "uint8", "int32_data"),
    22: ("int4", "int8", "int32_data"),
    25: ("uint2", "uint8", "int32_data"),
    26: ("int2", "int8", "int32_data"),
}
# Several to a byte, the first in its lowest bits: the bits of each.
PACKED = {"uint4": 4, "int4": 4, "uint2": 2, "int2": 2}
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
    24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip


class Folder(Frozen, eq=True):
    """Where a model's external data may lie, and the model's path for messages."""

    model: Path

    def locate(self, name: str, entries: list[tuple[str, str]]) -> tuple[Path, int, int | None]:
        """File, offset and length of external data. Raises FormatError outside the folder."""
        keys = [key for key, _ in entries]
        if len(set(keys)) != len(keys):
            raise FormatError.at(self.model, name, "external data states a key twice")
        stated = dict(entries)
        location = stated.get("location", "")
        if not location or "\0" in location or "\\" in location:
            raise FormatError.at(self.model, name, f"external data location {location[:80]!r}")
        relative = Path(location)
        if relative.is_absolute() or ".." in relative.parts:
            raise FormatError.at(
                self.model,
                name,
                f"external data {location[:80]!r} lies outside the model's folder, "
                "expected a file beside the model",
            )
        try:
            base = self.model.parent.resolve(strict=True)
            found = (base / relative).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise FormatError.at(
                self.model, name, f"external data {location[:80]!r} is missing, put it beside"
            ) from error
        if not found.is_relative_to(base) or not found.is_file():
            raise FormatError.at(
                self.model, name, f"external data {location[:80]!r} leads outside the folder"
            )
        offset, length = self._number(name, stated, "offset"), self._number(name, stated, "length")
        return found, offset or 0, length

    def _number(self, name: str, stated: dict[str, str], key: str) -> int | None:
        text = stated.get(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise FormatError.at(
                self.model, name, f"external data {key} {text[:40]!r}, expected a byte count"
            )
        return int(text)


def read_tensor(proto: Any, name: str, folder: Folder, masks: bool = False) -> Array:
    """The array of a TensorProto, read-only where it is mapped; small integers take a byte each.

    Raises FormatError: counts that contradict the bytes, NaN or infinite entries (a single
    infinite number is let through: it is how Clip and Max spell an absent limit; with ``masks``
    also minus infinity anywhere).
    """
    path = folder.model
    dims = tuple(int(d) for d in proto.dims)
    if len(dims) > MAX_AXES or any(d < 0 for d in dims):
        raise FormatError.at(path, name, f"tensor has shape {list(dims)[:MAX_AXES]}")
    if 0 in dims and math.prod(d for d in dims if d) > EMPTY_LIMIT:
        # no bytes of the file back these sizes, and arithmetic on them overflows
        message = f"empty tensor of shape {list(dims)}, expected sizes up to {EMPTY_LIMIT}"
        raise FormatError.at(path, name, message)
    if proto.data_type not in _TYPES:
        found = DTYPES.get(proto.data_type, f"number {proto.data_type}")
        raise UnsupportedError.at(path, name, f"data type {found}, expected float, int or bool")
    if proto.HasField("segment"):
        raise FormatError.at(path, name, "tensor is stored in segments, expected one piece")
    stored, dtype, typed = _TYPES[proto.data_type]
    count = math.prod(dims)
    if stored in PACKED:
        held = need = -(-count * PACKED[stored] // 8)
    else:
        held, need = count, count * _storage(stored).itemsize
    contents = (proto.data_location == 1, proto.HasField("raw_data"), len(getattr(proto, typed)))
    if sum(map(bool, contents)) > 1:
        raise FormatError.at(path, name, "tensor states its values twice, expected one list")
    if proto.data_location == 1:
        entries = [(str(e.key), str(e.value)) for e in proto.external_data]
        flat = _external(folder, name, entries, stored, need)
    elif proto.HasField("raw_data"):
        raw = proto.raw_data
        if len(raw) != need:
            raise _mismatch(path, name, dims, need, len(raw), "bytes")
        flat = _widen(np.frombuffer(raw, _storage(stored)), stored)
    else:
        values = getattr(proto, typed)
        if len(values) != held:
            raise _mismatch(path, name, dims, held, len(values), "values")
        flat = _typed(values, stored, path, name)
    flat = _unpacked(flat, stored, count) if stored in PACKED else flat
    array = flat.reshape(dims).astype(dtype, copy=False)
    require_finite(array, path, name, masks=masks)
    return array


def require_finite(array: Array, path: Path, name: str, masks: bool = False) -> None:
    """Raise FormatError naming the first NaN or infinity (but for what `read_tensor` lets pass)."""
    if array.dtype.kind != "f":
        return
    flat, step = array.reshape(-1), 1 << 20  # a mask of a whole large tensor takes memory
    for begin in range(0, flat.size, step):
        part = flat[begin : begin + step]
        bad = np.isnan(part) if array.size == 1 else ~np.isfinite(part)
        bad &= ~np.isneginf(part) if masks else True
        if flat.nbytes >= 1 << 16:
            resident.release(part)  # mapped external data is read again when it is used
        if bad.any():
            index = np.unravel_index(begin + int(np.flatnonzero(bad)[0]), array.shape)
            where = tuple(int(i) for i in index)
            raise FormatError.at(
                path, name, f"entry {list(where)} is {array[where]}, expected finite numbers"
            )


def _mismatch(
    path: Path, name: str, dims: tuple[int, ...], need: int, found: int, unit: str
) -> FormatError:
    return FormatError.at(
        path, name, f"shape {list(dims)} needs {need} {unit}, the file holds {found}"
    )


def _storage(stored: str) -> np.dtype[Any]:
    return np.dtype("<u2" if stored == "bfloat16" else "u1" if stored in PACKED else stored)


def _unpacked(flat: Array, stored: str, count: int) -> Array:
    """The first ``count`` of the integers that bytes hold."""
    bits = PACKED[stored]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    low = (flat[:, None] >> shifts & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    if stored.startswith("u"):
        return low
    sign = np.uint8(1 << (bits - 1))
    whole: Array = (low ^ sign).astype(np.int8) - np.int8(sign)
    return whole


def _widen(flat: Array, stored: str) -> Array:
    if stored == "bfloat16":
        return (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if stored == "?":
        flags: Array = flat.view(np.uint8) != 0
        return flags
    return flat if flat.dtype.isnative else flat.astype(flat.dtype.newbyteorder("="))


def _typed(values: Any, stored: str, path: Path, name: str) -> Array:
    """Values of a repeated field; float16 and bfloat16 are bit patterns in int32_data."""
    kind = _storage(stored)
    array = np.array(values, dtype=np.float64 if stored == "<f8" else None)
    if array.size == 0:
        return np.zeros(0, np.float32 if stored in ("<f2", "bfloat16") else kind)
    if kind.kind == "f" and stored != "<f2":
        return array.astype(kind)
    wanted = np.dtype("<u2") if stored in ("<f2", "bfloat16") else kind
    if wanted.kind != "b":
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise FormatError.at(path, name, f"a value does not fit its type {wanted}")
    narrow = array.astype(wanted)
    return narrow.view("<f2") if stored == "<f2" else _widen(narrow, stored)


def _external(
    folder: Folder, name: str, entries: list[tuple[str, str]], stored: str, need: int
) -> Array:
    found, offset, length = folder.locate(name, entries)
    size = found.stat().st_size
    if (length is not None and length != need) or offset + need > size:
        raise FormatError.at(
            folder.model,
            name,
            f"external data needs {need} bytes at {offset}, stated {length}, "
            f"{found.name} has {size}",
        )
    if need == 0:
        return np.zeros(0, np.float32 if stored == "bfloat16" else _storage(stored))
    with open_regular(found) as stream:
        raw = np.memmap(stream, dtype=np.uint8, mode="r", offset=offset, shape=(need,))
    return _widen(np.asarray(raw).view(_storage(stored)), stored)
