"""ONNX bytes to plain records: names resolved, every count checked, nothing interpreted yet."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.compressed import MODEL_LIMIT, read_bytes
from gamma.formats.onnx import schema
from gamma.formats.onnx.tensors import DTYPES, MAX_AXES, PACKED, Array, Folder, read_tensor
from gamma.formats.onnx.wire import count_entries
from gamma.frozen import Frozen

# Every operator is known as of the last of these; later sets are asked operator by operator.
OPSETS = (7, 28)
Dim = int | str | None
# A constant that these alone read may be a mask: it may hold minus infinity.
_MASKS = frozenset(
    {
        *("Add", "Where", "Attention", "Cast", "Identity", "Slice", "Gather", "Expand", "Reshape"),
        *("Squeeze", "Unsqueeze", "Transpose"),
    }
)

_PACKED = {code for code, dtype in DTYPES.items() if dtype in PACKED}

_REFUSED = {
    b"\x80": "this is a pickle, which can run code when read",
    b"PK\x03\x04": "this is a zip archive (a PyTorch checkpoint holds a pickle)",
    b"GGUF": "this is a GGUF file",
    b"\x93NUMPY": "this is an array",
}


class Call(Frozen):
    """One node of the file: ``inputs`` holds "" where an optional input is absent.

    Behind its own ``inputs`` come what the graphs in its attributes read (`captured`).
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def captured(self) -> tuple[str, ...]:
        graphs = (v for v in self.attributes.values() if isinstance(v, Subgraph))
        return tuple(dict.fromkeys(name for graph in graphs for name in graph.captured))

    def renamed(self, names: Mapping[str, str], prefix: str = "") -> Call:
        """With other names of values; ``prefix`` stands before its own."""
        attributes = {
            key: value.renamed(names) if isinstance(value, Subgraph) else value
            for key, value in self.attributes.items()
        }
        inputs, outputs = (
            tuple(names.get(n, n) for n in part) for part in (self.inputs, self.outputs)
        )
        return Call(self.op, prefix + self.name, inputs, outputs, attributes)


class Subgraph(Frozen):
    """A graph inside of a node. ``captured`` are the values around it that it reads."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    calls: tuple[Call, ...]
    constants: Mapping[str, Array]
    captured: tuple[str, ...]

    def renamed(self, names: Mapping[str, str]) -> Subgraph:
        """With other names for captured values."""
        outer = {name: names.get(name, name) for name in self.captured}
        outputs = tuple(outer.get(name, name) for name in self.outputs)
        calls = tuple(call.renamed(outer) for call in self.calls)
        captured = tuple(outer[name] for name in self.captured)
        return Subgraph(self.inputs, outputs, calls, self.constants, captured)


class Declared(Frozen, eq=True):
    """A graph input or output: element type and axes (int, symbol, or None when unstated)."""

    name: str
    dtype: str
    dims: tuple[Dim, ...] | None


class Model(Frozen):
    """A file's graph; ``calls`` are in topological order, ``files`` hold external weights."""

    path: Path
    sha256: str
    opset: int
    calls: tuple[Call, ...]
    constants: Mapping[str, Array]
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    files: tuple[str, ...] = ()
    # Constants whose type in the file is smaller than their array's.
    packed: Mapping[str, str] = MappingProxyType({})


def read_model(path: Path) -> Model:
    """Parse a model file. Raises FormatError, UnsupportedError; one line each."""
    content = read_bytes(path, MODEL_LIMIT)
    return parse_model(content.data, content.path, content.sha256)


def parse_model(data: bytes, path: Path, sha256: str | None = None) -> Model:
    """Parse the bytes of a model; ``path`` is for messages and external data."""
    for magic, what in _REFUSED.items():
        if data.startswith(magic):
            raise FormatError.at(path, "", f"{what}, expected an ONNX model: export one")
    count_entries(data, path)
    proto = _decode(data, path)
    if len(proto.functions):
        from gamma.formats.onnx.functions import inline

        inline(proto, path)
    graph = proto.graph
    opset = _opset(proto, path)
    if len(graph.sparse_initializer):
        raise UnsupportedError.at(path, "", "sparse initialisers, expected dense ones")
    constants = _constants(graph, Folder(path))
    inputs = tuple(_declared(v, path) for v in graph.input)
    outputs = tuple(_declared(v, path) for v in graph.output)
    _distinct((v.name for v in inputs), "graph input", path)
    _distinct((v.name for v in outputs), "graph output", path)
    free = tuple(v for v in inputs if v.name not in constants)
    calls = [_call(n, i, path) for i, n in enumerate(graph.node)]
    known = set(constants) | {v.name for v in free}
    ordered = _sorted(calls, known, path)
    digest = sha256 or hashlib.sha256(data).hexdigest()
    files = sorted(
        {str(e.value) for w in graph.initializer for e in w.external_data if e.key == "location"}
    )
    packed = {str(w.name): DTYPES[w.data_type] for w in graph.initializer}
    packed = {name: dtype for name, dtype in packed.items() if dtype in PACKED}
    return Model(path, digest, opset, ordered, constants, free, outputs, tuple(files), packed)


def _decode(data: bytes, path: Path) -> Any:
    try:
        proto = schema.decode(data)
    except ValueError as error:
        raise FormatError.at(
            path, "", "is not a readable ONNX model (truncated or another format): export it anew"
        ) from error
    if not proto.HasField("graph") or not len(proto.graph.output):
        raise FormatError.at(path, "", "holds no ONNX graph with outputs: export it anew")
    return proto


