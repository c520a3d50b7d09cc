"""Kernels on windows of images. Entries are small integers, so every result is exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.ops.convolution import Conv
from gamma.ops.spread import (
    SUM_LENGTH,
    Taps,
    _spread,
    _spread_groups,
    gather,
    last_weight,
    spread,
)
from gamma.ops.window import Window
from gamma.propagate.rows.windows import Windows
from gamma.tensor import kernels

# Rows of windows find their box through their place.
BOX = np.zeros(0, np.int64)
ISAS = [name for name in kernels.available() if name != "numpy"]
DTYPES = (np.float32, np.float64)


def integers(rng: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return rng.integers(-3, 4, shape).astype(dtype)


def reals(rng: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def adjoint(rows: Any, weight: Any, window: Window, channels: int) -> Any:
    """The definition, one entry of the rows at a time."""
    n, h, w, _ = rows.shape
    (kh, kw), (H, W) = window.kernel, window.image
    image = np.zeros((n, H, W, channels))
    for y, x, i, j in itertools.product(range(h), range(w), range(kh), range(kw)):
        row = y * window.strides[0] + i * window.dilations[0] - window.pads[0]
        column = x * window.strides[1] + j * window.dilations[1] - window.pads[1]
        if 0 <= row < H and 0 <= column < W:
            at = (i * kw + j) * channels
            image[:, row, column] += rows[:, y, x] @ weight[:, at : at + channels]
    return image


CASES = (
    # frames, h, w, out, channels, image, kernel, strides, pads, dilations
    (3, 1, 1, 7, 3, (3, 3), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    (5, 4, 5, 40, 3, (8, 9), (3, 2), (2, 2), (1, 0, 1, 1), (1, 1)),
    (2, 6, 6, 65, 16, (8, 8), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    (9, 3, 2, 5, 1, (7, 6), (2, 2), (1, 2), (1, 1, 0, 0), (2, 3)),
    (1, 40, 41, 2, 33, (40, 41), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (2, 5, 5, 3, 2, (4, 4), (3, 3), (1, 1), (2, 2, 2, 2), (1, 1)),
    # tiles of frames and a few more; strides over the kernel; channels beside whole vectors
    (31, 3, 4, 70, 20, (7, 9), (2, 2), (3, 2), (0, 1, 0, 1), (1, 1)),
    (13, 2, 3, 6, 9, (9, 9), (3, 3), (2, 2), (1, 0, 3, 2), (2, 2)),
    (2, 4, 4, 3, 5, (15, 15), (12, 12), (1, 1), (0, 0, 0, 0), (1, 1)),
    # pixels of whole panels, and of half of one
    (13, 6, 7, 6, 16, (6, 7), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (13, 3, 4, 33, 8, (5, 6), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    # cells of as many pixels as the stride, cut off at every side
    (13, 5, 4, 40, 3, (9, 10), (4, 3), (2, 3), (1, 2, 1, 2), (1, 1)),
    (31, 5, 4, 40, 3, (9, 10), (3, 5), (2, 3), (1, 2, 1, 2), (1, 1)),
    # few channels behind a stride: lanes over rows
    (45, 4, 4, 9, 3, (8, 7), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    (30, 4, 3, 5, 8, (8, 6), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    (25, 3, 3, 6, 1, (11, 8), (3, 5), (4, 3), (3, 1, 0, 3), (1, 1)),
    (7, 2, 2, 9, 7, (9, 9), (5, 5), (5, 5), (2, 3, 0, 0), (1, 1)),
    (26, 1, 5, 4, 2, (1, 9), (1, 2), (1, 2), (0, 0, 0, 0), (1, 1)),
    # few of the pixels
    (33, 3, 3, 5, 3, (8, 7), (1, 1), (3, 3), (0, 0, 0, 0), (1, 1)),
    (20, 3, 5, 6, 5, (7, 9), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    # few of them of one or two short vectors, lines of more than are taken side by side
    (3, 2, 15, 70, 8, (5, 29), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    (2, 2, 11, 33, 16, (4, 31), (1, 1), (2, 3), (1, 2, 0, 1), (1, 1)),
    (3, 3, 7, 40, 4, (6, 7), (1, 1), (2, 1), (0, 0, 0, 0), (1, 1)),
    # lines of many cells, which a single frame takes side by side: cells of pixels, and pixels a
    # stride apart
    (2, 3, 29, 34, 5, (6, 58), (4, 4), (2, 2), (1, 1, 1, 1), (1, 1)),
    (1, 2, 25, 33, 4, (5, 80), (2, 3), (1, 3), (1, 2, 0, 4), (2, 2)),
)


# The ways of `spread`: by cells, pixel by pixel, by products and a scatter in C, by those of NumPy.
GATES: tuple[tuple[str, ...], ...] = (
    (),
    ("pixel_cells",),
    ("gathered_adjoint",),
    ("gathered_adjoint", "fused_adjoint"),
)


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("groups", (1, 2))
def test_spread_is_the_adjoint(isa: str, dtype: Any, case: Any, groups: int) -> None:
    n, h, w, out, channels, image, kernel, strides, pads, dilations = case
    rng = np.random.default_rng(out)
    window = Window(image, kernel, strides, pads, dilations)
    depth = kernel[0] * kernel[1] * channels
    rows = integers(rng, (n, h, w, groups * out), dtype)
    weight = np.zeros((groups, out, kernels.padded(depth, np.dtype(dtype))), dtype)
    weight[..., :depth] = integers(rng, (groups, out, depth), dtype)
    exact = [
        adjoint(rows[..., g * out : (g + 1) * out].astype(float), weight[g], window, channels)
        for g in range(groups)
    ]
    with kernels.pinned(isa):
        for off in GATES:
            with tuning.disabled(*off):
                found = spread(rows, weight, window, channels)
            assert (found == np.concatenate(exact, axis=-1)).all(), off
        if out <= SUM_LENGTH:  # all groups at once
            found = _spread_groups(rows, weight[..., :depth], window, channels)
            assert (found == np.concatenate(exact, axis=-1)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("groups", (1, 2))
@pytest.mark.parametrize("draw", (integers, reals))
def test_what_is_gathered_is_added(isa: str, dtype: Any, case: Any, groups: int, draw: Any) -> None:
    """The same sums, to the last bit, and one addition."""
    n, h, w, out, channels, image, kernel, strides, pads, dilations = case
    rng = np.random.default_rng(out)
    window = Window(image, kernel, strides, pads, dilations)
    depth = kernel[0] * kernel[1] * channels
    rows = draw(rng, (n, h, w, groups * out), dtype)
    weight = np.zeros((groups, out, kernels.padded(depth, np.dtype(dtype))), dtype)
    weight[..., :depth] = draw(rng, (groups, out, depth), dtype)
    before = draw(rng, (n, *image, groups * channels), dtype)
    with kernels.pinned(isa):
        found, taps = before.copy(), Taps.of(weight, window, channels)
        assert gather(rows, taps, found, window, channels, add=True)
        whole = np.zeros_like(before)
        assert gather(rows, taps, whole, window, channels)
        assert (found == before + whole).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("add", (False, True))
@pytest.mark.parametrize("n", (1, 2, 18))
def test_nothing_beyond_the_images_is_written(isa: str, dtype: Any, add: bool, n: int) -> None:
    """Vectors that run over a cell's end stay inside, also where the last lines are narrow."""
    rng = np.random.default_rng(7)
    shapes = itertools.product(
        (1, 2, 3, 4, 7), (1, 2, 3, 5), (1, 2, 3, 8), ((1, 1), (1, 2), (2, 2))
    )
    for high, wide, channels, strides in shapes:
        kernel, out = (min(2, high), min(2, wide)), 3
        h, w = (
            (size - k) // s + 1 for size, k, s in zip((high, wide), kernel, strides, strict=True)
        )
        window = Window((high, wide), kernel, strides, (0, 0, 0, 0), (1, 1))
        depth = kernel[0] * kernel[1] * channels
        rows = integers(rng, (n, h, w, out), dtype)
        weight = np.zeros((1, out, kernels.padded(depth, np.dtype(dtype))), dtype)
        weight[..., :depth] = integers(rng, (1, out, depth), dtype)
        size, guard = n * high * wide * channels, 64
        memory = np.full(size + 2 * guard, 77, dtype)
        images = memory[guard : guard + size].reshape(n, high, wide, channels)
        images[:] = 0
        with kernels.pinned(isa):
            taps = Taps.of(weight, window, channels)
            assert gather(rows, taps, images, window, channels, add=add)
        assert (images == adjoint(rows.astype(float), weight[0], window, channels)).all()
        assert (memory[:guard] == 77).all()
        assert (memory[guard + size :] == 77).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("add", (False, True))
