"""Run gamma on VNN-COMP style benchmark folders and compare with the expected verdicts.

    python benches/vnncomp.py --data DIR --benchmarks acasxu,mnist_fc --timeout 60 --jobs 2 \
        --method auto --out results.jsonl --resume

DIR holds one folder per benchmark with ``instances.csv`` (onnx,vnnlib,timeout) and, where known,
``expected.csv`` (onnx,vnnlib,expected). Every instance runs in a child process of its own, which is
killed when it overruns. One JSON line per instance is written and synced as soon as it is there;
``--resume`` skips the instances the file already has. A table ends the run; the exit status is 1
when a verdict contradicts an expected one. ``--docs`` stores the counts in benches/vnncomp.json and
writes README's results from it. ``--verifiers FILE.json`` writes the page beside other tools.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gamma.verification.suite import read_list

STORED = Path(__file__).with_name("vnncomp.json")
UNLIMITED = 1e6
"""Seconds of an instance whose list gives none; --timeout caps them."""
BUSY = 0.8
"""Share of a core below which a run says so."""
GRACE = 30.0
"""Seconds past the time limit after which a child is killed: start-up, and overruns to see."""


@dataclass(frozen=True)
class Instance:
    """One line of instances.csv with its expected verdict ("unknown" when none is given)."""

    benchmark: str
    onnx: str
    vnnlib: str
    timeout: float
    expected: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells instances apart in the result file."""
        return self.benchmark, self.onnx, self.vnnlib


def read_instances(folder: Path) -> Iterator[Instance]:
    """The instances of one benchmark folder, in file order."""
    expected: dict[tuple[str, str], str] = {}
    if (folder / "expected.csv").exists():
        with (folder / "expected.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                expected[row["onnx"], row["vnnlib"]] = row["expected"]
    for line in read_list(folder / "instances.csv"):
        known = expected.get((line.model, line.prop), "unknown")
        limit = line.timeout or UNLIMITED
        yield Instance(folder.name, line.model, line.prop, limit, known)


def run_instance(instance: Instance, args: argparse.Namespace) -> dict[str, Any]:
    """Verify one instance in a child process and return its record."""
    folder = args.data / instance.benchmark
    limit = min(instance.timeout, args.timeout)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "gamma", "verify", str(folder / instance.onnx)]
        command += ["--property", str(folder / instance.vnnlib), "--timeout", f"{limit:g}"]
        command += ["--method", args.method, "--guarantee", args.guarantee, "--dtype", args.dtype]
        command += ["--threads", str(args.threads), "--json", "-o", str(out)]
        command += ["--no-attack"] if args.no_attack else []
        start, spent = time.perf_counter(), _processor_seconds()
        status, error = _child(command, limit + GRACE)
        wall = time.perf_counter() - start
        record = asdict(instance) | {"limit": limit, "wall": wall, "status": status}
        if args.jobs == 1:  # with several at a time, whose seconds they are is not known
            record["processor"] = _processor_seconds() - spent
        if not out.exists():
            return record | {"verdict": "timeout" if status == 5 else "error", "error": error}
        result = json.loads(out.read_text())
    witness = result["counterexample"]
    return record | {
        "verdict": result["verdict"],
        "seconds": result["seconds"],
        "method": result["method"],
        "dtype": result["dtype"],
        "proved": result["conjunctions"],
        "peak_bytes": result["memory"]["peak_bytes"],
        "replayed_by": witness["replayed_by"] if witness else None,
        "environment": result["environment"],
    }


