"""Nightly: bounds of random hard networks against exact arithmetic; a violation is a failure.

    python -m benches.nightly_exact [--seed N] [--seconds S] [--bounds COUNT]
    python -m benches.nightly_exact --bounds 0 --seconds 0 --only sources=file guarantees=float32

First the families of tests/exact/families.py, then the search of tests/exact/search: operators,
files and ways of asking at random, until so many comparisons are made. What it finds is shrunk and
printed as Python that repeats it; models are put into --folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

from tests.exact.nightly import run
from tests.exact.search.asking import Space
from tests.exact.search.files import undrawn
from tests.exact.search.run import Find, search
from tests.exact.search.written import written


def _space(only: list[str]) -> Space:
    """The whole space, cut down by FIELD=VALUE,VALUE."""
    names = {f.name for f in fields(Space)}
    chosen: dict[str, tuple[str | Fraction, ...]] = {}
    for text in only:
        name, _, values = text.partition("=")
        if name not in names:
            raise SystemExit(f"--only {text}: expected one of {', '.join(sorted(names))}")
        parts = tuple(v for v in values.split(",") if v)
        chosen[name] = tuple(map(Fraction, parts)) if name == "factors" else parts
    return Space(**chosen)  # type: ignore[arg-type]


def _families(options: argparse.Namespace) -> int:
    count = run(options.seed, options.seconds, options.bounds)
    print(
        f"seed {options.seed}: {count.bounds} bounds, {count.comparisons} comparisons with exact "
        f"values, {len(count.wrong)} violations"
    )
    for line in count.wrong[:20]:
        print(line)
    return len(count.wrong)


def _search(options: argparse.Namespace) -> int:
    """Number of finds, and one where the time limit came before the comparisons asked for."""
    started = time.monotonic()

    def report(found: Find) -> None:
        spent = time.monotonic() - started
        print(f"round {found.seed}, case after {found.seconds:.1f} s ({spent:.0f} s in all):")
        print(found.wrong[0][:500])
        print(written(found.case, options.folder, f"round{found.seed}"), flush=True)

    tally = search(
        options.seed,
        options.space,
        options.comparisons,
        options.limit,
        report,
        tuple(options.known),
        options.finds,
    )
    print(
        f"search from round {options.seed}: {tally.cases} cases, {tally.count.bounds} bounds, "
        f"{tally.count.comparisons} comparisons in {time.monotonic() - started:.0f} s, "
        f"{len(tally.finds)} finds; refused: {dict(tally.refused) or 'none'}; operators of files "
        f"not drawn: {', '.join(undrawn()) or 'none'}"
    )
    done = tally.count.comparisons
    short = done < options.comparisons and len(tally.finds) < options.finds
    if short:
        print(f"{done} of {options.comparisons} comparisons within {options.limit:.0f} s: raise "
              "--limit, or find what became slow")  # fmt: skip
    return len(tally.finds) + short


def main() -> int:
    """Print counts and violations; 1 when there is any, or too little was compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the families, at least")
    parser.add_argument("--bounds", type=int, default=100_000, help="of the families, at least")
    parser.add_argument("--comparisons", type=int, default=1_000_000, help="of the search")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds of the search")
    parser.add_argument("--only", nargs="*", default=[], metavar="FIELD=VALUE,VALUE")
    parser.add_argument("--known", nargs="*", default=[], help="texts of finds to pass over")
    parser.add_argument("--finds", type=int, default=5, help="stop after so many")
    parser.add_argument("--folder", type=Path, help="where models that were found are written")
    options = parser.parse_args()
    options.space = _space(options.only)
    wrong = _families(options) + _search(options)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
