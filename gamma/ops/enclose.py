"""Ellipsotopes through nonlinear nodes: one affine map for both sides, and what it leaves out.

A node's value is M·(p - middle) + (a constant) within an error of second order. That of a vector
times one number, as in attention and in a normalisation (`gamma.ops.normalized`), is the vector's
own set, scaled: it is kept as an ellipsoid, since its box would grow by the root of its length in
the next dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY
from gamma.ops.ellipsoid import Ellipsoids, around, outer, placed
from gamma.ops.ellipsotope import Ellipsotope, Parts, Symbols, added, new_key, shared
from gamma.runtime import workers
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.affine import Linear
    from gamma.ops.linear import Gemm
    from gamma.ops.products import Product
    from gamma.ops.rank_one import RankOne
    from gamma.ops.tables import Diagonal

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_SLACK = 1 + 2.0**-40
SMALL = 1 << 15
"""Entries of a matrix up to which a product of the library's own is no slower than the BLAS'."""
_SHARED = 1e6
"""Products from which on threads share the columns of a call."""
SHARE, SHARES, SHARE_OPERATIONS = 64, 8, 4e6
"""Columns, and operations, that a thread takes at least, and in how many parts at most."""


def linear(
    op: Linear, inputs: Sequence[Ellipsotope], before: Sequence[NodeBounds], after: NodeBounds
) -> Ellipsotope:
    """The image under a linear node: v - c_v = L(p - c_p) + noise, symbol by symbol."""
    exact, balls = inputs, dict[int, Symbols]()
    if not (op.moves or op.entrywise):
        if len(inputs) == 1 and _narrows(op, inputs[0], after):
            inputs, balls = _narrowed(op, inputs[0], after)
        else:
            exact = inputs = [x.spelled for x in inputs]

    if len(inputs) == 1:
        made = _in_one_call(op, inputs[0], exact[0], balls, before[0], after)
        if made is not None:
            return made

    terms = op.terms_for(before[0].lower.shape[1:])
    shift = [x.middle - p.centre.reshape(-1) for x, p in zip(inputs, before, strict=True)]
    far = [
        abs(s) + abs(x.middle - y.middle) + y.swing
        for s, x, y in zip(shift, inputs, exact, strict=True)
    ]
    sizes = [np.stack((x.rest, reach)) for x, reach in zip(inputs, far, strict=True)]
    summed = None if op.signs is None else added(op.signs, inputs)
    keys = shared(inputs, _apart(op, inputs, after.lower.shape[1:])) if summed is None else []
    stacks = [
        np.concatenate([s[None], *(columns[i] for _, _, columns in keys)])
        for i, s in enumerate(shift)
    ]
    moved = _image(op, stacks, inputs, after.lower[0].size * terms)
    rest, size = _image(op, sizes, inputs, 0, absolute=True)
    ends = list(accumulate((len(part.columns) for _, part, _ in keys), initial=1))
    parts = {
        key: part.moved(moved[start:end])
        for (key, part, _), start, end in zip(keys, ends[:-1], ends[1:], strict=True)
    }
    g = rounding.gamma_factor(terms + 8, np.float64)
    centre = after.centre.reshape(-1)
    middle = centre + moved[0]
    # Columns, their blocks' sums, and the middle are products of floating point.
    charge = (g + 2 * op.uncertainty) * size + 2.0**-51 * (abs(centre) + abs(middle))
    noise = 0.0 if after.noise is None else after.noise.reshape(-1)
    rest = (rest * (1 + g) + charge + noise) * _SLACK + TINY
    parts = parts | balls if summed is None else summed
    return Ellipsotope(after.lower.shape[1:], middle, rest, parts)


def _in_one_call(
    op: Linear,
    x: Ellipsotope,
    exact: Ellipsotope,
    balls: Parts,
    before: NodeBounds,
    after: NodeBounds,
) -> Ellipsotope | None:
    """`linear` through a small dense layer in one call of the C library, where every place has
    symbols of its own. ``x`` is the set ``exact`` but for what ``balls`` has of it."""
    layer, places = op.dense, math.prod(x.shape[:-1])
    if (
        layer is None
        or layer.weight.size > SMALL
        or op.uncertainty
        or after.lower.ndim != len(x.shape) + 1
    ):
        return None
    parts = {key: part for key, part in x.parts.items() if part.places == places}
    if len(parts) < len(x.parts):
        return None
    weight, absolute, g = op.cached("set", partial(_turned, op, layer))
    drift = exact.swing if x.middle is exact.middle else abs(x.middle - exact.middle) + exact.swing
    rows, outputs = ((places, shape[-1]) for shape in (x.shape, after.lower.shape))
    given = kernels.Layer(
        weight,
        absolute,
        outputs[1],
        np.ascontiguousarray(before.centre).reshape(rows),
        drift.reshape(rows),
        np.ascontiguousarray(after.centre).reshape(outputs),
        None if after.noise is None else np.ascontiguousarray(after.noise).reshape(outputs),
        g,
    )
    own, more = ([part.summed for part in some.values()] for some in (parts, balls))
    count = sum(len(part[0]) for part in own)
    threads = workers.sharing() if count * places * layer.weight.size > _SHARED else 1
    found = kernels.layer_set(given, own, more, x.rest, x.middle, threads)
    if found is None:
        return None
    return _behind(after.lower.shape[1:], *found, parts, balls)


def _turned(op: Linear, layer: Gemm) -> tuple[Float64, Float64, float]:
    """The matrix as `kernels.Layer` takes it, of numbers and of sizes, and γ of its sums."""
    from gamma.ops.affine import cast_weight

    known = cast_weight(op, layer.weight, "weight", np.float64, False)
    weight = np.zeros((known.shape[1], kernels.padded(len(known), known.dtype)))
    weight[:, : len(known)] = known.T
    return weight, abs(weight), rounding.gamma_factor(layer.terms + 8, np.float64)


def _image(
    op: Linear,
    stacks: Sequence[Float64],
    inputs: Sequence[Ellipsotope],
    entries: int,
    absolute: bool = False,
) -> Float64:
    """Columns (k, n) of every input through L, or |L|, in shares of the work of threads."""
    whole = [c.reshape(-1, *x.shape) for c, x in zip(stacks, inputs, strict=True)]
    count = len(whole[0])
    shares = min(SHARES, count // SHARE, int(2.0 * count * entries / SHARE_OPERATIONS))
    step = -(-count // (1 if op.moves or op.entrywise else max(1, shares)))
    first = op.linear([c[:step] for c in whole], absolute)
    if step >= count:
        return np.ascontiguousarray(first.reshape(count, -1), np.float64)
    made = np.empty((count, first[0].size))
    made[:step] = first.reshape(step, -1)

    def share(start: int) -> None:
        some = slice(start, min(start + step, count))
        made[some] = op.linear([c[some] for c in whole], absolute).reshape(-1, made.shape[1])

    tasks = [partial(share, start) for start in range(step, count, step)]
    workers.run(tasks, operations=2.0 * count * entries)
    return made


def _apart(op: Linear, inputs: Sequence[Ellipsotope], shape: tuple[int, ...]) -> int:
    """Places that a linear node does not mix, of those along its leading axes; 0: every entry."""
    if op.keeps_order:
        return 0
    axes = op.mixes(len(shape))
    if axes is None:
        return 1
    first = min(axes, default=len(shape))
    alike = all(x.shape[:first] == shape[:first] for x in inputs)
    return (math.prod(shape[:first]) if axes else 0) if alike else 1


def _narrows(op: Linear, x: Ellipsotope, after: NodeBounds) -> bool:
    """Whether ``rest`` is of more entries than what a matrix sums them to, at every position."""
    rank = len(x.shape)
    return (
        op.reads_rows
        and after.lower.ndim == rank + 1
        and x.shape[-1] > after.lower.shape[-1]
        and not x.plain
    )


def _narrowed(op: Linear, x: Ellipsotope, after: NodeBounds) -> tuple[list[Ellipsotope], Parts]:
    """The set without ``rest``, and an ellipsoid for what that is summed to at each position.

    Of a function to second order, where that says more.
    """
    n = x.shape[-1]
    weight = _columns_of(op, n, len(x.shape)).reshape(n, 1, after.lower.shape[-1])

    def times(factor: Float64) -> Float64:
        return weight * factor.T[:, :, None]

    made, kept = times(x.rest.reshape(-1, n)), x
    parts = [(made, 1)]
    if x.curved is not None:
        from gamma.ops.squares import read

        left, squares = times(x.curved.base.rest.reshape(-1, n)), read(times, x.curved).factors()
        other = [(left, 1), (np.swapaxes(squares, 0, 1), squares.shape[-1])]
        sizes = [outer(some, np.zeros(made.shape[1:])).size.sum() for some in (other, parts)]
        if sizes[0] < sizes[1]:
            parts, kept = other, x.curved.base
    exact = Ellipsotope(kept.shape, kept.middle, np.zeros_like(kept.rest), kept.parts)
    return [exact], {new_key(): around(parts, np.zeros(made.shape[1:]))}


def _columns_of(op: Linear, n: int, rank: int) -> Float64:
    """What each entry along the last axis adds to the outputs: (n, outputs)."""
    if op.dense is not None:
        from gamma.ops.affine import cast_weight

        return cast_weight(op, op.dense.weight, "weight", np.float64, False).T
    one = np.eye(n).reshape(n, *(1,) * (rank - 1), n)
    return op.linear([one]).reshape(n, -1).astype(np.float64)


def through_lines(
    table: Diagonal, x: Ellipsotope, inside: NodeBounds, after: NodeBounds
) -> Ellipsotope:
    """Entry by entry: the mean of both lines, and half of what lies between them."""
    lines = (np.ascontiguousarray(part[0], np.float64) for part in table.parts)
    about = inside.centre, x.swing, inside.lower, inside.upper, after.centre
    known = (np.ascontiguousarray(part).reshape(-1) for part in about)
    own = [part.summed for part in x.parts.values()]
    out, lost = kernels.strips_set(kernels.Strips(*lines, *known), own, x.rest, x.middle)
    return _behind(x.shape, out, lost, x.parts)


def _behind(
    shape: tuple[int, ...], out: Float64, lost: int, parts: Parts, more: Parts | None = None
) -> Ellipsotope:
    """The set that a kernel wrote line by line: its parts' columns are others now."""
    start, moved = 5, dict[int, Symbols]()
    for key, part in parts.items():
        end = start + len(part.columns)
        moved[key] = part.moved(out[start:end])
        start = end
    made = Ellipsotope(shape, out[0], out[1], moved | more if more else moved)
    return made.reaching(out[2:5], lost)