def test_a_row_has_the_same_bits_alone(isa: str, dtype: Any, case: Any, add: bool) -> None:
    """Whichever register block it is in; and sets that fuse a product and a sum agree."""
    n, h, w, out, channels, image, kernel, strides, pads, dilations = case
    rng = np.random.default_rng(out)
    window = Window(image, kernel, strides, pads, dilations)
    depth = kernel[0] * kernel[1] * channels
    rows = rng.standard_normal((n, h, w, out)).astype(dtype)
    rows[..., rng.random(out) < 0.3] = 0
    weight = np.zeros((1, out, kernels.padded(depth, np.dtype(dtype))), dtype)
    weight[..., :depth] = rng.standard_normal((1, out, depth))
    found = []
    for pinned in (isa, *(("avx2",) if isa == "avx512" else ())):
        for size in (n, 1):
            images = np.ones((n, *image, channels), dtype)
            with kernels.pinned(pinned):
                taps = Taps.of(weight, window, channels)
                for first in range(0, n, size):
                    some = slice(first, first + size)
                    assert gather(rows[some], taps, images[some], window, channels, add)
            found.append(images)
    assert all((images == found[0]).all() for images in found)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("boxes", (1, 3))
@pytest.mark.parametrize("draw", (integers, reals))
@pytest.mark.parametrize(
    # rows, channels made and read, image, kernel, stride: lanes over rows, or over channels; sums
    # in whole vectors, others, and of more columns than are summed at once
    "case",
    (
        (45, 9, 3, 16, 4, 2),
        (45, 9, 3, 15, 4, 2),
        (33, 4, 1, 28, 3, 2),
        (17, 5, 3, 40, 3, 2),
        (13, 6, 16, 8, 3, 1),
        (1, 9, 3, 16, 4, 2),
    ),
)
def test_rows_pay_as_they_are_made(isa: str, dtype: Any, boxes: int, draw: Any, case: Any) -> None:
    """What a product leaves nobody reads pays the same, to the last bit, and for every entry."""
    n, out, channels, size, side, stride = case
    rng = np.random.default_rng(n)
    window = Window((size, size), (side, side), (stride, stride), (1, 1, 1, 1), (1, 1))
    high, wide = window.positions
    depth = side * side * channels
    rows = draw(rng, (n, high, wide, out), dtype)
    weight = np.zeros((1, out, kernels.padded(depth, np.dtype(dtype))), dtype)
    weight[..., :depth] = draw(rng, (1, out, depth), dtype)
    entries = size * size * channels
    radius = rng.integers(0, 9, (boxes, size, size, channels)).astype(float)
    box = np.sort(rng.integers(0, boxes, n))
    size_of = abs(adjoint(rows.astype(float), weight[0], window, channels)) * radius[box]
    exact = -size_of.reshape(n, -1).sum(axis=1)
    found = []
    with kernels.pinned(isa):
        taps = Taps.of(weight, window, channels)
        scatter, cells = taps.scatter(window, channels)
        shape = (size, size, size, size, channels)
        product = kernels.Product(
            taps.weight[0], (high, wide, out), shape[2:], scatter, (0, 0), cells
        )
        both = (
            kernels.Move("gather", 0, 0, 1, shape, True, product=product),
            kernels.Move("pay", 0, 1, 1, shape, True),
        )
        for moves in ((replace(both[0], kind="reach"),), both):
            course = kernels.course(moves, [high * wide * out, entries], 1, np.dtype(dtype))
            assert course is not None
            tables = kernels.met_tables(1, boxes, np.dtype(dtype))
            tables.meet(0, entries, kernels.Met(pay=radius.reshape(boxes, -1)))
            d, none = np.zeros(n), np.zeros(n, np.int64)
            course.run(tables, [rows.copy()], d, None, box, none, np.zeros((1, 3), np.int64), False)
            found.append(d)
    assert (found[0] == found[1]).all()
    if draw is integers:
        assert (found[0] <= exact).all() and (found[0] >= exact * (1 + 2.0**-40) - 1e-300).all()


