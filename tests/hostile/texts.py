"""Property files, arrays and lists of instances that are hostile or odd."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.formats.onnx_models import model
from tests.hostile.running import TIMEOUT, Case

F = np.float32
NAMES = "(declare-const X_0 Real)(declare-const X_1 Real)"
NAMES += "(declare-const Y_0 Real)(declare-const Y_1 Real)"
BOX = NAMES + "".join(f"(assert (<= X_{i} 1))(assert (>= X_{i} -1))" for i in range(2))
TWO = "(vnnlib-version <2.0>)(declare-network n (declare-input X Real [{}])"
TWO += "(declare-output Y Real [2]))"


def network(folder: Path) -> Path:
    """A plain network of two inputs and two outputs."""
    weight = {"w": np.array([[1, -1], [0.5, 2]], F), "v": np.array([[1, 0.5], [-1, 1]], F)}
    nodes = [("Gemm", ["x", "w"], ["h"], {}), ("Relu", ["h"], ["r"], {}),
             ("Gemm", ["r", "v"], ["y"], {})]  # fmt: skip
    path = folder / "network.onnx"
    path.write_bytes(model(nodes, (1, 2), weight).SerializeToString())
    return path


def case(name: str, text: Callable[[], str | bytes], answer: str = "refused",
         quick: bool = True, suffix: str = "vnnlib") -> Case:  # fmt: skip
    """A case that is one property file."""

    def write(folder: Path) -> list[list[str]]:
        path = folder / f"property.{suffix}"
        content = text()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        limit = ["--timeout", str(TIMEOUT), "--threads", "1"]
        return [["verify", str(network(folder)), "--property", str(path), *limit]]

    return Case(f"vnnlib_{name}", write, answer, quick)


def unsafe(condition: str) -> Callable[[], str]:
    """A property with one condition on the outputs."""
    return lambda: BOX + f"(assert {condition})"


def properties() -> Iterator[Case]:
    """VNN-LIB 1.0 and 2.0."""
    for sign in ("", "-"):
        for power in ("308", "309", "400", "2000", "-308", "-400", "-2000"):
            for less in ("<=", ">="):
                text = unsafe(f"({less} Y_0 {sign}1e{power})")
                quick = power in ("309", "-2000")
                yield case(f"threshold_{less}{sign}{power}", text, "answered", quick)
    yield case("threshold_2001", unsafe("(<= Y_0 1e20000)"), "either")
    yield case("coefficient", unsafe("(<= (* 1e1000 Y_0) (* 1e-1000 Y_1))"), "answered")
    yield case("input_huge", lambda: BOX + "(assert (<= X_0 1e400))(assert (<= Y_0 0))", "answered")
    wide = NAMES + "(assert (<= X_0 1e400))(assert (>= X_0 -1e400))(assert (<= X_1 1))"
    yield case("input_beyond", lambda: wide + "(assert (>= X_1 0))(assert (<= Y_0 0))")
    either = "(or (and (<= Y_0 1) (<= Y_1 2)) (and (<= Y_0 3) (<= Y_1 4)))"
    yield case("repeated", unsafe(f"(and {either * 13})"), "answered")
    yield case("repeated_apart", lambda: BOX + f"(assert {either})" * 13, "answered")
    spread = "".join(f"(or (<= Y_0 {i}) (<= Y_1 {i}))" for i in range(13))
    yield case("nested", unsafe(f"(and {spread})"), "answered")
    independent = "".join(f"(or (<= Y_0 {i}) (>= Y_0 {i + 999}))" for i in range(16))
    yield case("product", unsafe(f"(and {independent})"), "either")
    yield case("empty", lambda: "")
    yield case("comment", lambda: ";" * 10**6)
    yield case("depth", lambda: BOX + "(assert " + "(and " * 10**5)
    yield case("bytes", lambda: bytes(range(256)) * 1000)
    yield case("utf16", lambda: (BOX + "(assert (<= Y_0 1))").encode("utf-16"))
    yield case("bom", lambda: "\ufeff" + BOX + "(assert (<= Y_0 1))", "either")
    yield case("false", unsafe("(or)"))
    yield case("true", unsafe("(and)"))
    yield case("nan", unsafe("(<= Y_0 nan)"))
    yield case("infinity", unsafe("(<= Y_0 inf)"))
    yield case("hex", unsafe("(<= Y_0 0x10)"))
    yield case("underscore", unsafe("(<= Y_0 1_0)"))
    yield case("arabic", unsafe("(<= Y_0 ٣)"))
    yield case("product_of_variables", unsafe("(<= (* Y_0 Y_1) 1)"))
    yield case("no_box", lambda: NAMES + "(assert (<= Y_0 1))")
    yield case("crossed", lambda: BOX + "(assert (<= X_0 -2))(assert (<= Y_0 1))")
    yield case("gap", lambda: "(declare-const X_5 Real)" + BOX)
    yield case("pickle", lambda: b"\x80\x04\x95" + bytes(1000))
    yield case("bomb", lambda: gzip.compress(b"(" * (20 << 20), 1), suffix="vnnlib.gz")
    plain = (BOX + "(assert (<= Y_0 1))").encode()
    yield case("gzip", lambda: gzip.compress(plain), "answered", suffix="vnnlib.gz")
    yield case("gzip_cut", lambda: gzip.compress(plain)[:-4], suffix="vnnlib.gz")
    yield case("gzip_trailing", lambda: gzip.compress(plain) + b"x" * 99, "either",
               suffix="vnnlib.gz")  # fmt: skip
    yield case("variables", lambda: _variables(10**6), quick=False)
    yield case("regions", lambda: _regions(100_000), "answered", quick=False)
    body = "(assert (<= X[0] 1.0))(assert (>= X[0] 0.0))(assert (<= Y[0] 1.0))"
    for count in (1, 7, 1 << 40, 1 << 62):
        yield case(f"two_shape_{count}", lambda n=count: TWO.format(n) + body)  # type: ignore[misc]
    both = "".join(f"(assert (<= X[{i}] 1.0))(assert (>= X[{i}] 0.0))" for i in range(2))
    yield case("two", lambda: TWO.format(2) + both + "(assert (<= Y[0] 1.0))", "answered")
    yield case("two_again", lambda: TWO.format(2) * 2)
    yield case("two_deep", lambda: TWO.format(2) + "(assert " + "(not " * 10**5)
    damaged = (BOX + f"(assert {either})").encode()

    def write(folder: Path) -> list[list[str]]:
        rng, commands, made = np.random.default_rng(11), [], network(folder)
        for number in range(30):
            changed = bytearray(damaged)
            changed[int(rng.integers(0, len(damaged)))] = int(rng.integers(0, 256))
            path = folder / f"{number}.vnnlib"
            path.write_bytes(changed if number % 2 else damaged[: len(damaged) * number // 30])
            ibp = ["--method", "ibp", "--no-attack", "--timeout", str(TIMEOUT)]
            commands.append(["verify", str(made), "--property", str(path), *ibp])
        return commands

    yield Case("vnnlib_damaged", write, "either")


def _variables(count: int) -> str:
    names = "".join(f"(declare-const X_{i} Real)\n" for i in range(count))
    ends = "".join(f"(assert (<= X_{i} 0.5))\n(assert (>= X_{i} -0.5))\n" for i in range(count))
    return names + "(declare-const Y_0 Real)\n" + ends + "(assert (<= Y_0 0))\n"


def _regions(count: int) -> str:
    parts = "".join(
        f"(and (<= X_0 {i}.5) (>= X_0 {i}.25) (<= X_1 1) (>= X_1 0) (<= Y_0 -1))\n"
        for i in range(count)
    )
    return NAMES + f"(assert (or {parts}))"


def two(_: Path) -> list[bytes]:
    """Good properties of version 2.0."""
    ends = "".join(f"(assert (<= X[{i}] 1.0))(assert (>= X[{i}] -0.5))" for i in range(20))
    either = "(or (and (<= Y[0] 1.5) (> Y[1] 2.0)) (== (+ (* 2.0 Y[0]) X[1]) 3.0))"
    grid = TWO.format("2,3").replace("Y Real [2]", "Y float32 [1,2]")
    some = "".join(f"(assert (>= X[{i},{j}] 0.0))(assert (<= X[{i},{j}] 1.0))"
                   for i in range(2) for j in range(3))  # fmt: skip
    return [text.encode() for text in (TWO.format(20) + ends + f"(assert {either})",
                                       grid + some + "(assert (!= Y[0,1] 0.0))")]  # fmt: skip


def arrays() -> Iterator[Case]:
    """Files given as --input."""

    def one(name: str, data: Callable[[], bytes], answer: str = "refused") -> Case:
        def write(folder: Path) -> list[list[str]]:
            path = folder / "x.npy"
            path.write_bytes(data())
            question = ["--input", str(path), "--epsilon", "0.1", "--timeout", str(TIMEOUT)]
            return [["bounds", str(network(folder)), *question]]

        return Case(f"npy_{name}", write, answer)

    def head(shape: str, descr: str = "'<f8'") -> str:
        return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"

    def npy(header: str, data: bytes = bytes(16)) -> Callable[[], bytes]:
        text = header.encode()
        return lambda: b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data

    def saved(array: np.ndarray) -> Callable[[], bytes]:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        return stream.getvalue

    yield one("good", saved(np.zeros((1, 2), F)), "answered")
    yield one("integers", saved(np.array([1, 0])), "answered")
    yield one("nan", saved(np.array([np.nan, 0])))
    yield one("infinite", saved(np.array([np.inf, 0])))
    yield one("largest", saved(np.array([1.7e308, 0])), "either")
    yield one("object", saved(np.array([None, {}])))
    yield one("text", saved(np.array(["1", "2"])))
    yield one("axes", npy(head("(" + "1," * 4000 + ")")))
    yield one("true", npy(head("(True, 2)")))
    yield one("overflow", npy(head(f"({1 << 32}, {1 << 32})")))
    yield one("zero", npy(head(f"(0, {1 << 62})")))
    yield one("deep", npy("(" * 9000))
    yield one("code", npy("__import__('os').abort()"))
    yield one("empty", lambda: b"")
    yield one("text_file", lambda: b"0.0 0.0\n")
    yield one("large", npy(head("(2,)"), bytes(1 << 20)), "either")

    def npz(folder: Path) -> list[list[str]]:
        path = folder / "x.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", bytes(1 << 24))
        return [["bounds", str(network(folder)), "--input", str(path), "--epsilon", "0.1"]]

    yield Case("npz_bomb", npz)


def lists() -> Iterator[Case]:
    """Instance lists of ``gamma suite``, and things that are no files."""

    def one(name: str, text: Callable[[], bytes], answer: str = "either") -> Case:
        def write(folder: Path) -> list[list[str]]:
            network(folder)
            (folder / "p.vnnlib").write_text(BOX + "(assert (<= Y_0 -9))")
            path = folder / "list.csv"
            path.write_bytes(text())
            return [["suite", str(path), "-o", str(folder / "results.csv"), "--jobs", "1"]]

        return Case(f"suite_{name}", write, answer)

    yield one("good", lambda: b"network.onnx,p.vnnlib,10\n", "answered")
    yield one("empty", lambda: b"")
    yield one("columns", lambda: b"network.onnx\n", "refused")
    yield one("nul", lambda: b"network.onnx,p.vnnlib\0,10\n")
    yield one("missing", lambda: b"none.onnx,p.vnnlib,10\n")
    yield one("limit", lambda: b"network.onnx,p.vnnlib,-1\n", "refused")
    yield one("limit_nan", lambda: b"network.onnx,p.vnnlib,nan\n", "refused")
    yield one("quote", lambda: b'"' + b"x" * 200_000 + b"\n")
    yield one("binary", lambda: bytes(range(256)) * 100)
    yield one("device", lambda: b"/dev/zero,p.vnnlib,10\n")

    def pipe(folder: Path) -> list[list[str]]:
        os.mkfifo(folder / "pipe.onnx")
        return [["inspect", str(folder / "pipe.onnx")]]

    yield Case("path_pipe", pipe)
    for name, path in {"device": "/dev/zero", "folder": "/", "long": "n" * 5000 + ".onnx",
                       "terminal": "/dev/tty", "lines": "a\nb.onnx"}.items():  # fmt: skip
        yield Case(f"path_{name}", lambda _, path=path: [["inspect", path]])  # type: ignore[misc]


def cases() -> Iterator[Case]:
    """All of them."""
    yield from properties()
    yield from arrays()
    yield from lists()
