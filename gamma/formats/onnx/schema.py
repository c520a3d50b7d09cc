"""The messages of an ONNX file that gamma reads, and their decoder.

A table in the words of onnx.proto (https://github.com/onnx/onnx, syntax proto2): fields that are
not in it are kept as bytes and written back as they were. The classes live in a pool of their own,
so that the onnx package may be imported beside them in any version; importing that takes longer
than everything else of a small verdict, and 40 MB of disk.
"""

from __future__ import annotations

import functools
from typing import Any

# Message -> field number: (name, type); a type in capitals is a message of this table. "*" marks a
# repeated field, "|" one of the alternatives of the oneof called "value".
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Model": {
        7: ("graph", "Graph"),
        8: ("opset_import", "*OperatorSet"),
        25: ("functions", "*Function"),
    },
    "Function": {
        1: ("name", "string"),
        4: ("input", "*string"),
        5: ("output", "*string"),
        7: ("node", "*Node"),
        9: ("opset_import", "*OperatorSet"),
        10: ("domain", "string"),
        11: ("attribute_proto", "*Attribute"),
        13: ("overload", "string"),
    },
    "OperatorSet": {1: ("domain", "string"), 2: ("version", "int64")},
    "Graph": {
        1: ("node", "*Node"),
        5: ("initializer", "*Tensor"),
        11: ("input", "*ValueInfo"),
        12: ("output", "*ValueInfo"),
        15: ("sparse_initializer", "*Opaque"),
    },
    "Node": {
        1: ("input", "*string"),
        2: ("output", "*string"),
        3: ("name", "string"),
        4: ("op_type", "string"),
        5: ("attribute", "*Attribute"),
        7: ("domain", "string"),
        8: ("overload", "string"),
    },
    "Attribute": {
        1: ("name", "string"),
        2: ("f", "float"),
        3: ("i", "int64"),
        4: ("s", "bytes"),
        5: ("t", "Tensor"),
        6: ("g", "Graph"),
        7: ("floats", "*float"),
        8: ("ints", "*int64"),
        9: ("strings", "*bytes"),
        20: ("type", "int32"),
        21: ("ref_attr_name", "string"),
    },
    "Tensor": {
        1: ("dims", "*int64"),
        2: ("data_type", "int32"),
        3: ("segment", "Opaque"),
        4: ("float_data", "*float"),
        5: ("int32_data", "*int32"),
        7: ("int64_data", "*int64"),
        8: ("name", "string"),
        9: ("raw_data", "bytes"),
        10: ("double_data", "*double"),
        11: ("uint64_data", "*uint64"),
        13: ("external_data", "*Entry"),
        14: ("data_location", "int32"),
    },
    "Entry": {1: ("key", "string"), 2: ("value", "string")},
    "ValueInfo": {1: ("name", "string"), 2: ("type", "Type")},
    "Type": {
        1: ("tensor_type", "|TensorType"),
        4: ("sequence_type", "|Opaque"),
        5: ("map_type", "|Opaque"),
        7: ("opaque_type", "|Opaque"),
        8: ("sparse_tensor_type", "|Opaque"),
        9: ("optional_type", "|Opaque"),
    },
    "TensorType": {1: ("elem_type", "int32"), 2: ("shape", "Shape")},
    "Shape": {1: ("dim", "*Dimension")},
    "Dimension": {1: ("dim_value", "|int64"), 2: ("dim_param", "|string")},
    "Opaque": {},
}


def nested(message: str) -> dict[int, str]:
    """Numbers of the fields of a message that are messages themselves, and their kinds."""
    kinds = ((number, kind.lstrip("*|")) for number, (_, kind) in MESSAGES[message].items())
    return {number: kind for number, kind in kinds if kind in MESSAGES}


@functools.cache
def message(name: str) -> Any:
    """The protobuf class of a message of the table."""
    from google.protobuf import message_factory  # type: ignore[import-untyped]

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"gamma.{name}"))


@functools.cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="gamma", syntax="proto2")
    for name, fields in MESSAGES.items():
        entry = file.message_type.add(name=name)
        for number, (field, spelled) in fields.items():
            kind = spelled.lstrip("*|")
            label = kinds.LABEL_REPEATED if spelled[0] == "*" else kinds.LABEL_OPTIONAL
            made = entry.field.add(name=field, number=number, label=label)
            if kind in MESSAGES:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".gamma.{kind}"
            else:
                made.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if spelled[0] == "|":
                made.oneof_index = 0
        if any(spelled[0] == "|" for _, spelled in fields.values()):
            entry.oneof_decl.add(name="value")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def decode(data: bytes) -> Any:
    """A model's message. Raises ValueError when the bytes are none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return message("Model").FromString(data)
    except (DecodeError, RuntimeError, RecursionError) as error:
        raise ValueError(str(error)) from error
