"""``gamma inspect`` of a model: architecture, where hyper-parameters were read, tensors, memory."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gamma.architectures.model import Model
from gamma.cli import inspect_gguf, picture
from gamma.errors import GammaError
from gamma.formats.detect import is_gguf
from gamma.formats.gguf import open_gguf
from gamma.formats.model import open_model
from gamma.network.graph import Network
from gamma.propagate.choosing import kept
from gamma.propagate.memory.store import bytes_of
from gamma.propagate.strips import peak

LENGTHS = (4, 64)
"""Positions for which memory is told when no prompt is given."""


def record(args: argparse.Namespace) -> dict[str, Any]:
    """The JSON object, schema ``gamma.inspect-model/1``; a GGUF file has its own and more."""
    found: dict[str, Any] = {"schema": "gamma.inspect-model/1", "path": args.model}
    if is_gguf(Path(args.model)):
        found = inspect_gguf.record(open_gguf(args.model))
    model, reason = _opened(args)
    found |= {"supported": model is not None, "reason": reason}
    if model is not None:
        found |= {
            "architecture": model.architecture.name,
            "parameters": model.parameters,
            "hyper_parameters": {
                name: {"value": _plain(value), "read_from": where}
                for name, (value, where) in model.settings.ready.items()
            },
            "kinds": _kinds(model),
            "outputs": list(model.outputs),
            "left_out": list(model.tensors.left_out),
            "passes": [_pass(model, count) for count in _lengths(args, model)],
        }
    return found


def text(args: argparse.Namespace) -> str:
    """One screen about the model, and what is in a GGUF file."""
    model, reason = _opened(args)
    lines: list[str] = []
    if model is None:
        lines += [f"network    cannot be built: {reason}"]
    else:
        lines += [
            f"model      {args.model}",
            f"network    {model.architecture.title}, {', '.join(model.outputs)}",
            f"parameters {model.parameters:,}",
            "",
        ]
        read = model.settings.ready.items()
        rows = [(name, str(_plain(value)), where) for name, (value, where) in read]
        lines += picture.table(rows, ("hyper-parameter", "value", "read from"), (False,) * 3)
        kinds = [(kind, *(f"{n:,}" for n in total)) for kind, total in _kinds(model).items()]
        head = ("kind", "tensors", "weights", "bytes")
        lines += ["", *picture.table(kinds, head, (False, True, True, True)), ""]
        passes = [_pass(model, count) for count in _lengths(args, model)]
        shown = [tuple(f"{n:,}" for n in made.values()) for made in passes]
        head = ("positions", "nodes", "bytes of weights read", "bytes of bounds")
        lines += picture.table(shown, head, (True,) * 4)
        lines += [f"note  {note}" for note in model.notes]
    if is_gguf(Path(args.model)):
        lines += ["", inspect_gguf.text(open_gguf(args.model))]
    return "\n".join(lines)


def _opened(args: argparse.Namespace) -> tuple[Model | None, str | None]:
    """The model, or why a GGUF file, of which there is more to say, is none.

    Raises FormatError for a file whose header is damaged.
    """
    if not is_gguf(Path(args.model)):
        return open_model(args.model, args.config), None
    open_gguf(args.model)
    try:
        return open_model(args.model), None
    except GammaError as error:
        return None, str(error)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _kinds(model: Model) -> dict[str, list[int]]:
    """Kind -> tensors, weights and bytes of what networks read."""
    totals: dict[str, list[int]] = {}
    for name in model.tensors.needs:
        weight = model.tensors.weight(name)
        total = totals.setdefault(weight.kind, [0, 0, 0])
        for at, count in enumerate((1, weight.rows * weight.columns, weight.nbytes)):
            total[at] += count
    return totals


def _lengths(args: argparse.Namespace, model: Model) -> tuple[int, ...]:
    if args.ids is not None:
        return (len(args.ids),)
    return tuple(sorted({min(count, model.config.context) for count in LENGTHS}))


def _pass(model: Model, positions: int) -> Mapping[str, int]:
    """What one pass of interval bounds holds; the weights stay in the mapped file."""
    net: Network = model.network(positions)
    weights = [getattr(node.op, "weight", None) for node in net.nodes]
    keep = kept(net, "ibp")
    stored = {id(w): w.nbytes for w in weights if w is not None}
    return {
        "positions": positions,
        "nodes": len(net.nodes),
        "weight_bytes": sum(stored.values()),
        "bound_bytes": sum(bytes_of(net, index, 1) for index in range(len(net.nodes)))
        if keep is None
        else peak(net, 1, keep)[0],
    }
