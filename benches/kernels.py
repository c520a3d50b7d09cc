"""Every kernel on every instruction set: share of the copy bandwidth, and times faster than NumPy.

    python -m benches.kernels                       a million numbers
    python -m benches.kernels --sizes 1024,65536 --only rows

A share is bytes that must be read and written per second, over those of a copy that moves as many
bytes in the same run; at a million numbers it says how far from possible a kernel is, at small
sizes what a call costs. Arrays are as NumPy makes them. `benches/micro/test_kernels.py` runs the
same cases under pytest-benchmark.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gamma.cli.measuring import timed
from gamma.tensor import kernels

WIDTH = 512
"""Numbers in a row of the row kernels, at most."""
Arrays = tuple[Any, ...]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One kernel.

    Attributes:
        make: size -> the call to time, and a check of its results that raises AssertionError.
        moved: bytes read and written per number. numpy: whether it runs without the C library.
    """

    make: Callable[[int], tuple[Call, Call]]
    moved: float
    numpy: bool = True


def numbers(size: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    """Normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def _elementwise(name: str, *given: tuple[int, float], dtype: Any = np.float32) -> Any:
    """Arguments: pairs of seed and offset. The bits are NumPy's."""

    def make(size: int) -> tuple[Call, Call]:
        arrays = [numbers(size, dtype, seed) + dtype(offset) for seed, offset in given]

        def call() -> Any:
            return getattr(kernels, name)(*arrays)

        return call, lambda: _same_bits(call)

    return make


def _same_bits(call: Call) -> None:
    found = call()
    with kernels.pinned("numpy"):
        wanted = call()
    for one, other in zip(_all(found), _all(wanted), strict=True):
        assert one.tobytes() == other.tobytes()


def _all(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


def _from_half(size: int) -> tuple[Call, Call]:
    half = kernels.f16_down(numbers(size))
    return lambda: kernels.f16_to_f32(half), lambda: _same_bits(lambda: kernels.f16_to_f32(half))


def _rows(size: int, dtype: Any) -> Arrays:
    """Rows, zeros to add to, box indices, and tables of one box: slopes of 1, constants."""
    wide = min(size, WIDTH)
    A = numbers(size, dtype).reshape(-1, wide)
    const = np.random.default_rng(1).random((2, 1, wide))
    return A, np.zeros(len(A)), np.zeros(len(A), np.int64), np.ones((1, wide), dtype), const


def _row_kernel(name: str, dtype: Any) -> Callable[[int], tuple[Call, Call]]:
    def make(size: int) -> tuple[Call, Call]:
        A, d, box, slope, (low, high) = _rows(size, dtype)

        def run(rows: Any, sums: Any) -> None:
            if name == "relax_rows":
                kernels.relax_rows(rows, sums, box, slope, slope, low, high)
            else:
                getattr(kernels, name)(rows, sums, box, low)

        def check() -> None:
            rows, sums = A.copy(), np.zeros(len(A))
            run(rows, sums)
            wide = A.astype(np.longdouble)
            terms = {
                "relax_rows": np.where(A >= 0, wide * low, wide * high),
                "dot_rows": wide * low,
                "abs_dot_rows": -abs(wide) * low,
            }[name]
            assert (rows == A).all()
            _near(sums, terms)

        return lambda: run(A, d), check

    return make


def _near(found: Any, terms: Any) -> None:
    """Sums of the terms' last axis, within the charge of float64."""
    charge = (terms.shape[-1] + 4) * 2.0**-53 * abs(terms).sum(axis=-1)
    assert (abs(found - terms.sum(axis=-1)) <= charge).all()


def _dot(size: int) -> tuple[Call, Call]:
    x, y = numbers(size), numbers(size, seed=1)
    terms = x.astype(np.longdouble) * y
    return lambda: kernels.dot(x, y), lambda: _near(kernels.dot(x, y), terms)


def _sum(size: int) -> tuple[Call, Call]:
    x = numbers(size)
    return lambda: kernels.sum(x), lambda: _near(kernels.sum(x), x.astype(np.longdouble))


def _affine(dtype: Any) -> Callable[[int], tuple[Call, Call]]:
    def make(size: int) -> tuple[Call, Call]:
        W, _, _, _, (centre, radius) = _rows(size, dtype)

        def check() -> None:
            z, spread = kernels.interval_affine(W, centre, radius)
            terms = W.astype(np.longdouble)
            _near(z[0], terms * centre)
            _near(spread[0], abs(terms) * radius)

        return lambda: kernels.interval_affine(W, centre, radius), check

    return make


def _dense_interval(size: int) -> tuple[Call, Call]:
    W, _, _, _, (centre, radius) = _rows(size, np.float32)
    lower, upper, bias = centre - radius, centre + radius, numbers(len(W), np.float64)
    wide = W.astype(np.longdouble)
    row_sum = np.nextafter(abs(wide).sum(axis=1).astype(np.float64), np.inf)
    factors = (1.01 * (W.shape[1] + 4) * 2.0**-53, 0.0)

    def call() -> Any:
        return kernels.dense_interval(W, bias, row_sum, lower, upper, centre, factors)

    def check() -> None:
        found, crossed = call()
        least = np.minimum(wide * lower, wide * upper).sum(axis=1) + bias
        most = np.maximum(wide * lower, wide * upper).sum(axis=1) + bias
        assert crossed == 0 and (found[3, 0] <= least).all() and (most <= found[4, 0]).all()

    return call, check


def _dense_boxes(size: int) -> tuple[Call, Call]:
    """A square weight of about ``size`` entries, and 32 boxes."""
    n = max(1, round(size**0.5))
    wide, single = (kernels.padded(n, np.dtype(d)) for d in (np.float64, np.float32))
    forward, sizes = np.zeros((n, wide)), np.zeros((n, single), np.float32)
    forward[:, :n] = numbers(n * n).reshape(n, n)
    sizes[:, :n] = abs(forward[:, :n])
    row_sum, bias = abs(forward[:, :n]).sum(axis=0) * 1.001, numbers(n, np.float64, 1)
    centre = numbers(32 * n, np.float64, 2).reshape(32, n)
    lower, upper = centre - 0.1, centre + 0.1
    g, made_up = 1.01 * (n + 4) * 2.0**-53, 1 + (n + 4) * 2.0**-24

    def call() -> Any:
        factors = (g, 0.0, made_up, n * 2.0**-148, 0.9)
        return kernels.dense_boxes(forward, sizes, bias, row_sum, lower, upper, centre, factors)

    def check() -> None:
        found, crossed = call()
        weight = forward[:, :n].astype(np.longdouble)
        above, below = np.maximum(weight, 0), np.minimum(weight, 0)
        least, most = lower @ above + upper @ below + bias, upper @ above + lower @ below + bias
        assert crossed == 0 and (found[3] <= least).all() and (most <= found[4]).all()

    return call, check


def _finish(size: int) -> tuple[Call, Call]:
    z, spread = numbers(size, np.float64)[None], abs(numbers(size, np.float64, 1))[None]
    bias, row_sum, centre = np.zeros(size), np.ones(size), [np.zeros((1, 4))]
    factors = (2.0**-40, 0.0)

    def check() -> None:
        reach = spread.copy()
        found, crossed = kernels.interval_finish(z.copy(), reach, bias, row_sum, centre, factors)
        least, most = z - spread.astype(np.longdouble), z + spread.astype(np.longdouble)
        assert crossed == 0 and (spread <= reach).all()
        assert (found[1] <= least).all() and (most <= found[2]).all()

    def call() -> Any:
        return kernels.interval_finish(z, spread, bias, row_sum, centre, factors)

    return call, check


def _largest(size: int) -> tuple[Call, Call]:
    x = numbers(size, np.float64)[None]

    def check() -> None:
        exact = abs(x).max()
        assert exact <= kernels.largest(x)[0] <= exact * (1 + 2.0**-40)

    return lambda: kernels.largest(x), check


def _correlate(size: int) -> tuple[Call, Call]:
    """Images of up to 16 channels through a kernel of 2 by 2 to as many channels."""
    channels = min(size, 16)
    places = size // channels
    high = 1 << (places.bit_length() // 2)
    images = numbers(size).reshape(1, 1, channels, high, places // high)
    weight = numbers(4 * channels**2, seed=1).reshape(1, channels, 4 * channels)
    frame = kernels.Frame((2, 2, 1, 1, 1, 1), 1, 1)
    positions = (high + 1, places // high + 1)

    def call() -> Any:
        return kernels.correlate(images, weight, frame, positions)

    def check() -> None:
        padded = np.pad(images[0, 0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        h, w = positions
        cols = np.stack(
            [padded[:, i : i + h, j : j + w] for i, j in np.ndindex(2, 2)], axis=1
        ).reshape(4 * channels, h * w)
        exact = weight[0].astype(np.float64) @ cols
        sizes = abs(weight[0]).astype(np.float64) @ abs(cols)
        error = abs(call()[0, 0].reshape(channels, -1) - exact)
        assert (error <= (4 * channels + 4) * 2.0**-24 * sizes).all()

    return call, check


def _line_tables(size: int) -> tuple[Call, Call]:
    lower = numbers(size, np.float64).reshape(1, size)
    upper = lower + np.random.default_rng(1).random((1, size))
    centre = 0.5 * (lower + upper)
    after = np.maximum(centre, 0.0)

    def call() -> Any:
        factors = (2.0**-40, 1.01 * 2.0**-24)
        kind = np.dtype(np.float32)
        return kernels.line_tables(None, lower, upper, centre, after, None, kind, factors)

    def check() -> None:
        slopes, constants, _ = call()
        for x in (lower, upper, np.clip(0.0, lower, upper)):
            x = x.astype(np.longdouble)
            rest = np.maximum(x, 0) - after - slopes.astype(np.longdouble) * (x - centre)
            assert (constants[0] <= rest[0]).all() and (rest[1] <= constants[1]).all()

    return call, check


def _window_rows(name: str) -> Callable[[int], tuple[Call, Call]]:
    """Rows of 4 by 4 pixels and 16 channels, where there are enough numbers, inside one image."""

    def make(size: int) -> tuple[Call, Call]:
        channels = min(size, 16)
        high, wide = min(size // channels, 4), 1 if size < 256 else 4
        A = numbers(size).reshape(-1, high, wide, channels)
        d, place, where = np.zeros(len(A)), np.zeros(len(A), np.int64), np.zeros((1, 3), np.int64)
        low, high_const = np.random.default_rng(1).random((2, 1, high + 1, wide + 1, channels))
        slope = np.ones(low.shape, np.float32)
        frame = (high + 1, wide + 1)

        def run(rows: Any, sums: Any) -> None:
            if name == "relax_windows":
                arguments = (slope, slope, low, high_const)
                kernels.relax_windows(rows, sums, place, where, frame, *arguments)
            else:
                kernels.abs_dot_windows(rows, sums, place, where, frame, low)

        def check() -> None:
            rows, sums = A.copy(), np.zeros(len(A))
            run(rows, sums)
            exact = A.astype(np.longdouble)
            below, above = low[:, :high, :wide], high_const[:, :high, :wide]
            picked = np.where(A >= 0, exact * below, exact * above)
            terms = picked if name == "relax_windows" else -abs(exact) * below
            assert (rows == A).all()
            _near(sums, terms.reshape(len(A), -1))

        return lambda: run(A, d), check

    return make


def _product(size: int) -> tuple[Call, Call]:
    """A square weight of about ``size`` entries, and 32 rows."""
    n = max(1, round(size**0.5))
    columns = kernels.padded(n, np.dtype(np.float32))
    A, W = numbers(32 * n, np.float32).reshape(32, n), np.zeros((n, columns), np.float32)
    W[:, :n] = numbers(n * n, np.float32, 1).reshape(n, n)

    def check() -> None:
        found = kernels.product(A, W, n)
        exact = A.astype(np.longdouble) @ W[:, :n].astype(np.longdouble)
        reach = abs(A).astype(np.float64) @ abs(W[:, :n]).astype(np.float64)
        assert found is not None
        assert (abs(found - exact) <= (n + 1) * 2.0**-24 * reach).all()

    return lambda: kernels.product(A, W, n), check


def _spread(size: int, gathered: bool = False) -> tuple[Call, Call]:
    """Rows of up to 16 channels through a kernel of 2 by 2 onto as many channels."""
    channels = min(size, 16)
    places = size // channels
    high = 1 << (places.bit_length() // 2)
    rows = numbers(size).reshape(1, high, places // high, channels)
    columns = kernels.padded(4 * channels, np.dtype(np.float32))
    weight = np.zeros((channels, columns), np.float32)
    weight[:, : 4 * channels] = numbers(4 * channels**2, seed=1).reshape(channels, -1)
    images = np.zeros((1, high + 1, places // high + 1, channels), np.float32)
    scatter = kernels.Scatter((2, 2, 1, 1, 1, 1), 0, 0, channels, channels)
    kernel, own = kernels.spread, weight
    if gathered:
        taps = np.zeros((1, 4, channels, 16), np.float32)
        by_place = weight[:, : 4 * channels].reshape(channels, 4, channels).transpose(1, 0, 2)
        taps[0, ..., :channels] = by_place
        kernel, own = kernels.gather, taps

    def check() -> None:
        found = np.zeros_like(images)
        kernel(rows, own, found, scatter)
        sums, sizes = np.zeros((2, *images.shape))
        products = rows.astype(np.float64) @ weight[:, : 4 * channels].astype(np.float64)
        bounds = abs(rows).astype(np.float64) @ abs(weight[:, : 4 * channels]).astype(np.float64)
        for target, cols in ((sums, products), (sizes, bounds)):
            cols = cols.reshape(*cols.shape[:3], 2, 2, channels)
            for i, j in np.ndindex(2, 2):
                h, w = cols.shape[1:3]
                target[:, i : i + h, j : j + w] += cols[..., i, j, :]
        assert (abs(found - sums) <= (channels + 8) * 2.0**-24 * sizes).all()

    return lambda: kernel(rows, own, images, scatter), check


def _fold_last(size: int) -> tuple[Call, Call]:
    """Windows of 2 by 2 at stride 1, of 16 channels where there are enough numbers."""
    channels = 16 if size >= 1024 else 1
    places = size // 4 // channels
    high = 1 << (places.bit_length() // 2)
    cols = numbers(size).reshape(1, high, places // high, 2, 2, channels)
    frame = (1, high + 1, places // high + 1, channels)
    out = np.zeros(frame, np.float32)

    def folded() -> Any:
        fresh = np.zeros(frame, np.float32)
        kernels.fold_last(cols, fresh, (2, 2))
        return fresh

    return lambda: kernels.fold_last(cols, out, (2, 2)), lambda: _same_bits(folded)


def _turned(size: int) -> tuple[Call, Call]:
    x = numbers(size).reshape(1, 4, size // 4)
    return lambda: kernels.turned(x), lambda: _same_bits(lambda: kernels.turned(x))


CASES: dict[str, Case] = {
    "interval_mul f32": Case(_elementwise("interval_mul", (0, 0), (0, 1), (1, 0), (1, 2)), 24),
    "interval_mul f64": Case(
        _elementwise("interval_mul", (0, 0), (0, 1), (1, 0), (1, 2), dtype=np.float64), 48
    ),
    "safe_mul_add f32": Case(
        _elementwise("safe_mul_add", (0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 1)), 32
    ),
    "pos_neg_split f32": Case(_elementwise("pos_neg_split", (0, 0)), 12),
    "pos_neg_split f64": Case(_elementwise("pos_neg_split", (0, 0), dtype=np.float64), 24),
    "step_up f32": Case(_elementwise("step_up", (0, 0)), 8),
    "narrow_up": Case(_elementwise("narrow_up", (0, 0), dtype=np.float64), 12),
    "midpoint": Case(_elementwise("midpoint", (0, 0), (0, 1), dtype=np.float64), 24),
    "radius_about": Case(
        _elementwise("radius_about", (0, 0), (0, 2), (0, 1), dtype=np.float64), 32
    ),
    "f16_down": Case(_elementwise("f16_down", (0, 0)), 6),
    "f16_up": Case(_elementwise("f16_up", (0, 0)), 6),
    "f16_to_f32": Case(_from_half, 6),
    "relax_rows f32": Case(_row_kernel("relax_rows", np.float32), 8),
    "relax_rows f64": Case(_row_kernel("relax_rows", np.float64), 16),
    "dot_rows f32": Case(_row_kernel("dot_rows", np.float32), 4),
    "dot_rows f64": Case(_row_kernel("dot_rows", np.float64), 8),
    "abs_dot_rows f32": Case(_row_kernel("abs_dot_rows", np.float32), 4),
    "abs_dot_rows f64": Case(_row_kernel("abs_dot_rows", np.float64), 8),
    "interval_affine f32": Case(_affine(np.float32), 4),
    "interval_affine f64": Case(_affine(np.float64), 8),
    "dot f32": Case(_dot, 8),
    "sum f32": Case(_sum, 4),
    "dense_interval f32": Case(_dense_interval, 4, numpy=False),
    "dense_boxes f32": Case(_dense_boxes, 12, numpy=False),
    "line_tables f32": Case(_line_tables, 56, numpy=False),
    "fold_last f32": Case(_fold_last, 6),
    "turned f32": Case(_turned, 8),
    "relax_windows f32": Case(_window_rows("relax_windows"), 8, numpy=False),
    "abs_dot_windows f32": Case(_window_rows("abs_dot_windows"), 4, numpy=False),
    "product f32": Case(_product, 4, numpy=False),
    "spread f32": Case(_spread, 8, numpy=False),
    "gather f32": Case(partial(_spread, gathered=True), 8, numpy=False),
    "correlate f32": Case(_correlate, 8, numpy=False),
    "interval_finish": Case(_finish, 64, numpy=False),
    "largest": Case(_largest, 8),
    "relu": Case(_elementwise("relu", (0, 0), (0, 1), dtype=np.float64), 48),
}


def copy_bandwidth(nbytes: int, seconds: float = 0.05) -> float:
    """Bytes read plus written per second by a copy that moves ``nbytes``."""
    source = np.ones(max(1, nbytes // 2), np.uint8)
    target = np.empty_like(source)
    return nbytes / timed(lambda: np.copyto(target, source), seconds).cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=str(1 << 20), help="numbers per array, comma-separated")
    parser.add_argument("--only", default="", help="part of the names of the kernels")
    parser.add_argument("--seconds", type=float, default=0.1, help="per figure")
    args = parser.parse_args()
    names = kernels.available()
    for size in map(int, args.sizes.split(",")):
        print(f"{size:<20d}{'copy GB/s':>10s}" + "".join(f"{name:>16s}" for name in names))
        for label, case in CASES.items():
            if args.only not in label:
                continue
            call, check = case.make(size)
            moved = case.moved * size
            copied = copy_bandwidth(int(moved), args.seconds)
            times: dict[str, float] = {}
            for name in names:
                if case.numpy or name != "numpy":
                    with kernels.pinned(name):
                        check()
                        times[name] = timed(call, args.seconds).cpu
            line = f"{label:20s}{copied / 1e9:10.1f}"
            for seconds in times.values():
                faster = f"{times['numpy'] / seconds:.1f}x" if "numpy" in times else ""
                line += f"{moved / seconds / copied:8.0%}{faster:>8s}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
