"""``gamma suite``: a list of instances, one durable record for each, and a table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gamma.cli import picture
from gamma.cli.output import check_writable, note, write_bytes, write_text
from gamma.cli.suite_report import page, plot, solved_within
from gamma.errors import UsageError
from gamma.verification.records import Record, Records
from gamma.verification.suite import Options, read_list, worker_count
from gamma.verification.suite import run as run_list

VERDICTS = ("verified", "violated", "unknown", "timeout", "error")
FAILED = 2


def run(args: argparse.Namespace) -> int:
    """Run the list, print the table, return 0, or 2 when instances ended in an error."""
    path = Path(args.list)
    for file in (args.plot, args.report):
        check_writable(file)
    if args.plot and Path(args.plot).suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {args.plot}: expected a name that ends in .svg or .png")
    if (args.plot or args.report) and find_spec("matplotlib") is None:
        raise UsageError("--plot and --report need matplotlib: pip install 'gamma-verify[plot]'")
    scheduler = _scheduler(args)
    instances = read_list(path)
    options = Options(
        args.method,
        args.guarantee,
        args.dtype,
        not args.no_attack,
        args.seed,
        args.timeout,
        args.gzip_ratio,
        args.branch,
    )
    if scheduler is None and (jobs := worker_count(args.jobs, len(instances))) < args.jobs:
        note(f"--jobs {args.jobs}: {jobs} for {len(instances)} instances on this machine")
    out = Path(args.output or f"{path.stem}.results.jsonl")
    start = time.perf_counter()
    fresh = 0

    def report(record: Record, left: int, eta: float) -> None:
        nonlocal fresh
        fresh += 1
        if sys.stderr.isatty() or "error" in record:
            line = _line(record, len(instances) - left, len(instances), eta)
            note("".join(c if c.isprintable() else "?" for c in line))  # names are a list's words

    with Records(out, args.resume) as records:
        if records.damaged:
            lines = "line is" if records.damaged == 1 else "lines are"
            note(f"{out}: {records.damaged} {lines} damaged and run again")
        results = run_list(
            instances,
            records,
            options,
            jobs=args.jobs,
            threads=args.threads,
            scheduler=scheduler,
            report=report,
        )
    print("\n".join(table(results)))
    if within := solved_within(results):
        print("\n" + "\n".join(within))
    if args.plot:
        write_bytes(Path(args.plot), plot(results, Path(args.plot).suffix[1:]))
    if args.report:
        write_text(Path(args.report), page(results, f"gamma suite {path.name}", rows(results)))
    seconds = picture.seconds(time.perf_counter() - start)
    kept = len(results) - fresh
    print(f"\n{fresh} run in {seconds}, {kept} kept from before: {out}")
    return FAILED if any(record["verdict"] == "error" for record in results) else 0


def _scheduler(args: argparse.Namespace) -> str | None:
    """The dask scheduler's address; None for processes of this machine."""
    address: str | None = args.scheduler
    if (args.backend == "dask") != (address is not None):
        raise UsageError("--backend dask and --scheduler ADDRESS go together: give both or neither")
    if address is not None and args.jobs != 1:
        raise UsageError("--jobs: a cluster has as many workers as were started, leave it out")
    return address


def _line(record: Record, done: int, total: int, eta: float) -> str:
    """One line of progress."""
    named = f"{record['model']} {record['property']}"
    left = f", about {_duration(eta)} left" if done < total else ""
    text = f"{done}/{total} {named}: {record['verdict']} {picture.seconds(record['seconds'])}{left}"
    return f"{text}: {record['error']}" if "error" in record else text


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(results: Sequence[Record]) -> list[str]:
    """Verdicts with their number and time."""
    head, *body = rows(results)
    return picture.table(body, head, (False, True, True, True, True))


def rows(results: Sequence[Record]) -> list[tuple[str, ...]]:
    """The table's rows, the head first."""
    found: list[tuple[str, ...]] = [("verdict", "instances", "mean", "longest", "seconds")]
    for verdict in VERDICTS:
        mine = [record["seconds"] for record in results if record["verdict"] == verdict]
        if mine:
            found.append(_row(verdict, mine))
    found.append(_row("total", [record["seconds"] for record in results]))
    return found


def _row(name: str, seconds: Sequence[float]) -> tuple[str, ...]:
    mean = sum(seconds) / len(seconds)
    return name, str(len(seconds)), f"{mean:.3f}", f"{max(seconds):.3f}", f"{sum(seconds):.3f}"
