"""Reading bytes: plain and gzip by content, truncation, trailing data, bombs."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma.errors import FormatError, GammaError
from gamma.formats import compressed
from gamma.formats.compressed import read_bytes

DATA = bytes(range(256)) * 700


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_gzip_is_recognised_by_content(tmp_path: Path, name, packed):
    (tmp_path / name).write_bytes(gzip.compress(DATA) if packed else DATA)
    found = read_bytes(tmp_path / name)
    assert found.data == DATA
    assert found.path == tmp_path / name
    assert found.sha256 == hashlib.sha256(DATA).hexdigest()


def test_the_plain_name_finds_the_packed_file_and_prefers_the_plain_one(tmp_path: Path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"packed"))
    assert read_bytes(tmp_path / "a").data == b"packed"
    (tmp_path / "a").write_bytes(b"plain")
    assert read_bytes(tmp_path / "a").data == b"plain"


def test_members_are_joined_and_empty_files_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(gzip.compress(DATA) + gzip.compress(b"") + gzip.compress(b"end"))
    assert read_bytes(tmp_path / "a").data == DATA + b"end"
    (tmp_path / "b").write_bytes(b"")
    assert read_bytes(tmp_path / "b").data == b""


def test_a_small_file_takes_little_memory(tmp_path: Path):
    (tmp_path / "a").write_bytes(DATA)
    tracemalloc.start()
    try:
        read_bytes(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 10 * len(DATA)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda packed: packed[:-5], "ends too early"),
        (lambda packed: packed[:20], "ends too early"),
        (lambda packed: packed[:2], "ends too early"),
        (lambda packed: packed + b"abc", "3 bytes follow"),
        (lambda packed: packed[:-8] + b"\0" * 8, "damaged"),
        (lambda packed: packed[:2] + b"\xff" + packed[3:], "damaged"),
    ],
)
def test_damage_is_one_clear_line(tmp_path: Path, spoil, message):
    (tmp_path / "a").write_bytes(spoil(gzip.compress(DATA)))
    with pytest.raises(FormatError, match=message) as error:
        read_bytes(tmp_path / "a")
    assert str(error.value).startswith(f"{tmp_path / 'a'}: gzip: ")


def test_limits_are_checked_while_inflating(tmp_path: Path, monkeypatch):
    (tmp_path / "a").write_bytes(gzip.compress(DATA))
    assert read_bytes(tmp_path / "a", len(DATA)).data == DATA
    with pytest.raises(FormatError, match="expands to more than"):
        read_bytes(tmp_path / "a", len(DATA) - 1)
    (tmp_path / "b").write_bytes(DATA)
    with pytest.raises(FormatError, match="is larger than"):
        read_bytes(tmp_path / "b", len(DATA) - 1)
    monkeypatch.setattr(compressed, "RATIO_FREE", 1000)
    (tmp_path / "c").write_bytes(gzip.compress(b"\0" * 10**6))
    with pytest.raises(FormatError, match="expands to more than"):
        read_bytes(tmp_path / "c")


@pytest.mark.parametrize("name", ["", ".", "absent", "a\0b"])
def test_paths_that_are_no_file(tmp_path: Path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError):
        read_bytes(name)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 255))
def test_flipped_bytes_raise_only_gamma_errors(tmp_path_factory, data, place, value):
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[place % len(packed)] = value
    path = tmp_path_factory.getbasetemp() / "flipped.gz"
    path.write_bytes(bytes(packed))
    try:
        read_bytes(path)
    except GammaError as error:
        assert "\n" not in str(error)
