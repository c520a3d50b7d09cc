"""The files of ``gamma suite`` beside its records: CSV, plot, page, witnesses, reports for CI."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gamma.cli.output import check_writable, write_bytes, write_text
from gamma.cli.result_file import in_words
from gamma.errors import UsageError, missing
from gamma.verification.records import Record

FILES = ("plot", "report", "csv", "junit", "sarif")
COLUMNS = ("model", "property", "number", "verdict", "seconds", "timeout", "worst_margin", "error")


def beside(path: Path, part: tuple[int, int] | None) -> Path:
    """Where records of a list go: beside it, those of a shard in a file of their own."""
    shard = "" if part is None else f".{part[0]}-of-{part[1]}"
    return path.with_name(f"{path.stem}.results{shard}.jsonl")


def shards_of(path: Path) -> list[Path]:
    """The records of shards that lie beside a list."""
    pattern = re.compile(re.escape(f"{path.stem}.results.") + r"[0-9]+-of-[0-9]+\.jsonl")
    return sorted(found for found in path.parent.iterdir() if pattern.fullmatch(found.name))


def check(args: argparse.Namespace) -> None:
    """Refuse files that cannot be written before the work, not after it."""
    for name in FILES:
        check_writable(getattr(args, name))
    if args.plot and Path(args.plot).suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {args.plot}: expected a name that ends in .svg or .png")
    if (args.plot or args.report) and find_spec("matplotlib") is None:
        raise missing("--plot or --report", "matplotlib", "plot")
    if args.witnesses is not None:
        try:
            Path(args.witnesses).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--witnesses {args.witnesses[:100]}: {reason}") from None


def write(
    args: argparse.Namespace, results: Sequence[Record], path: Path, rows: Sequence[Sequence[str]]
) -> None:
    """Write the files that the options ask for; ``rows``: the table of verdicts."""
    from gamma.cli import suite_report

    if args.csv:
        write_text(Path(args.csv), _csv(results))
    if args.plot:
        write_bytes(Path(args.plot), suite_report.plot(results, Path(args.plot).suffix[1:]))
    if args.report:
        page = suite_report.page(results, f"gamma suite {path.name}", rows)
        write_text(Path(args.report), page)
    if args.junit or args.sarif:
        from gamma.cli import cases

        cases.write(args, cases.of_records(results, path.parent))
    if args.witnesses is not None:
        for k, record in enumerate(results, 1):
            if (found := record.get("counterexample")) is not None:
                write_text(_place(Path(args.witnesses), k, record), in_words("violated", found))


def _csv(results: Sequence[Record]) -> str:
    """One line for each instance, in list order; numbers in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in results:
        worst = record.get("worst_margin") or {}
        known = {**record, "timeout": record["options"]["timeout"]}
        known["worst_margin"] = worst.get("lower")
        writer.writerow(["" if known.get(c) is None else known[c] for c in COLUMNS])
    return stream.getvalue()


def _place(folder: Path, number: int, record: Record) -> Path:
    """A name that says which line of the list, with nothing that leads out of the folder."""
    names = (Path(str(record[key])).name.partition(".")[0] for key in ("model", "property"))
    words = (re.sub(r"[^\w-]", "_", name)[:80] for name in names)
    return folder / f"{number:04d}.{'.'.join(words)}.counterexample"