def _opset(proto: Any, path: Path) -> int:
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else str(entry.domain)
        if versions.setdefault(domain, int(entry.version)) != int(entry.version):
            raise FormatError.at(path, "", f"states two versions of operator set {domain!r}")
    version = versions.get("", 0)
    if version < OPSETS[0]:
        raise UnsupportedError.at(
            path, "", f"operator set {version}, expected {OPSETS[0]} or later: re-export it"
        )
    return version


def _distinct(names: Iterable[str], what: str, path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            raise FormatError.at(path, name, f"{what} {'named twice' if name else 'has no name'}")
        seen.add(name)


def _constants(graph: Any, folder: Folder) -> dict[str, Array]:
    _distinct((str(t.name) for t in graph.initializer), "initialiser", folder.model)
    masks = {str(name) for node in graph.node if node.op_type in _MASKS for name in node.input}
    masks -= {str(name) for node in graph.node if node.op_type not in _MASKS for name in node.input}
    return {
        str(t.name): read_tensor(t, str(t.name), folder, masks=str(t.name) in masks)
        for t in graph.initializer
    }


def _declared(value: Any, path: Path) -> Declared:
    name = str(value.name)
    kind = value.type.WhichOneof("value")
    if kind is None:
        return Declared(name, "unknown", None)
    if kind != "tensor_type":
        return Declared(name, kind.removesuffix("_type"), None)
    tensor = value.type.tensor_type
    dtype = DTYPES.get(tensor.elem_type, "unknown")
    if not tensor.HasField("shape"):
        return Declared(name, dtype, None)
    if len(tensor.shape.dim) > MAX_AXES:
        raise UnsupportedError.at(path, name, f"has more than {MAX_AXES} axes")
    return Declared(name, dtype, tuple(_dim(d) for d in tensor.shape.dim))


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        # Exporters also write 0 or -1 for "any".
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return str(dim.dim_param) if dim.dim_param else None


def _call(node: Any, position: int, path: Path) -> Call:
    name = str(node.name) or f"{node.op_type}_{position}"
    where = f"node {name}"
    # An operator of another domain is refused where the network needs it: see `foreign`.
    op = str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    attributes: dict[str, Any] = {}
    for a in node.attribute:
        if str(a.name) in attributes:
            raise FormatError.at(path, where, f"attribute {a.name} is given twice")
        attributes[str(a.name)] = _attribute(a, where, path)
    call = Call(op, name, tuple(node.input), tuple(node.output), attributes)
    return replace(call, inputs=(*call.inputs, *call.captured))


def _subgraph(graph: Any, where: str, path: Path) -> Subgraph:
    calls = [_call(node, i, path) for i, node in enumerate(graph.node)]
    inputs, outputs = (tuple(str(v.name) for v in part) for part in (graph.input, graph.output))
    for tensor in graph.initializer:
        if tensor.data_type in _PACKED:
            raise UnsupportedError.at(path, where, f"{tensor.name}: store it outside of the graph")
    constants = _constants(graph, Folder(path))
    own = {*inputs, *constants, *(name for call in calls for name in call.outputs)}
    read = [name for call in calls for name in call.inputs]
    captured = tuple(dict.fromkeys(n for n in (*read, *outputs) if n and n not in own))
    ordered = _sorted(calls, {*inputs, *constants, *captured}, path)
    return Subgraph(inputs, outputs, ordered, constants, captured)


def _attribute(a: Any, where: str, path: Path) -> Any:
    """int, float, str, tuple of them, an array or the graph of an If or a Loop."""
    kind = int(a.type)
    if kind in (1, 2):
        value = a.f if kind == 1 else int(a.i)
        if not math.isfinite(value):
            raise FormatError.at(path, where, f"attribute {a.name} is {value}")
        return float(value) if kind == 1 else value
    if kind == 3:
        return a.s.decode("utf-8", "replace")
    if kind == 4:
        if a.t.data_type in _PACKED:
            dtype = DTYPES[a.t.data_type]
            message = f"attribute {a.name} holds {dtype}: store it as an initialiser"
            raise UnsupportedError.at(path, where, message)
        return read_tensor(a.t, f"{where}, {a.name}", Folder(path))
    if kind == 5:
        return _subgraph(a.g, f"{where}, {a.name}", path)
    if kind == 6:
        return tuple(float(v) for v in a.floats)
    if kind == 7:
        return tuple(int(v) for v in a.ints)
    if kind == 8:
        return tuple(v.decode(errors="replace") for v in a.strings)
    return None


def _sorted(calls: list[Call], known: set[str], path: Path) -> tuple[Call, ...]:
    """Topological order (stable); names the first cycle, missing or twice-made value."""
    maker: dict[str, int] = {}
    for i, call in enumerate(calls):
        for out in filter(None, call.outputs):
            if out in maker or out in known:
                raise FormatError.at(path, f"node {call.name}", f"makes {out!r}, which exists")
            maker[out] = i
    waits = []
    readers: list[list[int]] = [[] for _ in calls]
    for i, call in enumerate(calls):
        sources = {maker[n] for n in call.inputs if n in maker}
        for n in filter(None, call.inputs):
            if n not in maker and n not in known:
                raise FormatError.at(
                    path, f"node {call.name}", f"reads {n!r}, which nothing in the file makes"
                )
        waits.append(len(sources))
        for s in sources:
            readers[s].append(i)
    import heapq

    ready = [i for i, n in enumerate(waits) if n == 0]
    heapq.heapify(ready)
    order: list[Call] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(calls[i])
        for r in readers[i]:
            waits[r] -= 1
            if waits[r] == 0:
                heapq.heappush(ready, r)
    if len(order) < len(calls):
        stuck = next(c for c, n in zip(calls, waits, strict=True) if n > 0)
        raise FormatError.at(path, f"node {stuck.name}", "the graph runs in a circle here")
    return tuple(order)