def through_groups(
    table: RankOne, x: Ellipsotope, inside: NodeBounds, after: NodeBounds
) -> Ellipsotope:
    """As `through_lines`, of planes that mix the entries of groups."""
    x = x.spelled
    size = table.absolute()
    shift = (x.middle - inside.centre.reshape(-1))[None]
    low, high = (part[0] for part in table.sides(shift))
    low, high = low + table.lower.value[0], high + table.upper.value[0]
    centre = after.centre.reshape(-1)
    parts, gap = {}, np.zeros_like(x.middle)
    outside = math.prod(x.shape[: table.axis - 1])
    for key, part in zip(x.parts, x.at(outside), strict=True):
        below, above = table.sides(part.columns)
        gap = gap + part.moved(0.5 * above - 0.5 * below).reach
        parts[key] = part.moved(0.5 * above + 0.5 * below)
    far = (x.swing + abs(shift[0]))[None]
    charge = sum(part[0] for part in size.sides(far)) + abs(low) + abs(high) + abs(centre)
    g = rounding.gamma_factor(2 * table.shape[table.axis - 1] + 32, np.float64)
    rest = 0.5 * (high - low) + gap + sum(part[0] for part in size.sides(x.rest[None]))
    rest = (rest + g * charge) * _SLACK + TINY
    return Ellipsotope(x.shape, centre + (0.5 * low + 0.5 * high), rest, parts)


