"""Sets with symbols (`gamma.ops.ellipsotope`): how far they reach, ellipsoids around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check, padded, refuse

Float64 = npt.NDArray[np.float64]


def reach(columns: Float64, each: int, factor: float, extra: float) -> Float64:
    """Σ over blocks of ``each`` columns (k, n) of √(Σ squares), of sizes where blocks are single
    columns: (n,), times ``factor``, plus ``extra`` where squares of what moves may underflow.

    Sums of k terms in any order, and a root and a sum of each block.
    """
    check("columns", columns, F64, columns.shape)
    if columns.ndim != 2 or each < 1 or len(columns) % each:
        raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, n)")
    out = np.empty(columns.shape[1])
    backend.current.reach(columns, each, factor, extra, out)
    return out


def swing(
    parts: Sequence[tuple[Float64, int, float, float]], rest: Float64, middle: Float64
) -> tuple[Float64, int]:
    """How far values lie from ``middle`` (n,), and the box around them: (3, n): at least
    ``rest`` + Σ `reach` of each part, lower and upper ends; and how many are not finite."""
    for what, array in (("rest", rest), ("middle", middle)):
        check(what, array, F64, middle.shape)
    for columns, each, *_ in parts:
        check("columns", columns, F64, (len(columns), len(middle)))
        if each < 1 or len(columns) % each:
            raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, n)")
    found: tuple[Float64, int] = backend.current.swing(parts, rest, middle)
    return found


class Layer(NamedTuple):
    """A dense layer with m outputs, as a set meets it at each of V vectors of d entries.

    Attributes:
        weight, absolute: (d, padded m), turned, zeros behind the outputs. outputs: m.
        before, drift: (V, d): what the node's value is about before it, and how far values of the
            set lie from its middle, at least. after: (V, m), what it is about behind it. noise:
            (V, m), None for none. g: of sums over d entries.
    """

    weight: Float64
    absolute: Float64
    outputs: int
    before: Float64
    drift: Float64
    after: Float64
    noise: Float64 | None
    g: float


def layer_set(
    layer: Layer,
    parts: Sequence[tuple[Float64, int, float, float]],
    more: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    middle: Float64,
    threads: int,
) -> tuple[Float64, int] | None:
    """The set behind a layer, term by term as `gamma.ops.enclose.linear` makes it but for the order
    of sums: (5 + symbols, V·m), its middle, its rest, what `swing` finds of it with the parts
    ``more``, which are behind the layer already, and the columns of the parts, in order; and how
    many entries are not finite. None without the compiled library.
    """
    if not backend.compiled:
        return None
    (V, d), m = layer.before.shape, layer.outputs
    for what, array, shape in (
        ("weight", layer.weight, (d, padded(m, F64))),
        ("absolute", layer.absolute, layer.weight.shape),
        ("drift", layer.drift, (V, d)),
        ("before", layer.before, (V, d)),
        ("after", layer.after, (V, m)),
        ("rest", rest, (V * d,)),
        ("middle", middle, (V * d,)),
    ):
        check(what, array, F64, shape)
    if layer.noise is not None:
        check("noise", layer.noise, F64, (V, m))
    for some, size in ((parts, V * d), (more, V * m)):
        for columns, each, *_ in some:
            check("columns", columns, F64, (len(columns), size))
            if each < 1 or len(columns) % each:
                raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, {size})")
    found: tuple[Float64, int] = backend.current.layer_set(
        layer, parts, more, rest, middle, threads
    )
    return found


class Strips(NamedTuple):
    """Lines below and above a function of each entry of a set, and what is known of these, (n,).

    Attributes:
        below, above, low, high: slopes and constants, about the centre ``before`` of the entries.
        swing, lower, upper: how far values lie from the middle, and between what. after: what
            values behind are about.
    """

    below: Float64
    above: Float64
    low: Float64
    high: Float64
    before: Float64
    swing: Float64
    lower: Float64
    upper: Float64
    after: Float64


def strips_set(
    lines: Strips,
    parts: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    middle: Float64,
) -> tuple[Float64, int]:
    """The set behind lines, as `gamma.ops.enclose.through_lines` says: (5 + symbols, n), its
    middle, its rest, what `swing` finds of it, and columns; and how many entries are not finite.
    """
    for what, array in zip(lines._fields, lines, strict=True):
        check(what, array, F64, middle.shape)
    check("rest", rest, F64, middle.shape)
    for columns, each, *_ in parts:
        check("columns", columns, F64, (len(columns), len(middle)))
        if each < 1 or len(columns) % each:
            raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, n)")
    found: tuple[Float64, int] = backend.current.strips_set(lines, parts, rest, middle)
    return found


def balls(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float, backward: float, threads: int
) -> Float64 | None:
    """Columns (d, V·d) of `gamma.ops.ellipsoid.Ellipsoids.factors`, infinite where there are none,
    around what `outer` takes; None without the compiled library.

    ``backward``: of the factorisation's error.
    """
    if not backend.compiled:
        return None
    _fitting(parts, rest)
    made: Float64 = backend.current.balls(parts, rest, g, backward, threads)
    return made


def _fitting(parts: Sequence[tuple[Float64, int]], rest: Float64) -> None:
    """Refuse columns that are none of the vectors ``rest`` (V, d)."""
    check("rest", rest, F64, rest.shape)
    for columns, each in parts:
        check("columns", columns, F64, (len(columns), *rest.shape))
        if each < 1 or len(columns) % each:
            raise refuse("columns", f"{columns.shape}", f"(a multiple of {each}, V, d)")


def outer(
    parts: Sequence[tuple[Float64, int]], rest: Float64, g: float
) -> tuple[Float64, Float64, Float64] | None:
    """Matrices (V, d, d), errors (V,) and scales (V, d) of `gamma.ops.ellipsoid.Ellipsoids`, term
    by term as `gamma.ops.ellipsoid.outer` makes them; None without the compiled library.

    Args:
        parts: columns (k, V, d) and the length of their blocks. rest: (V, d). g: of the sums.
    """
    if not backend.compiled:
        return None
    _fitting(parts, rest)
    made: Any = backend.current.outer(parts, rest, g)
    return made  # type: ignore[no-any-return]
