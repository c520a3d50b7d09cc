"""One bound at one thread and at two: the least wall times of processes that measure in turns.

A part of `benches.parallel`. Each thread count has a process of its own, so that the BLAS is set
before NumPy is loaded. Slow walks with method alpha take two descents instead of twenty, which does
not change what a second thread brings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benches import made
from benches.cases import BATCHED, ROOT, Case, names

SHORT = 5e-3
"""Seconds of one thread from which on a bound is listed."""
LONG = 1.5
"""Seconds of one thread from which on method alpha takes few descents."""
FEW = 2
METHODS = ("ibp", "crown", "alpha")
SKIPPED = {"generator": ("crown", "alpha")}
"""Methods that take minutes a call (`benches.generator` measures them)."""
PRODUCT = "product"
SIZES = (256, 1024)
"""Of the products that say what the machine's second processor is worth."""
ROUNDS = (4, 30)
"""On a quiet machine, and at most."""
OTHERS = 0.12
"""Processors that other programs may take during a round that counts."""
TICK = 0.01
"""Seconds that the system's count may be off."""


@dataclass(frozen=True)
class Asked:
    """One bound: a method over a batch of boxes, alpha with so many descents (None: its own)."""

    method: str
    batch: int
    steps: int | None = None


class Side:
    """A process that measures one case with a number of threads, when told to."""

    def __init__(self, case: str, data: Path, threads: int) -> None:
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benches.scaling", case, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | dict.fromkeys(limits, str(threads)),
            text=True,
        )

    def measure(self, asked: Asked, seconds: float) -> dict[str, float]:
        """Calls for so long, one at least: the least wall time; processors in use, others' too."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        print(json.dumps({**vars(asked), "seconds": seconds}), file=stdin, flush=True)
        line = stdout.readline()
        if not line:
            raise SystemExit(f"bench: the child ended on {asked}")
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        with self.process, suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()


def child(case: str, data: Path) -> None:
    """Measures what each line on stdin asks for."""
    from benches.peer import read
    from gamma.runtime import heap

    heap.own()
    found = None if case == PRODUCT else read(case, data)
    for line in sys.stdin:
        asked = json.loads(line)
        deadline = asked.pop("seconds")
        call = _product(asked["batch"]) if found is None else _bound(found, Asked(**asked))
        before, began, cpu = busy(), time.perf_counter(), time.process_time()
        best, deadline = np.inf, began + deadline
        while best == np.inf or time.perf_counter() < deadline:
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start)
        passed, cpu = time.perf_counter() - began, time.process_time() - cpu
        others = max(0.0, busy() - before - cpu - TICK)
        answer = {"wall": best, "used": cpu / passed, "others": others / passed}
        print(json.dumps(answer), flush=True)


def _product(size: int) -> Callable[[], object]:
    a = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    return partial(np.matmul, a, a, out=np.empty_like(a))


def _bound(case: Case, asked: Asked) -> Callable[[], object]:
    from gamma.propagate import bounds

    how = {} if asked.steps is None else {"steps": asked.steps}
    return partial(bounds, case.network, case.boxes(asked.batch), method=asked.method, **how)


def busy() -> float:
    """Seconds that all processors together have worked since the system started."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


HEAD = (
    *("bound", "1 thread, ms", "2 threads, ms", "speed-up", "processors in use"),
    "machine quiet",
)


def rows(data: Path, patience: float, only: str = "") -> Iterator[tuple[str, ...]]:
    """Products, then every macro case and made network, whose names contain ``only``."""
    for case in (PRODUCT, *names(data), *made.NAMES):
        if only not in case and case != PRODUCT:
            continue
        sides = [Side(case, data, threads) for threads in (1, 2)]
        for asked in _asked(case, sides[0]):
            yield _row(case, asked, *compared(sides, asked, patience))
        for side in sides:
            side.close()


def _asked(case: str, alone: Side) -> Iterator[Asked]:
    """What takes one thread long enough."""
    if case == PRODUCT:
        yield from (Asked(PRODUCT, size) for size in SIZES)
        return
    for method in (m for m in METHODS if m not in SKIPPED.get(case, ())):
        for batch in (1, 128) if case in BATCHED else (1,):
            asked = Asked(method, batch)
            if method == "alpha":
                few = Asked(method, batch, FEW)
                asked = few if alone.measure(few, 0)["wall"] * 20 / FEW > LONG else asked
            alone.measure(asked, 0)  # makes what is made once
            if alone.measure(asked, 0)["wall"] > SHORT:
                yield asked


def compared(sides: list[Side], asked: Asked, patience: float) -> list[dict[str, float]]:
    """The best round of each side, in turns: the quickest of those that had the machine."""
    rounds: list[list[dict[str, float]]] = [[], []]
    began = time.perf_counter()
    for turn in range(1 + ROUNDS[1]):
        for side, found in zip(sides, rounds, strict=True):
            measured = side.measure(asked, patience / 40 if turn else 0.0)
            if turn:  # the first round warms up
                found.append(measured)
        enough = all(sum(map(quiet, found)) >= ROUNDS[0] for found in rounds)
        if turn and (enough or time.perf_counter() - began > 3 * patience):
            break
    return [min(found, key=lambda one: (not quiet(one), one["wall"])) for found in rounds]


def quiet(measured: dict[str, float]) -> bool:
    """Whether other programs left the machine alone."""
    return measured["others"] <= OTHERS


def _row(case: str, asked: Asked, one: dict[str, float], two: dict[str, float]) -> tuple[str, ...]:
    if case == PRODUCT:
        name = f"float32 product of {asked.batch} × {asked.batch} by the BLAS"
    else:
        steps = "" if asked.steps is None else f", {asked.steps} descents"
        boxes = f", {asked.batch} boxes" if asked.batch > 1 else ""
        name = f"{case} {asked.method}{steps}{boxes}"
    return (
        name,
        f"{one['wall'] * 1e3:.3g}",
        f"{two['wall'] * 1e3:.3g}",
        f"{one['wall'] / two['wall']:.2f}",
        f"{two['used']:.2f}",
        "yes" if quiet(one) and quiet(two) else "**no**",
    )


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]))
