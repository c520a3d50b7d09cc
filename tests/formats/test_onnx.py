"""Reading ONNX files: the benchmark networks, bad files, limits, options."""

from __future__ import annotations

import gzip
import json
import math
import os
import pickle
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gamma.errors import (
    FormatError,
    GammaError,
    ResourceError,
    UnsupportedError,
    UsageError,
)
from gamma.formats import load as load_any
from gamma.formats.onnx import load_onnx, parse_model, survey
from gamma.formats.onnx.affine import _normal
from tests.conftest import open_data
from tests.formats.onnx_models import Node, assert_same, load, model, runtime

F = np.float32
RELU: list[Node] = [("Relu", ["x"], ["y"], {})]
GEMM: list[Node] = [("Gemm", ["x", "w"], ["y"], {})]
WEIGHT = {"w": np.arange(12, dtype=F).reshape(4, 3)}


def networks(shared: Path) -> list[Path]:
    files = (shared / "vnncomp").glob("*/onnx/**/*.onnx*")
    return sorted(p.with_name(p.name.removesuffix(".gz")) for p in files)


def test_every_benchmark_network_loads(shared: Path) -> None:
    for path in networks(shared):
        if path.parts[-3] == "vit":
            with pytest.raises(UnsupportedError, match=r"MatMul.*inputs \[1, 3, ") as caught:
                load_any(path)
            assert "\n" not in str(caught.value)
        else:
            network = load_any(path)
            assert network.parameters > 0
            assert network.source is not None and network.source.kind == "onnx"


def test_forward_equals_reference_outputs(shared: Path) -> None:
    checked = 0
    for path in networks(shared):
        folder = shared / "vnncomp" / path.relative_to(shared / "vnncomp").parts[0]
        reference = folder / "reference_io" / f"{path.stem}.json"
        zipped = reference.with_name(reference.name + ".gz")
        if folder.name == "vit" or not (reference.exists() or zipped.exists()):
            continue
        network = load_onnx(path)
        for point in json.loads(open_data(reference))["points"]:
            x = np.array(point["x"], F).reshape(network.input_shape)
            expected = np.array(point["y"], F)
            found = network.forward(x).reshape(-1)
            assert np.abs(found - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3)
            checked += 1
    assert checked >= 200


def test_batches_and_networks_without_a_batch_axis() -> None:
    network = assert_same(model(RELU, (3,)), (3,))
    assert network.input_shape == (3,)
    for shape in ((1, 4), ("N", 4), (None, 4)):
        network = load(model(GEMM, shape, WEIGHT))
        assert network.input_shape == (4,) and network.output_shape == (3,)
    x = np.arange(8, dtype=F).reshape(2, 4)
    assert np.array_equal(network.forward(x), x @ WEIGHT["w"])
    network = load(model(GEMM, (5, 4), WEIGHT))
    assert network.input_shape == (5, 4) and network.output_shape == (5, 3)


def test_open_axes_need_an_input_shape() -> None:
    proto = model(RELU, ("N", "length"))
    with pytest.raises(UsageError, match=r"x: .*\[N, length\].*input_shape"):
        load(proto)
    assert load(proto, input_shape=(7,)).input_shape == (7,)
    assert load(proto, input_shape=(1, 7)).input_shape == (7,)
    with pytest.raises(UsageError, match="does not fit"):
        load(model(RELU, ("N", 3)), input_shape=(4,))
    with pytest.raises(UsageError):
        load(model(RELU, ("N",)))


def test_inputs_and_outputs() -> None:
    proto = model([("Relu", ["x"], ["y"], {}), ("Neg", ["x"], ["z"], {})], (1, 2), {},
                  outputs=("y", "z"))  # fmt: skip
    with pytest.raises(UsageError, match=r"y, z.*output="):
        load(proto)
    assert load(proto, output="z").forward(np.ones(2)).tolist() == [-1, -1]
    with pytest.raises(UsageError, match="not w"):
        load(proto, output="w")
    proto.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, [1, 2]))
    with pytest.raises(UnsupportedError, match=r"2 \(x, x2\), expected one"):
        load(proto, output="z")
    with pytest.raises(UnsupportedError, match="int64"):
        load(model(RELU, (1, 2), dtype=TensorProto.INT64))


def test_initialisers_may_also_be_inputs() -> None:
    proto = model(GEMM, (1, 4), WEIGHT, opset=8)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    assert load(proto).output_shape == (3,)


def test_metadata_says_how_to_run_the_file() -> None:
    found = load(model(GEMM, ("N", 4), WEIGHT)).metadata
    assert found == {"input": "x", "input_dims": (1, 4), "output": "y", "external_data": []}


def test_survey_lists_operators(tmp_path: Path) -> None:
    nodes: list[Node] = [("Relu", ["x"], ["a"], {}), ("Softmax", ["a"], ["y"], {})]
    path = tmp_path / "model.onnx"
    path.write_bytes(model(nodes, (1, 4)).SerializeToString())
    assert survey(path) == {"Relu": (1, True), "Softmax": (1, False)}


