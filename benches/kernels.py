"""Time of every kernel on every instruction set this machine runs: a table, microseconds per call.

    python benches/kernels.py [--repeat 5]

The best of some repeats, one thread, arrays in cache unless the size column says otherwise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from gamma.tensor import kernels


def cases() -> dict[str, Callable[[], object]]:
    """Name and size of each case, and the call."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((512, 256)).astype(np.float32)
    d, box = np.zeros(512), np.zeros(512, np.int64)
    slope, const = np.ones((1, 256), np.float32), rng.random((1, 256))
    weight, centre = rng.standard_normal((256, 256)).astype(np.float32), rng.random((1, 256))
    frames = np.zeros((16, 32, 32, 32), np.float32)
    last = rng.standard_normal((16, 32, 32, 3, 3, 32)).astype(np.float32)
    x = rng.standard_normal(1 << 16).astype(np.float32)
    wide = x.astype(np.float64)
    return {
        "relax_rows 512x256 f32": lambda: kernels.relax_rows(
            rows, d, box, slope, slope, const, const
        ),
        "abs_dot_rows 512x256 f32": lambda: kernels.abs_dot_rows(rows, d, box, const),
        "dot_rows 512x256 f32": lambda: kernels.dot_rows(rows, d, box, const),
        "interval_affine 256x256 f32": lambda: kernels.interval_affine(weight, centre, centre),
        "fold_last 16x32x32x32 k3 f32": lambda: kernels.fold_last(
            last, frames, (3, 3), pads=(1, 1)
        ),
        "interval_mul 65536 f32": lambda: kernels.interval_mul(x, x, x, x),
        "safe_mul_add 65536 f32": lambda: kernels.safe_mul_add(x, x, x, x, x, x),
        "step_up 65536 f32": lambda: kernels.step_up(x),
        "narrow_up 65536": lambda: kernels.narrow_up(wide),
        "radius_about 65536": lambda: kernels.radius_about(wide, wide, wide),
        "f16_up 65536": lambda: kernels.f16_up(x),
        "dot 65536 f32": lambda: kernels.dot(x, x),
        "step_up 1 f32 (call overhead)": lambda: kernels.step_up(x[:1]),
    }


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Best time of one call over ``repeat`` runs of about ten milliseconds each."""
    start = time.perf_counter()
    call()
    count = max(1, int(0.01 / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - start) / count)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    names = kernels.available()
    print(f"{'microseconds per call':32s}" + "".join(f"{name:>10s}" for name in names))
    for label, call in cases().items():
        line = f"{label:32s}"
        for name in names:
            with kernels.pinned(name):
                line += f"{seconds(call, repeat) * 1e6:10.1f}"
        print(line)


if __name__ == "__main__":
    main()
