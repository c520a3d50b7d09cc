"""safetensors files whose header or graph is built to exhaust, to mislead or to crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.running import Case, model_commands

Item = dict[str, Any]
INPUT: Item = {"name": "x", "op": "Input", "shape": [4]}
WEIGHT = np.arange(12, dtype="<f4").tobytes()
ENTRY = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}
GEMM: Item = {"name": "g", "op": "Gemm", "inputs": [0], "tensors": {"weight": "w"}}


def file(header: object, data: bytes = WEIGHT) -> bytes:
    """Header (JSON, or text as it is) and data of a file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def spelled(
    nodes: list[Item], tensors: Item | None = None, data: bytes = b"", **more: Any
) -> bytes:
    """A file that spells out a graph; its output is the last node."""
    graph = {"schema": "gamma.graph/1", "nodes": nodes, "output": len(nodes) - 1, **more}
    return file({**(tensors or {}), "__metadata__": {"gamma": json.dumps(graph)}}, data)


def case(name: str, data: Callable[[], bytes], answer: str = "refused", **options: Any) -> Case:
    """A case that is one weights file."""

    def write(folder: Path) -> list[list[str]]:
        path = folder / "model.safetensors"
        path.write_bytes(data())
        return model_commands(path)

    return Case(f"safetensors_{name}", write, answer, **options)


def chained(op: str, count: int, inputs: int = 1, **attributes: Any) -> list[Item]:
    """``count`` times the same operator on the node before."""
    return [INPUT] + [
        {"name": f"n{i}", "op": op, "inputs": [i] * inputs, "attributes": attributes}
        for i in range(count)
    ]