def product(
    op: Product,
    inputs: Sequence[Ellipsotope],
    inside: Sequence[NodeBounds],
    after: NodeBounds,
    noise: Float64 | float,
) -> Ellipsotope:
    """x·y = m_x m_y + m_y (x - m_x) + m_x (y - m_y) + (x - m_x)(y - m_y), summed.

    ``noise``: how far an execution may lie from that.
    """
    x, y = inputs
    terms = op.summed(x.shape)
    if terms > 1:
        x, y = x.spelled, y.spelled
    outside = math.prod(x.shape[:-2]) if x.shape[:-2] == y.shape[:-2] else 1
    entrywise = terms == 1 and x.shape == y.shape

    def times(a: Float64, b: Float64) -> Float64:
        made = op.forward(a.reshape(-1, *x.shape), b.reshape(-1, *y.shape))
        return made.reshape(len(made), -1)

    parts = {
        key: part.moved(times(left, y.middle) + times(x.middle, right))
        for key, part, (left, right) in shared((x, y), 0 if entrywise else outside)
    }
    far, size = (x.radius(inside[0]), y.radius(inside[1])), (abs(x.middle), abs(y.middle))
    rest, more = _second_order(op, x, y, far)
    parts |= more
    middle = times(x.middle, y.middle)[0]
    g = rounding.gamma_factor(2 * terms + 16, np.float64)
    lost = times(size[0] + x.swing, size[1])[0] + times(size[0], y.swing)[0]
    rest = rest + times(x.rest, size[1])[0] + times(size[0], y.rest)[0]
    rest = (rest * (1 + g) + g * lost * (1 + 2 * g) + np.reshape(noise, -1)) * _SLACK + TINY
    return Ellipsotope(after.lower.shape[1:], middle, rest, parts)


