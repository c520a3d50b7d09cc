"""Batches of boxes against the floor: milliseconds of 16, 128 and 1024 boxes, IBP and CROWN.

    make bench-batches                                       all cases, some minutes
    python -m benches.batches --cases oval21_base --docs     also write docs/performance/batches.md

The floor (`benches.floors`) is counted in boxes of the batch, with the rows that their own walks
start: operations of the products at the machine's rate for large products with as many threads, or
bytes at the rate of a copy. A process with one thread and one with two take turns, and rounds in
which other programs had the machine are measured again (`benches.scaling`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benches.cases import DATA, ROOT
from benches.floors import Work, least_work
from benches.peer import number, read
from benches.report import markdown
from benches.scaling import PRODUCT, SIZES, Asked, Side, compared, quiet
from gamma.cli.measuring import Machine, describe_machine, measure_machine
from gamma.network.graph import Network
from gamma.tensor.box import Box

PAGE = ROOT / "docs" / "performance" / "batches.md"
CASES = (
    *("acasxu_1_1_p1", "mnist_fc_256x4_p0_0.05", "oval21_base", "cifar10_resnet_2b"),
    *("sigmoid_6x200", "lattice_16"),
)
METHODS = ("ibp", "crown")
BATCHES = (1, 16, 128, 1024)
THREADS = (1, 2)
LONGEST = 15.0
"""Seconds: batches that would take longer are left out."""
COUNTED = 4
"""Boxes of a batch whose work is counted."""
HEAD = (
    *("case", "method", "boxes", "1 thread, ms", "÷ floor", "2 threads, ms", "÷ floor"),
    *("a box, of one alone", "machine quiet"),
)


def work_of(network: Network, boxes: Box, method: str) -> Work:
    """The least work of a batch, from some of its boxes."""
    count = len(boxes.lower)
    places = np.unique(np.linspace(0, count - 1, COUNTED).astype(int))
    found = [least_work(network, boxes.slice(b, b + 1), method) for b in places]
    each = sum(w.operations for w in found) / len(found)
    return Work(found[0].fixed, count * found[0].bytes, count * each)


def machines(data: Path) -> list[Machine]:
    """The machine's limits with each number of threads."""
    limits = measure_machine()
    size = SIZES[-1]
    sides = [Side(PRODUCT, data, threads) for threads in THREADS]
    found = []
    for best in compared(sides, Asked(PRODUCT, size), 4.0):
        rate = 2 * size**3 / best["wall"]
        found.append(Machine(limits.copy, rate, rate / 2, limits.call))
    for side in sides:
        side.close()
    return found


def rows(args: argparse.Namespace, limits: list[Machine]) -> Iterator[tuple[str, ...]]:
    """One for each case, method and batch."""
    for name in args.cases.split(","):
        case = read(name, args.data)
        sides = [Side(name, args.data, threads) for threads in THREADS]
        for method in METHODS:
            alone = best = [0.0] * len(sides)
            for batch in BATCHES:
                if best[0] * BATCHES[-1] / BATCHES[-2] > LONGEST:
                    break
                rounds = compared(sides, Asked(method, batch), args.patience)
                best = [found["wall"] for found in rounds]
                if batch == 1:
                    alone = best
                    continue
                work = work_of(case.network, case.boxes(batch), method)
                cells = []
                for took, machine in zip(best, limits, strict=True):
                    cells += [number(1e3 * took), number(took / work.seconds(machine, "float32"))]
                had = "yes" if all(map(quiet, rounds)) else "**no**"
                yield (name, method, str(batch), *cells, f"{best[1] / batch / alone[1]:.2f}", had)
        for side in sides:
            side.close()


def page(found: list[tuple[str, ...]], limits: list[Machine]) -> str:
    """The whole document."""
    about = describe_machine()
    rates = " and ".join(f"{machine.gemm32 / 1e9:.0f}" for machine in limits)
    lines = [
        "# Batches of boxes",
        "",
        "Written by `make bench-batches`; do not edit. Milliseconds of one call, and",
        "how many times the floor that is: the operations of the products that the method must do,",
        "with the rows of the boxes' own unstable neurons, at the rate of large products, or the",
        "bytes that must move. The last column is the time for a box with two threads, as a share",
        "of the time for a single box by itself. A walk is below the floor where one row bounds",
        "both sides of a neuron (sigmoid_6x200), which the floor counts as two.",
        "",
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: {about['processor']}, "
        f"{about['isa']}, {about['blas']};",
        f"products of float32 at {rates} GFLOP/s with one and two threads, copies at "
        f"{limits[0].copy / 1e9:.0f} GB/s.",
        "",
        markdown(HEAD, found, (False, False, *(True,) * 7)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    parser.add_argument("--patience", type=float, default=2.0, help="seconds for a row")
    parser.add_argument("--docs", action="store_true", help=f"also write {PAGE.name}")
    args = parser.parse_args()
    limits = machines(args.data)
    found = []
    for cells in rows(args, limits):
        print(*cells, sep="  ", file=sys.stderr, flush=True)
        found.append(cells)
    text = page(found, limits)
    if args.docs:
        PAGE.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
