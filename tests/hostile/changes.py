"""Valid files changed by the rules of their format: what `make fuzz` gives to the readers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

NUMBERS = (0, 1, -1, 2, 7, 16, 17, 255, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1,
           -(1 << 63))  # fmt: skip
WORDS = (b"0", b"-1", b"1e400", b"1e-400", b"1e2001", b"9" * 40, b"9" * 5000, b"nan", b"(", b")",
         b"(and", b"(or", b"(<=", b"X_0", b"Y_0", b"Y_1", b"X[0]", b"X[1,0]", b"[", b"]", b",",
         b"Int", b";", b"\n", b"\0", "é".encode())  # fmt: skip
CELLS = (b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"9" * 400, b'"', b'"a\nb"', b"#", b"\0", b",",
         b"p.vnnlib", b"../p.vnnlib", b"x" * 5000, b"\xff", "é".encode())  # fmt: skip

Change = Callable[[bytes, random.Random], bytes]


def changed(rule: Change, data: bytes, rng: random.Random) -> bytes:
    """One to three changes of a file, by the rule of its format or of bytes."""
    for _ in range(rng.randint(1, 3)):
        try:
            data = (rule if rng.random() < 0.7 else in_bytes)(data, rng)
        except (DecodeError, ValueError, KeyError, IndexError, TypeError):
            data = in_bytes(data, rng)
    return data


def in_bytes(data: bytes, rng: random.Random) -> bytes:
    """A byte, a piece repeated, moved or cut out."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(8))
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 2, 8, 64)))
    piece = data[start:stop]
    return rng.choice((
        data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :],
        data[:start] + piece * rng.choice((2, 3, 200)) + data[stop:],
        data[:start] + data[stop:],
        data[:start],
    ))  # fmt: skip


def in_property(data: bytes, rng: random.Random) -> bytes:
    """Words of a property replaced, doubled, swapped; brackets kept apart from them."""
    words = re.findall(rb"[()]|[^\s()]+|\s+", data)
    at = rng.randrange(len(words))
    words[at : at + 1] = rng.choice(([rng.choice(WORDS)], [words[at]] * 2, [],
                                     [words[rng.randrange(len(words))]]))  # fmt: skip
    if rng.random() < 0.2:
        body = re.findall(rb"\(assert (.*?)\)\)", data, re.DOTALL)
        again = rng.choice(body) + b")" if body else b"(<= Y_0 0)"
        joined = rng.choice((b"and", b"or"))
        words.append(b"(assert (" + joined + b" " + (again + b" ") * rng.choice((2, 9)) + b"))")
    return b"".join(words)


def in_protobuf(data: bytes, rng: random.Random) -> bytes:
    """A field of some message of an ONNX model set, cleared, repeated or taken from elsewhere."""
    import onnx

    if rng.random() < 0.2:
        return composed(rng)
    proto = onnx.ModelProto.FromString(data)
    everything: list[Any] = [proto]
    for message in everything:
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                everything.extend(value if field.is_repeated else [value])
    message = rng.choice(everything)
    _set_field(message, rng.choice(message.DESCRIPTOR.fields), everything, rng)
    return bytes(proto.SerializeToString())


def _set_field(message: Any, field: Any, everything: list[Any], rng: random.Random) -> None:
    if rng.random() < 0.4:
        message.ClearField(field.name)  # and, perhaps, give it another value
    if rng.random() < 0.2:
        return
    if field.type == field.TYPE_MESSAGE:
        same = [m for m in everything if m.DESCRIPTOR is field.message_type and m is not message]
        value = type(same[0]).FromString(rng.choice(same).SerializeToString())
        if field.is_repeated:
            getattr(message, field.name).extend([value] * rng.choice((1, 2, 50)))
        else:
            getattr(message, field.name).CopyFrom(value)
    else:
        value = _scalar(field, everything, rng)
        if field.is_repeated:
            getattr(message, field.name).extend([value] * rng.choice((1, 3, 50)))
        else:
            setattr(message, field.name, value)


def _scalar(field: Any, everything: list[Any], rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        from gamma.formats.onnx import TRANSLATORS

        names = [str(m.name) for m in everything if "name" in m.DESCRIPTOR.fields_by_name]
        return rng.choice((*names, *TRANSLATORS, "", "x" * 3000, "../w.bin", "a\nb"))
    if field.type == field.TYPE_BYTES:
        return bytes(rng.randrange(256) for _ in range(rng.choice((0, 4, 48))))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, 1e-45, float("nan"), float("inf")))
    number = rng.choice((*NUMBERS, *range(25)))
    return number if field.type in (field.TYPE_INT64, field.TYPE_UINT64) else number % (1 << 31)


