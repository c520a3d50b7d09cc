"""``gamma suite``: a list of instances, one durable record for each, and a table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from gamma.cli import picture, suite_files
from gamma.cli.combinations import scheduler
from gamma.cli.output import Progress, note
from gamma.cli.suite_report import solved_within
from gamma.errors import UsageError
from gamma.verification.merging import shard
from gamma.verification.records import Record, Records
from gamma.verification.suite import Options, read_list, worker_count
from gamma.verification.suite import run as run_list

VERDICTS = ("verified", "violated", "unknown", "timeout", "error")
STATUS = {"verified": 0, "timeout": 5, "unknown": 4, "violated": 3, "error": 2}
"""Exit statuses; of several instances the last one here counts."""


def run(args: argparse.Namespace) -> int:
    """Run the list, print the table, return 0, or 2 when instances ended in an error."""
    path = Path(args.list)
    suite_files.check(args)
    scheduler = _scheduler(args)
    if args.force and args.resume:
        raise UsageError(
            "--force and --resume exclude each other: replace the records or keep them"
        )
    instances = read_list(path)
    if args.shard:
        instances = shard(instances, args.shard)
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
    out = Path(args.output) if args.output else suite_files.beside(path, args.shard)
    start = time.perf_counter()
    told = Told(len(instances))
    with told.line, Records(out, args.resume, args.force) as records:
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
            report=told.record,
            progress=told.step,
        )
    status = finish(args, results, path)
    seconds = picture.seconds(time.perf_counter() - start)
    kept = len(results) - told.count
    print(f"\n{told.count} run in {seconds}, {kept} kept from before: {out}")
    return status


def finish(args: argparse.Namespace, results: Sequence[Record], path: Path) -> int:
    """Print the table, write the files that were asked for; the exit status."""
    print("\n".join(table(results)))
    if within := solved_within(results):
        print("\n" + "\n".join(within))
    suite_files.write(args, results, path, rows(results))
    failing = {"error", *args.fail_on} | ({"timeout"} if "unknown" in args.fail_on else set())
    statuses = [STATUS[r["verdict"]] for r in results if r["verdict"] in failing]
    return max(statuses, key=list(STATUS.values()).index, default=0)


def _scheduler(args: argparse.Namespace) -> str | None:
    """The dask scheduler's address; None for processes of this machine."""
    address = scheduler(args)
    if address is not None and args.jobs != 1:
        raise UsageError("--jobs: a cluster has as many workers as were started, leave it out")
    return address


class Told:
    """Progress of a list on one changing line; what goes wrong stays, on a line of its own."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.head = total, 0, ""
        self.verdicts: list[str] = []
        self.line = Progress(f"0/{total}")

    def record(self, record: Record, left: int, eta: float) -> None:
        """An instance has its record; ``left`` have none, for which ``eta`` seconds are guessed."""
        self.count += 1
        self.verdicts.append(record["verdict"])
        if "error" in record:
            text = f"{record['model']} {record['property']}: error: {record['error']}"
            # Names are a list's words.
            self.line.say("".join(c if c.isprintable() else "?" for c in text))
        known = ((self.verdicts.count(v), v) for v in VERDICTS)
        counts = ", ".join(f"{count} {verdict}" for count, verdict in known if count)
        time_left = f"; about {_duration(eta)} left" if left else ""
        self.head = f"{self.total - left}/{self.total}: {counts}{time_left}"
        self.line(self.head)

    def step(self, message: str) -> None:
        """What the instance that is run in this process does."""
        self.line(f"{self.head or f'0/{self.total}'}; {message}")


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
    mean = sum(seconds) / max(len(seconds), 1)
    longest = max(seconds, default=0.0)
    return name, str(len(seconds)), f"{mean:.3f}", f"{longest:.3f}", f"{sum(seconds):.3f}"