def test_unused_weights_become_notes() -> None:
    network = load(model(GEMM, (1, 4), {**WEIGHT, "idle": np.ones(3, F)}))
    assert len(network.notes) == 1 and "idle" in network.notes[0]


def test_half_precision_weights_widen_exactly() -> None:
    proto = model(GEMM, (1, 4))
    half = (np.arange(12).reshape(4, 3) / 8 - 0.3).astype(np.float16)
    proto.graph.initializer.append(numpy_helper.from_array(half, "w"))
    assert np.array_equal(load(proto).nodes[1].op.weight, half.T.astype(F))  # type: ignore[attr-defined]
    del proto.graph.initializer[:]
    bits = np.array([0x3F80, 0xC000, 0x0001], np.uint16)
    raw = helper.make_tensor("w", TensorProto.BFLOAT16, [1, 3], bits.tobytes(), raw=True)
    proto.graph.initializer.append(raw)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    weight = load(proto).nodes[1].op.weight.reshape(-1)  # type: ignore[attr-defined]
    assert weight.tolist() == [1.0, -2.0, 2.0**-133]


@pytest.mark.parametrize("dtype", [F, np.float64])
def test_typed_fields_are_read_as_raw_bytes_are(dtype: Any) -> None:
    values = np.array([[0.1, -2.5], [3e-40, 7]], dtype)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    proto = model(GEMM, (1, 2), dtype=kind)
    proto.graph.initializer.append(helper.make_tensor("w", kind, [2, 2], values.ravel().tolist()))
    assert np.array_equal(load(proto).nodes[1].op.weight, values.T)  # type: ignore[attr-defined]


def test_compressed_files(tmp_path: Path) -> None:
    data = model(GEMM, (1, 4), WEIGHT).SerializeToString()
    (tmp_path / "plain.onnx").write_bytes(data)
    (tmp_path / "packed.onnx.gz").write_bytes(gzip.compress(data))
    plain, packed = load_any(tmp_path / "plain.onnx"), load_any(tmp_path / "packed.onnx")
    assert plain.source and packed.source and plain.source.sha256 == packed.source.sha256


# What a hostile or damaged file gets: one line, quickly.


def refused(data: bytes, *words: str, kind: type[GammaError] = FormatError) -> None:
    started = time.perf_counter()
    with pytest.raises(kind) as caught:
        from gamma.formats.onnx import network_of

        network_of(parse_model(data, Path("bad.onnx")))
    text = str(caught.value)
    assert time.perf_counter() - started < 2.0
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
    refused(model(fill, (1, 4), shape).SerializeToString(), "limit", kind=ResourceError)
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
    refused(head + nodes, "protobuf entries", kind=ResourceError)
    refused(b"\x42\x00" * many, "protobuf entries", kind=ResourceError)
    refused(b"\x0b\x0c" + head + nodes, "not a readable")  # groups


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
    for opset in (6, 22, 0):
        data = model(RELU, (1, 4), opset=opset).SerializeToString()
        refused(data, f"operator set {opset}", "7 to 21", kind=UnsupportedError)
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
    started = time.perf_counter()
    load(model(nodes, (1, 4)))
    assert time.perf_counter() - started < 5.0


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


# Real semantics: constants carry their errors


def test_batch_normalisation_encloses_the_real_operator() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        gain, bias, mean = (float(F(v)) for v in rng.normal(0, 1, 3))
        variance = float(F(abs(rng.normal()) * 10.0 ** rng.integers(-6, 4)))
        if rng.random() < 0.3:
            # bias and mean·scale cancel almost entirely
            mean = float(F(bias / gain * math.sqrt(variance + 1e-5)))
        epsilon = float(F(1e-5))
        scale, scale_error, shift, shift_error = _normal(gain, bias, mean, variance, epsilon)
        low, high = root_bounds(Fraction(variance) + Fraction(epsilon))
        ends = sorted((Fraction(gain) / low, Fraction(gain) / high))
        assert Fraction(scale) - Fraction(scale_error) <= ends[0]
        assert ends[1] <= Fraction(scale) + Fraction(scale_error)
        assert scale_error <= abs(scale) * 2.0**-52
        shifts = sorted(Fraction(bias) - Fraction(mean) * e for e in ends)
        assert Fraction(shift) - Fraction(shift_error) <= shifts[0]
        assert shifts[1] <= Fraction(shift) + Fraction(shift_error)
        assert shift_error <= abs(shift) * 2.0**-52 + 2.0**-100


def root_bounds(value: Fraction) -> tuple[Fraction, Fraction]:
    """Fractions around √value, 600 bits apart from it."""
    scaled = (value.numerator << 1400) // value.denominator
    root = math.isqrt(scaled)
    return Fraction(root, 1 << 700), Fraction(root + 1, 1 << 700)


