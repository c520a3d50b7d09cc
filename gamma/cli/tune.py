"""``gamma tune``: limits of the table of choices, measured on this machine and stored."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gamma.cli.measuring import timed
from gamma.cli.output import note, write_bytes
from gamma.errors import UsageError
from gamma.network.graph import Builder
from gamma.ops import Gemm, Input
from gamma.propagate.interval import input_bounds, interval_step
from gamma.runtime import choices, pool, threads, workers
from gamma.tensor import kernels
from gamma.tensor.box import Box

Key = tuple[str, str]


def run(args: argparse.Namespace) -> int:
    """Measure and store, or show, or reset; return 0."""
    if args.reset:
        try:
            choices.path().unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{choices.path()}: cannot be removed: {error.strerror}") from None
        choices.reload()
    elif not args.show:
        _store(calibrate(args.seconds))
    print(json.dumps(_record(), indent=2) if args.json else _text())
    return 0


def calibrate(seconds: float) -> dict[Key, float]:
    """Limits of this machine, found in about ``seconds``."""
    if kernels.isa == "numpy":
        raise UsageError("gamma tune measures the compiled kernels; this installation has none")
    steps: list[tuple[Key, Callable[[float], float]]] = [
        (("interval.dense", "f"), partial(_dense, np.float32)),
        (("interval.dense", "d"), partial(_dense, np.float64)),
        (("interval.boxes", ""), _boxes),
        (("rows.product", "f"), partial(_product, np.float32)),
        (("rows.product", "d"), partial(_product, np.float64)),
        (("rows.share", ""), _share),
        (("memory.array", ""), _array),
    ]
    found: dict[Key, float] = {}
    with threads.limit_blas(1):
        for number, (key, measure) in enumerate(steps, start=1):
            if sys.stderr.isatty():
                note(f"measuring {number}/{len(steps)}: {key[0]} ...")
            found[key] = measure(seconds / len(steps))
    return found


def crossing(
    sizes: list[int], first: Callable[[int], float], second: Callable[[int], float]
) -> int:
    """The largest size up to which the first way is the faster one; 0 when it never is.

    A way that loses once has lost: noise at a larger size does not bring it back.
    """
    best = 0
    for size in sizes:
        if first(size) > 1.02 * second(size):
            break
        best = size
    return best


def _dense(dtype: Any, seconds: float) -> float:
    """Boxes up to which a dense layer's interval step in one pass beats two products."""
    rng = np.random.default_rng(0)
    sizes = [1, 2, 4, 8, 16, 32]
    weight = (rng.standard_normal((256, 256)) / 16).astype(dtype)
    builder = Builder(Input(), (256,))
    network = builder.build(builder.add(Gemm(weight), 0))
    key = ("interval.dense", np.dtype(dtype).char)

    def step(limit: float, boxes: int) -> float:
        centre = rng.standard_normal((boxes, 256))
        source = input_bounds(Box(centre - 0.1, centre + 0.1))
        with choices.using({key: limit}):
            call = partial(interval_step, network.nodes[1], [source], "real")
            return timed(call, seconds / (2 * len(sizes))).best

    return max(1, crossing(sizes, partial(step, 1e9), partial(step, 0)))


def _boxes(seconds: float) -> float:
    """Entries of a weight up to which its interval step in tiles beats products of the BLAS."""
    rng = np.random.default_rng(0)
    widths = [256, 512, 1024, 2048]
    centre = rng.standard_normal((64, widths[-1]))

    def step(limit: float, width: int) -> float:
        builder = Builder(Input(), (width,))
        weight = (rng.standard_normal((width, width)) / width**0.5).astype(np.float32)
        network = builder.build(builder.add(Gemm(weight), 0))
        source = input_bounds(Box(centre[:, :width] - 0.1, centre[:, :width] + 0.1))
        with choices.using({("interval.boxes", ""): limit}):
            call = partial(interval_step, network.nodes[1], [source], "real", np.float32)
            return timed(call, seconds / (2 * len(widths))).best

    return float(crossing(widths, partial(step, 1e9), partial(step, 0)) ** 2)


def _product(dtype: Any, seconds: float) -> float:
    """Entries of a weight up to which the C product beats the BLAS."""
    rng = np.random.default_rng(0)
    widths = [256, 512, 1024, 2048]  # below, calls cost more than either product
    each = seconds / (2 * len(widths))

    def operands(width: int) -> tuple[Any, Any]:
        rows = rng.standard_normal((96, width)).astype(dtype)
        return rows, rng.standard_normal((width, width)).astype(dtype)

    def tiled(width: int) -> float:
        rows, weight = operands(width)
        return timed(lambda: kernels.product(rows, weight, width), each).best

    def blas(width: int) -> float:
        rows, weight = operands(width)
        return timed(lambda: rows @ weight, each).best

    return float(crossing(widths, tiled, blas) ** 2)


def _share(seconds: float) -> float:
    """Nanoseconds of work for which handing as much to a thread costs a fifteenth."""
    if workers.workers() < 2:
        return choices.DEFAULTS["rows.share", ""][0][0]
    shared = timed(lambda: workers.run([int, int]), seconds / 2).median
    with workers.limited(1):
        alone = timed(lambda: workers.run([int, int]), seconds / 2).median
    return float(min(max(15e9 * (shared - alone), 3e5), 1e8))


def _array(seconds: float) -> float:
    """Bytes above which the pool's array is filled sooner than a new one."""
    sizes = [1 << k for k in range(16, 25)]
    each = seconds / (2 * len(sizes))

    def system(size: int) -> float:
        return timed(lambda: np.empty(size // 8).fill(1), each).best

    def pooled(size: int) -> float:
        return timed(lambda: pool.TensorPool.current().empty(size // 8).fill(1), each).best

    return float(max(1 << 16, crossing(sizes, system, pooled)))


def _store(limits: dict[Key, float]) -> None:
    file = choices.path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, json.dumps(choices.document_of(limits), indent=2).encode() + b"\n")
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        ) from None
    choices.reload()


def _record() -> dict[str, Any]:
    rows = [
        {
            "operation": operation,
            "dtype": {"f": "float32", "d": "float64"}.get(dtype),
            "default": ways[0][0],
            "limit": choices.limit(operation, dtype),
            "below": ways[0][1],
            "above": ways[1][1],
        }
        for (operation, dtype), ways in choices.DEFAULTS.items()
    ]
    return {
        "schema": "gamma.tune/1",
        "file": str(choices.path()),
        "tuned": choices.tuned(),
        "host": choices.host(),
        "choices": rows,
    }


def _text() -> str:
    from gamma.cli import picture

    record = _record()
    rows = [
        [
            " ".join(filter(None, (row["operation"], row["dtype"]))),
            f"{row['limit']:,.0f}",
            f"{row['default']:,.0f}",
            row["below"],
            row["above"],
        ]
        for row in record["choices"]
    ]
    head = ("choice", "up to", "default", "below", "above")
    where = "limits of this machine" if record["tuned"] else "defaults"
    table = picture.table(rows, head, (False, True, True, False, False))
    return "\n".join([f"{where}; file {record['file']}", "", *table])
