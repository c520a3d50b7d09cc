"""Damaged and hostile ONNX files: one line each, in bounded time and memory."""

from __future__ import annotations

import math
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from gamma.errors import (
    FormatError,
    GammaError,
    UnsupportedError,
)
from gamma.formats import limits
from gamma.formats.detect import load as load_any
from gamma.formats.onnx import load_onnx, parse_model
from gamma.network.graph import Builder
from tests.formats.onnx_models import Node, load, model

F = np.float32
RELU: list[Node] = [("Relu", ["x"], ["y"], {})]
GEMM: list[Node] = [("Gemm", ["x", "w"], ["y"], {})]
WEIGHT = {"w": np.arange(12, dtype=F).reshape(4, 3)}


def refused(data: bytes, *words: str, kind: type[GammaError] = FormatError) -> None:
    started = time.process_time()
    with pytest.raises(kind) as caught:
        from gamma.formats.onnx import network_of

        network_of(parse_model(data, Path("bad.onnx")))
    text = str(caught.value)
    assert time.process_time() - started < 2.0
    assert text.startswith("bad.onnx") and "\n" not in text
    for word in words:
        assert word in text, text


def test_truncated_files() -> None:
    data = model(GEMM, (1, 4), WEIGHT).SerializeToString()
    for end in range(len(data)):
        with pytest.raises(GammaError):
            load_bytes(data[:end])


def load_bytes(data: bytes) -> Any:
    from gamma.formats.onnx import network_of

    return network_of(parse_model(data, Path("bad.onnx")))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6), st.integers(0, 255))
def test_changed_bytes_never_escape(p: int, a: int, q: int, b: int) -> None:
    data = bytearray(model([*GEMM[:0], ("Gemm", ["x", "w"], ["h"], {"alpha": 0.5}),
                            ("Reshape", ["h", "s"], ["r"], {}), ("Slice", ["r", "t", "u"], ["y"],
                            {})], (1, 4), {**WEIGHT, "s": np.array([3, 1]), "t": np.array([0]),
                            "u": np.array([2])}).SerializeToString())  # fmt: skip
    data[p % len(data)] = a
    data[q % len(data)] = b
    try:
        load_bytes(bytes(data))
    except GammaError as error:
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_escape(data: bytes) -> None:
    with pytest.raises(GammaError):
        load_bytes(data)


def test_other_formats_are_refused_by_content() -> None:
    refused(pickle.dumps({"weight": [1.0]}), "pickle")
    refused(b"PK\x03\x04" + bytes(100), "zip archive")
    refused(b"", "ONNX")
    refused(b"hello world", "ONNX")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    weight = np.ones((4, 3), F)
    weight[2, 1] = value
    refused(model(GEMM, (1, 4), {"w": weight}).SerializeToString(), "w: entry [2, 1]", "finite")


def test_a_single_infinite_number_is_a_limit_but_no_weight() -> None:
    clip: list[Node] = [("Clip", ["x", "low", "high"], ["y"], {})]
    network = load(model(clip, (1, 3), {"low": F(0), "high": F(math.inf)}))
    assert network.nodes[1].op.name == "Relu"
    add: list[Node] = [("Add", ["x", "high"], ["y"], {})]
    refused(model(add, (1, 3), {"high": F(math.inf)}).SerializeToString(), "infinite")
    clip_nan = model(clip, (1, 3), {"low": F(0), "high": F(math.nan)})
    refused(clip_nan.SerializeToString(), "high")


def test_counts_are_checked_before_memory_is_taken() -> None:
    proto = model(GEMM, (1, 4), WEIGHT)
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend([1 << 31, 1 << 31])
    refused(proto.SerializeToString(), "w: shape", "holds 48")
    proto.graph.initializer[0].ClearField("raw_data")
    refused(proto.SerializeToString(), "holds 0")
    proto.graph.initializer[0].dims[0] = -1
    refused(proto.SerializeToString(), "w: tensor has shape")


