"""What several processors bring: speed-up and utilisation of shared walks, positions and suites.

    python -m benches.parallel                  everything there is data for, six minutes
    python -m benches.parallel --only bounds    one section: one bound of every case, three minutes
    python -m benches.parallel --only bounds --cases oval21 --print      no file written

Utilisation is processor time over wall time times processors. Runs alternate between one thread and
all, and the best of each counts; one during which other programs took part of the machine does not.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches import scaling
from benches.cases import DATA, DIGITS, ROOT, case, names
from benches.report import markdown
from benches.scaling import busy
from gamma import ops
from gamma.network.graph import Builder, Network
from gamma.propagate import ParallelConfig, bounds, verify_parallel
from gamma.runtime import heap, threads, workers
from gamma.tensor.box import Box

PAGE = ROOT / "docs" / "performance" / "parallel.md"
CORES = threads.available()
SHARED = (("sri_resnet_a", 1), ("cifar10_resnet_2b", 1), ("oval21_base", 16))
SHARED += (("mnist_fc_256x4_p0_0.05", 16), ("mnist_fc_256x4_p0_0.05", 128))
# (positions, width, hidden, layers, activation) of position-wise networks.
SEQUENCES = ((64, 256, 1024, 1, ops.Relu()), (128, 256, 512, 2, ops.Relu()))
SEQUENCES += ((64, 128, 512, 2, ops.Gelu()), (256, 64, 256, 2, ops.Relu()))
OTHERS = 0.06
"""Share of the machine that other programs may take during a run that counts."""


@dataclass(frozen=True)
class Run:
    """Seconds of wall and processor time, and of what other programs took."""

    wall: float
    cpu: float
    others: float

    @property
    def quiet(self) -> bool:
        return self.others <= OTHERS * CORES * self.wall + 0.02  # the system counts in 0.01 s


def timed(call: Callable[[], Any], least: float = 0.15) -> tuple[Run, Any]:
    """One run; a short call is repeated for ``least`` seconds."""
    count, result = 0, None
    before, wall, cpu = busy(), time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < least:
        result, count = call(), count + 1
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    others = busy() - before - cpu
    return Run(wall / count, cpu / count, others / count), result


def compare(call: Callable[[int], Any], patience: float) -> tuple[dict[int, Run], bool]:
    """The best run with one thread and with all, and whether the machine was quiet for both.

    Raises SystemExit when results depend on the number of threads.
    """
    runs: dict[int, list[Run]] = {1: [], CORES: []}
    first: Any = None
    started = time.perf_counter()
    for turn in range(1000):
        for count, found in runs.items():
            run, result = timed(lambda count=count: call(count))  # type: ignore[misc]
            first = result if first is None else first
            if not ((result.lower == first.lower).all() and (result.upper == first.upper).all()):
                raise SystemExit(f"bounds with {count} threads are not those with one")
            if turn:  # the first round warms up
                found.append(run)
        spent = time.perf_counter() - started
        enough = all(sum(run.quiet for run in found) >= 5 for found in runs.values())
        if (enough or spent > patience) and turn:
            break
    best = {
        count: min(found, key=lambda run: (not run.quiet, run.wall))
        for count, found in runs.items()
    }
    return best, all(run.quiet for run in best.values())


def row(name: str, found: tuple[dict[int, Run], bool]) -> tuple[str, ...]:
    """Milliseconds with one thread and with all, speed-up, utilisation."""
    runs, quiet = found
    one, many = runs[1], runs[CORES]
    return (
        name,
        f"{one.wall * 1e3:.1f}",
        f"{many.wall * 1e3:.1f}",
        f"{one.wall / many.wall:.2f}",
        f"{many.cpu / many.wall / CORES:.0%}",
        "yes" if quiet else "**no**",
    )


HEAD = ("", "1 thread, ms", f"{CORES} threads, ms", "speed-up", "utilisation", "machine quiet")


def sequence(length: int, width: int, hidden: int, layers: int, activation: Any) -> Network:
    """A position-wise network with skips: dense, activation, dense, sum."""
    rng = np.random.default_rng(0)
    build, x = Builder(ops.Input(), (length, width)), 0
    for _ in range(layers):
        up = rng.normal(size=(hidden, width)) / width**0.5
        down = rng.normal(size=(width, hidden)) / hidden**0.5
        y = build.add(ops.Gemm(up.astype("f"), rng.normal(size=hidden).astype("f")), x)
        y = build.add(ops.Gemm(down.astype("f")), build.add(activation, y))
        x = build.add(ops.Add(), x, y)
    return build.build(x)


def positions(patience: float) -> Iterator[tuple[str, ...]]:
    """Position-independent networks, bounded position by position."""
    for length, width, hidden, layers, activation in SEQUENCES:
        network = sequence(length, width, hidden, layers, activation)
        x = np.random.default_rng(1).normal(size=network.input_shape)
        box = Box.linf(x, 0.02)

        def call(count: int, network: Network = network, box: Box = box) -> Any:
            result = verify_parallel(network, box, 0, ParallelConfig(max_threads=count))
            assert result.split == "positions", result.reason
            return result.output_bounds

        title = f"{length} positions, {layers}x({width}, {hidden}) {activation.name}"
        yield row(title, compare(call, patience))


def rows(data: Path, patience: float) -> Iterator[tuple[str, ...]]:
    """Walks of whole networks that share their rows."""
    for name, batch in SHARED:
        if name not in names(data):
            continue
        chosen = case(name, data)
        box = chosen.boxes(batch)

        def call(count: int, network: Network = chosen.network, box: Box = box) -> Any:
            with workers.limited(count), threads.limit_blas(count):
                return bounds(network, box)

        yield row(f"{name}, {batch} boxes", compare(call, patience))


def suite(data: Path) -> Iterator[tuple[str, ...]]:
    """A list of instances by one process and by as many as there are processors.

    The suite's processes come and go, so that the processor time is the machine's; what others take
    is measured while nothing runs.
    """
    found = data / "vnncomp" / "mnist_fc" / "instances.csv"
    found = found if found.exists() else DIGITS / "instances.csv"
    with found.open(newline="") as stream:
        cells = [line for line in csv.reader(stream) if line]
    # One network is enough, and no time limits: a solver uses up what it is given.
    lines = [
        (str(found.parent / line[0]), str(found.parent / line[1]))
        for line in cells
        if line[0] == cells[0][0]
    ]
    runs: dict[int, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.csv"
        with listed.open("w", newline="") as stream:
            csv.writer(stream).writerows(lines)
        for jobs in (1, CORES):
            idle, pause = busy(), time.perf_counter()
            time.sleep(1)
            noise = (busy() - idle) / (time.perf_counter() - pause)
            command = [sys.executable, "-m", "gamma", "suite", str(listed), "--jobs", str(jobs)]
            before, wall = busy(), time.perf_counter()
            subprocess.run(
                [*command, "-o", str(Path(folder) / f"{jobs}.jsonl")],
                check=True,
                capture_output=True,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
            wall = time.perf_counter() - wall
            runs[jobs] = Run(wall, busy() - before, noise * wall)
    yield row(
        f"suite of {len(lines)} instances ({found.parent.name})",
        (runs, all(run.quiet for run in runs.values())),
    )


HEADING = """# Several processors

