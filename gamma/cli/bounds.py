"""``gamma bounds``: the certified bounds themselves, no verdict."""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.cli import picture
from gamma.cli.combinations import check_axis, check_combination, streaming
from gamma.cli.inputs import Asked, network_and_question
from gamma.cli.options import in_options
from gamma.cli.output import INTERRUPTED, Progress, check_writable, deliver, write_bytes
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Network
from gamma.propagate.blocks import expected_seconds
from gamma.runtime.interrupts import patient
from gamma.verification.bounding import bound_outputs
from gamma.verification.result import Result, number

Layers = dict[str, tuple[Any, Any]]
MOST_WRITTEN = 1 << 22  # bounded values that --json spells out, about 100 bytes each


TIMEOUT = 5
GRACE = 1.0
"""Seconds that interval bounds may be expected to take where the time ran out before others."""


def run(args: argparse.Namespace) -> int:
    """Compute the bounds, deliver them, return 0; 5 where they are not those asked for."""
    check_combination(args)
    check_writable(args.output)
    check_writable(args.npz)
    layers: Layers | None = {} if args.all_layers else None
    return _deliver(args, "json" if args.json else "text", layers, Path(args.npz or ""))


def _deliver(args: argparse.Namespace, form: str, layers: Layers | None, npz: Path) -> int:
    """Bounds of the outputs in ``form``; of every node with ``layers``."""
    start = time.perf_counter()
    asked = network_and_question(args)
    if form == "json":
        _check_length(asked.network, len(asked.property.regions), layers is not None)
    with Progress(f"{args.method}: bounds", args.timeout) as progress, patient():
        result = bound_outputs(
            asked.network,
            asked.property.box(),
            method=args.method,
            guarantee=args.guarantee,
            dtype=args.dtype,
            timeout=None if args.timeout is None else max(args.timeout - asked.seconds, 1e-3),
            threads=args.threads,
            prop=asked.property,
            layers=layers,
            positions=None if asked.prompt else check_axis(args),
            explain=args.explain,
            streaming=streaming(args),
            gap=getattr(args, "gap", None),
            progress=progress,
        )
    late = result.bounds is None
    if late:
        result = _intervals(args, asked, layers)
    seconds = {"load": asked.seconds, **result.seconds, "total": time.perf_counter() - start}
    limit = args.timeout if args.timeout is not None else result.limit
    notes = tuple(map(in_options, result.notes))
    if args.explain and result.explain is None:
        notes += ("--explain shows the plan of the memory, which --memory and --stream make",)
    result = replace(result, limit=limit, seconds=seconds, notes=notes)
    if npz.name:
        write_bytes(npz, _npz(result, layers))
    made = _json(result, layers) if form == "json" else text(result, layers, args.explain)
    deliver(made, args.output)
    return INTERRUPTED if result.interrupted else TIMEOUT if late else 0


def _intervals(args: argparse.Namespace, asked: Asked, layers: Layers | None) -> Result:
    """Interval bounds, where the time ran out before those of the method, and a note about it."""
    net, box = asked.network, asked.property.box()
    said = f"the time limit of {args.timeout:g} s was reached before bounds by {args.method}"
    expected = expected_seconds(net, "ibp", len(box.batched(net.input_shape)), 0)
    if expected > GRACE:
        raise ResourceError(f"{said}; by intervals (--method ibp) they take some {expected:.0f} s")
    result = bound_outputs(
        net,
        box,
        method="ibp",
        guarantee=args.guarantee,
        dtype=args.dtype,
        threads=args.threads,
        prop=asked.property,
        layers=layers,
        streaming=streaming(args),
    )
    notes = (*result.notes, f"{said}: these are by intervals, and looser")
    return replace(result, asked=args.method, notes=notes)


def _check_length(net: Network, boxes: int, every: bool) -> None:
    """Refuse numbers by the gigabyte before they are computed."""
    values = boxes * (sum(n.size for n in net.nodes) if every else net.nodes[net.output].size)
    if values > MOST_WRITTEN:
        raise UsageError(
            f"--json would spell out the bounds of {values:,} values, at most {MOST_WRITTEN:,}: "
            "give --npz FILE for the arrays, without --json"
        )


def _npz(result: Result, layers: Layers | None) -> bytes:
    """Arrays ``lower`` and ``upper``, and ``lower/NAME``, ``upper/NAME`` for every node."""
    assert result.bounds is not None
    arrays = {"lower": result.bounds[0], "upper": result.bounds[1]}
    for name, (lower, upper) in (layers or {}).items():
        arrays[f"lower/{name}"], arrays[f"upper/{name}"] = lower, upper
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _json(result: Result, layers: Layers | None) -> str:
    record = result.to_dict()
    if layers is not None:
        record["layers"] = {
            name: {
                "lower": [number(v) for v in np.ravel(lower)],
                "upper": [number(v) for v in np.ravel(upper)],
                "shape": list(lower.shape),
            }
            for name, (lower, upper) in layers.items()
        }
    return json.dumps(record, indent=2, allow_nan=False)


HEAD = "BOUNDS  every output of the set lies inside"


def text(result: Result, layers: Layers | None, explain: bool, head: str = HEAD) -> str:
    """The report, ``head`` first."""
    from gamma.cli.report import blocks, explanation, facts, outputs, reached

    assert result.bounds is not None
    lines = [head, "", *outputs(*result.bounds)]
    if result.reached is not None:
        lines += ["", *reached(*result.bounds, result.reached)]
    if layers is not None:
        lines += ["", *_layer_table(layers)]
    if explain and result.explain:
        lines += ["", *explanation(result.explain)]
    return "\n".join([*lines, *blocks(result), "", *facts(result)])


def _layer_table(layers: Layers) -> list[str]:
    rows = []
    for name, (lower, upper) in layers.items():
        width = upper.astype(np.float64) - lower.astype(np.float64)
        rows.append(
            (
                name[:40],
                "×".join(map(str, lower.shape[1:])),
                picture.below(float(lower.min())),
                picture.above(float(upper.max())),
                picture.number(float(width.mean())),
            )
        )
    head = ("node", "shape", "least", "greatest", "mean width")
    return picture.table(rows, head, (False, False, True, True, True))
