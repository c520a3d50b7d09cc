"""The graph a safetensors header spells out: schema ``gamma.graph/1`` (docs/formats.md).

A node is its operator's record: arrays become tensors of the file, every other field an attribute.
The schema therefore follows the operator table, and a new operator needs nothing here.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import fields

from gamma.errors import FormatError, GammaError, UnsupportedError, UsageError
from gamma.formats.limits import check_nodes
from gamma.formats.safetensors import TensorFile, parse_json, plain_name, shorten
from gamma.network.graph import Network, Node, Source
from gamma.ops import TABLE
from gamma.ops.base import Operator

Array = npt.NDArray[Any]

KEY = "gamma"  # entry of __metadata__ that holds the graph as JSON text
SCHEMA = "gamma.graph/1"
NODE_LIMIT = 1 << 28  # neurons of one node: a few small tensors must not ask for all memory
RANK_LIMIT = 16
LIST_LIMIT = 4096  # entries of an attribute; the signs of a wide sum are the longest

# What an attribute must satisfy beyond its type, whatever the operator.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "strides": lambda values: all(v >= 1 for v in values),
    "dilations": lambda values: all(v >= 1 for v in values),
    "pads": lambda values: all(v >= 0 for v in values),
    "output_padding": lambda values: all(v >= 0 for v in values),
    "group": lambda value: value >= 1,
    "target": lambda values: all(v >= 1 for v in values),
    "signs": lambda values: all(v in (-1, 1) for v in values),
    "scale_error": lambda value: 0 <= value < 1,
    "shift_error": lambda value: bool(np.min(value) >= 0),
    "weight_error": lambda value: value is None or bool(np.min(value, initial=0.0) >= 0),
    "weight_noise": lambda value: value is None or bool(np.min(value, initial=0.0) >= 0),
    "execution": lambda value: value.shape[:1] == (4,) and bool(np.min(value, initial=0.0) >= 0),
    "peak": lambda value: value >= 1,
}


def refuse_options(path: Path, options: Mapping[str, Any]) -> None:
    """Raise UsageError when options are given for a file that says everything itself."""
    if options:
        names = ", ".join(sorted(options))
        raise UsageError(f"{path}: the file spells its graph out, {names} cannot be given")


@functools.cache
def _hints(operator: str) -> dict[str, Any]:
    """Type of every field of an operator's record."""
    return {field.name: field.type for field in fields(TABLE[operator])}


@functools.cache
def _optional(operator: str) -> frozenset[str]:
    """Fields of a record that have a default."""
    return frozenset(field.name for field in fields(TABLE[operator]) if not field.required)


def encode(net: Network) -> tuple[dict[str, Array], str]:
    """Tensors by name, and the JSON text of the graph."""
    tensors: dict[str, Array] = {}
    nodes = []
    for position, node in enumerate(net.nodes):
        item: dict[str, Any] = {"name": node.name, "op": node.op.name}
        if node.inner:
            item["inner"] = True
        if position == 0:
            item["shape"] = list(node.shape)
        else:
            item["inputs"] = list(node.inputs)
            _encode_fields(node, tensors, item)
        nodes.append(item)
    graph: dict[str, Any] = {"schema": SCHEMA, "nodes": nodes, "output": net.output}
    if net.notes:
        graph["notes"] = list(net.notes)
    return tensors, json.dumps(graph, allow_nan=False, separators=(",", ":"))


def _encode_fields(node: Node, tensors: dict[str, Array], item: dict[str, Any]) -> None:
    record = type(node.op)
    if TABLE.get(node.op.name) is not record:
        raise UnsupportedError(f"node {node.name}: operator {node.op.name} cannot be saved")
    attributes: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name in _hints(node.op.name):
        value = getattr(node.op, name)
        if isinstance(value, np.ndarray):
            tensor = _free_name(f"{node.name}.{name}", tensors)
            tensors[tensor] = value
            names[name] = tensor
        elif value is not None:
            attributes[name] = _to_json(value)
    if attributes:
        item["attributes"] = attributes
    if names:
        item["tensors"] = names