def _processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _child(command: list[str], limit: float) -> tuple[int, str]:
    """Exit status and the last line of stderr; -9 when the child had to be killed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return -9, f"killed after {limit:g} s"
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def contradicts(record: dict[str, Any]) -> bool:
    """The verdict and the expected one exclude each other."""
    return (record["expected"], record["verdict"]) in (("sat", "verified"), ("unsat", "violated"))


def table(records: Iterable[dict[str, Any]]) -> str:
    """Per benchmark: what was refuted, proved, contradicted, and the time."""
    by: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by.setdefault(record["benchmark"], []).append(record)
    head = ("benchmark", "instances", "sat refuted", "unsat proved", "open settled")
    head += ("contradictions", "errors", "timeouts", "seconds", "longest")
    rows = [head]
    for name in sorted(by):
        rows.append((name, *_row(by[name])))
    rows.append(("total", *_row([r for rs in by.values() for r in rs])))
    sizes = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(sizes[0])]
        cells += [text.rjust(size) for text, size in zip(row[1:], sizes[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _row(records: list[dict[str, Any]]) -> tuple[str, ...]:
    def count(expected: str, *verdicts: str) -> str:
        mine = [r for r in records if r["expected"] == expected]
        return f"{sum(r['verdict'] in verdicts for r in mine)}/{len(mine)}"

    return (
        str(len(records)),
        count("sat", "violated"),
        count("unsat", "verified"),
        count("unknown", "verified", "violated"),
        str(sum(map(contradicts, records))),
        str(sum(r["verdict"] == "error" for r in records)),
        str(sum(r["verdict"] == "timeout" for r in records)),
        f"{sum(r['wall'] for r in records):.1f}",
        f"{max((r['wall'] for r in records), default=0.0):.1f}",
    )


def counts(records: Iterable[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """What README shows of a run: per benchmark the known instances and how many were decided."""
    records = list(records)
    kinds = (("refuted", "sat", "violated"), ("proved", "unsat", "verified"))
    found: dict[str, dict[str, int]] = {}
    for name in sorted({r["benchmark"] for r in records}):
        mine = [r for r in records if r["benchmark"] == name]
        found[name] = {"instances": len(mine)}
        for done, expected, verdict in kinds:
            known = [r for r in mine if r["expected"] == expected]
            found[name][done] = sum(r["verdict"] == verdict for r in known)
            found[name][expected] = len(known)
    limits = [r["limit"] for r in records]
    spent = [r.get("processor") for r in records]
    share = None if None in spent else sum(spent) / sum(r["wall"] for r in records)
    return {
        "schema": "gamma.vnncomp/2",
        "method": args.method,
        "limits": [min(limits), max(limits)],
        "processor_share": share,
        "threads": args.threads,
        "jobs": args.jobs,
        "contradictions": sum(map(contradicts, records)),
        "benchmarks": found,
    }


def page(stored: dict[str, Any]) -> str:
    """README's text and table, both from the stored counts."""
    rows = sorted(stored["benchmarks"].items(), key=lambda item: item[0].lower())
    total = {key: sum(row[key] for _, row in rows) for key in rows[0][1]}
    least, most = stored["limits"]
    seconds = f"{most:g} s each" if least == most else f"{least:g} to {most:g} s each"
    text = (
        f"On {total['instances']} instances of the verification competition (VNN-COMP 2021 to "
        f"2025, `{stored['method']}` with the attack, {seconds}, "
        f"threads per instance: {stored['threads']}, instances at a time: {stored['jobs']}), "
        f"{total['refuted']} of {total['sat']} known violations were refuted with a replayed "
        f"witness and {total['proved']} of {total['unsat']} known-safe instances proved; verdicts "
        f"that contradict the consensus: {stored['contradictions']}."
    )
    share = stored["processor_share"]
    if share is not None and share < BUSY:
        text += (
            f" The machine was busy with other work: an instance had {100 * share:.0f} % of a "
            "core on average, so that these counts are less than what the limits allow."
        )
    cells = [[name, *_decided(row)] for name, row in rows]
    half = -(-len(cells) // 2)
    cells += [["", "", ""]] * (2 * half - len(cells))
    lines = ["| benchmark | refuted | proved | | benchmark | refuted | proved |"]
    lines.append("|---|---|---|---|---|---|---|")
    for left, right in zip(cells[:half], cells[half:], strict=True):
        lines.append(f"| {' | '.join([*left, '', *right])} |".replace("  ", " "))
    lines.append(f"| total | {' | '.join(_decided(total))} | | | | |")
    prose = textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
    return prose + "\n\n" + "\n".join(lines)


def _decided(row: dict[str, int]) -> list[str]:
    pairs = ((row["refuted"], row["sat"]), (row["proved"], row["unsat"]))
    return [f"{done}/{known}" if known else "–" for done, known in pairs]


def write_docs(stored: dict[str, Any]) -> None:
    """Put the stored counts into README."""
    from benches.report import README, replace_block

    replace_block(README, "vnncomp", page(stored))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a result file; a torn last line (a killed run) is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of the runner."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--benchmarks", metavar="A,B", help="default: every folder of DIR but vit")
    parser.add_argument("--limit", type=int, metavar="N", help="every benchmark's first N only")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every K-th instance")
    parser.add_argument("--only", choices=("sat", "unsat", "unknown"), help="by expected verdict")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds, 60 by default")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads per instance")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--guarantee", default="real")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--no-attack", action="store_true")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--resume", action="store_true", help="keep what FILE already has")
    parser.add_argument("--errors", action="store_true", help="run again what ended in an error")
    parser.add_argument("--docs", action="store_true", help="store the counts, write README")
    parser.add_argument(
        "--verifiers", type=Path, metavar="FILE.json", help="records of other tools: write the page"
    )
    return parser.parse_args(argv)


