"""The GGUF reader: what gguf-py writes is read alike; what is damaged is one line, soon."""

from __future__ import annotations

import json
import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

from gamma.cli.main import main
from gamma.errors import FormatError, GammaError, UnsupportedError
from gamma.formats.gguf import ArrayValue, open_gguf
from gamma.formats.gguf.types import TYPES
from gamma.formats.gguf.values import MOST_STRINGS

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, entries: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + entries


def tensor(name: str | bytes, sizes: list[int], kind: int = 0, offset: int = 0) -> bytes:
    head = text(name) + struct.pack("<I", len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return head + struct.pack("<IQ", kind, offset)


def build(
    keys: list[bytes],
    tensors: list[bytes],
    data: bytes = bytes(64),
    counts: tuple[int, int] | None = None,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A file of these parts; ``counts`` (tensors, keys) lie where they are given."""
    n, k = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, n, k) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


W = tensor("w", [4, 2])
NAME = key("general.architecture", STRING, text("qwen3"))


def write_reference(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A file by gguf-py with every type of value and many tensor types."""
    rng = np.random.default_rng(0)
    writer = GGUFWriter(str(path), "qwen3")
    writer.add_uint32("qwen3.block_count", 2)
    writer.add_float32("qwen3.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_bool("a.bool", True)
    for name in ("uint8", "int8", "uint16", "int16", "int32", "uint64", "int64", "float64"):
        getattr(writer, f"add_{name}")(f"a.{name}", 3)
    writer.add_string("a.text", "schön")
    writer.add_array("tokenizer.ggml.tokens", ["a", "", "ü"])
    writer.add_array("tokenizer.ggml.scores", [1.5, -2.0])
    writer.add_array("a.flags", [True, False])
    given = {}
    for kind in (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0, GGMLQuantizationType.BF16):
        values = rng.standard_normal((6, 64)).astype(np.float32)
        raw = quantize(values, kind)
        writer.add_tensor(f"w.{kind.name}", raw, raw_dtype=kind)
        given[f"w.{kind.name}"] = dequantize(raw, kind)
    for name, values in (
        ("f32", rng.standard_normal((2, 3, 5)).astype(np.float32)),
        ("f16", rng.standard_normal(7).astype(np.float16)),
        ("f64", rng.standard_normal((3, 4))),
    ):
        writer.add_tensor(name, values)
        given[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return given


def test_what_gguf_py_writes_is_read(tmp_path: Path) -> None:
    given = write_reference(tmp_path / "x.gguf")
    found = open_gguf(tmp_path / "x.gguf")
    assert list(found) == list(given) and len(found) == len(given)
    for name, values in given.items():
        assert found[name].shape == values.shape and found[name].mapped
        assert np.array_equal(found[name].array(), values)
    reference = GGUFReader(tmp_path / "x.gguf")
    for name, field in reference.fields.items():
        if not name.startswith("GGUF."):
            value = found.metadata[name].value
            read = list(value) if isinstance(value, ArrayValue) else value
            assert read == field.contents(), name
    assert found.architecture == "qwen3" and found.whole("qwen3.block_count") == 2
    assert found.number("qwen3.attention.layer_norm_rms_epsilon") == np.float32(1e-6)
    assert found.metadata["a.int16"].type == "int16"
    assert found.metadata["tokenizer.ggml.tokens"].type == "array of string"


def test_types_are_those_of_ggml() -> None:
    for number, (name, weights, size) in TYPES.items():
        kind = GGMLQuantizationType(number)
        assert (kind.name.lower(), GGML_QUANT_SIZES[kind]) == (name, (weights, size))


def test_accessors_name_the_key(tmp_path: Path) -> None:
    write_reference(tmp_path / "x.gguf")
    found = open_gguf(tmp_path / "x.gguf")
    for read, name in (
        (found.whole, "no.key"),
        (found.whole, "a.text"),
        (found.whole, "a.bool"),
        (found.whole, "a.float64"),
        (found.number, "a.flags"),
        (found.text, "a.int8"),
    ):
        with pytest.raises(FormatError, match=f"x.gguf: {name}: .*expected a"):
            read(name)


def test_offsets_may_be_shared(tmp_path: Path) -> None:
    data = np.arange(16, dtype=np.float32)
    parts = [tensor("a", [4, 4]), tensor("b", [4, 4]), tensor("c", [8], 0, 32)]
    (tmp_path / "x.gguf").write_bytes(build([NAME], parts, data.tobytes()))
    found = open_gguf(tmp_path / "x.gguf")
    assert np.array_equal(found["a"].array(), data.reshape(4, 4))
    assert np.array_equal(found["b"].array(), data.reshape(4, 4))
    assert np.array_equal(found["c"].array(), data[8:])


def test_a_shape_has_its_fastest_axis_last(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(build([], [tensor("a", [5, 3])], bytes(60), version=2))
    assert open_gguf(tmp_path / "x.gguf")["a"].shape == (3, 5)


def test_another_alignment(tmp_path: Path) -> None:
    keys = [key("general.alignment", U32, struct.pack("<I", 64))]
    raw = build(keys, [tensor("a", [1], 0, 64)], bytes(64) + struct.pack("<f", 2.5), alignment=64)
    (tmp_path / "x.gguf").write_bytes(raw)
    assert open_gguf(tmp_path / "x.gguf")["a"].array() == 2.5


def test_integers_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(build([], [tensor("a", [4], 26)]))
    with pytest.raises(UnsupportedError, match="a: type i32 is not a weight"):
        open_gguf(tmp_path / "x.gguf")["a"]


def align(value: bytes, kind: int = U32) -> bytes:
    return build([key("general.alignment", kind, value)], [W])


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes"),
    "magic only": (b"GGUF", "4 bytes"),
    "another magic": (b"GGUX" + bytes(40), "expected b'GGUF'"),
    "version 0": (build([], [], version=0), "version: found 0"),
    "version 4": (build([], [], version=4), "version: found 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(40), "big-endian"),
    "version 1": (build([], [], version=1), "version 1"),
    "2^63 tensors": (build([], [], counts=(1 << 63, 0)), "tensor count: claims"),
    "2^64-1 keys": (build([], [], counts=(0, (1 << 64) - 1)), "key count: claims"),
    "many keys": (build([], [], bytes(1 << 21), counts=(0, 100_000)), "at most 65536"),
    "key of 2^63 bytes": (
        build([struct.pack("<Q", 1 << 63) + bytes(16)], [], counts=(0, 1)),
        "key 0: needs 9223372036854775808 bytes",
    ),
    "array of 2^63": (
        build([key("a", ARRAY, array(U32, 1 << 63))], []),
        "a: claims 9223372036854775808 entries",
    ),
    "array whose bytes wrap": (
        build([key("a", ARRAY, array(10, 1 << 61))], []),
        "a: claims 2305843009213693952 entries",
    ),
    "2^60 strings": (build([key("a", ARRAY, array(STRING, 1 << 60))], []), "a: claims"),
    "2 MB of empty strings, too many claimed": (
        build([key("a", ARRAY, array(STRING, 1 << 19, bytes(2 << 20)))], []),
        "a: claims 524288 entries",
    ),
    "a string of 2^63 bytes in an array": (
        build([key("a", ARRAY, array(STRING, 2, text("x") + struct.pack("<Q", 1 << 63)))], []),
        "ends beyond the header",
    ),
    "strings that run out": (
        build([key("a", ARRAY, array(STRING, 4, text("x" * 60)))], [], b""),
        "a: ends before its 4 strings",
    ),
    "strings without end": (
        build([key("a", ARRAY, array(STRING, MOST_STRINGS + 1))], [], bytes(8 * MOST_STRINGS + 64)),
        "more than 2000000 strings",
    ),
    "nested arrays": (
        build([key("a", ARRAY, array(ARRAY, 1, array(ARRAY, 1) * 1000))], []),
        "an array of arrays",
    ),
    "array of no known type": (build([key("a", ARRAY, array(13, 1))], []), "value type 13"),
    "value of no known type": (build([key("a", 99, bytes(8))], []), "value type 99"),
    "boolean of 2": (build([key("a", BOOL, b"\2")], []), "boolean is 2"),
    "booleans of 2": (build([key("a", ARRAY, array(BOOL, 2, b"\1\2"))], []), "neither 0 nor 1"),
    "key twice": (build([NAME, NAME], []), "this key is there twice"),
    "key is not utf-8": (build([key(b"\xff\xfe", U32, bytes(4))], []), "is not UTF-8"),
    "key with a line": (build([key("a\nb", U32, bytes(4))], []), "plain text"),
    "empty key": (build([key("", U32, bytes(4))], []), "plain text"),
    "long key": (build([key("k" * 70_000, U32, bytes(4))], []), "plain text"),
    "text is not utf-8": (build([key("a", STRING, text(b"\xc3\x28"))], []), "is not UTF-8"),
    "texts without end": (
        build([key("a", STRING, text(b"x" * (17 << 20)))], []),
        "more than 16777216 bytes",
    ),
    "alignment 0": (align(struct.pack("<I", 0)), "is 0, expected a power of two"),
    "alignment 48": (align(struct.pack("<I", 48)), "is 48"),
    "alignment 2^31": (align(struct.pack("<I", 1 << 31)), "is 2147483648"),
    "alignment is text": (align(text("32"), STRING), "is string, expected uint32"),
    "alignment is signed": (align(struct.pack("<i", -32), 5), "is int32, expected uint32"),
    "2^32-1 axes": (
        build([], [text("w") + struct.pack("<I", (1 << 32) - 1)], bytes(64), (1, 0)),
        "w: has 4294967295 axes",
    ),
    "no axes": (build([], [tensor("w", [])]), "w: has 0 axes"),
    "five axes": (build([], [tensor("w", [1] * 5)]), "w: has 5 axes"),
    "an empty tensor": (build([], [tensor("w", [4, 0])]), "w: tensor is empty"),
    "a product that wraps to 0": (
        build([], [tensor("w", [1 << 32, 1 << 32])]),
        "w: f32 of shape",
    ),
    "a product that wraps to 4": (
        build([], [tensor("w", [(1 << 62) + 1, 4])]),
        "w: f32 of shape",
    ),
    "an offset that wraps": (
        build([], [tensor("w", [8], 0, (1 << 64) - 32)]),
        "at offset 18446744073709551584",
    ),
    "an offset beyond the file": (build([], [tensor("w", [8], 0, 64)]), "at offset 64"),
    "a tensor that ends beyond the file": (build([], [tensor("w", [17])]), "takes 68 bytes"),
    "a misaligned offset": (build([], [tensor("w", [4], 0, 4)]), "no multiple of the alignment"),
    "tensor twice": (build([], [W, W]), "two tensors of this name"),
    "tensor name is not utf-8": (build([], [tensor(b"\xff", [4])]), "is not UTF-8"),
    "tensor name of controls": (build([], [tensor("\x1b[2J", [4])]), "plain text"),
    "unknown tensor type": (build([], [tensor("w", [4], 77)]), "tensor type 77"),
    "a removed tensor type": (build([], [tensor("w", [32], 4)]), "tensor type 4"),
    "rows that are no blocks": (build([], [tensor("w", [33], 8)]), "blocks of 32"),
    "tensors without data": (build([], [W], b""), "holds 0 bytes of data"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(tmp_path: Path, name: str) -> None:
    raw, message = HOSTILE[name]
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises((FormatError, UnsupportedError), match=message) as caught:
            open_gguf(path)
        seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert line.isprintable() and line.startswith(f"{path}: ") and len(line) < 400
    assert seconds < 2 and peak < 50e6


def test_2_mb_of_empty_strings_are_skipped(tmp_path: Path) -> None:
    count = 1 << 18
    raw = build([key("a", ARRAY, array(STRING, count, bytes(8 * count)))], [W])
    (tmp_path / "x.gguf").write_bytes(raw)
    began = time.process_time()
    found = open_gguf(tmp_path / "x.gguf").metadata["a"].value
    assert time.process_time() - began < 2
    assert isinstance(found, ArrayValue) and len(found) == count


def test_strings_of_an_array_are_checked_when_they_are_read(tmp_path: Path) -> None:
    entries = text("good") + text(b"\xff")
    (tmp_path / "x.gguf").write_bytes(build([key("a", ARRAY, array(STRING, 2, entries))], []))
    found = open_gguf(tmp_path / "x.gguf").metadata["a"].value
    assert isinstance(found, ArrayValue)
    with pytest.raises(FormatError, match=r"a\[1\]: .* is not UTF-8"):
        list(found)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_reference(path)
    whole = path.read_bytes()
    used = max(info.end for info in open_gguf(path).tensors.values())
    for length in [*range(0, 1200, 7), *range(1200, used, 211), used - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            open_gguf(path)


def test_damaged_bytes_end_in_a_file_or_an_error(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.gguf", np.random.default_rng(0)
    write_reference(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(200):
        raw = whole.copy()
        where = rng.integers(0, 1200, rng.integers(1, 4))
        raw[where] = rng.choice([0, 1, 127, 128, 255, 10], len(where))
        path.write_bytes(raw.tobytes())
        try:
            found = open_gguf(path)
            for name in found.tensors:
                assert found.tensors[name].end <= len(raw)
        except GammaError as error:
            assert str(error).isprintable()


def test_the_command_line_says_what_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reference(tmp_path / "x.gguf")
    assert main(["inspect", str(tmp_path / "x.gguf")]) == 0
    text = capsys.readouterr().out
    for part in ("qwen3", "qwen3.block_count", "uint32", "w.Q8_0", "q8_0", "6×64", "bf16"):
        assert part in text
    assert main(["inspect", "--json", str(tmp_path / "x.gguf")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metadata"]["qwen3.block_count"] == {"type": "uint32", "value": 2}
    assert found["metadata"]["a.flags"] == {"type": "array of bool", "count": 2}
    assert found["tensors"][0]["shape"] == [6, 64]
    (tmp_path / "bad.gguf").write_bytes(HOSTILE["nested arrays"][0])
    assert main(["inspect", str(tmp_path / "bad.gguf")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for name, message in (("pipe.gguf", "is a pipe"), ("none.gguf", "no such file")):
        with pytest.raises(FormatError, match=message):
            open_gguf(tmp_path / name)
