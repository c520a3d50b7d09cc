"""What gamma decides beside other complete verifiers, as a page of docs/performance.

`benches.vnncomp --verifiers FILE.json` writes it from its own records and from those of the other
tools, which ran on the same kind of machine: ``rows`` with tool, benchmark, onnx, vnnlib, verdict,
wall_s and limit_s, and what ``machine`` and ``tools`` they are of.
"""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benches.cases import ROOT
from benches.report import markdown

PAGE = ROOT / "docs" / "performance" / "verifiers.md"
DECIDED = {"sat": "violated", "unsat": "verified"}
"""Verdicts of the other tools, and what they are called here."""
NAMES = {"abcrown": "α,β-CROWN"}

Record = dict[str, Any]
Key = tuple[str, str, str]


class Line(NamedTuple):
    """One tool on one benchmark: instances that both were asked, decided by each, and the mean
    seconds over those that both decided: the tool's wall, gamma's wall and processor."""

    tool: str
    benchmark: str
    asked: int
    theirs: int
    ours: int
    seconds: tuple[float, float, float] | None

    @property
    def behind(self) -> bool:
        """Fewer decided than the tool, or as many in more wall time."""
        more = self.seconds is not None and self.seconds[1] > self.seconds[0]
        return self.ours < self.theirs or (self.ours == self.theirs and more)


def key(record: Record) -> Key:
    """What tells instances apart."""
    return record["benchmark"], record["onnx"], record["vnnlib"]


def best(rows: Iterable[Record]) -> dict[str, dict[Key, Record]]:
    """Tool -> instance -> its best run, where it has several settings."""
    found: dict[str, dict[Key, Record]] = defaultdict(dict)

    def rank(row: Record) -> tuple[bool, float]:
        return row["verdict"] not in DECIDED, row["wall_s"]

    for row in rows:
        known = found[row["tool"]].get(key(row))
        if known is None or rank(row) < rank(known):
            found[row["tool"]][key(row)] = row
    return found


def lines(records: Iterable[Record], rows: Iterable[Record]) -> list[Line]:
    """All tools on all benchmarks, the instances that gamma has records of."""
    ours = {key(record): record for record in records}
    found = []
    for tool, theirs in sorted(best(rows).items()):
        for benchmark in sorted({k[0] for k in theirs if k in ours}):
            pairs = [(row, ours[k]) for k, row in theirs.items() if k in ours and k[0] == benchmark]
            both = [p for p in pairs if p[0]["verdict"] in DECIDED and _decided(p[1])]
            for row, record in both:
                if DECIDED[row["verdict"]] != record["verdict"]:
                    raise ValueError(f"{key(record)}: {tool} says {row['verdict']}, gamma "
                                     f"{record['verdict']}")  # fmt: skip
            found.append(
                Line(
                    tool,
                    benchmark,
                    len(pairs),
                    sum(row["verdict"] in DECIDED for row, _ in pairs),
                    sum(_decided(record) for _, record in pairs),
                    _means(both),
                )
            )
    return found


def _decided(record: Record) -> bool:
    return record["verdict"] in DECIDED.values()


def _means(both: list[tuple[Record, Record]]) -> tuple[float, float, float] | None:
    if not both:
        return None
    count = len(both)
    wall = sum(record["wall"] for _, record in both) / count
    spent = [record.get("processor", record["wall"]) for _, record in both]
    return sum(row["wall_s"] for row, _ in both) / count, wall, sum(spent) / count


def page(records: list[Record], document: dict[str, Any]) -> str:
    """The page: what ran how, the table, and where gamma is behind."""
    table = lines(records, document["rows"])
    share = sum(r.get("processor", r["wall"]) for r in records) / sum(r["wall"] for r in records)
    limits = sorted({record["limit"] for record in records})
    theirs = sorted({row["limit_s"] for row in document["rows"]})
    prose = (
        "Written by `python -m benches.vnncomp --verifiers FILE.json`; do not edit. "
        f"Other tools ({document['tools']}) ran on: {document['machine']}. They had limits of "
        f"{theirs[0]:g} to {theirs[-1]:g} s; of several settings the best run counts. "
        f"gamma: method `auto`, one processor, limits of {limits[0]:g} to {limits[-1]:g} s. "
        "Start-up is in all seconds, which are means over the instances that both decided."
    )
    if share < 0.8:
        prose += (
            f" Its machine was busy: an instance had {100 * share:.0f} % of a processor on "
            "average, so that fewer are decided than its limit allows, and its processor seconds "
            "say more than its wall seconds."
        )
    cells = [
        [
            NAMES.get(line.tool, line.tool),
            line.benchmark,
            str(line.asked),
            str(line.theirs),
            str(line.ours),
            *(["–"] * 3 if line.seconds is None else [f"{s:.1f}" for s in line.seconds]),
        ]
        for line in table
    ]
    head = ("tool", "benchmark", "instances", "decided", "by gamma")
    head += ("tool s", "gamma wall s", "gamma processor s")
    behind = [
        f"{line.benchmark} ({NAMES.get(line.tool, line.tool)})" for line in table if line.behind
    ]
    last = "gamma is nowhere behind: it decides more, or as much in less wall time."
    if behind:
        last = f"gamma is behind, by fewer decided or more time, on {', '.join(behind)}."
    text = "\n\n".join(textwrap.fill(p, 90, break_on_hyphens=False) for p in (prose, last))
    right = [False] * 2 + [True] * 6
    return f"# Beside other verifiers\n\n{text}\n\n{markdown(head, cells, right)}\n"


def write(records: list[Record], path: Path) -> None:
    """Write the page from gamma's records and the file of the others'."""
    PAGE.write_text(page(records, json.loads(path.read_text())), encoding="utf-8")
