"""Bench documents as text, and as the generated parts of docs/performance.md and README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.cases import ROOT
from gamma.cli import picture

PAGE = ROOT / "docs" / "performance.md"
TARGETS_PAGE = ROOT / "benches" / "targets.md"
README = ROOT / "README.md"
STORED = ROOT / "docs" / "performance" / "macro.json"
Record = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Times faster than the peer, for the records that match."""

    name: str
    must: float
    aim: float
    matches: Callable[[Record], bool]


def _of(method: str, *cases: str, batches: Sequence[int] = (1,)) -> Callable[[Record], bool]:
    """Records of a method, of cases whose names start so, at these batches."""

    def matches(record: Record) -> bool:
        right = record["method"] == method and record["batch"] in batches
        return right and record["case"].startswith(cases)

    return matches


DENSE = ("acasxu", "reach", "rl_", "mnist", "tll")
TARGETS = (
    Target("IBP, dense networks, batch 1", 8, 20, _of("ibp", *DENSE)),
    Target("IBP, batch 128", 2, 4, _of("ibp", "", batches=(128,))),
    Target("CROWN, acasxu, reach, rl", 10, 30, _of("crown", "acasxu", "reach", "rl_")),
    Target("CROWN, mnist_fc, batch 1", 6, 15, _of("crown", "mnist")),
    Target(
        "CROWN, mnist_fc, acasxu, batch 16 and 128",
        4,
        10,
        _of("crown", "mnist", "acasxu", batches=(16, 128)),
    ),
    Target("CROWN, tll, collins", 4, 10, _of("crown", "tll", "collins")),
    Target("CROWN, oval21, batch 1 and 128", 3, 10, _of("crown", "oval21", batches=(1, 128))),
    Target("CROWN, cifar10_resnet, sri_resnet_a", 3, 10, _of("crown", "cifar10_resnet", "sri")),
)

COLD = (0.6, 0.3)
"""Seconds to the first bound in a cold process: must, aim."""


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1e3:.3g}"


def _ratio(record: Record) -> float | None:
    return record["peer"] / record["best"] if record["peer"] else None


HEAD = (
    *("case", "method", "batch", "dtype", "threads", "best ms", "median", "cpu"),
    *("peak MB", "floor ms", "of floor", "peer ms", "× faster"),
)
RIGHT = (False, False, True, False, *(True,) * 9)


def row(record: Record) -> tuple[str, ...]:
    """The cells of one record."""
    ratio = _ratio(record)
    return (
        record["case"],
        record["method"],
        str(record["batch"]),
        record["dtype"],
        str(record["threads"]),
        _milliseconds(record["best"]),
        _milliseconds(record["median"]),
        _milliseconds(record["cpu"]),
        "" if record["peak"] is None else f"{record['peak'] / 1e6:.0f}",
        _milliseconds(record["floor"]),
        f"{record['best'] / record['floor']:.3g}",
        _milliseconds(record["peer"]),
        "" if ratio is None else f"{ratio:.3g}",
    )


def machine_lines(document: dict[str, Any]) -> list[str]:
    """What it ran on."""
    about = document["environment"]
    lines = [f"{about['processor']}, {about['isa']}, {about['blas']}, NumPy {about['numpy']}"]
    for threads, limits in document["machine"].items():
        lines.append(
            f"{threads} thread(s): copy {limits['copy'] / 1e9:.1f} GB/s, products "
            f"{limits['gemm32'] / 1e9:.0f} (float32) and {limits['gemm64'] / 1e9:.0f} (float64) "
            f"GFLOP/s, load average up to {limits['load']:.1f}"
        )
    cold = document["cold"]
    lines.append(f"first bound in a cold process ({cold['case']}): {cold['seconds']:.2f} s")
    return lines


def text(document: dict[str, Any]) -> str:
    """The whole table and the targets, for a terminal."""
    rows = [row(record) for record in document["records"]]
    lines = [*machine_lines(document), "", *picture.table(rows, HEAD, RIGHT)]
    budget = list(targets(document))
    if budget:
        shape = (False, True, True, True, False, False)
        lines += ["", *picture.table(budget, TARGET_HEAD, shape)]
    return "\n".join(lines)


TARGET_HEAD = ("target (times faster)", "must", "aim", "worst", "of case", "status")


