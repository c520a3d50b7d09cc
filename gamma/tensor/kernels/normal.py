"""Normalisations of groups of entries (`gamma.ops.normalization`, `gamma.ops.quotient`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class Groups(Frozen):
    """G groups of n entries each, normalised together, ``centred`` or as they are.

    Attributes:
        lower, upper: float64 (G, n). centre, radius: the same, of what asks for planes.
        rows: γ of a sum of n + 6 products of rows, and whether these are of float32.
        dot: γ of the float64 sum over the node.
    """

    lower: Float64
    upper: Float64
    centred: bool
    epsilon: float
    centre: Float64 | None = None
    radius: Float64 | None = None
    rows: float = 0.0
    single: bool = False
    dot: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "centre", "radius"):
            part = getattr(self, name)
            if part is not None:
                check(name, part, F64, self.lower.shape)


def normal_image(x: Groups, threads: int = 1) -> tuple[Float64, Float64] | None:
    """Bounds (G, n) of every entry, of `gamma.ops.normalization.Normalize.image`, but for the order
    of sums; None without the compiled library."""
    if not backend.compiled:
        return None
    found: tuple[Float64, Float64] = backend.current.normal_image(x, threads)
    return found


def groups(
    x: Groups,
    weights: npt.NDArray[np.float32],
    ends: tuple[Float64, Float64] | None,
    square: Float64 | None,
    threads: int = 1,
) -> tuple[Float64, Float64] | None:
    """What `gamma.ops.quotient.group` finds, but for the order of sums; None without the compiled
    library.

    ``weights`` and ``ends`` as of `quotients`. ``square`` (G,): at least mean(δ²), where known.

    Returns:
        centre, both ends, astray and slopes (5, G, n); least, most, base, below, above (5, G).
    """
    if not backend.compiled:
        return None
    shape = (len(x.lower), 1 + x.centred, x.lower.shape[1])
    check("weights", weights, np.dtype(np.float32), shape)
    found: tuple[Float64, Float64] = backend.current.groups(x, weights, ends, square, threads)
    return found


def normal_sets(
    x: Groups,
    parts: Sequence[tuple[Float64, int, float, float]],
    rest: Float64,
    swing: Float64,
    g: float,
    threads: int,
) -> Float64 | None:
    """The sets of `gamma.ops.normalized`, but for the order of sums and for how an eigenvalue is
    proposed that is proved; None without the compiled library.

    Args:
        x: about the middle of a set. parts: its symbols as in `swing`, columns (k, G·n). rest,
            swing: its own, (G·n,). g: of the float64 sums over all symbols.

    Returns:
        columns of all symbols, an ellipsoid's for each group and of one symbol for each group, an
        interval and the middle: (symbols + n + 3, G·n).
    """
    if not backend.compiled:
        return None
    for what, array in (("rest", rest), ("swing", swing)):
        check(what, array, F64, (x.lower.size,))
    for columns, *_ in parts:
        check("columns", columns, F64, (len(columns), x.lower.size))
    made: Float64 = backend.current.normal_sets(x, parts, rest, swing, g, threads)
    return made


def quotients(
    x: Groups,
    weights: npt.NDArray[np.float32],
    ends: tuple[Float64, Float64] | None,
    image: tuple[Float64, Float64],
    after: Float64,
    threads: int = 1,
) -> tuple[Float64, Float64] | None:
    """The tables of `gamma.ops.quotient.quotients`, float64, but for the order of sums; None
    without the compiled library.

    ``weights`` (G, K, n) of linear forms and their ``ends`` (G, K), where rows bounded them.
    ``image``: bounds (G, n) that the planes lie between. ``after``: the node's centre (G, n).

    Returns:
        steep, tilt, below, above, lower and upper constants (6, G, n); root, both ends of the gap
        and the loss for each smallest number (4, G).
    """
    if not backend.compiled:
        return None
    check("weights", weights, np.dtype(np.float32), (len(after), 1 + x.centred, after.shape[1]))
    for what, part in (("floor", image[0]), ("ceiling", image[1]), ("after", after)):
        check(what, part, F64, x.lower.shape)
    found: tuple[Float64, Float64] = backend.current.quotients(
        x, weights, ends, image, after, threads
    )
    return found
