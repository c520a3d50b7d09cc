"""Input files: regular files only, whatever stands where one is expected, and odd .npy headers."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from gamma.errors import FormatError, GammaError, UsageError
from gamma.formats.detect import load
from gamma.formats.npy import read_npy
from gamma.formats.safetensors import open_tensors
from gamma.formats.vnnlib import read_vnnlib
from gamma.verification.suite import content_hash, read_list

DOORS = {
    "model": load,
    "property": read_vnnlib,
    "tensors": open_tensors,
    "list": read_list,
    "array": lambda path: read_npy(path, (2,)),
}


def strange(folder: Path, what: str) -> Path:
    path = folder / what
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        os.mkfifo(folder / "target")
        path.symlink_to(folder / "target")
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif what == "folder":
        path.mkdir()
    elif what == "circle":
        path.symlink_to(path)
    elif what == "under":
        (folder / "file").write_text("x")
        path = folder / "file" / "under"
    else:
        path = {"device": Path("/dev/zero"), "long": folder / ("n" * 5000),
                "nul": folder / "a\0b", "lines": folder / "a\nb", "surrogate": Path("/\ud800"),
                "nowhere": folder / "nowhere"}[what]  # fmt: skip
    return path


KINDS = ("pipe", "link", "socket", "folder", "circle", "under", "device", "long", "nul", "lines",
         "surrogate", "nowhere")  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_only_regular_files_are_opened(door: str, what: str, tmp_path: Path) -> None:
    path = strange(tmp_path, what)
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            DOORS[door](path)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "waits for another process"
    assert isinstance(caught[0], GammaError), caught
    text = str(caught[0])
    assert text.isprintable() and len(text) < 700
    if what not in ("nul", "lines", "surrogate", "long"):
        assert text.startswith(str(path))
    assert content_hash(path) is None


def npy(path: Path, header: str, data: bytes = bytes(16), version: int = 1) -> Path:
    text = header.encode("utf-8")
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + text + data)
    return path


def head(shape: str, descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


ODD = {
    "axes": head("(" + "1, " * 3000 + ")"),
    "axes_17": head("(" + "1, " * 17 + ")"),
    "huge_zero": head("(0, 4611686018427387904)"),
    "overflow": head("(4294967296, 4294967296)"),
    "bool": head("(True, 2)"),
    "bools": head("(True, True)"),
    "negative": head("(-1, -2)"),
    "digits": head("(" + "9" * 4000 + ",)"),
    "float": head("(2.0,)"),
    "text": head("'2'"),
    "nested": head("((2,),)"),
    "object": head("(2,)", "'|O'"),
    "complex": head("(1,)", "'<c16'"),
    "structured": head("(2,)", "[('a', '<f8'), ('b', '<f8')]"),
    "structured_long": head("(2,)", repr([(f"f{i}", "<f8") for i in range(300)])),
    "subarray": head("(1,)", "('<f8', (2,))"),
    "string": head("(2,)", "'<U2'"),
    "void": head("(2,)", "'|V8'"),
    "no_dtype": head("(2,)", "'<q9'"),
    "deep": "(" * 5000,
    "minus": "-" * 9000 + "1",
    "call": "__import__('os').getpid()",
    "keys": "{'descr': '<f8'}",
    "order": head("(2,)", order="'yes'"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_array_headers(name: str, tmp_path: Path) -> None:
    with pytest.raises(GammaError) as caught:
        read_npy(npy(tmp_path / "odd.npy", ODD[name]), (2,))
    text = str(caught.value)
    assert text.startswith(str(tmp_path)) and text.isprintable() and len(text) < 700


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npy"
    with path.open("wb") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little"))
        stream.truncate(3 << 30)
    with pytest.raises(FormatError, match="header of 2147483648 bytes"):
        read_npy(path, (2,))
    path.write_bytes(b"\x93NUMPY\x01\x00\xff")
    with pytest.raises(FormatError, match=r"is not a \.npy file"):
        read_npy(path, (2,))


def test_counts_are_compared_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    with pytest.raises(UsageError, match="the network takes"):
        read_npy(npy(path, head("(100000000,)")), (2,))
    with pytest.raises(FormatError, match="needs 16 bytes, it holds 15"):
        read_npy(npy(path, head("(2,)"), bytes(15)), (2,))
    with pytest.raises(FormatError, match="beyond 2\\^53"):
        np.save(path, np.array([-(2**63), 0]))
        read_npy(path, (2,))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", ">i8", "u1", "i1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_readable_arrays_keep_their_order(dtype: str, order: str, tmp_path: Path) -> None:
    x = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype=dtype, order=order)  # type: ignore[call-overload]
    for version in ((1, 0), (2, 0), (3, 0)):
        with (tmp_path / "x.npy").open("wb") as stream:
            np.lib.format.write_array(stream, x, version=version)
        read = read_npy(tmp_path / "x.npy", (6,))
        assert read.dtype == np.float64 and (read == x.astype(np.float64)).all()
