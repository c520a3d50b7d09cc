"""Dense layers: what a row of weights reads from an interval, a sphere or an image of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.propagate.ranges.matrix import Matrix
from gamma.propagate.ranges.sets import SLACK, TINY, Image, Known, Sphere
from gamma.runtime import workers
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]

ROWS = 256
"""Rows of a matrix that meet a Gram matrix at once."""


Charge = Callable[[Float64], Float64]
"""From at least |W||x| to how far float32 executions may lie from W x + b."""


def dense(
    matrix: Matrix, bias: npt.NDArray[Any] | None, x: Known, charge: Charge | None = None
) -> Known:
    """W x + b. Intervals and the ball are read in one pass over the weight, and intersected."""
    n, rank = matrix.n, len(x.shape)
    lead = np.broadcast_shapes(x.lower.shape[:-1], x.upper.shape[:-1])
    low, high = (np.broadcast_to(e, (*lead, n)).reshape(-1, n) for e in (x.lower, x.upper))
    vectors = _vectors(x, n)
    sphere = x.form if vectors is not None and isinstance(x.form, Sphere) else None
    centre, radius = _about(low, high)
    if _says_more(x, vectors, radius):  # rows of weights are no longer than their entries' sum
        centre, radius = np.zeros_like(centre), np.full_like(radius, np.inf)
    signed, doubt, squares = [centre], [radius], np.zeros((0, n))
    if vectors is not None:
        gain, shifted, error = vectors
        signed.append(shifted[None])
        doubt.append(error[None])
        if sphere is not None:
            squares = (gain * gain)[None] * SLACK
            if sphere.centred:
                signed.append(gain[None])
                doubt.append(np.zeros((1, n)))
    if charge is not None:  # the size of x; of a vector on a sphere what its norm does not bound
        doubt.append(np.maximum(abs(low), abs(high)) if sphere is None else _offset(vectors))
    z, spread, power = matrix.multiply(np.concatenate(signed), np.concatenate(doubt), squares)
    offset = np.zeros(matrix.m) if bias is None else bias.astype(np.float64)
    count, shape = len(centre), (*lead, matrix.m)
    lower, upper = (e.reshape(shape) for e in _ends(z[:count], spread[:count], offset))
    made = Known((*x.shape[:-1], matrix.m), lower, upper)
    size = spread[len(z) :]
    if vectors is None:
        return made if charge is None else made.strayed(charge(size.reshape(shape)))
    shift, lost = z[count] + offset, spread[count]
    lost = (lost + 2.0**-51 * (abs(z[count]) + abs(offset))) * SLACK + TINY
    if sphere is not None:
        mean = (z[-1], spread[len(z) - 1]) if sphere.centred else None
        reach = _read(sphere, n, power[0], mean)
        size = (size + np.sqrt(power[0]) * (sphere.radius + sphere.stray)) * SLACK
        shape = (*(1 for _ in lead), matrix.m)
        form = _image(matrix, sphere, rank, shift, lost)
    else:
        reach, form = _through(matrix, x), None
    made = made.within(*(lifted.reshape((1,) * (rank - 1) + (-1,)) for lifted in
                         _ends(shift, (lost + reach) * SLACK, np.zeros(1))))  # fmt: skip
    made = replace(made, form=form)
    return made if charge is None else made.strayed(charge(size.reshape(shape)))


def _offset(vectors: tuple[Float64, ...] | None) -> Float64:
    """At least the size of what a form adds to its vectors."""
    assert vectors is not None
    _, bias, error = vectors
    return ((abs(bias) + error) * SLACK)[None]


def _says_more(x: Known, vectors: tuple[Float64, ...] | None, radius: Float64) -> bool:
    """Whether the ball's own box is the interval, all but a hundredth: so is what rows read."""
    if vectors is None or not isinstance(x.form, Sphere):
        return False
    gain, _, error = vectors
    return bool((radius >= NEAR * ((x.form.radius + x.form.stray) * abs(gain) + error)).all())


