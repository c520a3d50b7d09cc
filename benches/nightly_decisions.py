"""Nightly: verdicts of ten thousand random properties of tiny networks against exact decisions.

python -m benches.nightly_decisions [--count N] [--seed N] [--resume FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from tests.verify.decisions import ask

BATCH = 500


def recorded(path: Path | None) -> dict[int, Counter[str]]:
    """Seed of a batch -> what came of it."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    batches = [json.loads(line) for line in lines]
    return {batch["seed"]: Counter(batch["tally"]) for batch in batches}


def main(argv: list[str] | None = None) -> None:
    """Print what was decided and what stayed open; a wrong verdict is an AssertionError, and an
    open one where an answer was owed ends the program with status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400 * 1000)
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="a record: a line a batch, none is run again"
    )
    options = parser.parse_args(argv)
    known, tally = recorded(options.resume), Counter[str]()
    for seed in range(options.seed, options.seed - (-options.count // BATCH)):
        if seed not in known:
            known[seed] = ask(seed, BATCH)
            if options.resume:
                with options.resume.open("a") as record:
                    record.write(json.dumps({"seed": seed, "tally": known[seed]}) + "\n")
        tally += known[seed]
        print(f"seed {seed}: {dict(tally)}", flush=True)
    raise SystemExit(1 if tally["open owed"] else 0)


if __name__ == "__main__":
    main()