def headers() -> Iterator[Case]:
    """Headers against the file they describe."""
    overlapping = {"a": ENTRY, "b": {**ENTRY, "data_offsets": [24, 72]}}
    kinds: dict[str, Callable[[], bytes]] = {
        "overlap": lambda: file(overlapping, bytes(72)),
        "same": lambda: file({"a": ENTRY, "b": ENTRY}),
        "gap": lambda: file({"a": {**ENTRY, "data_offsets": [4, 52]}}, bytes(52)),
        "trailing": lambda: file({"w": ENTRY}, WEIGHT + b"x"),
        "short": lambda: file({"w": ENTRY}, WEIGHT[:-1]),
        "duplicate": lambda: file(b'{"w": 1, "w": 2}'),
        "deep": lambda: file(b"[" * 100_000),
        "deep_object": lambda: file(b'{"a":' * 100_000),
        "nan": lambda: file(b'{"w": NaN}'),
        "digits": lambda: file(b'{"w": ' + b"9" * 10_000 + b"}"),
        "utf8": lambda: file(b'{"\xff": 1}'),
        "utf16": lambda: file('{"w": 1}'.encode("utf-16")),
        "empty": lambda: b"",
        "seven": lambda: bytes(7),
        "no_tensors": lambda: file({}, b""),
        "huge_header": lambda: (1 << 62).to_bytes(8, "little") + b"{}",
        "zeros": lambda: bytes(1 << 20),
        "many": lambda: file(
            {f"t{i}": {"dtype": "F32", "shape": [], "data_offsets": [4 * i, 4 * i + 4]}
             for i in range(50_000)}, bytes(200_000)),
        "axes": lambda: file({"w": {**ENTRY, "shape": [1] * 5000 + [12]}}),
        "overflow": lambda: file({"w": {**ENTRY, "shape": [1 << 32, 1 << 32]}}),
        "zero_huge": lambda: file(
            {"w": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}, b""),
        "negative": lambda: file({"w": {**ENTRY, "shape": [-3, -4]}}),
        "bool": lambda: file({"w": {**ENTRY, "shape": [True, 12]}}),
        "float": lambda: file({"w": {**ENTRY, "shape": [3.0, 4.0]}}),
        "dtype": lambda: file({"w": {**ENTRY, "dtype": "F31"}}),
        "packed": lambda: file({"w": {**ENTRY, "dtype": "F8_E4M3", "shape": [48]}}),
        "name": lambda: file({"a\n\x1b[31m" * 500: ENTRY}),
        "metadata": lambda: file({"w": ENTRY, "__metadata__": {"gamma": 7}}),
        "metadata_list": lambda: file({"w": ENTRY, "__metadata__": []}),
        "not_finite": lambda: spelled([INPUT, GEMM], {"w": ENTRY}, b"\xff" * 48),
    }  # fmt: skip
    for name, data in kinds.items():
        yield case(name, data, quick=name != "many")
    yield case("good", lambda: spelled([INPUT, GEMM], {"w": ENTRY}, WEIGHT), "answered")

    def write(folder: Path) -> list[list[str]]:
        data = spelled([INPUT, GEMM], {"w": ENTRY}, WEIGHT)
        rng, commands = np.random.default_rng(3), []
        for number in range(40):
            changed = bytearray(data)
            changed[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
            path = folder / f"{number}.safetensors"
            path.write_bytes(changed if number % 2 else data[: len(data) * number // 40])
            commands.append(["inspect", str(path)])
        return commands

    yield Case("safetensors_damaged", write, "either")


def graphs() -> Iterator[Case]:
    """Graphs that ask for more than the file holds, or that are no graphs."""
    for count in (18, 23, 25, 27, 40, 400):
        answer = "either" if count == 18 else "refused"
        yield case(f"concat_{count}", lambda n=count: spelled(chained("Concat", n, 2, axis=0)),
                   answer, quick=count > 18)  # type: ignore[misc]  # fmt: skip
    yield case("concat_wide", lambda: spelled(_wide(5000)), "either")
    yield case("input_huge", lambda: spelled([{**INPUT, "shape": [1 << 40]}]))
    yield case("input_large", lambda: spelled(_relu([1 << 27])))
    yield case("input_axes", lambda: spelled(_relu([1] * 500)))
    yield case("relu_chain", lambda: spelled(chained("Relu", 20_000)), "either", quick=False)
    yield case("sigmoid_chain", lambda: spelled(chained("Sigmoid", 5000)), "either", quick=False)
    yield case("scale_chain", _scales, "either", quick=False)
    for size in (300, 3000, 1 << 20):
        yield case(f"grouped_{size}", lambda n=size: _grouped(n), "either", quick=size == 300)  # type: ignore[misc]
    yield case("gemm_axes", lambda: spelled(_lifted(), {"w": ENTRY}, WEIGHT), "either")
    bad: dict[str, Item] = {
        "forward": {"name": "r", "op": "Relu", "inputs": [1]},
        "negative": {"name": "r", "op": "Relu", "inputs": [-1]},
        "no_inputs": {"name": "r", "op": "Relu", "inputs": []},
        "many_inputs": {"name": "r", "op": "Relu", "inputs": [0] * 100_000},
        "bool_input": {"name": "r", "op": "Relu", "inputs": [False]},
        "unknown": {"name": "r", "op": "__import__", "inputs": [0]},
        "axes": {"name": "r", "op": "ReduceSum", "inputs": [0], "attributes": {"axes": [0, 0]}},
        "axis": {"name": "r", "op": "Concat", "inputs": [0, 0], "attributes": {"axis": 77}},
        "perm": {"name": "r", "op": "Transpose", "inputs": [0], "attributes": {"perm": [0, 0]}},
        "target": {"name": "r", "op": "Reshape", "inputs": [0], "attributes": {"target": [2] * 99}},
        "target_0": {"name": "r", "op": "Reshape", "inputs": [0], "attributes": {"target": [0, 4]}},
        "signs": {"name": "r", "op": "Add", "inputs": [0], "attributes": {"signs": [1] * 100_000}},
        "infinite": {"name": "r", "op": "Pow", "inputs": [0], "attributes": {"exponent": "inf"}},
        "pow": {"name": "r", "op": "Pow", "inputs": [0], "attributes": {"exponent": 1e308}},
        "leaky": {"name": "r", "op": "LeakyRelu", "inputs": [0], "attributes": {"slope": -1e308}},
        "name": {"name": "r\n" * 500, "op": "Relu", "inputs": [0]},
        "extra": {"name": "r", "op": "Relu", "inputs": [0], "code": "1"},
        "list": {"name": "r", "op": ["Relu"], "inputs": [0]},
    }
    for name, item in bad.items():
        answer = "either" if name in ("infinite", "pow", "leaky") else "refused"
        yield case(f"graph_{name}", lambda item=item: spelled([INPUT, item]), answer)  # type: ignore[misc]
    yield case("graph_schema", lambda: spelled([INPUT], schema="gamma.graph/9"))
    yield case("graph_output", lambda: spelled([INPUT], output=1 << 70))
    yield case("graph_notes", lambda: spelled([INPUT], notes=["a\nb"]))
    yield case("graph_text", lambda: file({"__metadata__": {"gamma": "[" * 100_000}}, b""))
    yield case("graph_unused", lambda: spelled([INPUT], {"w": ENTRY}, WEIGHT))


def _relu(shape: list[int]) -> list[Item]:
    return [{**INPUT, "shape": shape}, {"name": "r", "op": "Relu", "inputs": [0]}]


def _wide(count: int) -> list[Item]:
    one = {"name": "c", "op": "Concat", "inputs": [0] * count, "attributes": {"axis": 0}}
    two = {"name": "d", "op": "Concat", "inputs": [1] * count, "attributes": {"axis": 0}}
    return [INPUT, one, two]


def _scales(count: int = 16_000) -> bytes:
    nodes = [INPUT] + [
        {"name": f"n{i}", "op": "Scale", "inputs": [i], "tensors": {"scale": "s"}}
        for i in range(count)
    ]
    scalar = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    return spelled(nodes, {"s": scalar}, bytes([0, 0, 0, 64]))


def _lifted() -> list[Item]:
    shape = {**INPUT, "shape": [1] * 15 + [4]}
    return [shape, GEMM, {"name": "r", "op": "Relu", "inputs": [1]}]


def _grouped(groups: int) -> bytes:
    """A convolution of as many groups as channels."""
    weight = np.ones((groups, 4, 1), "<f4").tobytes()
    entry = {"dtype": "F32", "shape": [groups, 4, 1], "data_offsets": [0, len(weight)]}
    options = {"strides": [1], "pads": [0, 0], "dilations": [1], "group": groups}
    conv = {"name": "c", "op": "Conv", "inputs": [0], "attributes": options,
            "tensors": {"weight": "w"}}  # fmt: skip
    return spelled([{**INPUT, "shape": [4 * groups, 1]}, conv], {"w": entry}, weight)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from headers()
    yield from graphs()