def _second_order(
    op: Product, x: Ellipsotope, y: Ellipsotope, far: tuple[Float64, Float64]
) -> tuple[Float64, Parts]:
    """What Σ (x - m_x)(y - m_y) is within: an interval for every entry, or ellipsoids.

    Rows of x times vectors of y are the vectors' sets scaled by how far the rows' entries reach,
    unless more are added than a vector is long: then |Σ ab| <= |a|·|b| says more.
    """
    box = op.forward(far[0].reshape(1, *x.shape), far[1].reshape(1, *y.shape)).reshape(-1)
    if op.summed(x.shape) == 1 or x.shape[:-2] != y.shape[:-2]:
        return box, {}
    outside, (m, k), n = math.prod(x.shape[:-2]), x.shape[-2:], y.shape[-1]
    if k < n:
        return _scaled_vectors(y, far[0].reshape(outside, m, k), n)
    index = np.arange(outside * k * n).reshape(outside, k, n).swapaxes(1, 2).reshape(-1, k)
    rows = vectors_of(x, k).largest()
    # Each root by itself: the product of two squares may underflow.
    turned = [(part.columns[:, index], part.each) for part in y.at(outside)]
    columns = np.sqrt(outer(turned, y.rest[index]).largest()).reshape(-1, 1, n)
    lengths = np.sqrt(rows).reshape(outside, m, 1) * columns
    return np.minimum(box, lengths.reshape(-1) * _SLACK), {}


def _scaled_vectors(y: Ellipsotope, far: Float64, n: int) -> tuple[Float64, Parts]:
    """Σ_k a_k·y_k with |a_k| <= far (outside, m, k): what rounding loses, and the ellipsoids."""
    outside, m, k = far.shape
    vectors = vectors_of(y, n).factors()
    turned = vectors.reshape(outside, 1, k, n, n) * far[..., None, None]
    columns = np.ascontiguousarray(turned.reshape(outside * m, k * n, n).swapaxes(0, 1))
    # Products of floats are no multiples of the factors any more: they stray by this.
    lost = lengths_of(columns, n).sum(axis=0) * (2.0**-52 * _SLACK)
    sums = outer([(columns, n)], lost).factors()
    return np.zeros(outside * m * n), {new_key(): placed(sums)}


def lengths_of(columns: Float64, each: int) -> Float64:
    """About how far each block reaches, entry by entry: (blocks, V, d) of columns (k, V, d)."""
    squares = np.square(columns).reshape(-1, each, *columns.shape[1:]).sum(axis=1)
    result: Float64 = np.sqrt(squares) + 2.0**-500
    return result


def vectors_of(x: Ellipsotope, d: int) -> Ellipsoids:
    """Ellipsoids about the middle of the vectors (V, d) that the node's entries are in order."""
    parts = [(p.columns.reshape(len(p.columns), -1, d), p.each) for p in x.at(len(x.rest) // d)]
    return outer(parts, x.rest.reshape(-1, d))