def test_a_division_carries_its_error() -> None:
    network = load(model([("Div", ["x", "c"], ["y"], {})], (1, 3), {"c": np.array([3, 4, 7], F)}))
    op: Any = network.nodes[1].op
    for scale, divisor in zip(op.scale.tolist(), (3, 4, 7), strict=True):
        assert abs(Fraction(scale) - Fraction(1, divisor)) <= Fraction(op.scale_error) * Fraction(
            1, divisor
        )
    exact: Any = load(model([("Div", ["x", "c"], ["y"], {})], (1, 3), {"c": F(4)})).nodes[1].op
    assert exact.scale_error == 0.0 and exact.scale == 0.25


def test_sums_of_constants_are_exact_or_carry_their_error() -> None:
    nodes: list[Node] = [("Add", ["a", "b"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})]
    op: Any = load(model(nodes, (1, 3), {"a": F(1), "b": F(2.0**-60)})).nodes[1].op
    shift, error = Fraction(op.shift.item()), Fraction(op.shift_error.item())
    assert abs(shift - 1 - Fraction(1, 2**60)) <= error
    op = load(model(nodes, (1, 3), {"a": F(1), "b": F(2.0**-40)})).nodes[1].op
    assert op.shift.item() == 1 + 2.0**-40 and op.shift_error == 0.0


def test_inexact_weights_are_refused() -> None:
    nodes: list[Node] = [("Div", ["w", "c"], ["v"], {}), ("MatMul", ["x", "v"], ["y"], {})]
    constants = {**WEIGHT, "c": F(3)}
    with pytest.raises(UnsupportedError, match=r"n1: MatMul.*computed inexactly"):
        load(model(nodes, (1, 4), constants))
    assert_same(model(nodes, (1, 4), {**WEIGHT, "c": F(0.25)}), (1, 4))


def test_casts_that_lose_digits_are_refused() -> None:
    narrowing = model([("Cast", ["x"], ["y"], {"to": 10})], (1, 4))
    with pytest.raises(UnsupportedError, match="float32 to float16"):
        load(narrowing)
    widening: list[Node] = [("Cast", ["x"], ["h"], {"to": 11}), ("Relu", ["h"], ["y"], {})]
    assert load(model(widening, (1, 4))).nodes[-1].op.name == "Relu"


def test_training_modes_are_refused() -> None:
    nodes: list[Node] = [("Dropout", ["x", "r", "t"], ["y"], {})]
    with pytest.raises(UnsupportedError, match="training"):
        load(model(nodes, (1, 4), {"r": F(0.5), "t": np.array(True)}))


def test_integers_agree_with_the_runtime_exactly() -> None:
    proto = model(GEMM, (1, 4), WEIGHT)
    x = np.array([[1, 2, 3, 4]], F)
    assert np.array_equal(load(proto).forward(x), runtime(proto, x))


def executions(nodes: list[Node], constants: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """A float32 execution of elementwise nodes, one rounding after another."""
    functions: dict[str, Any] = {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Sqrt": np.sqrt,
    }  # fmt: skip
    values = {**constants, "x": x}
    for op, inputs, outputs, _ in nodes:
        values[outputs[0]] = F(functions[op](*(values[i] for i in inputs)))
    return np.asarray(values["y"])


FOLDED: dict[str, list[Node]] = {
    "cancelling": [("Add", ["a", "b"], ["c"], {}), ("Sub", ["c", "b"], ["d"], {}),
                   ("Add", ["x", "d"], ["y"], {})],
    "product": [("Mul", ["a", "b"], ["c"], {}), ("Mul", ["c", "x"], ["y"], {})],
    "root": [("Sqrt", ["b"], ["c"], {}), ("Div", ["x", "c"], ["y"], {})],
    "several": [("Mul", ["a", "a"], ["c"], {}), ("Div", ["c", "b"], ["d"], {}),
                ("Sub", ["x", "d"], ["y"], {})],
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_computed_constants_are_charged_to_float32_executions(case: str) -> None:
    from gamma import Box, bounds

    rng = np.random.default_rng(8)
    for _ in range(60):
        constants = {"a": F(rng.normal()), "b": F(abs(rng.normal()) * 10.0 ** rng.integers(0, 7))}
        network = load(model(FOLDED[case], (1, 3), constants))
        x = rng.normal(0, 1, 3).astype(F)
        found = executions(FOLDED[case], constants, x).astype(np.float64)
        box = Box(x.astype(np.float64), x.astype(np.float64))
        box64 = bounds(network, box, method="ibp", guarantee="float32")
        assert (box64.lower.reshape(-1) <= found).all() and (found <= box64.upper.reshape(-1)).all()


def test_factors_of_many_rounded_steps_are_refused() -> None:
    nodes: list[Node] = [
        *(("Mul", ["a" if i == 0 else f"c{i}", "b"], [f"c{i + 1}"], {}) for i in range(8)),
        ("Mul", ["x", "c8"], ["y"], {}),
    ]
    with pytest.raises(UnsupportedError, match="several rounded steps"):
        load(model(nodes, (1, 3), {"a": F(0.1), "b": F(0.3)}))