def _free_name(wanted: str, taken: Mapping[str, Any]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_to_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"  # JSON has no infinity
    return value


def decode(tensors: TensorFile, text: str, source: Source | None) -> Network:
    """The network that ``text`` spells out over the tensors of the file.

    Raises FormatError naming the node for whatever the schema does not allow, and for a tensor
    that no node uses.
    """
    reader = _Reader(tensors)
    graph = reader.mapping(
        parse_json(tensors.path, "graph", text), "graph", {"schema", "nodes", "output"}, {"notes"}
    )
    if graph["schema"] != SCHEMA:
        reader.fail("graph", f"schema {shorten(graph['schema'])}, expected {SCHEMA!r}")
    if not isinstance(graph["nodes"], list) or not graph["nodes"]:
        reader.fail("graph", "nodes must be a list that starts with the input")
    check_nodes(len(graph["nodes"]), tensors.path)
    nodes = [reader.input(graph["nodes"][0])]
    names = {nodes[0].name}
    for item in graph["nodes"][1:]:
        nodes.append(reader.node(item, nodes))
        if nodes[-1].name in names:
            reader.fail(f"node {nodes[-1].name}", "another node has this name: give each its own")
        names.add(nodes[-1].name)
    output, notes = graph["output"], graph.get("notes", [])
    if type(output) is not int or not 0 <= output < len(nodes):
        reader.fail("graph", f"output {shorten(output)} is not the number of a node")
    if not isinstance(notes, list) or not all(
        isinstance(note, str) and note.isprintable() for note in notes
    ):
        reader.fail("graph", "notes must be a list of lines of text")
    for name in tensors:
        if name not in reader.used:
            reader.fail(name, "no node of the graph uses this tensor")
    return Network(tuple(nodes), output, source, tuple(notes))


class _Reader:
    """Checks one file's graph; ``used`` collects the tensors that nodes asked for."""

    def __init__(self, tensors: TensorFile) -> None:
        self.tensors = tensors
        self.used: set[str] = set()

    def fail(self, where: str, message: str) -> typing.NoReturn:
        raise FormatError.at(self.tensors.path, where, message)

    def mapping(
        self, item: object, where: str, needed: set[str], optional: set[str]
    ) -> dict[str, Any]:
        if not isinstance(item, dict):
            self.fail(where, f"expected an object, found {shorten(item)}")
        missing, unknown = needed - set(item), set(item) - needed - optional
        if missing or unknown:
            found = (
                f"{sorted(missing)} missing" if missing else f"{shorten(sorted(unknown))} unknown"
            )
            self.fail(where, f"{found}; expected the entries {sorted(needed | optional)}")
        return item

    def name(self, item: object, position: int) -> str:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not plain_name(name):
            self.fail(f"node {position}", "has no name in plain text")
        return name

    def input(self, item: object) -> Node:
        name = self.name(item, 0)
        shape = self.mapping(item, name, {"name", "op", "shape"}, set())["shape"]
        good = isinstance(shape, list) and all(type(v) is int and v >= 1 for v in shape)
        if item["op"] != "Input" or not good or len(shape) > RANK_LIMIT:  # type: ignore[index]
            self.fail(name, "the first node must be an Input with a shape of positive integers")
        if math.prod(shape) > NODE_LIMIT:
            self.fail(name, f"shape {shorten(shape)} has more than {NODE_LIMIT} entries")
        return Node(name, TABLE["Input"](), (), tuple(shape))

    def node(self, item: object, earlier: list[Node]) -> Node:
        where = f"node {self.name(item, len(earlier))}"
        item = self.mapping(
            item, where, {"name", "op", "inputs"}, {"attributes", "tensors", "inner"}
        )
        inputs = item["inputs"]
        if type(item.get("inner", False)) is not bool:
            self.fail(where, f"inner is {shorten(item['inner'])}, expected true or false")
        good = isinstance(inputs, list) and all(
            type(i) is int and 0 <= i < len(earlier) for i in inputs
        )
        if not good or not inputs:
            self.fail(where, f"inputs {shorten(inputs)} are not numbers of earlier nodes")
        op = self.operator(item, where)
        try:
            shape = op.shape(*(earlier[i].shape for i in inputs))
        except (GammaError, ValueError, TypeError, IndexError, ArithmeticError) as error:
            self.fail(where, shorten_text(str(error) or "its inputs do not fit"))
        if len(shape) > RANK_LIMIT or any(v < 1 for v in shape):
            self.fail(where, f"its shape {shorten(shape)} is empty or has over {RANK_LIMIT} axes")
        if math.prod(shape) > NODE_LIMIT:
            self.fail(where, f"its shape {shape} has more than {NODE_LIMIT} entries")
        self.check_broadcast(where, op, shape)
        return Node(item["name"], op, tuple(inputs), shape, item.get("inner", False))

    def check_broadcast(self, where: str, op: Operator, shape: tuple[int, ...]) -> None:
        """Arrays that act entry by entry must not be larger than the node."""
        for name in ("scale", "shift", "slope", "shift_error", "execution"):
            array = getattr(op, name, None)
            if isinstance(array, np.ndarray):
                each = array.shape[1:] if name == "execution" else array.shape
                padded = (1,) * (len(shape) - len(each)) + each
                fits = len(padded) == len(shape) and all(
                    a in (1, b) for a, b in zip(padded, shape, strict=True)
                )
                if not fits:
                    self.fail(where, f"{name} has shape {each}, the node {shape}")

    def operator(self, item: dict[str, Any], where: str) -> Operator:
        record = TABLE.get(item["op"]) if isinstance(item["op"], str) else None
        if record is None or record.__name__ == "Input":
            raise UnsupportedError.at(
                self.tensors.path, where, f"operator {shorten(item['op'])} is not one gamma knows"
            )
        attributes, names = item.get("attributes", {}), item.get("tensors", {})
        hints = _hints(record.__name__)
        optional = _optional(record.__name__)
        both = isinstance(attributes, dict) and isinstance(names, dict)
        given = [*attributes, *names] if both else []
        if not isinstance(attributes, dict) or not isinstance(names, dict):
            self.fail(where, "attributes and tensors must be objects")
        if len(set(given)) < len(given) or not set(hints) - optional <= set(given) <= set(hints):
            self.fail(where, f"{item['op']} takes {sorted(hints)}, found {shorten(sorted(given))}")
        values = {
            name: self.attribute(where, name, v, hints[name]) for name, v in attributes.items()
        }
        values |= {name: self.tensor(where, name, v, hints[name]) for name, v in names.items()}
        try:
            op: Operator = record(**values)
        except (GammaError, ValueError, TypeError, IndexError, ArithmeticError) as error:
            self.fail(where, shorten_text(str(error)))
        self.check_weights(where, op)
        return op

    def attribute(self, where: str, name: str, value: object, hint: Any) -> Any:
        read = _from_json(value, hint)
        if read is _MISFIT or (name in CHECKS and not CHECKS[name](read)):
            self.fail(where, f"attribute {name} = {shorten(value)} is out of range")
        return read

    def tensor(self, where: str, name: str, tensor: object, hint: Any) -> Array:
        if not isinstance(tensor, str) or tensor not in self.tensors:
            self.fail(where, f"{name} names tensor {shorten(tensor)}, which is not in the file")
        dtypes = [t for t in _alternatives(hint) if typing.get_origin(t) is np.ndarray]
        array = self.tensors[tensor]
        integers = any("int64" in str(t) for t in dtypes)
        if not dtypes or (array.dtype == np.int64) != integers:
            self.fail(where, f"{name} cannot be a tensor of {self.tensors.entries[tensor].dtype}")
        if name in CHECKS and not CHECKS[name](array):
            self.fail(where, f"{name} has entries out of range")
        self.used.add(tensor)
        return array

    def check_weights(self, where: str, op: Any) -> None:
        """Ranks and bias lengths, which the shape rules take for granted."""
        if op.name not in ("Gemm", "Conv", "ConvTranspose"):
            return
        weight, bias = op.weight, op.bias
        if weight.ndim not in ((2,) if op.name == "Gemm" else (3, 4)):
            self.fail(where, f"weight has shape {weight.shape}")
        outputs = weight.shape[1] * op.group if op.name == "ConvTranspose" else weight.shape[0]
        if bias is not None and bias.shape != (outputs,):
            self.fail(where, f"bias has shape {bias.shape}, expected ({outputs},)")
        if op.name == "Gemm":
            return
        axes = weight.ndim - 2
        lengths = {"strides": axes, "dilations": axes, "pads": 2 * axes, "output_padding": axes}
        for name, length in lengths.items():
            if hasattr(op, name) and len(getattr(op, name)) != length:
                self.fail(where, f"{name} must have {length} entries")


def shorten_text(text: str, limit: int = 200) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


_MISFIT = object()


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _from_json(value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint`` says, or _MISFIT."""
    for kind in _alternatives(hint):
        read = _from_json_one(value, kind)
        if read is not _MISFIT:
            return read
    return _MISFIT


def _from_json_one(value: Any, kind: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list) and len(value) <= LIST_LIMIT:
        kinds = parts[:1] * len(value) if len(parts) == 2 and parts[1] is Ellipsis else parts
        if len(kinds) != len(value):
            return _MISFIT
        read = tuple(_from_json(v, k) for v, k in zip(value, kinds, strict=True))
        return _MISFIT if any(v is _MISFIT for v in read) else read
    if origin is typing.Literal:
        return value if isinstance(value, str) and value in parts else _MISFIT
    if kind is float and value in ("inf", "-inf"):
        return float(value)
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if kind is int and type(value) is int and abs(value) < 1 << 31:
        return value
    if (kind is bool and type(value) is bool) or (kind is str and type(value) is str):
        return value
    return _MISFIT
