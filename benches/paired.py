"""This checkout against another one, in turns: which cases became slower?

    git worktree add --detach ../before COMMIT && make -C ../before
    python -m benches.paired ../before --python ../before/.venv/bin/python

Each side is one process of one thread that stays; for every case they are asked in turns, A B B A,
and the least time of one call counts. Cases that take more than 1.05 times as long are marked; the
last line has the geometric mean. The exit status is 1 when a case is marked.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

from benches.cases import BATCHED, DATA, ROOT, names

METHODS = ("ibp", "crown-ibp", "crown")
SLOWER = 1.05

# Runs in either checkout: uses what every version has. Lines in: case, method, boxes, seconds.
CHILD = """
import gc, sys, time
from pathlib import Path
root, data = sys.argv[1:]
sys.path.insert(0, root)
import gamma
from benches.cases import case
from gamma.propagate import bounds
assert Path(gamma.__file__).is_relative_to(root), gamma.__file__
try:
    from gamma.runtime.heap import own
    own()
except ImportError:  # older checkouts keep memory without being told
    pass
now, read = time.perf_counter, {}
for line in sys.stdin:
    name, method, boxes, seconds = line.split()
    if name not in read:
        read = {name: case(name, Path(data))}
    box = read[name].boxes(int(boxes))
    bounds(read[name].network, box, method=method)
    gc.collect()
    best, turns, end = float("inf"), 0, now() + float(seconds)
    while turns < 3 or now() < end:
        start = now()
        bounds(read[name].network, box, method=method)
        best, turns = min(best, now() - start), turns + 1
    print(best, flush=True)
"""


class Side:
    """A process of one checkout."""

    def __init__(self, python: str, root: Path, data: Path) -> None:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [python, "-c", CHILD, str(root), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=os.environ | limits,
        )
        self.best: dict[str, float] = {}

    def ask(self, task: str, seconds: float) -> None:
        """Measure a task once more."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{task} {seconds}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"paired: {self.process.args!r} ended at {task}")
        self.best[task] = min(self.best.get(task, math.inf), float(answer))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--python", default=sys.executable, help="of the other checkout")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cases", help="comma-separated; default: all")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.04, help="of one turn")
    args = parser.parse_args()
    sides = (
        Side(args.python, args.other.resolve(), args.data),
        Side(sys.executable, ROOT, args.data),
    )
    ratios = []
    for case in args.cases.split(",") if args.cases else names(args.data):
        for method in args.methods.split(","):
            for boxes in args.batches if case in BATCHED else args.batches[:1]:
                task = f"{case} {method} {boxes}"
                for turn in range(args.rounds):
                    for side in sides if turn % 2 == 0 else reversed(sides):
                        side.ask(task, args.seconds)
                before, after = (1e3 * side.best[task] for side in sides)
                ratios.append(after / before)
                mark = "  slower" if ratios[-1] > SLOWER else ""
                print(f"{task:40}{before:10.4f}{after:10.4f} ms{ratios[-1]:7.3f}{mark}", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    slower = sum(ratio > SLOWER for ratio in ratios)
    print(f"geometric mean {mean:.3f}, {slower} of {len(ratios)} cases slower")
    return int(slower > 0)


if __name__ == "__main__":
    sys.exit(main())
