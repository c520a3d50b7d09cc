"""Linear rows on their way down: activations, dense layers, whole walks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, FLOATS, I64, check, refuse
from gamma.tensor.kernels.elementwise import Curve

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Pairs = tuple[Array, Array]


def _rows(A: Array, d: Float64, box: Int64) -> tuple[int, int]:
    if A.dtype not in FLOATS or A.ndim != 2:
        raise refuse("A", f"{A.dtype} {A.shape}", "float32 or float64 of shape (rows, n)")
    N, n = A.shape
    check("A", A, A.dtype, (N, n))
    check("d", d, F64, (N,))
    check("box", box, I64, (N,))
    return N, n


def _boxes(box: Int64, B: int) -> None:
    """Refuse indices outside the tables; the compiled kernels check this themselves."""
    if not backend.compiled and box.size and (int(box.min()) < 0 or int(box.max()) >= B):
        raise refuse("box", f"indices {box.min()}..{box.max()}", f"0..{B - 1}")


def relax_rows(
    A: Array,
    d: Float64,
    box: Int64,
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> None:
    """Replace linear rows over an activation's output by rows over its input, in place.

    Per entry a of A: where a >= 0, d += a·lower_const and a becomes a·lower_slope; otherwise
    d += a·upper_const and a becomes a·upper_slope. One rounding in A's dtype per entry; d sums in
    float64 with error <= g64_{n+2} Σ|a||const|, which the caller charges. Constants are finite.

    Args:
        A: f (N, n), overwritten. d: float64 (N,), overwritten. box: int64 (N,), row of the tables.
        lower_slope, upper_slope: f (B, n). lower_const, upper_const: float64 (B, n).
    """
    _, n = _rows(A, d, box)
    B = lower_slope.shape[0]
    check("lower_slope", lower_slope, A.dtype, (B, n))
    check("upper_slope", upper_slope, A.dtype, (B, n))
    check("lower_const", lower_const, F64, (B, n))
    check("upper_const", upper_const, F64, (B, n))
    _boxes(box, B)
    backend.current.relax_rows(A, d, box, lower_slope, upper_slope, lower_const, upper_const)


def _lines(
    A: Array, slope: Array, base: Float64, gain: Float64, upper_slope: Array, upper_const: Float64
) -> int:
    """Check tables whose lower slopes belong to rows; how many boxes they are of."""
    B, n = len(base), A.shape[1]
    check("slope", slope, A.dtype, A.shape)
    check("base", base, F64, (B, n))
    check("gain", gain, F64, (B, n))
    check("upper_slope", upper_slope, A.dtype, (B, n))
    check("upper_const", upper_const, F64, (B, n))
    return B


def relax_own_rows(
    A: Array,
    d: Float64,
    box: Int64,
    slope: Array,
    base: Float64,
    gain: Float64,
    upper_slope: Array,
    upper_const: Float64,
) -> None:
    """`relax_rows` with a lower slope for each entry, whose constant is base + slope·gain.

    The constant takes two roundings at most, which the caller charges besides the sum's.

    Args:
        A, d, box, upper_slope, upper_const: as in `relax_rows`. slope: f (N, n). base, gain:
            float64 (B, n).
    """
    _rows(A, d, box)
    _boxes(box, _lines(A, slope, base, gain, upper_slope, upper_const))
    backend.current.relax_own_rows(A, d, box, slope, base, gain, upper_slope, upper_const)


def own_lines(
    A: Array,
    x: Array,
    box: Int64,
    slope: Array,
    base: Float64,
    gain: Float64,
    upper_slope: Array,
    upper_const: Float64,
) -> Array:
    """The lines that rows A chose in `relax_own_rows`, at points x: f (N, n), computed in float64.

    slope·x + (base + slope·gain) where A >= 0, else upper_slope·x + upper_const.
    """
    check("x", x, A.dtype, A.shape)
    _boxes(box, _lines(A, slope, base, gain, upper_slope, upper_const))
    out = np.empty_like(A)
    backend.current.own_lines(A, x, box, slope, base, gain, upper_slope, upper_const, out)
    return out


def ascend(
    A: Array,
    x: Array,
    box: Int64,
    centre: Array,
    free: Array,
    first: Array,
    second: Array,
    slope: Array,
    factors: tuple[float, float, float, float, float],
) -> None:
    """A step of projected Adam up the gradient max(A, 0)·(x + centre), slopes kept in [0, 1].

    first = β₁·first + (1 - β₁)·gradient, second likewise of its square, slope += rate·first/√second
    where second > 0 and ``free`` > 0; a slope that would be NaN becomes 0.

    Args:
        A, x: f (N, n). centre, free: f (B, n). first, second, slope: f (N, n), overwritten.
        factors: β₁, 1 - β₁, β₂, 1 - β₂ and the rate, corrected for the steps so far.
    """
    B, n = centre.shape
    check("x", x, A.dtype, A.shape)
    for name, table in (("centre", centre), ("free", free)):
        check(name, table, A.dtype, (B, n))
    for name, own in (("first", first), ("second", second), ("slope", slope)):
        check(name, own, A.dtype, A.shape)
    _boxes(box, B)
    backend.current.ascend(A, x, box, centre, free, first, second, slope, factors)


def abs_dot_rows(A: Array, d: Float64, box: Int64, weight: Float64) -> None:
    """d -= Σ_j |A_j|·weight_j in float64; A f (N, n), d (N,), box (N,), weight float64 (B, n)."""
    _, n = _rows(A, d, box)
    check("weight", weight, F64, (weight.shape[0], n))
    _boxes(box, weight.shape[0])
    backend.current.abs_dot_rows(A, d, box, weight)


def dot_rows(A: Array, d: Float64, box: Int64, vector: Float64) -> None:
    """d += Σ_j A_j·vector_j in float64; A f (N, n), d (N,), box (N,), vector float64 (B, n)."""
    _, n = _rows(A, d, box)
    check("vector", vector, F64, (vector.shape[0], n))
    _boxes(box, vector.shape[0])
    backend.current.dot_rows(A, d, box, vector)


def product(A: Array, W: Array, width: int) -> Array | None:
    """A·W as `chain` computes it, on one thread: f (N, width); None without the compiled library.

    A f (N, n); W f (n, columns), `padded`, of which ``width`` columns count.
    """
    if not backend.compiled:
        return None
    if A.dtype not in FLOATS or A.ndim != 2 or W.ndim != 2 or W.shape[1] * W.itemsize % 64:
        raise refuse("A, W", (A.shape, A.dtype, W.shape), "two matrices, W padded")
    check("W", W, A.dtype, (A.shape[1], W.shape[1]))
    out: Array = np.empty((len(A), W.shape[1]), A.dtype)
    backend.current.product(np.ascontiguousarray(A), W, out)
    return out if width == W.shape[1] else np.ascontiguousarray(out[:, :width])


def line_tables(
    lines: tuple[Float64, Float64, Float64, Float64] | None,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    dtype: np.dtype[Any],
    factors: tuple[float, float],
) -> tuple[Array, Float64, Float64] | None:
    """Slopes and constants of a function of each entry in one call; None without the C library.

    Args:
        lines: its lines, slope and intercept below, then above, each float64 (B, n); None: a ReLU.
        lower, upper, centre: float64 (B, n) of its input. after: float64 (B, n), its own centre.
        charge: float64 (B, n) or None, cost per unit of the coefficient that leaves the function.
        factors: γ of the float64 dot product, 1.01·u of ``dtype``.

    Returns:
        slopes (2, B, n) in ``dtype``, constants float64 (2, B, n) (lower, upper), and per box the
        sum of radii and charges (B,), rounded up.
    """
    if not backend.compiled:
        return None
    slopes, constants = np.empty((2, *after.shape), dtype), np.empty((2, *after.shape))
    loss = np.empty(len(after))
    given = (lower, upper, centre, after, charge)
    backend.current.line_tables(*given, slopes, constants, loss, factors, lines)
    return slopes, constants, loss


def hinge_tables(
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    keep: Int64 | None,
    dtype: np.dtype[Any],
    factors: tuple[float, float],
) -> tuple[Array, Float64, Float64] | None:
    """As `line_tables` of a ReLU whose rows have lower slopes of their own, at the neurons ``keep``
    (m,) alone when given; None without the C library.

    Returns:
        f (4, B, m): the operator's slope below, the slope above, 1 where the one below is free and
        else 0, the centre; float64 (3, B, m): constants below (of slope 0 where it is free) and
        above, and what a slope of 1 below adds; and the sum of `line_tables`, over all neurons.
    """
    if not backend.compiled:
        return None
    (boxes, size), count = after.shape, after.shape[1] if keep is None else len(keep)
    if keep is not None and count and not 0 <= keep.min() <= keep.max() < size:
        raise refuse("keep", keep, f"indices of {size} neurons")
    slopes, constants = np.empty((4, boxes, count), dtype), np.empty((3, boxes, count))
    loss = np.empty(boxes)
    given = (lower, upper, centre, after, charge, keep)
    backend.current.hinge_tables(*given, slopes, constants, loss, factors)
    return slopes, constants, loss


class Sparse(NamedTuple):
    """The entries of a matrix f (n, width) that are not 0, row by row.

    Attributes:
        starts: int64 (n + 1,): where each row begins. places: int32, their columns. values: f.
    """

    starts: Int64
    places: npt.NDArray[np.int32]
    values: Array
    width: int


class Chain(Protocol):
    """Steps of a backward walk over dense layers, run in one call; it keeps the tables alive.

    Step k first relaxes or pays (one of `relax` and `pay` must be called for it), then multiplies
    when `product` was called; then comes step k - 1. Rows have the dtype of the chain, tables one
    row per box.
    """

    def relax(self, index: int, n: int, slopes: Pairs, constants: Pairs, loss: Float64) -> None:
        """Pass an activation as `relax_rows` does, then d -= loss[box]."""

    def strip(self, index: int, height: Float64) -> None:
        """After `relax`: what the negated rows pay there, per unit (B, n)."""

    def pay(self, index: int, n: int, weight: Float64 | None, loss: Float64 | None) -> None:
        """d -= |rows|·weight + loss[box] for tables (B, n) and (B,); None costs nothing."""

    def product(self, index: int, weight: Array, width: int) -> None:
        """Multiply by ``weight`` (n, columns), of which ``width`` columns count.

        A row of it must be whole 64 bytes: `padded`. Call it after `relax` or `pay`.
        """

    def sparse(self, index: int, weight: Sparse) -> None:
        """`product` with a weight of mostly zeros."""

    def run(
        self,
        last: int,
        rows: Array,
        d: Float64,
        box: Int64,
        block_bytes: int,
        opposite: Float64 | None = None,
    ) -> None:
        """Take rows (N, n) through steps last..0, in place; d float64 (N,) gets the result.

        ``opposite`` gets that of the negated rows, where every activation has a `strip`.
        After each step d also pays for its own float64 additions. Blocks of rows use about
        ``block_bytes`` of scratch memory.
        """


def chain(steps: int, boxes: int, dtype: np.dtype[Any]) -> Chain | None:
    """An empty chain for tables of ``boxes`` boxes; None without the compiled library."""
    if not backend.compiled:
        return None
    made: Chain = backend.current.Chain(steps, boxes, dtype)
    return made


class DenseLayer(Frozen):
    """One layer of a `DenseNetwork`; an activation follows all but the last and the plain ones.

    Attributes:
        stored: weight f (m, n) as in the file. rows: the same in the rows' dtype, `padded`, or,
            in all layers of a network, by what is not 0.
        bias: float64 (m,) or None. row_sum: float64 (m,), at least Σ|W|.
        factors: γ of float64 sums of n terms; charge of a product per |a| and spread; factor of
            weights summed over m entries; γ of float64 sums of m terms; underflow of a product per
            unit of its input's radii.
        size: of a weight, in the mean of squares (0.0: no row is to serve both sides of a neuron).
        curve: the activation; None: a ReLU, or none. plain: none, although it is not the last.
    """

    stored: Array
    rows: Array | Sparse
    bias: Float64 | None
    row_sum: Float64
    factors: tuple[float, float, float, float, float]
    size: float = 0.0
    curve: Curve | None = None
    plain: bool = False


class Rise(Frozen):
    """How the rows of a `DenseNetwork` rise, see `gamma.propagate.alpha`, where all is ReLUs.

    Attributes:
        known: ``bounds`` of another walk over the same boxes: these are met with it, and slopes
            start from those that its lines below have. factors: float64 (steps, 5), as in `ascend`.
        risen: uint8, layer after layer (B, m): 1 where a hidden neuron gets rows.
    """

    known: Float64
    factors: Float64
    risen: npt.NDArray[np.uint8]


class DenseNetwork(Protocol):
    """Dense layers and activations whose whole CROWN walk runs in one call.

    Attributes:
        layers: as given. neurons, weights: outputs, and entries that rows meet, of all of them.
        curved: whether an activation is a curve.
    """

    layers: tuple[DenseLayer, ...]
    neurons: int
    weights: int
    curved: bool

    def run(
        self,
        box: tuple[Float64, Float64, Float64],
        facts: Float64 | None,
        bounds: Float64,
        tables: tuple[Array, Float64, Float64] | None,
        lines: Float64 | None,
        counts: tuple[Int64, Float64],
        factors: tuple[float, float, float],
        rise: Rise | None,
        span: tuple[int, int],
        flags: tuple[bool, bool, bool, bool, bool],
        threads: int,
    ) -> int:
        """Walk boxes span[0]..span[1] of B; returns how many ends contradict each other.

        Args:
            box: lower, upper, centre of the input, float64 (B, n).
            facts: None, or what is known of hidden layers: float64, layer after layer (2, B, m),
                lower then upper ends.
            bounds: float64, 8·B·neurons entries; layer after layer (8, B, m): centre, spread,
                noise, lower, upper of the layer, then lower, upper, centre of its activation.
            tables: None to make none (then no rows but those that rise), or slopes in the rows'
                dtype, constants (2·B·neurons entries each; layer after layer (2, B, m), lower then
                upper) and losses (layers, B), as in `line_tables`.
            lines: of curves, 4·B·neurons entries; layer after layer (4, B, m), as in
                `lines`. None where there are no curves or tables.
            counts: neurons bounded by rows, seconds; (layers,) each, added to.
            factors: of the input's radii in a sum over them; 1.01·u of the rows; the share of live
                neurons up to which dead ones are left out (negative: never).
            rise: None, or how rows rise; then there are no tables.
            flags: tighten hidden layers by rows; the output; ``bounds`` hold bounds already;
                ``lines`` hold lines, with slopes in the range of the rows' dtype; a row may bound
                a hidden neuron from both sides.
            threads: that share the boxes, or the rows of each where boxes are fewer.
        """


def dense_network(layers: Sequence[DenseLayer], dtype: np.dtype[Any]) -> DenseNetwork | None:
    """The layers ready for walks with rows of ``dtype``; None without the compiled library."""
    if not backend.compiled:
        return None
    made: DenseNetwork = backend.current.DenseNetwork(layers, dtype)
    return made
