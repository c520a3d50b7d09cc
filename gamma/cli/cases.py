"""What was decided, one case for each question: what the reports for CI systems are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gamma.cli import junit, sarif
from gamma.cli.output import write_text
from gamma.decimals import below
from gamma.frozen import Frozen
from gamma.verification.accuracy import Accuracy
from gamma.verification.records import Record
from gamma.verification.result import Result

SHOWN = 8
"""Entries of a witness that a report shows."""


class Case(Frozen, eq=True):
    """One question and its answer.

    Attributes:
        name: the question in a few words. model: the network's file. file: where the question
            stands: the property, the input or the model.
        status: "verified", "violated", "unknown", or "error" where there is no answer.
        text: why, in one line. seconds: that it took.
    """

    name: str
    model: str
    file: str
    status: str
    text: str
    seconds: float


FORMS: dict[str, Callable[[Sequence[Case], bool], str]] = {
    "junit": junit.document,
    "sarif": sarif.document,
}
"""Option -> the report of cases, in which an unknown may count as a failure."""


def write(args: argparse.Namespace, cases: Sequence[Case]) -> None:
    """Write the reports that the options ask for."""
    for name, document in FORMS.items():
        if file := getattr(args, name):
            write_text(Path(file), document(cases, "unknown" in args.fail_on))


def of_result(args: argparse.Namespace, result: Result, name: str) -> Case:
    """The case of one result."""
    file = args.property or (args.input if args.input != "zeros" else None) or args.model
    return Case(name, args.model, file, result.status, _said(result), result.seconds["total"])


def of_batch(args: argparse.Namespace, found: Accuracy, where: str) -> list[Case]:
    """A case for each input; ``where``: the set around each, in words."""
    return [
        of_result(args, result, f"input {k}: {where} is class {result.property['label']}")
        for k, result in enumerate(found)
    ]


def of_records(records: Sequence[Record], folder: Path) -> list[Case]:
    """A case for each record of a suite, whose list lies in ``folder``."""
    return [
        Case(
            f"{r['model']} {r['property']}" + (f" ({r['number'] + 1})" if r["number"] else ""),
            str(folder / r["model"]),
            str(folder / r["property"]),
            "unknown" if r["verdict"] == "timeout" else r["verdict"],
            r.get("error") or _recorded(r),
            r["seconds"],
        )
        for r in records
    ]


def _said(result: Result) -> str:
    if result.counterexample is not None:
        return _witness(result.counterexample.to_dict())
    return result.reason or _proved(result.to_dict())


def _recorded(record: dict[str, Any]) -> str:
    if (found := record.get("counterexample")) is not None:
        return _witness(found)
    late = "the time limit was reached; " if record["verdict"] == "timeout" else ""
    worst = record.get("worst_margin")
    margin = f", worst margin at least {below(float(worst['lower']))}" if worst else ""
    return late + _proved(record) + margin


def _proved(record: dict[str, Any]) -> str:
    counts = record["conjunctions"]
    return f"{counts['proved']} of {counts['total']} unsafe sets are excluded by sound bounds"


def _witness(found: dict[str, Any]) -> str:
    """The counterexample of a JSON form."""
    ends = []
    for name in ("x", "y"):
        values = ", ".join(repr(v) for v in found[name][:SHOWN])
        more = f", ... {len(found[name])} numbers" if len(found[name]) > SHOWN else ""
        ends.append(f"{name.upper()} = ({values}{more})")
    return f"a witness, replayed by {found['replayed_by']}: {', '.join(ends)}"