def _about(lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    centre = rounding.midpoint(lower, upper)
    return centre, rounding.radius_about(lower, upper, centre)


def _ends(z: Float64, spread: Float64, offset: Float64) -> tuple[Float64, Float64]:
    centre = z + offset
    reach = (spread + 2.0**-52 * (abs(z) + abs(offset))) * SLACK + TINY
    return rounding.down(centre - reach), rounding.up(centre + reach)


def _vectors(x: Known, n: int) -> tuple[Float64, Float64, Float64] | None:
    """Gain, bias and error of a form along the last axis, where rows of a matrix can read it."""
    if isinstance(x.form, Sphere):
        return x.form.vectors(n)
    if x.form is None or any(
        p.size != p.shape[-1]
        for p in (x.form.row, x.form.block, x.form.scale, x.form.shift, x.form.error)
    ):
        return None
    zero = np.zeros(n)
    shift, error = (np.broadcast_to(p.reshape(-1), (n,)) for p in (x.form.shift, x.form.error))
    return zero, shift, error


def _read(form: Sphere, n: int, power: Float64, mean: tuple[Float64, Float64] | None) -> Float64:
    """radius·‖P(w∘gain)‖ + stray·‖w∘gain‖ for every row; P takes the mean off where z is centred.

    ‖P v‖² = ‖v‖² - (Σ v)²/n.
    """
    norm = np.sqrt(power) * SLACK
    own = norm
    if mean is not None:
        off = np.maximum(abs(mean[0]) - mean[1], 0.0)
        with np.errstate(invalid="ignore"):
            left = power - off * off / n * (1 - 2.0**-40)
        own = np.where(np.isnan(left), norm, np.sqrt(np.maximum(left, 0.0)) * SLACK)
    found: Float64 = (form.radius * own + form.stray * norm) * SLACK + TINY
    return found


def _image(matrix: Matrix, source: Sphere, rank: int, shift: Float64, lost: Float64) -> Image:
    lead = (1,) * (rank - 1)
    row = np.arange(matrix.m).reshape(*lead, -1)
    one = np.ones((1,) * rank)
    parts = (shift.reshape(*lead, -1), lost.reshape(*lead, -1))
    return Image(matrix, source, row, np.zeros((1,) * rank, np.int64), one, *parts)


def _through(matrix: Matrix, x: Known) -> Float64:
    """Σ over blocks of radius·‖w_bᵀ M_b‖ for every row w: each block has a vector of its own."""
    form, n = x.form, matrix.n
    assert isinstance(form, Image)
    row, block = (np.broadcast_to(p.reshape(-1), (n,)) for p in (form.row, form.block))
    scale = np.broadcast_to(form.scale, (1,) * (form.scale.ndim - 1) + (n,)).reshape(-1)
    order = np.argsort(block, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    if max(len(p) for p in parts) > LARGEST_BLOCK:
        return np.full(matrix.m, np.inf)
    grams = workers.run([partial(form.matrix.gram, form.source, row[p]) for p in parts])
    which = [_run_of(p) for p in parts]
    radius, stray, scaled = form.source.radius, form.source.stray, bool((scale != 1).any())

    def piece(start: int) -> Float64:
        rows = matrix.rows(np.arange(start, min(start + ROWS, matrix.m)), matrix.dtype)
        rows = rows * scale if scaled else rows
        total = np.zeros(len(rows))
        for part, gram in zip(which, grams, strict=True):
            found, length = gram.forms(rows[:, part])
            # The products with `scale` were rounded once.
            away = (2.0**-50 * radius + stray) * gram.plain
            total += radius * found + length * away
        return total * SLACK + TINY

    starts = range(0, matrix.m, ROWS)
    return np.concatenate(workers.run([partial(piece, start) for start in starts]))


def _run_of(places: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Places that follow one another as a slice, which copies nothing."""
    first, count = int(places[0]), len(places)
    alike = np.array_equal(places, np.arange(first, first + count))
    return slice(first, first + count) if alike else places


LARGEST_BLOCK = 512
NEAR = 0.99
"""Share of a ball from which on an interval of its entries says no more."""