def chosen(args: argparse.Namespace) -> list[Instance]:
    """The instances asked for."""
    if args.benchmarks:
        names = args.benchmarks.split(",")
    else:
        # vit: not yet part of the recorded counts
        found = sorted(p.parent.name for p in args.data.glob("*/instances.csv"))
        names = [name for name in found if name != "vit"]
    instances: list[Instance] = []
    for name in names:
        mine = list(read_instances(args.data / name))
        mine = [i for i in mine if args.only in (None, i.expected)]
        instances += mine[:: args.every][: args.limit]
    return instances


def main(argv: list[str] | None = None) -> int:
    """Run, write, print the table."""
    args = arguments(argv)
    from joblib import Parallel, delayed

    instances = chosen(args)
    records = read_records(args.out) if args.resume and args.out.exists() else []
    if args.errors:
        records = [r for r in records if r["verdict"] != "error"]
    done = {(r["benchmark"], r["onnx"], r["vnnlib"]) for r in records}
    open_instances = [i for i in instances if i.key not in done]
    with args.out.open("w") as stream:
        for record in records:
            stream.write(json.dumps(record) + "\n")
        # Each task only waits for its child, so threads are enough.
        work = Parallel(n_jobs=args.jobs, backend="threading", return_as="generator_unordered")
        for record in work(delayed(run_instance)(i, args) for i in open_instances):
            records.append(record)
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            mark = "CONTRADICTION" if contradicts(record) else record.get("error") or ""
            print(
                f"{len(records)}/{len(instances)} {record['benchmark']} {record['onnx']} "
                f"{record['vnnlib']}: {record['verdict']} (expected {record['expected']}) "
                f"{record['wall']:.1f} s {mark}".rstrip(),
                file=sys.stderr,
                flush=True,
            )
    wanted = {i.key for i in instances}
    mine = [r for r in records if (r["benchmark"], r["onnx"], r["vnnlib"]) in wanted]
    print(table(mine))
    if args.docs:
        stored = counts(mine, args)
        STORED.write_text(json.dumps(stored, indent=1) + "\n")
        write_docs(stored)
    if args.verifiers:
        from benches.verifiers import write

        write(mine, args.verifiers)
    return 1 if any(map(contradicts, mine)) else 0


if __name__ == "__main__":
    sys.exit(main())
