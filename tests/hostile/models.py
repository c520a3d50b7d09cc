"""ONNX files built to exhaust, to mislead or to crash a reader."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.formats.onnx_models import Node, model
from tests.hostile.running import Case, model_commands

F = np.float32
WEIGHT = {"w": np.arange(12, dtype=F).reshape(4, 3)}
GEMM: list[Node] = [("Gemm", ["x", "w"], ["y"], {})]


def valid() -> bytes:
    """A model of a few operators, to be damaged."""
    nodes: list[Node] = [
        ("Gemm", ["x", "w"], ["h"], {"alpha": 0.5}),
        ("Reshape", ["h", "s"], ["r"], {}),
        ("Slice", ["r", "t", "u"], ["y"], {}),
    ]
    constants = {**WEIGHT, "s": np.array([3, 1]), "t": np.array([0]), "u": np.array([2])}
    return bytes(model(nodes, (1, 4), constants).SerializeToString())


def case(name: str, data: Callable[[], bytes], answer: str = "refused", quick: bool = True) -> Case:
    """A case that is one model file."""

    def write(folder: Path) -> list[list[str]]:
        path = folder / "model.onnx"
        path.write_bytes(data())
        return model_commands(path)

    return Case(f"onnx_{name}", write, answer, quick)


def graph(
    nodes: list[Node],
    shape: tuple[int, ...] = (1, 4),
    constants: dict[str, Any] | None = None,
    **options: Any,
) -> Callable[[], bytes]:
    """The bytes of a model, made when they are asked for."""
    return lambda: bytes(model(nodes, shape, constants, **options).SerializeToString())


def chain(op: str, count: int, *more: str, twice: bool = False, **attributes: Any) -> list[Node]:
    """``count`` applications of an operator, one after another."""
    names = ["x", *(f"h{i}" for i in range(count - 1)), "y"]
    return [
        (op, [a, a] if twice else [a, *more], [b], attributes)
        for a, b in zip(names[:-1], names[1:], strict=True)
    ]


def doublings() -> Iterator[Case]:
    """A few hundred bytes that ask for gigabytes."""
    two, pads = np.array([1, 2]), np.array([0, 0, 0, 1])
    for count in (18, 25, 27, 29, 40, 62, 200):
        # Half a million neurons are an honest network; what exceeds a gigabyte is not.
        answer = "either" if count == 18 else "refused"
        data = graph(chain("Concat", count, twice=True, axis=1))
        yield case(f"concat_{count}", data, answer, quick=count > 18)
    for count in (25, 40, 62):  # the first is over a limit by little, the last by much
        yield case(f"tile_{count}", graph(chain("Tile", count, "s"), constants={"s": two}))
        nodes: list[Node] = [("Pad", ["x", "s"], ["y"], {})]
        wide = {"s": pads * (1 << count)}
        yield case(f"pad_{count}", graph(nodes, constants=wide))
        shape = {"s": np.array([1 << count, 1, 4])}
        yield case(f"expand_{count}", graph([("Expand", ["x", "s"], ["y"], {})], constants=shape))
        fill: list[Node] = [("ConstantOfShape", ["s"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})]
        yield case(f"fill_{count}", graph(fill, constants={"s": np.array([1 << count])}))
        ends = {"a": np.array(0), "b": np.array(1 << count), "c": np.array(1)}
        span: list[Node] = [("Range", ["a", "b", "c"], ["r"], {}),
                            ("Gather", ["x", "r"], ["y"], {"axis": 1})]  # fmt: skip
        yield case(f"range_{count}", graph(span, constants=ends))
        size = {"s": np.array([1, 1, 1 << count // 2, 1 << count // 2])}
        grow: list[Node] = [("Resize", ["x", "", "", "s"], ["y"], {"mode": "linear"})]
        large = "either" if count == 25 else "refused"  # 16 million outputs
        yield case(f"resize_{count}", graph(grow, (1, 1, 2, 2), size), large, quick=count > 25)
        near: list[Node] = [("Resize", ["x", "", "", "s"], ["y"], {"mode": "nearest"})]
        yield case(f"resize_nearest_{count}", graph(near, (1, 1, 2, 2), size), large,
                   quick=count > 25)  # fmt: skip
        one = {"o": np.array(1 << count), "d": np.array([0.0, 1.0], F), "i": np.array([1])}
        hot: list[Node] = [("OneHot", ["i", "o", "d"], ["h"], {}),
                           ("MatMul", ["x", "h"], ["y"], {})]  # fmt: skip
        yield case(f"one_hot_{count}", graph(hot, (1, 1), one))
        eye: list[Node] = [("ConstantOfShape", ["s"], ["c"], {}), ("EyeLike", ["c"], ["e"], {}),
                           ("MatMul", ["x", "e"], ["y"], {})]  # fmt: skip
        side = {"s": np.array([1 << count // 2] * 2)}
        yield case(f"eye_{count}", graph(eye, (1, 1 << min(count // 2, 16)), side))
        unsqueezed: list[Node] = [("Expand", ["w", "s"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})]
        constants = {"s": np.array([1 << count, 1]), "w": np.ones((1, 4), F)}
        yield case(f"expand_constant_{count}", graph(unsqueezed, constants=constants))
    yield case("add_broadcast", lambda: _broadcasts(20))
    yield case("constants", lambda: _constants(28))


def _broadcasts(count: int) -> bytes:
    """x of shape (1, 4) added to ones of ever more axes of length 2."""
    constants = {f"c{i}": np.zeros((16,) + (1,) * (i + 2), F) for i in range(count)}
    names = ["x", *(f"h{i}" for i in range(count - 1)), "y"]
    nodes: list[Node] = [("Add", [names[i], f"c{i}"], [names[i + 1]], {}) for i in range(count)]
    return bytes(model(nodes, (1, 4), constants).SerializeToString())


def _constants(count: int) -> bytes:
    """A constant that doubles by Concat."""
    nodes: list[Node] = [
        ("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], {"axis": 0}) for i in range(count)
    ]
    nodes.append(("Add", ["x", f"c{count}"], ["y"], {}))
    return bytes(model(nodes, (1, 1), {"c0": np.ones(1, F)}).SerializeToString())


def products() -> Iterator[Case]:
    """Operators whose matrices are larger than what the file holds."""
    for outer, inner in ((3000, 4), (100_000, 4), (1 << 18, 1)):
        nodes: list[Node] = [("MatMul", ["x", "w"], ["y"], {})]
        weight = {"w": np.ones((outer, inner, 1), F)}
        # An ordinary, if large, batch of products: answered within the limit, or refused.
        data = graph(nodes, (outer, 1, inner), weight)
        yield case(f"matmul_{outer}_{inner}", data, "either", quick=False)
    for size in (3000, 20_000):
        nodes = [("MatMul", ["x", "w"], ["h"], {}), ("Mul", ["h", "h"], ["y"], {})]
        yield case(f"outer_{size}", graph(nodes, (1, size, 1), {"w": np.ones((1, size), F)}),
                   "either", quick=False)  # fmt: skip
    for n in (60, 3000, 1 << 16):
        sums: list[Node] = [("CumSum", ["x", "a"], ["y"], {})]
        yield case(f"cumsum_{n}", graph(sums, (1, n), {"a": np.array(1)}, opset=14), "either",
                   quick=n < 3000)  # fmt: skip
        einsum: list[Node] = [("Einsum", ["x", "w"], ["y"], {"equation": "ij,k->ijk"})]
        yield case(f"einsum_outer_{n}", graph(einsum, (1, n), {"w": np.ones(n, F)}), "either",
                   quick=n < 3000)  # fmt: skip
        diagonal: list[Node] = [("Einsum", ["x", "w"], ["y"], {"equation": "ij,kj->ikj"})]
        data = graph(diagonal, (1, n), {"w": np.ones((3, n), F)})
        yield case(f"einsum_diagonal_{n}", data, "either", quick=n < 3000)
    for parts in (1000, 100_000):
        names = [f"p{i}" for i in range(parts)]
        split: list[Node] = [("Split", ["x"], names, {"axis": 1}), ("Relu", ["p7"], ["y"], {})]
        yield case(f"split_{parts}", graph(split, (1, parts)), "either", quick=parts == 1000)
    conv: list[Node] = [("Conv", ["x", "w"], ["y"], {"pads": [1 << 13] * 4})]
    yield case("conv_pads", graph(conv, (1, 1, 3, 3), {"w": np.ones((1, 1, 3, 3), F)}), "either")
    wide_conv: list[Node] = [("Conv", ["x", "w"], ["y"], {"pads": [500] * 4})]
    yield case("conv_channels", graph(wide_conv, (1, 1, 3, 3), {"w": np.ones((4096, 1, 1, 1), F)}))
    turned: list[Node] = [("ConvTranspose", ["x", "w"], ["y"], {"strides": [1 << 20] * 2})]
    yield case("conv_transpose", graph(turned, (1, 1, 3, 3), {"w": np.ones((1, 1, 3, 3), F)}))
    pool: list[Node] = [("MaxPool", ["x"], ["y"], {"kernel_shape": [4096] * 2, "pads": [4095] * 4})]
    yield case("pool", graph(pool, (1, 1, 4, 4)), "either", quick=False)


def swarms() -> Iterator[Case]:
    """A million small things."""
    for op in ("Relu", "Neg", "Identity", "Add", "Sigmoid"):
        twice = op == "Add"
        yield case(f"chain_{op}", graph(chain(op, 20_000, twice=twice)), "either", quick=False)
    constants = {k: np.ones(4, F) for k in "smvb"}
    norm = chain("BatchNormalization", 20_000, "s", "b", "m", "v")
    yield case("batch_norms", graph(norm, constants=constants), "either", quick=False)
    yield case("million_nodes", lambda: _message(7, _message(1, b"\x0a\x00") * 10**6), quick=False)
    yield case("million_relus", _million, quick=False)
    yield case(
        "million_initialisers", lambda: _message(7, _message(5, b"\x10\x01") * 10**6), quick=False
    )
    yield case("million_opsets", lambda: b"\x42\x00" * 10**6, quick=False)
    for op in ("Sum", "Max", "Concat"):
        wide = graph([(op, ["x"] * 100_000, ["y"], {"axis": 1} if op == "Concat" else {})])
        yield case(f"wide_{op}", wide, "either", quick=False)
    dims = graph(GEMM, (1, 4), WEIGHT)
    yield case("many_dims", lambda: dims() + _message(7, _message(5, b"\x08\x01" * 10**5)))


def _million() -> bytes:
    body = b"".join(
        _message(1, _message(1, b"h%d" % i) + _message(2, b"h%d" % (i + 1)) + b"\x22\x04Relu")
        for i in range(300_000)
    )
    return _message(7, body) + _message(8, b"\x10\x0d")


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _message(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def wire() -> Iterator[Case]:
    """Protobuf that no exporter writes."""
    data = valid()
    deep = b""
    for _ in range(3000):  # node.attribute.graph.node...
        deep = _message(1, _message(5, _message(6, deep)))
    kinds = {
        "empty": b"", "text": b"hello", "zeros": bytes(1 << 20), "ones": b"\xff" * (1 << 20),
        "group": data + b"\x0b\x0c", "group_open": data + b"\x0b" * 100_000,
        "wire_6": data + b"\x0e\x00", "field_0": data + b"\x02\x00",
        "overlong": data + b"\x08" + b"\x80" * 20 + b"\x00",
        "overlong_length": data + b"\x3a" + b"\xff" * 9 + b"\x01",
        "negative_length": data + b"\x3a" + b"\xff\xff\xff\xff\x0f",
        "deep": _message(7, deep), "deep_type": data + _message(7, _message(12, _types(3000))),
        "half_graph": data[: len(data) // 2], "zip": b"PK\x03\x04" + bytes(100),
        "gguf": b"GGUF" + bytes(100), "numpy": b"\x93NUMPY" + bytes(100),
        "pickle": b"\x80\x04\x95" + bytes(100),
    }  # fmt: skip
    for name, content in kinds.items():
        yield case(f"wire_{name}", lambda content=content: content)  # type: ignore[misc]
    yield case("wire_unknown_fields", lambda: data + b"\xf8\x07\x01" * 1000, "answered")
    yield case("wire_long_key", lambda: data + b"\xf8\x87\x80\x00\x01", "either")
    yield case("wire_doc", lambda: data + _message(6, b"x" * (1 << 22)), "answered")
    yield case("wire_utf8", lambda: data.replace(b"n0", b"\xff\xfe"), "either")
    yield case("wire_twice", lambda: data + data, "either")


def _types(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = _message(4, _message(1, body))
    return _message(2, body)


def damaged() -> Iterator[Case]:
    """Every truncation and many changed bytes of a good file."""

    def files(name: str, contents: Callable[[], Iterator[bytes]]) -> Case:
        def write(folder: Path) -> list[list[str]]:
            commands = []
            for number, data in enumerate(contents()):
                path = folder / f"{number}.onnx"
                path.write_bytes(data)
                commands.append(["inspect", str(path)])
            return commands

        return Case(f"onnx_{name}", write, "either")

    data = valid()
    yield files("truncated", lambda: (data[:n] for n in range(0, len(data), 17)))

    def flipped() -> Iterator[bytes]:
        rng = np.random.default_rng(5)
        for _ in range(30):
            changed = bytearray(data)
            for place in rng.integers(0, len(data), 2):
                changed[place] ^= 1 << int(rng.integers(0, 8))
            yield bytes(changed)

    yield files("flipped", flipped)


def outside() -> Iterator[Case]:
    """External data from where it must not come, and more of it than there is."""
    places = {
        "parent": ("../secret.bin", "0", None), "absolute": ("/etc/passwd", "0", None),
        "link": ("link.bin", "0", None), "device": ("/dev/zero", "0", None),
        "missing": ("nothing.bin", "0", None), "folder": (".", "0", None), "none": ("", "0", None),
        "nul": ("a\0b", "0", None), "long": ("n" * 5000, "0", None),
        "pipe": ("pipe.bin", "0", None), "back": ("inner/../../secret.bin", "0", None),
        "offset": ("w.bin", "9" * 30, None), "negative": ("w.bin", "-8", None),
        "length": ("w.bin", "0", "1e9"), "huge": ("w.bin", "0", str(1 << 62)),
        "unaligned": ("w.bin", "1", None), "digits": ("w.bin", "٣", None),
        "windows": ("C:\\w.bin", "0", None), "url": ("http://x/w.bin", "0", None),
        "circle": ("circle.bin", "0", None),
    }  # fmt: skip
    for name, place in places.items():
        yield Case(f"onnx_external_{name}", _external(*place))
    yield Case("onnx_external_large", _external("w.bin", "0", None, (1 << 31, 1 << 31)))
    yield Case("onnx_external_negative", _external("w.bin", "0", None, (-4, -3)))


def _external(
    location: str, offset: str, length: str | None, dims: tuple[int, ...] = (4, 3)
) -> Callable[[Path], list[list[str]]]:
    def write(folder: Path) -> list[list[str]]:
        inside = folder / "inside"
        (inside / "inner").mkdir(parents=True)
        (folder / "secret.bin").write_bytes(bytes(48))
        (inside / "w.bin").write_bytes(bytes(48))
        os.mkfifo(inside / "pipe.bin")
        os.symlink(folder / "secret.bin", inside / "link.bin")
        os.symlink("circle.bin", inside / "circle.bin")
        proto = model(GEMM, (1, 4))
        tensor = proto.graph.initializer.add(name="w", data_type=1, dims=dims)
        tensor.data_location = TensorProto.EXTERNAL
        stated = {"location": location, "offset": offset, "length": length}
        for key, value in stated.items():
            if value is not None:
                tensor.external_data.add(key=key, value=value)
        (inside / "model.onnx").write_bytes(proto.SerializeToString())
        return model_commands(inside / "model.onnx")

    return write


def tensors() -> Iterator[Case]:
    """Initialisers whose declaration and content disagree."""

    def changed(change: Callable[[Any], object]) -> Callable[[], bytes]:
        def data() -> bytes:
            proto = model(GEMM, (1, 4), WEIGHT)
            change(proto.graph.initializer[0])
            return bytes(proto.SerializeToString())

        return data

    def dims(*sizes: int) -> Callable[[Any], object]:
        def change(tensor: Any) -> None:
            del tensor.dims[:]
            tensor.dims.extend(sizes)

        return change

    kinds: dict[str, Callable[[Any], object]] = {
        "overflow": dims(1 << 32, 1 << 32), "zero_huge": dims(0, 1 << 62), "negative": dims(-4, -3),
        "axes": dims(*[1] * 5000), "huge": dims(1 << 62), "short": dims(4, 4),
        "no_data": lambda t: t.ClearField("raw_data"),
        "dtype": lambda t: setattr(t, "data_type", 77),
        "text": lambda t: setattr(t, "data_type", 8),
        "complex": lambda t: setattr(t, "data_type", 14),
        "nan": lambda t: setattr(t, "raw_data", b"\xff" * 48),
        "both": lambda t: t.float_data.extend([1.0] * 12),
        "segment": lambda t: setattr(t.segment, "begin", 3),
    }  # fmt: skip
    for name, change in kinds.items():
        yield case(f"tensor_{name}", changed(change))
    for bits in (16, 10, 1):
        data = {"w": np.full((4, 3), 1e30 if bits == 1 else 1.0, F)}
        yield case(f"tensor_good_{bits}", graph(GEMM, (1, 4), data), "answered")


def attributes() -> Iterator[Case]:
    """Attributes of the wrong kind, size or sign."""
    image, kernel = (1, 1, 4, 4), {"w": np.ones((1, 1, 2, 2), F)}
    for name, options in {
        "group_0": {"group": 0}, "group_big": {"group": 1 << 40}, "group_minus": {"group": -1},
        "stride_0": {"strides": [0, 1]}, "stride_big": {"strides": [1 << 62, 1]},
        "pads_big": {"pads": [1 << 62] * 4}, "pads_short": {"pads": [1]},
        "pads_minus": {"pads": [-9] * 4}, "dilation": {"dilations": [1 << 62] * 2},
        "kernel": {"kernel_shape": [3, 3]}, "auto": {"auto_pad": "ODD"},
        "float": {"strides": [1.5, 1.0]}, "text": {"strides": "two"},
    }.items():  # fmt: skip
        nodes: list[Node] = [("Conv", ["x", "w"], ["y"], options)]
        yield case(f"conv_{name}", graph(nodes, image, kernel), "either")
    for name, op, options in (
        ("softmax", "Softmax", {"axis": 99}), ("perm", "Transpose", {"perm": [0, 0]}),
        ("perm_big", "Transpose", {"perm": [1 << 62, 0]}), ("flatten", "Flatten", {"axis": -99}),
        ("concat", "Concat", {"axis": 1 << 40}), ("leaky", "LeakyRelu", {"alpha": -1e38}),
        ("elu", "Elu", {"alpha": 1e38}), ("lrn", "LRN", {"size": 1 << 40}),
        ("depth", "DepthToSpace", {"blocksize": 1 << 40}), ("gather", "Gather", {"axis": -77}),
        ("mean", "ReduceMean", {"axes": [5]}), ("unknown", "NoSuchOperator", {}),
    ):  # fmt: skip
        yield case(f"attribute_{name}", graph([(op, ["x"], ["y"], options)]), "either")
    for equation in ("ij,jk", "i" * 5000, "...,...->...", "ij->ijj", "->", "ij,", "iJ,Jk->ik", "é"):
        einsum: list[Node] = [("Einsum", ["x", "w"], ["y"], {"equation": equation})]
        name = "".join(c if c.isalnum() else "_" for c in equation[:12])
        yield case(f"einsum_{name}", graph(einsum, constants=WEIGHT), "either")


def graphs() -> Iterator[Case]:
    """Names, orders and shapes of graphs."""
    loop: list[Node] = [("Add", ["x", "b"], ["a"], {}), ("Relu", ["a"], ["b"], {}),
                        ("Neg", ["a"], ["y"], {})]  # fmt: skip
    yield case("circle", graph(loop))
    yield case("ghost", graph([("Add", ["x", "ghost"], ["y"], {})]))
    yield case("self", graph([("Relu", ["x"], ["x"], {})]))
    yield case("output", graph([("Relu", ["x"], ["z"], {})]))
    yield case("opset_0", graph(GEMM, constants=WEIGHT, opset=0))
    yield case("name", graph([("Relu\n\x1b[31m" + "x" * 10_000, ["x"], ["y"], {})]))
    yield case("input_huge", graph([("Relu", ["x"], ["y"], {})], (1, 1 << 62)))
    yield case("input_large", graph([("Relu", ["x"], ["y"], {})], (1, 1 << 33)))
    yield case("input_axes", graph([("Relu", ["x"], ["y"], {})], (1,) * 3000))
    yield case("input_text", graph([("Relu", ["x"], ["y"], {})], dtype=TensorProto.STRING))
    yield case("gzip_bomb", lambda: gzip.compress(bytes(1 << 25), 1))
    yield case("gzip_good", lambda: gzip.compress(valid()), "answered")
    yield case("gzip_cut", lambda: gzip.compress(valid())[:-9])
    yield case("gzip_twice", lambda: gzip.compress(gzip.compress(valid())), "either")

    def nested() -> bytes:
        inner = helper.make_graph([], "g", [], [])
        proto = model([("If", ["x"], ["y"], {"then_branch": inner, "else_branch": inner})], (1, 4))
        return bytes(proto.SerializeToString())

    yield case("if", nested)


def cases() -> Iterator[Case]:
    """All of them."""
    for one in doublings():
        yield replace(one, quick=one.quick and not one.name.endswith(("_40", "_62", "_200")))
    for group in (products, swarms, wire, damaged, outside, tensors, attributes, graphs):
        yield from group()
