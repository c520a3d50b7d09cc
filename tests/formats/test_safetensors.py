"""The safetensors reader: what it accepts, and one clear line for what it does not."""

from __future__ import annotations

import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gamma.errors import FormatError, GammaError, UnsupportedError, UsageError
from gamma.formats.detect import load
from gamma.formats.safetensors import HEADER_LIMIT, open_tensors, parse_header


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with this header (JSON text, bytes or an object) and data."""
    text = header if isinstance(header, bytes | str) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_every_float_kind_is_read_exactly(tmp_path: Path, dtype: type) -> None:
    values = np.array([[1.5, -2.0, 0.0], [3.0e-5, 1024.0, -0.125]]).astype(dtype)
    save_file({"w": values, "b": values[0].copy()}, tmp_path / "x.safetensors")
    tensors = open_tensors(tmp_path / "x.safetensors")
    assert set(tensors) == {"w", "b"} and len(tensors) == 2
    read = tensors["w"]
    assert read.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert read.shape == (2, 3)
    assert np.array_equal(read.astype(np.float64), values.astype(np.float64))


def test_all_16_bit_patterns_widen_exactly(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        values = bits.view(dtype)
        finite = values[np.isfinite(values.astype(np.float32))]
        save_file({"w": finite}, tmp_path / "x.safetensors")
        read = open_tensors(tmp_path / "x.safetensors")["w"]
        assert np.array_equal(read.view(np.uint32), finite.astype(np.float32).view(np.uint32))


def test_float32_is_mapped_not_copied(tmp_path: Path) -> None:
    save_file({"w": np.ones((4, 4), np.float32)}, tmp_path / "x.safetensors")
    array = open_tensors(tmp_path / "x.safetensors")["w"]
    assert not array.flags.owndata and not array.flags.writeable


def test_unaligned_data_is_read(tmp_path: Path) -> None:
    values = np.array([1.0, 2.0], np.float32)
    header = json.dumps({"w": entry("F32", [2], 0, 8)})
    header += " " * ((5 - len(header)) % 8)  # tensor bytes start at an odd offset
    tensors = open_tensors(write(tmp_path / "x.safetensors", header, values.tobytes()))
    assert np.array_equal(tensors["w"], values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_non_finite_weight_is_named(tmp_path: Path, bad: float, dtype: type) -> None:
    values = np.zeros((3, 4), dtype)
    values[2, 1] = bad
    save_file({"0.weight": values}, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match=r"0\.weight: weight at index \[2, 1\]"):
        load(tmp_path / "x.safetensors", activation="relu")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    save_file({"w": np.ones(3, np.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedError, match="I8"):
        open_tensors(tmp_path / "x.safetensors")["w"]


F = entry("F32", [2], 0, 8)
HOSTILE: dict[str, tuple[Any, bytes, str]] = {
    "not json": ("{", b"", "not valid JSON"),
    "not utf-8": (b'{"\xff": 1}', b"", "not valid JSON"),
    "not an object": ("[]", b"", "expected a JSON object"),
    "nan": ('{"a": NaN}', b"", "NaN is not JSON"),
    "deep": ('{"a":' + "[" * 1_000_000, b"", "nested too deeply"),
    "long integer": ('{"a":' + "9" * 100_000 + "}", b"", "not valid JSON"),
    "duplicate tensor": ('{"a": {}, "a": {}}', b"", "duplicate key 'a'"),
    "duplicate field": (
        '{"a": {"dtype": "F32", "shape": [2], "shape": [1], "data_offsets": [0, 8]}}',
        bytes(8),
        "duplicate key 'shape'",
    ),
    "metadata": ({"__metadata__": {"a": 1}, "w": F}, bytes(8), "__metadata__"),
    "no dtype": ({"w": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8), "exactly dtype"),
    "unknown field": ({"w": {**F, "x": 1}}, bytes(8), "exactly dtype"),
    "unknown dtype": ({"w": entry("F31", [2], 0, 8)}, bytes(8), "unknown dtype 'F31'"),
    "dtype list": ({"w": {**F, "dtype": ["F32"]}}, bytes(8), "unknown dtype"),
    "huge shape": ({"w": entry("F32", [1 << 62], 0, 8)}, bytes(8), "needs"),
    "overflowing shape": ({"w": entry("F32", [1 << 62, 4, 1 << 62], 0, 8)}, bytes(8), "needs"),
    "shape beyond 64 bits": ({"w": entry("F32", [1 << 64], 0, 8)}, bytes(8), "is not a list"),
    "negative shape": ({"w": entry("F32", [-2], 0, 8)}, bytes(8), "is not a list"),
    "float shape": ({"w": {**F, "shape": [2.0]}}, bytes(8), "is not a list"),
    "boolean shape": ({"w": {**F, "shape": [True, 2]}}, bytes(8), "is not a list"),
    "many axes": ({"w": entry("F32", [1] * 40 + [2], 0, 8)}, bytes(8), "is not a list"),
    "reversed offsets": ({"w": entry("F32", [2], 8, 0)}, bytes(8), "data_offsets"),
    "offsets of three": ({"w": {**F, "data_offsets": [0, 8, 8]}}, bytes(8), "data_offsets"),
    "bytes disagree": ({"w": entry("F32", [3], 0, 8)}, bytes(8), "needs 12 bytes"),
    "truncated data": ({"w": F}, bytes(7), "truncated"),
    "trailing data": ({"w": F}, bytes(9), "unknown bytes"),
    "overlap": ({"a": F, "b": entry("F32", [2], 4, 12)}, bytes(12), "overlap"),
    "same bytes twice": ({"a": F, "b": F}, bytes(8), "overlap"),
    "control characters": ({"a\n\x1b[31m": F}, bytes(8), "not plain text"),
    "gap": ({"a": F, "b": entry("F32", [1], 12, 16)}, bytes(16), "gap"),
    "outside": ({"w": entry("F32", [2], 1 << 40, (1 << 40) + 8)}, bytes(8), "gap"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_is_one_clear_line(tmp_path: Path, name: str) -> None:
    header, data, message = HOSTILE[name]
    path = write(tmp_path / "hostile.safetensors", header, data)
    with pytest.raises(FormatError, match=message) as caught:
        load(path, activation="relu")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    save_file({"0.weight": np.ones((2, 3), np.float32)}, whole)
    data, path = whole.read_bytes(), tmp_path / "cut.safetensors"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError):
            load(path, activation="relu")


def test_header_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for claimed in (HEADER_LIMIT, HEADER_LIMIT + 1, 1 << 62, (1 << 64) - 1):
        path.write_bytes(struct.pack("<Q", claimed) + b"{}")
        with pytest.raises(FormatError, match="claims"):
            load(path)


def test_empty_tensor_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"0.weight": entry("F32", [0, 1 << 62], 0, 0)})
    with pytest.raises(FormatError, match="empty"):
        load(path, activation="relu")


def test_pickles_are_refused_by_content(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        path = tmp_path / "model.safetensors"
        path.write_bytes(pickle.dumps({"w": [1.0]}, protocol))
        with pytest.raises(FormatError, match="pickle, which can run code"):
            load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(FormatError, match="zip archive"):
        load(path)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580, 0x8B1F, 0x4B50])
def test_a_header_length_is_not_taken_for_a_signature(tmp_path: Path, length: int) -> None:
    header = json.dumps({"0.weight": entry("F32", [2, 1], 0, 8)})
    path = write(tmp_path / "model", header.ljust(length), bytes(8))
    assert load(path, activation="relu").output_shape == (2,)


def test_other_formats_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content, message in (
        (b"GGUF\x03\0\0\0", "8 bytes, expected at least 24"),
        (b"\x93NUMPY\x01\0", "array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"", "empty"),
    ):
        path.write_bytes(content)
        with pytest.raises((FormatError, UnsupportedError), match=message):
            load(path)
    with pytest.raises(FormatError, match="does not exist"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(FormatError, match=r"config\.json"):
        load(tmp_path)
    with pytest.raises(UsageError, match="unknown option colour"):
        load(path, colour="red")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 64))
def test_random_bytes_never_crash(text: bytes, size: int) -> None:
    with pytest.raises(GammaError):
        parse_header("x", text, size)
        raise FormatError("parsed")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "F16", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 1 << 64), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 1 << 64), max_size=3) | JSON,
    }
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), FIELDS | JSON, max_size=3), st.integers(0, 64))
def test_random_headers_never_crash(header: dict[str, Any], size: int) -> None:
    try:
        entries, _ = parse_header("x", json.dumps(header).encode(), size)
    except GammaError as error:
        assert str(error).isprintable()
    else:
        assert sum(e.end - e.begin for e in entries.values()) == size


LARGE = HEADER_LIMIT - 100
COSTLY = {
    "deep": b'{"a":' + b"[" * LARGE,
    "long integer": b'{"a":' + b"9" * LARGE + b"}",
    "long name": b'{"' + b"a" * LARGE + b'": 1}',
    "deep graph": b'{"__metadata__":{"gamma":"' + b"[" * LARGE + b'"}}',
    "many numbers": b'{"a":[' + b"1," * (LARGE // 2 - 10) + b"1]}",
    "many objects": b'{"a":[' + b"{}," * (LARGE // 3 - 10) + b"1]}",
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_header_is_refused_in_bounded_time_and_memory(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.safetensors", COSTLY[name])
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(FormatError):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 10  # tracing slows it down about tenfold
    assert peak < 300 << 20
