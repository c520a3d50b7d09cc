"""Nightly: runs killed at random moments and resumed end as runs that were left alone do.

python -m benches.nightly_resume [--kills N] [--seed N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.verify.test_resume import BOUNDS, check_killed


def main() -> None:
    """Kill each kind of branching so often; an AssertionError is a find."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400)
    options = parser.parse_args()
    for branch in BOUNDS:
        with tempfile.TemporaryDirectory() as folder:
            check_killed(Path(folder), branch, options.kills, options.seed)
        print(f"{branch}: killed {options.kills} times, seed {options.seed}: the same", flush=True)


if __name__ == "__main__":
    main()
