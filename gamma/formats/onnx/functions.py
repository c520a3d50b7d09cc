"""Functions that a file defines itself: each call of one becomes the nodes of its body.

What a body makes is named behind the call, as the value inside has no name in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.limits import check_nodes

_STANDARD = ("", "ai.onnx")


def inline(proto: Any, path: Path) -> None:
    """Take the calls of its own functions out of a model.

    Raises FormatError and UnsupportedError, which name the call.
    """
    known = {_key(f, f.name): f for f in proto.functions}
    sets = {_domain(o.domain): int(o.version) for o in proto.opset_import}
    taken = {str(n) for node in proto.graph.node for n in (*node.input, *node.output)}
    nodes = list(_expanded(proto.graph.node, known, sets, path, taken, ()))
    copies = [type(n).FromString(n.SerializeToString()) for n in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def fresh(name: str, taken: set[str]) -> str:
    """The name, or one like it, that was not taken; it is from now on."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _domain(name: str) -> str:
    return "" if name in _STANDARD else str(name)


def _key(owner: Any, name: str) -> tuple[str, str, str]:
    return _domain(owner.domain), str(name), str(owner.overload)


def _expanded(
    nodes: Any,
    known: Mapping[Any, Any],
    sets: Mapping[str, int],
    path: Path,
    taken: set[str],
    inside: tuple[Any, ...],
) -> Iterator[Any]:
    """The nodes, calls of functions replaced by copies of their bodies."""
    count = 0
    for position, node in enumerate(nodes):
        key = _key(node, node.op_type)
        body: list[Any] = [node]
        if key in known:
            name = str(node.name) or f"{node.op_type}_{position}"
            if key in inside:
                raise FormatError.at(path, f"node {name}", f"the function {key[1]} calls itself")
            _check_sets(known[key], sets, path, name)
            copied = _body(known[key], node, name, path, taken)
            body = list(_expanded(copied, known, sets, path, taken, (*inside, key)))
        count += len(body)
        check_nodes(count, path)
        yield from body


def _check_sets(function: Any, sets: Mapping[str, int], path: Path, name: str) -> None:
    for entry in function.opset_import:
        domain, version = _domain(entry.domain), int(entry.version)
        if domain == "" and sets.get(domain, version) != version:
            message = (
                f"the function {function.name} has operator set {version}, the graph "
                f"{sets[domain]}: export both with one"
            )
            raise UnsupportedError.at(path, f"node {name}", message)


def _body(function: Any, call: Any, name: str, path: Path, taken: set[str]) -> list[Any]:
    """The function's nodes, on the call's inputs and outputs, with the call's attributes.

    Values get names that are not ``taken``: names of nodes may occur twice.
    """
    if len(call.input) > len(function.input) or len(call.output) > len(function.output):
        message = f"has more inputs or outputs than the function {function.name}"
        raise FormatError.at(path, f"node {name}", message)
    names = {str(f): "" for f in function.input}
    for formal, given in ((function.input, call.input), (function.output, call.output)):
        names |= {str(f): str(g) for f, g in zip(formal, given, strict=False) if g}
    for value in (n for node in function.node for n in node.output):
        if value and str(value) not in names:
            names[str(value)] = fresh(f"{name}/{value}", taken)
    stated = {str(a.name): a for a in (*function.attribute_proto, *call.attribute)}
    made = []
    for k, node in enumerate(function.node):
        copy = type(node).FromString(node.SerializeToString())
        copy.name = f"{name}/{node.name or f'{node.op_type}_{k}'}"
        _rename(copy, names)
        _give(copy, stated)
        made.append(copy)
    return made


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Values of the body in a node, and in its graphs where these have none of that name."""
    for field in (node.input, node.output):
        field[:] = [names.get(str(n), str(n)) for n in field]
    for a in node.attribute:
        if a.HasField("g"):
            own = {str(v.name) for v in (*a.g.input, *a.g.initializer)}
            own |= {str(n) for inner in a.g.node for n in inner.output}
            outer = {n: new for n, new in names.items() if n not in own}
            for inner in a.g.node:
                _rename(inner, outer)
            for v in a.g.output:
                v.name = outer.get(str(v.name), str(v.name))


def _give(node: Any, given: Mapping[str, Any]) -> None:
    """Attributes that a body takes from its call; one that is not given has its default."""
    kept = []
    for a in node.attribute:
        if a.ref_attr_name:
            if str(a.ref_attr_name) not in given:
                continue
            taken = type(a).FromString(given[str(a.ref_attr_name)].SerializeToString())
            taken.name = a.name
            kept.append(taken)
            continue
        if a.HasField("g"):
            for inner in a.g.node:
                _give(inner, given)
        kept.append(a)
    copies = [type(a).FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(copies)
