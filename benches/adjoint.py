"""The adjoint of convolutions on the shapes of known networks, beside the BLAS's product.

    python -m benches.adjoint               GFLOP/s with one and with two threads, share of sgemm's
    python -m benches.adjoint --rows 24     with as many rows instead of 96
    python -m benches.adjoint --docs        and the table of docs/performance.md

Operations are those of the weights that meet a pixel of the image. Every entry of the rows is live.
A call walks the rows through the same adjoint some times over, block by block, as a bound walks
its rows through all layers: timed is the step that bounds take, not the way from Python to it.
Behind the first layers rows are not read again: what is timed there is the adjoint and what the
rows pay for the radii of the input (whose operations do not count).
Shortcuts are added to rows that came around them, as in a walk.
Each thread has rows of its own, in memory of the pool, as blocks of a walk have, or a product of
the BLAS of its own. Seconds are processor time of the slower thread: other work takes little of it.
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benches.report import PAGE, markdown, replace_block
from gamma.ops import Conv
from gamma.ops.spread import Taps, last_weight
from gamma.ops.window import Window
from gamma.runtime import pool, workers
from gamma.runtime.threads import limit_blas
from gamma.tensor import kernels


class Shape(NamedTuple):
    """A convolution: channels it makes and reads, kernel, stride, pad, and pixels it reads."""

    out: int
    channels: int
    kernel: int
    stride: int
    pad: int
    image: int


SHAPES = {
    "oval21_base 1": Shape(8, 3, 4, 2, 1, 32),
    "oval21_base 2": Shape(16, 8, 4, 2, 1, 16),
    "oval21_wide 1": Shape(16, 3, 4, 2, 1, 32),
    "oval21_wide 2": Shape(32, 16, 4, 2, 1, 16),
    "marabou_cifar10 1": Shape(16, 3, 4, 2, 0, 32),
    "marabou_cifar10 2": Shape(32, 16, 4, 2, 0, 15),
    "cifar10_resnet 1": Shape(8, 3, 3, 2, 1, 32),
    "cifar10_resnet 2": Shape(16, 8, 3, 2, 1, 16),
    "cifar10_resnet 3": Shape(16, 16, 3, 1, 1, 8),
    "cifar10_resnet, short": Shape(16, 8, 1, 2, 0, 16),
    "sri_resnet 1": Shape(16, 3, 3, 2, 1, 32),
    "sri_resnet 2": Shape(32, 16, 3, 2, 1, 16),
    "sri_resnet 3": Shape(32, 32, 3, 1, 1, 8),
    "sri_resnet 4": Shape(64, 32, 3, 2, 1, 8),
    "sri_resnet 5": Shape(64, 64, 3, 1, 1, 4),
    "sri_resnet 6": Shape(128, 64, 3, 2, 1, 4),
    "sri_resnet 7": Shape(128, 128, 3, 1, 1, 2),
    "sri_resnet, short": Shape(64, 32, 1, 2, 0, 8),
}
STEPS = 32
"""Adjoints of a call: beside fewer of the shortest the way from Python would count."""
SECONDS = 0.05
ROUNDS = 5
_KIND = np.dtype(np.float32)


def rate(shape: Shape, rows: int, threads: int) -> float:
    """Operations a second of one adjoint on each of ``threads`` threads."""
    rng = np.random.default_rng(0)
    size = (shape.out, shape.channels, shape.kernel, shape.kernel)
    op = Conv(rng.standard_normal(size, np.float32), None, (shape.stride,) * 2, (shape.pad,) * 4)
    window = op.window((shape.channels, shape.image, shape.image))
    images = (shape.image, shape.image, shape.channels)
    given = [pool.empty((rows, *window.positions, shape.out), _KIND) for _ in range(threads)]
    for block in given:
        block[:] = rng.standard_normal(block.shape)
    made = [pool.zeros((rows, *images), _KIND) for _ in given]
    ones = np.ones((1, shape.channels, shape.image, shape.image), np.float32)
    counting = Conv(np.ones(size, np.float32), None, op.strides, op.pads)
    work = 2 * rows * float(counting.linear([ones]).sum())
    course, tables = steps(op, window, images)
    zeros = np.zeros(rows, np.int64)
    places = zeros, zeros, zeros[:3].reshape(1, 3)

    def call(thread: int) -> None:
        with workers.limited(1):
            course.run(tables, [given[thread], made[thread]], np.zeros(rows), None, *places, False)

    return threads * STEPS * work / least(call, threads)


def steps(
    op: Conv, window: Window, images: tuple[int, int, int]
) -> tuple[kernels.Course, kernels.MetTables]:
    """A walk that takes the adjoint of ``op`` so many times, on rows of the first slot."""
    first, (out, channels) = images[2] == 3, op.weight.shape[:2]
    taps = Taps.of(last_weight(op, op.weight, np.float32, False, 1), window, channels)
    rows, entries = (*window.positions, out), math.prod(images)
    scatter, cells = taps.scatter(window, channels)
    product = kernels.Product(taps.weight[0], rows, images, scatter, (0, 0), cells, op.skips)
    kind, shape = "reach" if first else "gather", (*rows[:2], *images[:2], out)
    move = kernels.Move(kind, 0, 0, 1, shape, True, target=images[:2], product=product)
    course = kernels.course([move] * STEPS, [math.prod(rows), entries], 2, _KIND)
    if course is None:
        raise SystemExit("bench: the C library is needed")
    tables = kernels.met_tables(1, 1, _KIND)
    tables.meet(0, entries, kernels.Met(pay=np.ones((1, entries))))
    return course, tables


def least(call: Callable[[int], object], threads: int) -> float:
    """Seconds of a call on each thread at once."""
    count = 1
    best = np.inf
    for _ in range(ROUNDS):
        while (took := once(call, count, threads)) < SECONDS / 2:
            count *= 2
        best = min(best, took / count)
    return best


def once(call: Callable[[int], object], count: int, threads: int) -> float:
    """Processor time of the thread that takes longest for ``count`` calls."""
    took = [0.0] * threads

    def run(thread: int) -> None:
        started = time.thread_time()
        for _ in range(count):
            call(thread)
        took[thread] = time.thread_time() - started

    others = [threading.Thread(target=run, args=(i,)) for i in range(1, threads)]
    for other in others:
        other.start()
    run(0)
    for other in others:
        other.join()
    return max(took)


def sgemm(threads: int, n: int = 1024) -> float:
    """Operations a second of square products of the BLAS, one on each thread."""
    a, b = np.ones((2, n, n), np.float32)
    out = np.empty((threads, n, n), np.float32)
    with limit_blas(1):
        return threads * 2 * n**3 / least(lambda i: np.matmul(a, b, out=out[i]), threads)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="part of the names of the shapes")
    parser.add_argument("--docs", action="store_true")
    args = parser.parse_args()
    counts = [int(n) for n in args.threads.split(",")]
    whole = {n: sgemm(n) for n in counts}
    print(f"{'sgemm':24s}" + "".join(f"{whole[n] / 1e9:7.1f}       " for n in counts))
    lines = [("sgemm", *(f"{whole[n] / 1e9:.0f}" for n in counts))]
    for name, shape in SHAPES.items():
        if args.only not in name:
            continue
        rates = {n: rate(shape, args.rows, n) for n in counts}
        cells = [f"{rates[n] / 1e9:7.1f} ({rates[n] / whole[n]:4.0%})" for n in counts]
        print(f"{name:24s}" + " ".join(cells), flush=True)
        lines.append((name, *(f"{rates[n] / 1e9:.0f} ({rates[n] / whole[n]:.0%})" for n in counts)))
    if args.docs:
        head = ("shape", *(f"{n} thread{'s' * (n > 1)}" for n in counts))
        table = markdown(head, lines, (False, *(True for _ in counts)))
        place = f"{args.rows} rows of float32, {kernels.isa}; GFLOP/s, and the share of sgemm's."
        replace_block(PAGE, "adjoint", f"{place}\n\n{table}")


if __name__ == "__main__":
    main()
