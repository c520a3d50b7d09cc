"""``gamma verify`` of several inputs: a verdict for each, and the certified accuracy of all."""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.cli import picture, settings
from gamma.cli.inputs import Given
from gamma.cli.options import in_options
from gamma.cli.output import Progress
from gamma.cli.question import within
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.runtime.interrupts import Interrupted
from gamma.verification.accuracy import Accuracy
from gamma.verification.choices import limit_of
from gamma.verification.result import Result

SCHEMA = "gamma.batch/1"
ROWS = 14
"""Inputs listed at most without -v; the rest is counted."""
STATUSES = ("verified", "violated", "unknown")
ONE = ("open", "resume", "picture", "explain")
"""Options that are of one input."""

Decide = Callable[..., Result]


def decided(
    args: argparse.Namespace, form: str, net: Network, given: Given, decide: Decide
) -> tuple[Accuracy, bool]:
    """The verdicts in order, and whether Ctrl-C cut them short."""
    labels = _checked(args, form, given)
    centers = given.centers()
    limit = limit_of(args.timeout, args.method)
    results: list[Result] = []
    correct: list[bool] = []

    def tell(message: str) -> None:
        counts = ", ".join(f"{sum(r.status == s for r in results)} {s}" for s in STATUSES)
        progress(f"{len(results)}/{len(centers)} inputs, {counts}; {message}")

    interrupted = False
    with Progress(f"0/{len(centers)} inputs") as progress:
        for k, label in enumerate(labels):
            correct.append(int(net.forward(centers[k]).argmax()) == label)
            prop = given.question(args, k).resolve(math.prod(net.output_shape), net.batch_hint)
            try:
                result = decide(args, net, prop, time.perf_counter(), tell)
            except Interrupted as stop:
                if stop.partial is None:
                    raise
                result, interrupted = stop.partial, True
            notes = tuple(map(in_options, result.notes))
            results.append(replace(result, notes=notes, limit=limit))
            if interrupted:
                break
    return Accuracy(tuple(results), np.array(correct)), interrupted


def _checked(args: argparse.Namespace, form: str, given: Given) -> tuple[int, ...]:
    """The labels. Raises UsageError for what several inputs cannot have."""
    count = len(given.values)
    if given.labels is None:
        raise UsageError(f"{args.input}: {count} inputs need --labels FILE, or --label K for all")
    for name in ONE:
        if getattr(args, name):
            raise UsageError(f"{args.input}: --{name} is of one input, it has {count}")
    if form == "vnncomp":
        raise UsageError(f"{args.input}: --format vnncomp is of one input, it has {count}")
    if args.witness_out and not args.witness_out.endswith(".npz"):
        raise UsageError(
            f"--witness-out {args.witness_out}: of {count} inputs, give a name that ends in .npz"
        )
    return given.labels


def render(args: argparse.Namespace, form: str, found: Accuracy, seconds: float) -> str:
    """The outcome as text or as one JSON object."""
    if form == "json":
        return json.dumps(_record(args, found, seconds), indent=2, allow_nan=False)
    return "\n".join(_text(args, found, seconds))


def _record(args: argparse.Namespace, found: Accuracy, seconds: float) -> dict[str, Any]:
    """The object of schema ``gamma.batch/1``."""
    labels = [r.property["label"] for r in found.results]
    rows = zip(labels, found.correct.tolist(), found.results, strict=True)
    return {
        "schema": SCHEMA,
        "input": args.input,
        "summary": {
            "inputs": len(found),
            **{status: found.count(status) for status in STATUSES},
            "certified_accuracy": found.certified,
            "clean_accuracy": found.clean,
        },
        "seconds": {"total": seconds},
        "results": [
            {"index": k, "label": label, "correct": correct, "result": result.to_dict()}
            for k, (label, correct, result) in enumerate(rows)
        ],
    }


def _text(args: argparse.Namespace, found: Accuracy, seconds: float) -> list[str]:
    from gamma.cli.report import facts

    total = len(found)
    share = math.floor(1000 * found.count("verified") / total) / 10
    name = Path(args.input).name
    lines = [
        f"CERTIFIED  {found.count('verified')} of {total} inputs of {name} have their class "
        f"{within(args)}: certified accuracy {share:.1f} %",
        "",
    ]
    said = ("proved", "with a witness that was replayed", "neither proved nor refuted")
    for status, words in zip(STATUSES, said, strict=True):
        lines.append(f"  {status:<9} {found.count(status):>6}  {words}")
    right = int(found.correct.sum())
    lines.append(f"  {'correct':<9} {right:>6}  the input itself, {100 * found.clean:.1f} %")
    lines += [*_table(found, args.verbose), ""]
    kept = [f for f in facts(found[0], False) if f.startswith(("model ", "guarantee "))]
    time_each = f" of {found[0].limit:g} s for each" if found[0].limit is not None else ""
    kept.append(f"time       {picture.seconds(seconds)}{time_each}")
    notes = dict.fromkeys(note for result in found for note in result.notes)
    return [*lines, *kept, *(f"note       {note}" for note in notes), *settings.told(args)]


def _table(found: Accuracy, every: bool) -> list[str]:
    """The inputs that are not verified, or all of them."""
    listed = [k for k, r in enumerate(found.results) if every or r.status != "verified"]
    rows = []
    for k in listed if every else listed[:ROWS]:
        result = found[k]
        worst = result.worst_margin
        shown = "" if worst is None else picture.below(worst)
        spent = f"{result.seconds['total']:.3f}"
        rows.append((str(k), str(result.property["label"]), result.verdict, shown, spent))
    if not rows:
        return []
    head = ("input", "label", "verdict", "worst margin", "seconds")
    lines = ["", *picture.table(rows, head, (True, True, False, True, True))]
    more = len(listed) - len(rows)
    return [*lines, f"... and {more} more that are not verified (-v)"] if more else lines


def witnesses(found: Accuracy) -> bytes:
    """A .npz file: ``index`` of the violated inputs, witnesses ``x`` and their outputs ``y``."""
    kept = [(k, r.counterexample) for k, r in enumerate(found) if r.counterexample is not None]
    stream = io.BytesIO()
    np.savez(
        stream,
        allow_pickle=False,
        index=np.array([k for k, _ in kept], np.int64),
        x=np.array([c.x for _, c in kept]),
        y=np.array([c.y for _, c in kept]),
    )
    return stream.getvalue()
