"""Decoding and multiplying stored weights: weights per second of processor time, one thread.

python -m benches.stored [--seconds 0.2]

A matrix of 1024 × 4096 weights is decoded panel by panel into memory that stays in cache, by each
instruction set (gguf-py decodes it as a whole), and multiplied as stored with the centres and radii
of 1, 4 and 16 boxes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from benches.models import Pool, layout
from gamma.tensor import kernels
from gamma.tensor.kernels.stored import BLOCKS
from gamma.tensor.weights import Weight

ROWS, COLUMNS = 1024, 4096
BOXES = (1, 4, 16)


def best(call: Callable[[], object], seconds: float) -> float:
    """The least processor time of one call, repeated for about ``seconds``."""
    found, end = np.inf, time.perf_counter() + seconds
    while True:
        began = time.process_time()
        call()
        found = min(found, time.process_time() - began)
        if time.perf_counter() > end:
            return float(found)


def weight(kind: str, pool: Pool) -> Weight:
    """Random blocks as a matrix (for Q5_K, which nothing here quantises, random bytes)."""
    weights, size = layout(kind.upper())
    count = ROWS * COLUMNS // weights
    if kind == "q5_k":
        raw = pool.rng.integers(0, 256, (count, size), dtype=np.uint8)
        raw[:, :4] = np.full(2, 1e-4, np.float16).view(np.uint8)
    else:
        raw = pool.draw(kind.upper(), count)
    return Weight((ROWS, COLUMNS), kind, raw.reshape(ROWS, -1), kind)


def rates(stored: Weight, seconds: float) -> list[float]:
    """10⁹ weights a second: decoded, then multiplied for each of `BOXES`."""

    def decode() -> None:
        for _ in stored.panels():
            pass

    count, rng = ROWS * COLUMNS / 1e9, np.random.default_rng(0)
    found = [count / best(decode, seconds)]
    for boxes in BOXES:
        centre, radius = rng.standard_normal((boxes, COLUMNS)), rng.random((boxes, COLUMNS))
        found.append(count / best(lambda c=centre, r=radius: stored.interval(c, r), seconds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates of stored weights, in 10⁹ a second.")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each figure")
    seconds, pool = parser.parse_args().seconds, Pool(0)
    print("kind   set     decode  gguf-py  ratio   1 box  4 boxes  16 boxes")
    for kind in BLOCKS:
        stored = weight(kind, pool)
        number = GGMLQuantizationType[kind.upper()]
        reference = ROWS * COLUMNS / 1e9 / best(partial(dequantize, stored.raw, number), seconds)
        for isa in kernels.available()[:-1]:
            with kernels.pinned(isa):
                decode, *products = rates(stored, seconds)
            print(
                f"{kind:6s} {isa:7s} {decode:6.2f}  {reference:7.3f}  {decode / reference:5.0f}  "
                + "  ".join(f"{rate:6.2f}" for rate in products)
            )


if __name__ == "__main__":
    main()
