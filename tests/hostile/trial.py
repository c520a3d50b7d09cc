"""Every hostile file, one after another; a fault is a failure.

python -m tests.hostile.trial [PART OF A NAME ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.hostile import models, stored, texts, weights
from tests.hostile.running import fault


def main() -> int:
    """Print the faults; 1 when there are any."""
    wanted = sys.argv[1:]
    faults = count = 0
    for case in (*models.cases(), *weights.cases(), *stored.cases(), *texts.cases()):
        if wanted and not any(part in case.name for part in wanted):
            continue
        count += 1
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="gamma-hostile-") as folder:
            found = fault(case, Path(folder))
        seconds = time.perf_counter() - start
        if found or seconds > 5:
            print(f"{case.name} ({seconds:.1f} s): {found or 'well'}", flush=True)
        faults += bool(found)
    print(f"{count} cases, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