def targets(document: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    """One line per target, for the worst of its cases at its best number of threads."""
    for target in TARGETS:
        best: dict[tuple[str, int], float] = {}
        for record in document["records"]:
            ratio = _ratio(record)
            if ratio is not None and target.matches(record):
                key = (record["case"], record["batch"])
                best[key] = max(best.get(key, 0.0), ratio)
        if not best:
            yield target.name, f"{target.must:g}×", f"{target.aim:g}×", "", "", "not measured"
        else:
            key = min(best, key=lambda k: best[k])
            status = _status(best[key], target.must, target.aim)
            where = f"{key[0]}, {key[1]}" if key[1] > 1 else key[0]
            must, aim = f"{target.must:g}×", f"{target.aim:g}×"
            yield target.name, must, aim, f"{best[key]:.3g}×", where, status
    seconds, (must_s, aim_s) = document["cold"]["seconds"], COLD
    status = _status(-seconds, -must_s, -aim_s)
    name, case = "first bound, cold process", document["cold"]["case"]
    yield name, f"{must_s} s", f"{aim_s} s", f"{seconds:.2f} s", case, status
    yield from _others(document["records"])


def _others(records: Sequence[Record]) -> Iterable[tuple[str, ...]]:
    """Memory of a residual network against the peer's, and one network against its floor."""
    sri = [r for r in records if r["case"] == "sri_resnet_a" and r["method"] == "crown"]
    peaks = [r["peak"] / r["peer_memory"] for r in sri if r["peak"] and r["peer_memory"]]
    name = "peak memory, CROWN, of the peer's"
    if peaks:
        status = _status(-min(peaks), -0.5, -0.25)
        yield name, "1/2", "1/4", f"{min(peaks):.2f}", "sri_resnet_a", status
    else:
        yield name, "1/2", "1/4", "", "", "not measured"
    case = "mnist_fc_256x6_p0_0.03"
    mine = [r for r in records if (r["case"], r["method"], r["batch"]) == (case, "crown", 1)]
    shares = [r["best"] / r["floor"] for r in mine if r["dtype"] in ("auto", "float32")]
    name = "CROWN, time over its floor"
    if shares:
        yield name, "1.6", "", f"{min(shares):.2f}", case, _status(-min(shares), -1.6, 0.0)
    else:
        yield name, "1.6", "", "", "", "not measured"


def _status(value: float, must: float, aim: float) -> str:
    if value >= aim:
        return "aim met"
    return "met" if value >= must else "not met"


# --- documentation --------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool]) -> str:
    """A Markdown table."""
    rule = ["---:" if flush else "---" for flush in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def replace_block(path: Path, name: str, content: str) -> None:
    """Put ``content`` between the markers of the generated block ``name``."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    page = path.read_text()
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path.name}: no block {name!r}")
    path.write_text(f"{before}{start}\n\n{content}\n\n{end}{after}")


FAMILY_HEAD = (
    *("family", "case", "neurons", "parameters", "IBP ms", "CROWN-IBP ms", "CROWN ms"),
    *("peak MB", "bytes per neuron"),
)


def families(document: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    """Characteristics by family: one line per case, batch 1, dtype auto, best thread count."""
    cases: dict[str, list[Record]] = {}
    for record in document["records"]:
        if record["batch"] == 1 and record["dtype"] == "auto":
            cases.setdefault(record["case"], []).append(record)
    for case, records in sorted(cases.items(), key=lambda c: (c[1][0]["family"], c[0])):
        first = records[0]
        fastest = {
            method: min((r["best"] for r in records if r["method"] == method), default=None)
            for method in ("ibp", "crown-ibp", "crown")
        }
        crown = [r["peak"] for r in records if r["method"] == "crown" and r["peak"] is not None]
        peak = max(crown, default=None)
        yield (
            first["family"],
            case,
            f"{first['neurons']:,}",
            f"{first['parameters']:,}",
            *(_milliseconds(seconds) for seconds in fastest.values()),
            "" if peak is None else f"{peak / 1e6:.0f}",
            "" if peak is None else f"{peak / first['neurons']:,.0f}",
        )


SHORT = ("acasxu_1_1_p1", "mnist_fc_256x6_p0_0.03", "oval21_base", "sri_resnet_a")
SHORT_HEAD = ("network", "neurons", "parameters", "IBP ms", "× faster", "CROWN ms", "× faster")


def short(document: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    """README's lines: batch 1, dtype auto, best thread count, and the ratio to the peer there."""
    for case in SHORT:
        cells: list[str] = []
        for method in ("ibp", "crown"):
            asked = (case, method, 1, "auto")
            mine = [
                r
                for r in document["records"]
                if (r["case"], r["method"], r["batch"], r["dtype"]) == asked
            ]
            if mine:
                best = min(mine, key=lambda r: r["best"])
                size = [f"{best['neurons']:,}", f"{best['parameters']:,}"] if not cells else []
                ratio = _ratio(best)
                faster = "" if ratio is None else f"{ratio:.3g}"
                cells += [*size, _milliseconds(best["best"]), faster]
        if len(cells) == len(SHORT_HEAD) - 1:
            yield case, *cells


def write_docs(document: dict[str, Any]) -> None:
    """Store the document; regenerate the tables of docs/performance.md and the one of README."""
    STORED.parent.mkdir(parents=True, exist_ok=True)
    STORED.write_text(json.dumps(document, indent=1) + "\n")
    commit = str(document["commit"])
    clean = commit.removesuffix("-dirty")
    place = "at commit" if clean == commit else "with changes after commit"
    when = f"Measured {document['when'][:10]}, {place} {clean}."
    replace_block(PAGE, "machine", "\n".join(f"- {x}" for x in [*machine_lines(document), when]))
    right = (False, False, *(True,) * 7)
    replace_block(PAGE, "families", markdown(FAMILY_HEAD, families(document), right))
    shape = (False, True, True, True, False, False)
    replace_block(TARGETS_PAGE, "targets", markdown(TARGET_HEAD, targets(document), shape))
    rows = [row(record) for record in document["records"]]
    replace_block(PAGE, "macro", markdown(HEAD, rows, RIGHT))
    replace_block(README, "measured", markdown(SHORT_HEAD, short(document), (False, *(True,) * 6)))


def main() -> int:
    """Regenerate the documentation from a stored document: ``python -m benches.report FILE``."""
    write_docs(json.loads(Path(sys.argv[1]).read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