@pytest.mark.parametrize(
    ("op", "constants"),
    [
        ("Expand", {"s": np.array([1 << 40, 1 << 22])}),
        ("Expand", {"s": np.array([1 << 30, 1])}),
        ("Tile", {"s": np.array([1 << 30, 1 << 30])}),
        ("Reshape", {"s": np.array([1 << 62, 4])}),
        ("Pad", {"s": np.array([0, 1 << 60, 0, 0])}),
    ],
)
def test_huge_shapes(op: str, constants: dict[str, Any]) -> None:
    proto = model([(op, ["x", "s"], ["y"], {})], (1, 4), constants)
    refused(proto.SerializeToString(), f"node n0: {op}", kind=GammaError)


def test_huge_constants_and_windows() -> None:
    shape = {"s": np.array([1 << 62])}
    fill: list[Node] = [("ConstantOfShape", ["s"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})]
    refused(model(fill, (1, 4), shape).SerializeToString(), "limit", kind=UnsupportedError)
    for options in ({"pads": [1 << 29] * 4}, {"dilations": [1 << 29] * 2}, {"strides": [0, 1]},
                    {"kernel_shape": [1 << 29, 1 << 29], "pads": [1 << 29] * 4}):  # fmt: skip
        for op in ("MaxPool", "AveragePool"):
            attributes = {"kernel_shape": [2, 2], **options}
            proto = model([(op, ["x"], ["y"], attributes)], (1, 1, 4, 4), opset=19)
            refused(proto.SerializeToString(), f"n0: {op}", kind=GammaError)
    doubling: list[Node] = [
        ("Concat", ["x" if i == 0 else f"h{i}"] * 2, [f"h{i + 1}"], {"axis": 1}) for i in range(62)
    ]
    proto = model([*doubling, ("Relu", ["h62"], ["y"], {})], (1, 4))
    refused(proto.SerializeToString(), "makes a tensor", kind=UnsupportedError)


def test_graphs_that_are_no_networks() -> None:
    def bad(nodes: list[Node], *words: str, **options: Any) -> None:
        refused(model(nodes, (1, 4), **options).SerializeToString(), *words)

    bad([("Add", ["x", "b"], ["a"], {}), ("Relu", ["a"], ["b"], {}), ("Neg", ["a"], ["y"], {})],
        "circle")  # fmt: skip
    bad([("Add", ["x", "ghost"], ["y"], {})], "node n0: reads 'ghost'")
    bad([*RELU, ("Neg", ["x"], ["y"], {})], "node n1", "'y'")
    bad([("Relu", ["x"], ["x"], {})], "'x'")
    bad([("Relu", ["x"], ["z"], {})], "y")
    bad([("Identity", ["c"], ["y"], {})], "does not depend", constants={"c": np.ones(3, F)})
    bad([("Relu", [], ["y"], {})], "input 0 is missing")
    bad([("Gemm", ["x", "w"], ["y"], {})], "n0: Gemm (inputs [1, 4], constant [5, 3])",
        constants={"w": np.ones((5, 3), F)})  # fmt: skip
    bad([("Concat", ["x"], ["y"], {"axis": 1.5})], "attribute axis")
    bad([("Transpose", ["x"], ["y"], {"perm": [0, 0]})], "perm")


def test_swarms_of_empty_messages() -> None:
    many = 3_000_000
    nodes = b"\x0a\x00" * many  # graph.node, empty
    size = len(nodes)
    head = b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128,
                            size >> 21])  # fmt: skip
    refused(head + nodes, "protobuf entries", kind=UnsupportedError)
    refused(b"\x42\x00" * many, "protobuf entries", kind=UnsupportedError)
    refused(b"\x0b\x0c" + head + nodes, "not a readable")  # groups


def test_nodes_are_counted_before_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any, **__: Any) -> int:
        raise AssertionError("a node was made")

    def chain(op: str, count: int, *more: str) -> bytes:
        names = ["x", *(f"h{i}" for i in range(count - 1)), "y"]
        nodes: list[Node] = [
            (op, [a, *more], [b], {}) for a, b in zip(names[:-1], names[1:], strict=True)
        ]
        constants = {"c": np.full(4, 2, F), "w": np.eye(4, dtype=F), "s": np.array([1, 4])}
        return bytes(model(nodes, (1, 4), constants).SerializeToString())

    monkeypatch.setattr(limits, "NODES", 8)
    for op, *more in (("Neg",), ("Mul", "c"), ("MatMul", "w"), ("Clip", "", "c"), ("Transpose",)):
        with monkeypatch.context() as patch:
            patch.setattr(Builder, "add", made)
            refused(chain(op, 9, *more), "more than 8 nodes", kind=UnsupportedError)
    for op, *more in (("Identity",), ("Dropout",), ("Reshape", "s")):
        assert len(load_bytes(chain(op, 40, *more)).nodes) == 1


