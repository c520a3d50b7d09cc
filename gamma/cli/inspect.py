"""``gamma inspect``: what is in a model file and whether gamma can bound it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gamma.cli import inspect_model, picture, prompts
from gamma.cli.inputs import load_network
from gamma.errors import GammaError, UnsupportedError
from gamma.network.graph import Network, Node
from gamma.verification.describe import element_notes

MOST = 60
"""Layers listed in text; the JSON form has all."""


def run(args: argparse.Namespace) -> int:
    """Print the layer table, return 0."""
    if prompts.asked(args):
        shown = inspect_model.record(args) if args.json else inspect_model.text(args)
        print(json.dumps(shown, indent=2) if args.json else shown)
        return 0
    try:
        net = load_network(args)
    except UnsupportedError:
        counts = file_operators(Path(args.model))
        if counts:
            print(unsupported(counts))
        raise
    print(json.dumps(record(net), indent=2) if args.json else text(net))
    return 0


def record(net: Network) -> dict[str, Any]:
    """The JSON object, schema ``gamma.inspect/1``."""
    source = net.source
    return {
        "schema": "gamma.inspect/1",
        "path": str(source.path) if source else None,
        "sha256": source.sha256 if source else None,
        "format": source.kind if source else None,
        "input_shape": list(net.input_shape),
        "output_shape": list(net.output_shape),
        "parameters": net.parameters,
        "element_types": list(net.element_types),
        "neurons": sum(node.size for node in net.nodes[1:]),
        "operators": operators(net),
        "supported": True,
        "notes": [*element_notes(net), *net.notes],
        "layers": [
            {
                "index": index,
                "name": node.name,
                "op": node.op.name,
                "inputs": list(node.inputs),
                "shape": list(node.shape),
                "parameters": node.op.parameters,
            }
            for index, node in enumerate(net.nodes)
        ],
    }


def file_operators(path: Path) -> dict[str, int]:
    """Operators of an ONNX file as the file names them; empty for other files."""
    from gamma.formats.onnx import read_model

    try:
        calls = read_model(path).calls
    except GammaError:
        return {}
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.op] = counts.get(call.op, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def unsupported(counts: dict[str, int]) -> str:
    """A file's operators, those without a translation marked."""
    from gamma.formats.onnx import TRANSLATORS

    rows = [
        (name, str(count), "read" if name in TRANSLATORS else "not supported")
        for name, count in counts.items()
    ]
    return "\n".join(picture.table(rows, ("operator", "nodes", ""), (False, True, False)))


def operators(net: Network) -> dict[str, int]:
    """How often each operator occurs, most frequent first."""
    counts: dict[str, int] = {}
    for node in net.nodes[1:]:
        counts[node.op.name] = counts.get(node.op.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def text(net: Network) -> str:
    """One screen about the network."""
    source = net.source
    where = f"{source.path} ({source.kind})" if source else "in memory"
    used = ", ".join(f"{name} {count}" for name, count in operators(net).items())
    lines = [
        f"model      {where}",
        f"input      {_shape(net.input_shape)}",
        f"output     {_shape(net.output_shape)}",
        f"parameters {net.parameters:,}",
        *([f"computes   in {', '.join(net.element_types)}"] if net.element_types else []),
        f"operators  {used or 'none'} (all supported)",
        "",
    ]
    rows = [_row(net, index, node) for index, node in enumerate(net.nodes[:MOST])]
    head = ("", "node", "operator", "shape", "neurons", "parameters", "reads")
    lines += picture.table(rows, head, (True, False, False, False, True, True, False))
    if len(net.nodes) > MOST:
        lines.append(f"... {len(net.nodes)} nodes in all (--json lists them)")
    notes = (*element_notes(net), *net.notes)
    if notes:
        lines += ["", *(f"note  {note}" for note in notes)]
    return "\n".join(lines)


def _row(net: Network, index: int, node: Node) -> tuple[str, ...]:
    reads = ", ".join(str(i) for i in node.inputs)
    count = node.op.parameters
    mark = " (output)" if index == net.output else ""
    return (
        str(index),
        node.name[:36],
        node.op.name + mark,
        _shape(node.shape),
        f"{node.size:,}",
        f"{count:,}" if count else "",
        reads,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape) or "scalar"