def in_header(data: bytes, rng: random.Random) -> bytes:
    """A number, name or list in the header of a safetensors file, or in its graph's."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.get("__metadata__", {})
    if "gamma" in metadata and rng.random() < 0.7:
        graph = json.loads(metadata["gamma"])
        _json(graph, rng)
        metadata["gamma"] = json.dumps(graph)
    else:
        _json(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def _json(document: Any, rng: random.Random) -> None:
    """Change one place of a document where it stands."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    for item in waiting:
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in list(pairs):
            places.append((item, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    holder, key = rng.choice(places)
    other, where = rng.choice(places)
    value = rng.choice((other[where], rng.choice(NUMBERS), [], {}, None, True, 0.5, "Relu", "inf"))
    if rng.random() < 0.2 and isinstance(holder, list):
        holder[:] = holder * rng.choice((2, 50))
    else:
        holder[key] = json.loads(json.dumps(value))


def in_array(data: bytes, rng: random.Random) -> bytes:
    """A number or word of an .npy header, its length kept true."""
    length = int.from_bytes(data[8:10], "little")
    text, rest = data[10 : 10 + length], data[10 + length :]
    parts = re.findall(rb"\w+|\W", text)
    parts[rng.randrange(len(parts))] = rng.choice(
        (str(rng.choice(NUMBERS)).encode(), b"True", b"(1,)", b"'|O'", b"(" * 50, b"", b"<f4")
    )
    header = b"".join(parts)[: (1 << 16) - 1]
    return data[:8] + len(header).to_bytes(2, "little") + header + rest


def in_json(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON document."""
    document = json.loads(data)
    _json(document, rng)
    return json.dumps(document).encode()


def in_gguf(data: bytes, rng: random.Random) -> bytes:
    """A count, length, type or offset of a GGUF header: whatever stands there as a small number."""
    width = rng.choice((4, 8))
    ends = [k + width for k in range(4, min(len(data), 4000) - width)
            if 0 < int.from_bytes(data[k : k + width], "little") < 1 << 16]  # fmt: skip
    end = rng.choice(ends)
    stated = int.from_bytes(data[end - width : end], "little")
    number = rng.choice((stated - 1, stated + 1, 2 * stated, rng.randrange(45), *NUMBERS))
    return data[: end - width] + (number % (1 << 8 * width)).to_bytes(width, "little") + data[end:]


def in_list(data: bytes, rng: random.Random) -> bytes:
    """A cell or a line of a list of instances."""
    parts = re.split(rb"([,\n])", data)
    at = rng.randrange(len(parts))
    cell, same = rng.choice(CELLS), parts[at]
    parts[at : at + 1] = rng.choice(
        ([cell], [same] * 2, [], [same * (1 + 20_000 // (1 + len(same)))], [cell, b",", same])
    )
    return b"".join(parts)


def composed(rng: random.Random) -> bytes:
    """A well-formed ONNX model of random operators, wired and parametrised at random."""
    from onnx import TensorProto, helper, numpy_helper

    from gamma.formats.onnx import TRANSLATORS

    names, values, nodes = sorted(TRANSLATORS), ["x", "w", "i", ""], []
    for k in range(rng.randint(1, 6)):
        inputs = [rng.choice(values) for _ in range(rng.randint(0, 4))]
        attributes = {key: value for key in ATTRIBUTES if (value := _attribute(rng)) is not None}
        nodes.append(helper.make_node(rng.choice(names), inputs, [f"v{k}"], f"n{k}", **attributes))
        values.append(f"v{k}")
    dims = [rng.randint(1, 5) for _ in range(rng.randint(1, 4))]
    most = rng.choice((8, 1 << 62))
    integers = np.array([rng.randint(-3, most) for _ in range(rng.randint(0, 5))], np.int64)
    weight = np.linspace(-1, 1, int(np.prod(dims)), dtype=np.float32).reshape(dims)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(integers, "i")]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
            for name, shape in (("x", dims), (values[-1], None))]  # fmt: skip
    graph = helper.make_graph(nodes, "composed", *ends, constants)
    version = helper.make_opsetid("", rng.randint(7, 24))
    return bytes(helper.make_model(graph, opset_imports=[version]).SerializeToString())


ATTRIBUTES = ("axis", "axes", "pads", "kernel_shape", "strides", "perm", "alpha", "group", "mode",
              "equation", "blocksize", "split", "size")  # fmt: skip


def _attribute(rng: random.Random) -> Any:
    """A value of some kind for an attribute, or, mostly, none."""
    return {
        0: lambda: rng.choice(NUMBERS),
        1: lambda: [rng.randint(-2, 9) for _ in range(rng.randint(1, 4))],
        2: lambda: rng.choice((0.0, -1.5, 1e38, float("nan"))),
        3: lambda: rng.choice(("linear", "ij,jk->ik", "reflect", "DCR", "\0")),
    }.get(rng.randrange(12), lambda: None)()