def test_names_given_twice() -> None:
    proto = model(GEMM, (1, 4), WEIGHT)
    proto.graph.initializer.append(proto.graph.initializer[0])
    refused(proto.SerializeToString(), "w: initialiser named twice")
    proto = model(GEMM, (1, 4), WEIGHT)
    proto.graph.node[0].attribute.extend([helper.make_attribute("alpha", 1.0)] * 2)
    refused(proto.SerializeToString(), "attribute alpha is given twice")
    proto = model(GEMM, (1, 4), WEIGHT)
    proto.opset_import.append(helper.make_opsetid("", 12))
    refused(proto.SerializeToString(), "two versions")


def test_versions_and_domains() -> None:
    for opset in (6, 0):
        data = model(RELU, (1, 4), opset=opset).SerializeToString()
        refused(data, f"operator set {opset}", "7 or later", kind=UnsupportedError)
    proto = model(RELU, (1, 4))
    proto.graph.node[0].domain = "com.example"
    refused(proto.SerializeToString(), "com.example.Relu", kind=UnsupportedError)


def test_nodes_out_of_order_are_sorted() -> None:
    nodes: list[Node] = [("Neg", ["a"], ["y"], {}), ("Relu", ["x"], ["a"], {})]
    assert load(model(nodes, (1, 2))).forward(np.array([2.0, -1.0])).tolist() == [-2.0, 0.0]


def test_long_chains_are_quick() -> None:
    names = ["x", *(f"h{i}" for i in range(5000)), "y"]
    nodes: list[Node] = [
        (("Neg", "Relu", "Flatten")[i % 3], [a], [b], {})
        for i, (a, b) in enumerate(zip(names[:-1], names[1:], strict=True))
    ]
    started = time.process_time()
    load(model(nodes, (1, 4)))
    assert time.process_time() - started < 5.0


def test_messages_stay_one_line(tmp_path: Path) -> None:
    proto = model(RELU, (1, 4))
    proto.graph.node[0].op_type = "Soft\nmax\x1b[31m" + "x" * 10000
    path = tmp_path / "odd.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedError) as caught:
        load_any(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000


# External data


def external(folder: Path, location: str, offset: str = "0", length: str | None = None) -> Path:
    proto = model(GEMM, (1, 4))
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    stated = {"location": location, "offset": offset}
    for key, value in {**stated, **({"length": length} if length else {})}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_weights_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8) + WEIGHT["w"].tobytes())
    network = load_onnx(external(tmp_path, "w.bin", "8", "48"))
    assert np.array_equal(network.nodes[1].op.weight, WEIGHT["w"].T)  # type: ignore[attr-defined]
    assert network.metadata["external_data"] == ["w.bin"]


def test_external_weights_stay_in_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (inside / "short.bin").write_bytes(bytes(47))
    (inside / "nan.bin").write_bytes(np.full(12, np.nan, F).tobytes())
    os.symlink(tmp_path / "secret.bin", inside / "link.bin")
    cases = {
        "../secret.bin": "outside", str(tmp_path / "secret.bin"): "outside",
        "link.bin": "leads outside", "missing.bin": "missing", "": "location", ".": "outside",
        "short.bin": "has 47", "nan.bin": "entry [0, 0]", "a\0b": "location",
    }  # fmt: skip
    for location, word in cases.items():
        with pytest.raises(FormatError, match="w: ") as caught:
            load_onnx(external(inside, location))
        assert word in str(caught.value) and "\n" not in str(caught.value)
    for offset, length in (("-8", None), ("9" * 30, None), ("0", "40"), ("0", "1e9"), ("x", None)):
        with pytest.raises(FormatError, match="external data"):
            load_onnx(external(inside, "short.bin", offset, length))