Generated by `make parallel`; do not edit. Bounds are the same bits for any number of threads.
"""
ABOUT = {
    "bounds": "Least wall time of one process with one thread and of one with two, in turns, and\n"
    "the processors that the second one used: processor time over wall time.",
    "rest": "Best wall time of alternating runs in one process; utilisation is processor time over"
    "\nwall time and processors.",
}


def section(part: str, title: str, found: list[tuple[str, ...]]) -> str:
    """One section of the document."""
    from gamma.cli.measuring import describe_machine

    about = describe_machine()
    head = scaling.HEAD if part == "bounds" else HEAD
    lines = [
        f"## {title}",
        "",
        ABOUT.get(part, ABOUT["rest"]),
        "",
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: {about['processor']}, {CORES} "
        f"processors, {about['isa']}, {about['blas']}.",
        "",
        markdown(head, found, (False, *[True] * (len(head) - 1))),
    ]
    return "\n".join(lines) + "\n"


def with_section(page: str, text: str) -> str:
    """The document with a section in the place of the one of its title, or behind all others."""
    title = text.splitlines()[0]
    heading, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    known = [old.splitlines()[0] for old in sections]
    if title not in known:
        return "\n".join((page.rstrip() + "\n", text))
    at = known.index(title)
    last = at + 1 == len(sections)
    sections[at] = text if last else text + "\n"
    return heading + "".join(sections)


def main() -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=("positions", "rows", "bounds", "suite"))
    parser.add_argument("--cases", default="", help="of the bounds: part of their names")
    parser.add_argument("--patience", type=float, help="seconds per row of a table")
    parser.add_argument("--print", action="store_true", help="to stdout, write nothing")
    args = parser.parse_args()
    if CORES < 2:
        raise SystemExit("one processor: there is nothing to share")
    patience = args.patience or 15.0
    parts: dict[str, tuple[str, Callable[[], Iterator[tuple[str, ...]]]]] = {
        "positions": ("Independent positions", lambda: positions(patience)),
        "rows": ("Shared rows", lambda: rows(args.data, patience)),
        "bounds": (
            "One bound at one and two threads",
            lambda: scaling.rows(args.data, args.patience or 0.8, args.cases),
        ),
        "suite": ("Suites", lambda: suite(args.data)),
    }
    text = PAGE.read_text() if PAGE.exists() else HEADING
    for key, (title, measure) in parts.items():
        if args.only not in (None, key):
            continue
        found = []
        for line in measure():
            print(*line, sep="  ", file=sys.stderr, flush=True)
            found.append(line)
        made = section(key, title, found)
        text = with_section(text, made)
        if args.print:
            print(made)
    if not args.print:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    heap.own()
    sys.exit(main())
