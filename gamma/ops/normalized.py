"""Ellipsotopes through layer and root-mean-square normalisation.

With c = c₀ + Pδ and w = 1/√v as in `gamma.ops.quotient`,

    c·w = c₀·w + ω·(c - c₀) + (c - c₀)(w - ω)

The first term has the slope of w and, in each group, one symbol for what w is off its line by. The
second is linear. The last is the set of c - c₀ times a number: an ellipsoid for each group.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.charges import TINY
from gamma.ops.ellipsoid import LARGE, Ellipsoids, outer, placed
from gamma.ops.ellipsotope import Ellipsotope, Parts, Symbols, new_key
from gamma.ops.enclose import lengths_of
from gamma.ops.quotient import Group, Reciprocal, forms, group, reciprocal
from gamma.runtime import workers
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.normalization import Normalize

Float64 = npt.NDArray[np.float64]
_SLACK = 1 + 2.0**-40
_SHARED = 1e5
"""Operations from which on threads share the groups of a call."""


class _Centred(Frozen, eq=True):
    """c - c₀ in groups (G, d): columns of the symbols, (key, those of x, (k, G, d)), and an
    interval. ``swing``: at least the sizes of what was added."""

    rest: Float64
    parts: list[tuple[int, Symbols, Float64]]
    swing: Float64


def normalized(
    op: Normalize, x: Ellipsotope, inside: NodeBounds, noise: Float64 | None
) -> Ellipsotope:
    """The set of a normalised node.

    ``inside``: bounds about the set's middle, in groups (1, G, d).
    ``noise`` (1, G, d): how far an execution may be from the function.
    """
    shape, n = inside.lower.shape[1:], len(x.middle)
    if shape[1] ** 2 < LARGE and (made := _at_once(op, x, inside, noise)) is not None:
        return made
    moved = _centred(op, x, shape)
    near = outer([(columns, part.each) for _, part, columns in moved.parts], moved.rest)
    square = (near.largest() / shape[1] * _SLACK).reshape(1, -1, 1)
    known = group(inside, op.epsilon, op.centred, op.least(inside), _forms(op, x, inside), square)
    w = reciprocal(known, inside.radius, np.dtype(np.float64))
    root, steep, tilt = w.root[0], w.steep[0], w.tilt[0]
    parts = {}
    for key, part, columns in moved.parts:
        slide = (part.columns.reshape(columns.shape) * tilt).sum(axis=-1, keepdims=True)
        parts[key] = part.moved((root * columns - steep * slide).reshape(-1, n))
    more, rest = _errors(x, moved, near, known, w)
    rest = (rest if noise is None else rest + noise[0]) * _SLACK + TINY
    middle = steep * (root + (0.5 * w.gap[1][0] + 0.5 * w.gap[0][0]))
    return Ellipsotope(x.shape, middle.reshape(-1), rest.reshape(-1), parts | more)


def _at_once(
    op: Normalize, x: Ellipsotope, inside: NodeBounds, noise: Float64 | None
) -> Ellipsotope | None:
    """`normalized` in one call of the C library; None without it."""
    groups, d = inside.lower.shape[1:]
    symbols = x.at(groups)
    parts = [part.summed for part in symbols]
    count = sum(len(columns) for columns, *_ in parts)
    low, high, centre, radius = (
        part.reshape(groups, d)
        for part in (inside.lower, inside.upper, inside.centre, inside.radius)
    )
    made = kernels.normal_sets(
        kernels.Groups(low, high, op.centred, op.epsilon, centre, radius),
        parts,
        np.ascontiguousarray(x.rest),
        x.swing,
        rounding.gamma_factor(count + d + len(parts) + 16, np.float64),
        workers.sharing() if groups * count * d * d > _SHARED else 1,
    )
    if made is None:
        return None
    *columns, balls, line, last = np.split(made, _ends(parts, d))
    rest, middle = last
    if noise is not None:
        rest = (rest + noise.reshape(-1)) * _SLACK
    moved = {key: part.moved(own) for key, part, own in zip(x.parts, symbols, columns, strict=True)}
    more = {new_key(): Symbols(balls, d, groups), new_key(): Symbols(line, 1, groups)}
    return Ellipsotope(x.shape, middle, rest, moved | more)


def _ends(parts: list[tuple[Float64, int, float, float]], d: int) -> list[int]:
    """Where the columns of parts end, those of an ellipsoid and the one behind it."""
    return list(accumulate([*(len(columns) for columns, *_ in parts), d, 1]))


def _errors(
    x: Ellipsotope, moved: _Centred, near: Ellipsoids, known: Group, w: Reciprocal
) -> tuple[Parts, Float64]:
    """Symbols for the line of w and for the last product, and an interval for rounding."""
    shape, n = moved.rest.shape, moved.rest.size
    root, steep, tilt, stray = w.root[0], abs(w.steep[0]), abs(w.tilt[0]), w.stray[0]
    g = rounding.gamma_factor(2 * shape[1] + 32, np.float64)
    slide, loose = (
        (tilt * part.reshape(shape)).sum(axis=-1, keepdims=True) for part in (x.swing, x.rest)
    )
    ends = (0.5 * w.gap[1][0] - 0.5 * w.gap[0][0] + loose * (1 + g)) * _SLACK
    line = (w.steep[0] * ends).reshape(1, n)
    balls = near.factors() * stray[:, None]
    lost = lengths_of(np.moveaxis(balls, 1, 0), shape[1])[0] * 2.0**-52
    # What c is astray from the middle of its own set.
    astray = known.astray[0] + abs(known.centre[0] - w.steep[0])
    size = root * moved.swing + steep * (slide + root + abs(w.gap[0][0]) + abs(w.gap[1][0]))
    rest = root * (moved.rest + astray) + stray * astray + lost + g * size
    parts = {
        new_key(): placed(balls),
        new_key(): Symbols(line, 1, shape[0]),
    }
    return parts, rest


def _centred(op: Normalize, x: Ellipsotope, shape: tuple[int, ...]) -> _Centred:
    parts = [
        (key, part, part.columns.reshape(-1, *shape))
        for key, part in zip(x.parts, x.at(shape[0]), strict=True)
    ]
    rest, swing = x.rest.reshape(shape), x.swing.reshape(shape)
    if not op.centred:
        return _Centred(rest, parts, swing)
    parts = [(key, part, c - c.mean(axis=-1, keepdims=True)) for key, part, c in parts]
    swing = swing + swing.mean(axis=-1, keepdims=True)
    g = rounding.gamma_factor(shape[1] + 8, np.float64)
    rest = (rest + rest.mean(axis=-1, keepdims=True) + g * swing) * _SLACK + TINY
    return _Centred(rest, parts, swing * _SLACK)


def _forms(op: Normalize, x: Ellipsotope, inside: NodeBounds) -> Forms:
    """Bounds of the linear forms that the variance and the mean ask for."""
    weights = forms(inside, op.centred)
    wide, shape = weights[0].astype(np.float64), inside.lower.shape[1:]
    n = shape[1]
    g = rounding.gamma_factor(2 * n + 16, np.float64)
    reach = np.zeros(wide.shape[:2])
    for part in x.at(shape[0]):
        columns = part.columns.reshape(-1, *shape).transpose(1, 0, 2)
        turned = (columns @ wide.transpose(0, 2, 1)).transpose(1, 0, 2)
        found = part.moved(turned.reshape(len(turned), -1)).reach
        reach = reach + found.reshape(reach.shape)
    size = abs(wide)
    reach = reach + (size * x.rest.reshape(shape)[:, None]).sum(axis=-1)
    reach = reach + g * (size * x.swing.reshape(shape)[:, None]).sum(axis=-1)
    terms = wide * x.middle.reshape(shape)[:, None]
    middle = terms.sum(axis=-1)
    reach = (reach + g * abs(terms).sum(axis=-1)) * (1 + g) * _SLACK + TINY
    return Forms(weights, (middle - reach)[None], (middle + reach)[None])
