"""Which part of a file is asked for: an output, what lies behind it, which end may be left out.

Only what the asked output needs is checked and translated: an operator gamma does not know, behind
another output, is nobody's concern.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gamma.errors import FormatError, UsageError
from gamma.formats.onnx import schema
from gamma.formats.onnx.read import OPSETS, Call, Model
from gamma.formats.onnx.translation import Translation
from gamma.formats.onnx.values import Shape

# Operators at the end of a classifier that keep the order of its outputs. A Sigmoid is strictly
# increasing; a Softmax and a LogSoftmax are along one axis; an ArgMax says which is the largest.
_MONOTONE = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "Identity")


def output_name(model: Model, wanted: str | None) -> str:
    """The output asked for: the file's only one, or any value of the graph by name."""
    names = [v.name for v in model.outputs]
    if wanted is None:
        if len(names) == 1:
            return names[0]
        found = ", ".join(names[:8])
        raise UsageError.at(model.path, "outputs", f"found {found}: name one with output=")
    values = [*names, *(n for call in model.calls for n in call.outputs if n)]
    if wanted in values:
        return wanted
    if not isinstance(wanted, str):
        raise UsageError.at(model.path, "outputs", f"output={wanted!r}, expected a name")
    import difflib

    near = difflib.get_close_matches(wanted, values[:1000], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError.at(
        model.path, "outputs", f"found {', '.join(names[:8])}, no value is called {wanted}{hint}"
    )


def needed(model: Model, target: str) -> list[Call]:
    """The calls behind the output, in order; outputs that none of them reads have no name."""
    wanted = {target}
    found = []
    for call in reversed(model.calls):
        if wanted.intersection(filter(None, call.outputs)):
            wanted.update(filter(None, call.inputs))
            read = tuple(name if name in wanted else "" for name in call.outputs)
            found.append(replace(call, outputs=read))
    return found[::-1]


# What often leaves its input as it is. The others make a node each, but for an Add of 0 and such.
_FREE = frozenset((
    "Identity", "Cast", "CastLike", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
))  # fmt: skip


def computing(calls: list[Call], source: str) -> int:
    """How many calls compute from the input's values: about the nodes they will make."""
    live, count = {source}, 0
    for call in calls:
        if call.op not in ("Shape", "Size") and not live.isdisjoint(call.inputs):
            live.update(filter(None, call.outputs))
            count += call.op not in _FREE
    return count


def monotone_end(model: Model, target: str) -> Call | None:
    """The operator that makes ``target`` where its kind can keep the order of its entries."""
    for call in model.calls:
        if target in call.outputs and call.op in _MONOTONE and len(call.inputs) == 1:
            return call
    return None


def keeps_order(call: Call, dims: Shape, opset: int) -> bool:
    """Whether the largest entry of the operator's input, of shape ``dims``, decides its output.

    Softmax and ArgMax compare entries along one axis: a label compares all, so that axis must be
    the only one (or, before set 13, the trailing axes that a Softmax takes together).
    """
    if call.op in ("Sigmoid", "Identity"):
        return True
    early = call.op != "ArgMax" and opset < 13
    axis = call.attributes.get("axis", 0 if call.op == "ArgMax" else 1 if early else -1)
    if type(axis) is not int or not -len(dims) <= axis < len(dims):
        return False
    compared = math.prod(dims[axis:]) if early and axis >= 0 else dims[axis]
    return compared == math.prod(dims) and not call.attributes.get("select_last_index", 0)


def refuse_unknown(t: Translation, call: Call, known: Collection[str]) -> None:
    """Raise UnsupportedError for an operator gamma cannot translate, or that has changed since."""
    if "." in call.op and call.op not in known:
        raise t.fail(call, "is not a standard operator: export without it")
    if call.op not in known:
        raise t.fail(
            call, f"is not supported{_advice(t, call)}; gamma reads {', '.join(sorted(known))}"
        )
    if t.opset > OPSETS[1] and _changed(call.op, t.opset):
        hint = "" if find_spec("onnx") else ", or pip install onnx, which knows what has changed"
        known_as = f"operator set {t.opset}: gamma knows {call.op} as of set {OPSETS[1]}"
        raise t.fail(call, f"{known_as}: re-export{hint}")


def _advice(t: Translation, call: Call) -> str:
    """What to ask instead of an unsupported operator that ends the network."""
    ends = {v.name for v in t.model.outputs}
    if call.op in _MONOTONE + ("Hardmax", "TopK") and ends.intersection(call.outputs):
        return f": ask for the value before it, output={call.inputs[0]}"
    if call.op == "DynamicQuantizeLinear":
        scale = "it takes a scale that depends on the input"
        return f": {scale}: quantise statically, or bound the network in floats"
    return ""


def _changed(op: str, opset: int) -> bool:
    """Whether the operator's meaning may have changed after the last set gamma knows."""
    try:
        import onnx.defs
    except ImportError:
        return True
    if not onnx.defs.has(op):
        return False  # onnxruntime's own
    if opset > onnx.defs.onnx_opset_version():
        return True
    schema: Any = onnx.defs.get_schema(op, opset)
    return int(schema.since_version) > OPSETS[1]


def _captured(node: Any) -> set[str]:
    """The names that graphs inside of a node read, and more: they may be their own."""
    graphs = [a.g for a in node.attribute if a.HasField("g")]
    inner = [n for graph in graphs for n in graph.node]
    found = {str(v.name) for graph in graphs for v in graph.output}
    return found.union(*({*map(str, n.input), *_captured(n)} for n in inner))


def cut(data: bytes, entry: str, output: str) -> bytes:
    """The model's bytes with one output, any value of its graph, and the nodes behind it alone.

    Raises FormatError when the bytes are no model.
    """
    try:
        proto = schema.decode(data)
    except ValueError as error:
        raise FormatError(f"not a readable ONNX model: {error}") from error
    if len(proto.functions):
        from gamma.formats.onnx.functions import inline

        inline(proto, Path())
    graph = proto.graph
    wanted = {output}
    kept: dict[int, Any] = {}
    makers = {name: node for node in graph.node for name in node.output if name}
    pending = [output]
    while pending:
        node = makers.get(pending.pop())
        if node is not None and id(node) not in kept:
            kept[id(node)] = node
            read = {*node.input, *_captured(node)}
            pending.extend(read - wanted)
            wanted.update(read)
    nodes = [node for node in graph.node if id(node) in kept]
    declared = [v for v in graph.output if v.name == output]
    declared = declared or [schema.message("ValueInfo")(name=output)]
    inputs = [v for v in graph.input if v.name in wanted or v.name == entry]
    for field, values in ((graph.node, nodes), (graph.output, declared), (graph.input, inputs)):
        copies = [type(v).FromString(v.SerializeToString()) for v in values]
        del field[:]
        field.extend(copies)
    return bytes(proto.SerializeToString())