@pytest.mark.parametrize("pixels", (1, 64))
def test_many_groups_need_no_call_for_each(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A depthwise convolution of 2^20 channels took two minutes before the clock was looked at."""
    for one in ("spread", "gather"):
        monkeypatch.setattr(kernels, one, None)
    window = Window((1, pixels), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    rows, weight = np.ones((1, 1, pixels, 32)), np.full((32, 1, 8), 2.0)
    assert (spread(rows, weight, window, 1) == 2).all()


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_channels_that_are_zero_in_some_rows(isa: str, dtype: Any, case: Any) -> None:
    """Dead for all rows, for all but one of a register block, at every pixel but one; -0; NaN."""
    n, h, w, out, channels, image, kernel, strides, pads, dilations = case
    rng = np.random.default_rng(n)
    window = Window(image, kernel, strides, pads, dilations)
    depth = kernel[0] * kernel[1] * channels
    rows = integers(rng, (n, h, w, out), dtype)
    rows[..., rng.random(out) < 0.5] = 0
    rows[:, rng.random((h, w)) < 0.3] = -0.0
    rows[-1, -1, -1, -1] = 3  # the last row of a block alone
    weight = np.zeros((1, out, kernels.padded(depth, np.dtype(dtype))), dtype)
    weight[..., :depth] = integers(rng, (1, out, depth), dtype)
    exact = adjoint(rows.astype(float), weight[0], window, channels)
    broken = rows.copy()
    broken[0, 0, 0, 0] = np.nan
    with kernels.pinned(isa):
        found, lost = (spread(r, weight, window, channels) for r in (rows, broken))
        with tuning.disabled("live_channels"):
            every, lost_too = (spread(r, weight, window, channels) for r in (rows, broken))
    assert (found == exact).all() and (every == exact).all()
    assert (np.isnan(lost) == np.isnan(lost_too)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_is_within_its_charge(dtype: Any) -> None:
    """Sums of 16 channels, then of the parts, then of the kernel positions."""
    rng = np.random.default_rng(0)
    window = Window((6, 6), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    rows = rng.standard_normal((4, 6, 6, 100)).astype(dtype)
    weight = np.zeros((1, 100, kernels.padded(45, np.dtype(dtype))), dtype)
    weight[..., :45] = rng.standard_normal((1, 100, 45))
    exact = adjoint(rows.astype(np.longdouble), weight[0].astype(np.longdouble), window, 5)
    size = adjoint(abs(rows).astype(float), abs(weight[0]).astype(float), window, 5)
    unit = 2.0**-24 if dtype is np.float32 else 2.0**-53
    ways = [_spread(rows, weight[0, :, :45], window, 5)]
    for off in GATES:
        with tuning.disabled(*off):
            ways.append(spread(rows, weight, window, 5))
    for found in ways:
        assert (abs(found - exact) <= 1.001 * (16 + 6 + 9) * unit * size).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "out, stride, channels", ((16, 1, 4), (16, 2, 4), (40, 1, 4), (100, 1, 4), (100, 2, 3))
)
def test_long_sums_are_nested(isa: str, dtype: Any, out: int, stride: int, channels: int) -> None:
    """One long sum of 1 and numbers of half its last place would lose all of them."""
    window = Window((3, 3), (3, 3), (stride, stride), (1, 1, 1, 1), (1, 1))
    op = Conv(np.ones((out, channels, 3, 3), dtype), None, (stride, stride), (1, 1, 1, 1))
    unit = 2.0**-24 if dtype is np.float32 else 2.0**-53
    weight = last_weight(op, op.weight, dtype, False, 1)
    high, wide = window.positions
    rows = np.full((high * wide, high, wide, out), unit, dtype)
    for row, (y, x) in enumerate(np.ndindex(high, wide)):
        rows[row, y, x, 0] = 1
    rows = np.tile(rows, (4, 1, 1, 1))
    exact = adjoint(rows.astype(np.longdouble), weight[0].astype(np.longdouble), window, channels)
    with kernels.pinned(isa):
        error = abs(spread(rows, weight, window, channels) - exact)
    assert (error <= op.adjoint_terms * unit * exact * 1.001).all()


def windows(rng: Any, dtype: Any, h: int, w: int) -> Windows:
    places, rows = 6, 11
    box, y, x = rng.integers(0, 3, places), rng.integers(-4, 6, places), rng.integers(-4, 7, places)
    place = rng.integers(0, places, rows)
    return Windows(integers(rng, (rows, h, w, 5), dtype), place, box, y, x, (5, 6))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ((1, 1), (3, 4), (5, 6), (7, 9)))
def test_tables_are_read_where_a_window_lies(isa: str, dtype: Any, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    tables = [integers(rng, (3, 5, 6, 5), kind) for kind in (dtype, dtype, float, float)]
    for seed in range(4):
        block = windows(np.random.default_rng(seed), dtype, *size)
        same = windows(np.random.default_rng(seed), dtype, *size)
        d, e = np.zeros(11), np.zeros(11)
        with kernels.pinned(isa):
            relaxed = block.relax(d, BOX, (), lambda: tuple(tables))
        with kernels.pinned("numpy"):
            plain = same.masked().relax(e, BOX, (), lambda: tuple(tables))
        assert (d == e).all() and (relaxed.masked().array == plain.masked().array).all()
        paid = windows(np.random.default_rng(seed), dtype, *size)
        d, e = np.zeros(11), np.zeros(11)
        with kernels.pinned(isa):
            paid.pay(d, BOX, tables[2], lambda: (tables[2],))
        with kernels.pinned("numpy"):
            windows(np.random.default_rng(seed), dtype, *size).masked().pay(
                e, BOX, tables[2], lambda: (tables[2],)
            )
        assert (d == e).all()


def test_windows_outside_their_image_hold_nothing() -> None:
    """`clean` is only said of windows whose entries out there are zero."""
    for seed in range(8):
        block = windows(np.random.default_rng(seed), np.float32, 3, 4)
        reference = block.masked().array.copy()
        weight = np.ones((3, 5, 6, 5))
        after = block.pay(np.zeros(11), BOX, weight, lambda w=weight: (w,))
        assert after.clean == (kernels.isa != "numpy")
        assert (after.masked().array == reference).all()
        assert not after.clean or (after.array == reference).all()


@pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
def test_bad_arguments_are_refused() -> None:
    A, d, place = np.zeros((2, 3, 3, 4)), np.zeros(2), np.zeros(2, np.int64)
    where, weight = np.zeros((1, 3), np.int64), np.zeros((1, 5, 5, 4))
    assert kernels.abs_dot_windows(A, d, place, where, (5, 5), weight)
    with pytest.raises(UsageError, match="place"):
        kernels.abs_dot_windows(A, d, place + 1, where, (5, 5), weight)
    with pytest.raises(UsageError, match="place"):
        kernels.abs_dot_windows(A, d, place, where + [[1, 0, 0]], (5, 5), weight)
    with pytest.raises(UsageError, match="weight"):
        kernels.abs_dot_windows(A, d, place, where, (5, 6), weight)
    with pytest.raises(UsageError, match="where"):
        kernels.abs_dot_windows(A, d, place, where[:, :2], (5, 5), weight)
    scatter = kernels.Scatter((3, 3, 1, 1, 1, 1), 0, 0, 2, 32)
    images = np.zeros((2, 5, 5, 2))
    with pytest.raises(UsageError, match="weight"):
        kernels.spread(A, np.zeros((4, 16)), images, scatter)  # 18 columns are needed
    with pytest.raises(UsageError, match="weight"):
        kernels.spread(A, np.zeros((4, 24)), images, scatter, (1, 0))
    with pytest.raises(UsageError, match="images"):
        kernels.spread(A, np.zeros((4, 24)), images[:1], scatter)
    taps = np.zeros((1, 9, 4, 8))
    assert kernels.gather(A, taps, images, scatter)
    with pytest.raises(UsageError, match="weight"):
        kernels.gather(A, taps[:, :8], images, scatter)
    with pytest.raises(UsageError, match="weight"):
        kernels.gather(A, taps, images, scatter, cells=kernels.Cells((2, 2)))  # 16 columns
    with pytest.raises(UsageError, match="weight"):
        kernels.gather(A, taps, images, scatter, cells=kernels.Cells((1, 1), (-1, 0)))
    with pytest.raises(UsageError, match="weight"):
        kernels.gather(A, taps, images, scatter, (1, 0))
    with pytest.raises(UsageError, match="images"):
        kernels.gather(A, taps, images[:1], scatter)
