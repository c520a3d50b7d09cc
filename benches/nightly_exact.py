"""Nightly: bounds of random hard networks against exact arithmetic; a violation is a failure.

python -m benches.nightly_exact [--seed N] [--seconds S] [--bounds COUNT]
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.exact.nightly import run


def main() -> int:
    """Print counts and the first violations; 1 when there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--bounds", type=int, default=100_000)
    options = parser.parse_args()
    count = run(options.seed, options.seconds, options.bounds)
    print(
        f"seed {options.seed}: {count.bounds} bounds, {count.comparisons} comparisons with exact "
        f"values, {len(count.wrong)} violations"
    )
    for line in count.wrong[:20]:
        print(line)
    return 1 if count.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
