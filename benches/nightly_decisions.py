"""Nightly: verdicts of ten thousand random properties of tiny networks against exact decisions.

python -m benches.nightly_decisions [--count N] [--seed N]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from tests.verify.decisions import ask

BATCH = 500


def main() -> None:
    """Print what was decided and what stayed open; a wrong verdict is an AssertionError, and an
    open one where an answer was owed ends the program with status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400 * 1000)
    options = parser.parse_args()
    tally = Counter[str]()
    for batch in range(-(-options.count // BATCH)):
        tally += ask(options.seed + batch, BATCH)
        print(f"seed {options.seed + batch}: {dict(tally)}", flush=True)
    raise SystemExit(1 if tally["open owed"] else 0)


if __name__ == "__main__":
    main()
