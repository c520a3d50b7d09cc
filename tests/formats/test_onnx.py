"""Reading ONNX files: the benchmark networks, shapes, options."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gamma.errors import (
    UnsupportedError,
    UsageError,
)
from gamma.formats.detect import load as load_any
from gamma.formats.onnx import load_onnx, survey
from tests.conftest import open_data
from tests.formats.onnx_models import Node, assert_same, load, model

F = np.float32
RELU: list[Node] = [("Relu", ["x"], ["y"], {})]
GEMM: list[Node] = [("Gemm", ["x", "w"], ["y"], {})]
WEIGHT = {"w": np.arange(12, dtype=F).reshape(4, 3)}


def networks(shared: Path) -> list[Path]:
    files = (shared / "vnncomp").glob("*/onnx/**/*.onnx*")
    return sorted(p.with_name(p.name.removesuffix(".gz")) for p in files)


def test_every_benchmark_network_loads(shared: Path) -> None:
    for path in networks(shared):
        network = load_any(path)
        assert network.parameters > 0
        assert network.source is not None and network.source.kind == "onnx"


def test_forward_equals_reference_outputs(shared: Path) -> None:
    checked = 0
    for path in networks(shared):
        folder = shared / "vnncomp" / path.relative_to(shared / "vnncomp").parts[0]
        reference = folder / "reference_io" / f"{path.stem}.json"
        zipped = reference.with_name(reference.name + ".gz")
        if not (reference.exists() or zipped.exists()):
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
    with pytest.raises(UsageError, match="no value is called w"):
        load(proto, output="w")
    proto.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, [1, 2]))
    assert load(proto, output="z").input_shape == (2,)
    proto.graph.node.append(helper.make_node("Add", ["z", "x2"], ["s"]))
    with pytest.raises(UnsupportedError, match=r"2 \(x, x2\), expected one"):
        load(proto, output="s")
    with pytest.raises(UnsupportedError, match="string"):
        load(model(RELU, (1, 2), dtype=TensorProto.STRING))


def test_initialisers_may_also_be_inputs() -> None:
    proto = model(GEMM, (1, 4), WEIGHT, opset=8)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    assert load(proto).output_shape == (3,)


def test_metadata_says_how_to_run_the_file() -> None:
    found = load(model(GEMM, ("N", 4), WEIGHT)).metadata
    assert found == {"input": "x", "input_dims": (1, 4), "output": "y", "left_out": (),
                     "input_dtype": "float32", "element_types": ["float32"],
                     "external_data": [], "fixed_batch": 0, "real_only": []}  # fmt: skip


def test_survey_lists_operators(tmp_path: Path) -> None:
    nodes: list[Node] = [("Relu", ["x"], ["a"], {}), ("Hardmax", ["a"], ["y"], {})]
    path = tmp_path / "model.onnx"
    path.write_bytes(model(nodes, (1, 4)).SerializeToString())
    assert survey(path) == {"Relu": (1, True), "Hardmax": (1, False)}


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
