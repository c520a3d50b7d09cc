"""gamma's table of ONNX messages against the package that defines them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gamma.errors import UnsupportedError
from gamma.formats.detect import load
from gamma.formats.onnx import schema
from gamma.formats.onnx.outputs import cut

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
ENUMS = {("Attribute", "type"), ("Tensor", "data_location")}  # int32 here: any number may be there


def test_fields_are_those_of_onnx() -> None:
    pending, seen = [("Model", onnx.ModelProto.DESCRIPTOR)], set()
    while pending:
        name, theirs = pending.pop()
        if name in seen or name == "Opaque":
            continue
        seen.add(name)
        for field in schema.message(name).DESCRIPTOR.fields:
            other = theirs.fields_by_number[field.number]
            assert (field.name, field.is_repeated) == (other.name, other.is_repeated)
            if (name, field.name) not in ENUMS:
                assert field.type == other.type, field.full_name
            one_of, others = field.containing_oneof, other.containing_oneof
            assert (one_of and one_of.name) == (others and others.name and "value")
            if field.message_type is not None:
                pending.append((field.message_type.name, other.message_type))
    assert seen == set(schema.MESSAGES) - {"Opaque"}


def test_what_is_not_read_is_written_back() -> None:
    proto = onnx.load(DIGITS / "mlp.onnx")
    proto.producer_name, proto.graph.doc_string = "someone", "something"
    proto.metadata_props.add(key="a", value="b")
    node = proto.graph.node[-1]
    kept = onnx.ModelProto.FromString(cut(proto.SerializeToString(), "image", node.output[0]))
    assert kept.producer_name == "someone"
    assert kept.graph.doc_string == "something"
    assert kept.metadata_props[0].value == "b"
    assert [n.SerializeToString(deterministic=True) for n in kept.graph.node] == [
        n.SerializeToString(deterministic=True) for n in proto.graph.node
    ]


def test_a_newer_operator_set_needs_the_onnx_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    newer = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 29)])
    path = tmp_path / "newer.onnx"
    path.write_bytes(newer.SerializeToString())
    monkeypatch.setitem(sys.modules, "onnx.defs", None)
    with pytest.raises(UnsupportedError, match=r"set 29: gamma knows Relu as of set 28"):
        load(path)
    newer.opset_import[0].version = 28
    path.write_bytes(newer.SerializeToString())
    assert load(path).forward(np.array([-1.0, 2.0], np.float32)).tolist() == [0.0, 2.0]
