"""The kernels the walks call: compiled C when it is there, NumPy otherwise, one face for both.

Contract of every kernel
    * arrays are C-contiguous, native byte order, float32 or float64 ("f": the dtype of the first
      array); anything else is a UsageError that names the argument;
    * elementwise results have the same bits on every instruction set and in NumPy;
    * sums are accumulated in float64 in an unspecified order: |error| <= g64_k Σ|terms|, k the
      number of terms (plus two for the fused ones), which the caller charges; in compiled kernels
      a row's order does not depend on the rows around it;
    * NaN goes in, NaN (or the infinite end of an interval) comes out; nothing is raised or warned.

``isa`` names what is in use: "avx512", "avx2", "neon", "scalar" or "numpy". The environment
variable GAMMA_ISA pins it on import; a name this machine cannot run is a UsageError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.tensor import fallback

try:
    from gamma.tensor import native
except ImportError:  # installed without a compiler: correct, and slower
    native = None  # type: ignore[assignment]

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]
Pairs = tuple[Array, Array]

NAMES = ("avx512", "avx2", "neon", "scalar", "numpy")
isa: str = "numpy"
_backend: Any = fallback


def available() -> tuple[str, ...]:
    """Instruction sets this process can run, best first; "numpy" is always the last."""
    return (*(native.available() if native is not None else ()), "numpy")


def use(name: str | None = None) -> None:
    """Run on ``name`` from now on, or on the best available set when None.

    Raises UsageError when this machine, or this installation, cannot run ``name``.
    """
    global isa, _backend
    able = available()
    if name is None:
        name = able[0]
    if name not in able:
        known = "not an instruction set gamma knows" if name not in NAMES else "not available here"
        raise UsageError(f"GAMMA_ISA={name}: {known}; choose one of {', '.join(able)}")
    if name != "numpy":
        native.select(name)
    isa, _backend = name, (fallback if name == "numpy" else native)


@contextmanager
def pinned(name: str) -> Iterator[None]:
    """Run on ``name`` inside the block (process-wide; for tests and benches)."""
    before = isa
    use(name)
    try:
        yield
    finally:
        use(before)


def _refuse(what: str, found: object, expected: object) -> UsageError:
    return UsageError(f"kernel argument {what}: found {found}, expected {expected}")


_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_F64 = np.dtype(np.float64)
_I64 = np.dtype(np.int64)


def _check(what: str, array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Type, shape and contiguity, with the argument's name; native._pointer adds writability."""
    if array.dtype != dtype:
        raise _refuse(what, f"dtype {array.dtype}", dtype)
    if array.shape != shape:
        raise _refuse(what, f"shape {array.shape}", shape)
    if not array.flags.c_contiguous:
        raise _refuse(what, f"strides {array.strides}", "a C-contiguous array")


def _rows(A: Array, d: Float64, box: Int64) -> tuple[int, int]:
    if A.dtype not in _FLOATS or A.ndim != 2:
        raise _refuse("A", f"{A.dtype} {A.shape}", "float32 or float64 of shape (rows, n)")
    N, n = A.shape
    _check("A", A, A.dtype, (N, n))
    _check("d", d, _F64, (N,))
    _check("box", box, _I64, (N,))
    return N, n


def _boxes(box: Int64, B: int) -> None:
    """Refuse indices outside the tables; the compiled kernels check this themselves."""
    if _backend is fallback and box.size and (int(box.min()) < 0 or int(box.max()) >= B):
        raise _refuse("box", f"indices {box.min()}..{box.max()}", f"0..{B - 1}")


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
    _check("lower_slope", lower_slope, A.dtype, (B, n))
    _check("upper_slope", upper_slope, A.dtype, (B, n))
    _check("lower_const", lower_const, _F64, (B, n))
    _check("upper_const", upper_const, _F64, (B, n))
    _boxes(box, B)
    _backend.relax_rows(A, d, box, lower_slope, upper_slope, lower_const, upper_const)


def abs_dot_rows(A: Array, d: Float64, box: Int64, weight: Float64) -> None:
    """d -= Σ_j |A_j|·weight_j in float64; A f (N, n), d (N,), box (N,), weight float64 (B, n)."""
    _, n = _rows(A, d, box)
    _check("weight", weight, _F64, (weight.shape[0], n))
    _boxes(box, weight.shape[0])
    _backend.abs_dot_rows(A, d, box, weight)


def dot_rows(A: Array, d: Float64, box: Int64, vector: Float64) -> None:
    """d += Σ_j A_j·vector_j in float64; A f (N, n), d (N,), box (N,), vector float64 (B, n)."""
    _, n = _rows(A, d, box)
    _check("vector", vector, _F64, (vector.shape[0], n))
    _boxes(box, vector.shape[0])
    _backend.dot_rows(A, d, box, vector)


def interval_affine(W: Array, centre: Float64, radius: Float64) -> tuple[Float64, Float64]:
    """(W·centre, |W|·radius) with W read once, plain float64 sums (charge g64_n for each).

    W f (m, n); centre, radius float64 (B, n); both results float64 (B, m). For large B a BLAS
    product is faster.
    """
    if W.dtype not in _FLOATS or W.ndim != 2:
        raise _refuse("W", f"{W.dtype} {W.shape}", "float32 or float64 of shape (m, n)")
    m, n = W.shape
    B = centre.shape[0]
    _check("W", W, W.dtype, (m, n))
    _check("centre", centre, _F64, (B, n))
    _check("radius", radius, _F64, (B, n))
    z, spread = np.empty((B, m)), np.empty((B, m))
    _backend.interval_affine(W, centre, radius, z, spread)
    return z, spread


def fold_last(
    cols: Array,
    out: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    pads: Pair = (0, 0),
    dilations: Pair = (1, 1),
) -> None:
    """Add windows back into frames with channels last: out += scatter(cols), in place.

    Per pixel the terms are added in ascending (window row, kernel row, window column, kernel
    column), in f, so the bits do not depend on the instruction set.

    Args:
        cols: f (N, Ho, Wo, kh, kw, C). out: f (N, H, W, C), zero-filled by the caller.
        pads: (top, left): pixels of the first window that lie outside the frame.
    """
    if out.dtype not in _FLOATS or out.ndim != 4 or cols.ndim != 6:
        raise _refuse("out", f"{out.dtype} {out.shape}", "float32 or float64 of shape (N, H, W, C)")
    if min(*kernel, *strides, *dilations) < 1:
        raise _refuse("kernel, strides, dilations", (kernel, strides, dilations), "all positive")
    N, _, _, C = out.shape
    _check("cols", cols, out.dtype, (N, *cols.shape[1:3], *kernel, C))
    _check("out", out, out.dtype, out.shape)
    _backend.fold_last(cols, out, kernel, strides, pads, dilations)


def product(A: Array, W: Array, width: int) -> Array | None:
    """A·W as `chain` computes it, on one thread: f (N, width); None without the compiled library.

    A f (N, n); W f (n, columns), `padded`, of which ``width`` columns count.
    """
    if _backend is fallback:
        return None
    if A.dtype not in _FLOATS or A.ndim != 2 or W.ndim != 2 or W.shape[1] * W.itemsize % 64:
        raise _refuse("A, W", (A.shape, A.dtype, W.shape), "two matrices, W padded")
    _check("W", W, A.dtype, (A.shape[1], W.shape[1]))
    out: Array = np.empty((len(A), W.shape[1]), A.dtype)
    _backend.product(np.ascontiguousarray(A), W, out)
    return out if width == W.shape[1] else np.ascontiguousarray(out[:, :width])


class Scatter(NamedTuple):
    """Geometry of `spread`.

    Attributes:
        spans: kernel, strides, dilations (height and width each). top, left: pads, of any sign.
        channels: of the images that are written. part: channels of the rows summed at once.
    """

    spans: tuple[int, int, int, int, int, int]
    top: int
    left: int
    channels: int
    part: int


def spread(
    rows: Array, weight: Array, images: Array, scatter: Scatter, offsets: Pair = (0, 0)
) -> bool:
    """Adjoint of a convolution, channels last: images += scatter(rows·weight), in place.

    Up to ``part`` channels are summed in one product, products added, and windows then added in
    ascending order. False, with nothing done, without the compiled library.

    Args:
        rows: f (N, h, w, C'); weight: f (out, columns), kh·kw·channels columns, `padded`, for the
            channels offsets[0]..offsets[0] + out of the rows.
        images: f (N, H, W, C), zero-filled; channels from offsets[1] on are written.
    """
    if _backend is fallback:
        return False
    kh, kw, *_ = scatter.spans
    out, columns = weight.shape
    if rows.dtype not in _FLOATS or rows.ndim != 4 or images.ndim != 4 or min(scatter.spans) < 1:
        raise _refuse("rows", f"{rows.dtype} {rows.shape}", "float32 or float64 (N, h, w, C)")
    _check("weight", weight, rows.dtype, (out, columns))
    _check("images", images, rows.dtype, (len(rows), *images.shape[1:]))
    if (
        columns < kh * kw * scatter.channels
        or columns * rows.itemsize % 64
        or not 0 <= offsets[0] <= rows.shape[3] - out
        or not 0 <= offsets[1] <= images.shape[3] - scatter.channels
        or scatter.part < 1
    ):
        raise _refuse("weight", (weight.shape, offsets, scatter), "channels that fit")
    if rows.size and images.size:
        _backend.spread(rows, weight, images, scatter, offsets)
    return True


class Frame(NamedTuple):
    """Geometry of `correlate`: kernel, strides, dilations (height and width each); pads."""

    spans: tuple[int, int, int, int, int, int]
    top: int
    left: int


def correlate(images: Array, weight: Array, frame: Frame, positions: Pair) -> Array | None:
    """Convolution with channels first, every entry one sum in f; None without compiled kernels.

    Args:
        images: f (N, groups, C, H, W). weight: f (groups, out, C·kh·kw).
        positions: rows and columns of the result; windows may reach beyond the image, which is
            zero there.

    Returns:
        f (N, groups, out, *positions).
    """
    if _backend is fallback:
        return None
    if images.dtype not in _FLOATS or images.ndim != 5 or min(*frame.spans, *positions) < 1:
        raise _refuse("images", f"{images.dtype} {images.shape}", "f (N, groups, C, H, W)")
    N, groups, C = images.shape[:3]
    depth = C * frame.spans[0] * frame.spans[1]
    _check("images", images, images.dtype, images.shape)
    _check("weight", weight, images.dtype, (groups, weight.shape[1], depth))
    result = np.empty((N, groups, weight.shape[1], *positions), images.dtype)
    _backend.correlate(images, weight, result, frame)
    return result


def relax_windows(
    A: Array,
    d: Float64,
    place: Int64,
    where: Int64,
    image: Pair,
    lower_slope: Array,
    upper_slope: Array,
    lower_const: Float64,
    upper_const: Float64,
) -> bool:
    """`relax_rows` on windows of images; entries outside become 0. False without compiled kernels.

    Args:
        A: f (N, h, w, C), overwritten. d: float64 (N,), overwritten. place: int64 (N,).
        where: int64 (P, 3): box, first row and first column of each place; may lie outside.
        image: height and width. Tables: (B, height, width, C), slopes f, constants float64.
    """
    if _backend is fallback:
        return False
    shape = _on_image(A, d, place, where, image, len(lower_slope))
    for name, table in (("lower_slope", lower_slope), ("upper_slope", upper_slope)):
        _check(name, table, A.dtype, shape)
    for name, table in (("lower_const", lower_const), ("upper_const", upper_const)):
        _check(name, table, _F64, shape)
    _backend.relax_windows(
        A, d, place, where, image, lower_slope, upper_slope, lower_const, upper_const
    )
    return True


def abs_dot_windows(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, weight: Float64
) -> bool:
    """`abs_dot_rows` on windows of images, arguments as in `relax_windows`."""
    if _backend is fallback:
        return False
    _check("weight", weight, _F64, _on_image(A, d, place, where, image, len(weight)))
    _backend.abs_dot_windows(A, d, place, where, image, weight)
    return True


def _on_image(
    A: Array, d: Float64, place: Int64, where: Int64, image: Pair, B: int
) -> tuple[int, ...]:
    if A.dtype not in _FLOATS or A.ndim != 4:
        raise _refuse("A", f"{A.dtype} {A.shape}", "float32 or float64 of shape (rows, h, w, C)")
    _check("d", d, _F64, (len(A),))
    _check("place", place, _I64, (len(A),))
    _check("where", where, _I64, (len(where), 3))
    return B, *image, A.shape[3]


def dense_interval(
    W: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    factors: tuple[float, float],
) -> tuple[Float64, int] | None:
    """Interval step of a dense layer in one call; None without the compiled library.

    Args:
        W: f (m, n). bias: float64 (m,) or None. row_sum: float64 (m,), at least Σ|W|.
        lower, upper, centre: float64 (B, n) of the input.
        factors: γ of float64 sums of n terms, relative uncertainty of W.

    Returns:
        float64 (5, B, m): centre, spread, noise, lower, upper as `gamma.propagate.interval` defines
        them; and how many ends contradict each other (0, or something is badly wrong).
    """
    if _backend is fallback:
        return None
    out = np.empty((5, len(lower), len(W)))
    return out, _backend.dense_interval(W, bias, row_sum, lower, upper, centre, out, factors)


def dense_boxes(
    forward: Float64,
    sizes: Array,
    bias: Float64 | None,
    row_sum: Float64,
    lower: Float64,
    upper: Float64,
    centre: Float64,
    factors: tuple[float, float, float, float, float],
) -> tuple[Float64, int] | None:
    """`dense_interval` of many boxes by products; None without the compiled library.

    Args:
        forward: float64 (n, ·), Wᵀ. sizes: f (n, ·), |W|ᵀ, in the type that radii are multiplied
            in. Both `padded`.
        factors: those of `dense_interval`; factor and addend that make up for the rounding of sums
            with ``sizes``; the share of inputs that are not 0 up to which the others are left out.
    """
    if _backend is fallback:
        return None
    n, m = lower.shape[1], len(row_sum)
    _check("forward", forward, _F64, (n, padded(m, _F64)))
    _check("sizes", sizes, sizes.dtype, (n, padded(m, sizes.dtype)))
    out = np.empty((5, len(lower), m))
    args = (forward, sizes, bias, row_sum, lower, upper, centre)
    return out, _backend.dense_boxes(*args, out, factors)


def interval_finish(
    z: Float64,
    spread: Float64,
    bias: Float64 | None,
    row_sum: Float64,
    centres: Sequence[Float64],
    factors: tuple[float, float],
) -> tuple[Float64, int] | None:
    """What an interval step does to its products; None without the compiled library.

    Args:
        z, spread: L·centre and |L|·radius, float64 (B, ...); overwritten by the centre of the
            result and its spread. bias: float64 of one box's entries, or None. row_sum: the same
            entries, at least |L|·1.
        centres: of the inputs, float64 (B, ...).
        factors: γ of float64 sums, relative uncertainty of L.

    Returns:
        float64 (3, B, ...): noise, lower, upper as `gamma.propagate.interval` defines them; and how
        many ends contradict each other (0, or something is badly wrong).
    """
    if _backend is fallback:
        return None
    found = largest(centres[0])
    for more in centres[1:]:
        found = np.maximum(found, largest(more))
    out = np.empty((3, *z.shape))
    return out, _backend.finish(bias, row_sum, found, (z, spread, *out), factors)


def largest(x: Float64) -> Float64:
    """At least max |x| of each box; x float64 (B, ...), result (B,)."""
    _check("x", x, _F64, x.shape)
    out = np.empty(len(x))
    _backend.largest(x.reshape(len(x), -1), out)
    return out


def relu(lower: Float64, upper: Float64) -> Float64:
    """max(·, 0) of both ends, a point between them, the radius about it: float64 (4, *shape)."""
    _check("lower", lower, _F64, lower.shape)
    _check("upper", upper, _F64, lower.shape)
    out = np.empty((4, *lower.shape))
    _backend.relu(lower, upper, out)
    return out


def relu_tables(
    lower: Float64,
    upper: Float64,
    centre: Float64,
    after: Float64,
    charge: Float64 | None,
    dtype: np.dtype[Any],
    factors: tuple[float, float],
) -> tuple[Array, Float64, Float64] | None:
    """Slopes and constants of a ReLU in one call; None without the compiled library.

    Args:
        lower, upper, centre: float64 (B, n) of its input. after: float64 (B, n), its own centre.
        charge: float64 (B, n) or None, cost per unit of the coefficient that leaves the ReLU.
        factors: γ of the float64 dot product, 1.01·u of ``dtype``.

    Returns:
        slopes (2, B, n) in ``dtype``, constants float64 (2, B, n) (lower, upper), and per box the
        sum of radii and charges (B,), rounded up.
    """
    if _backend is fallback:
        return None
    slopes, constants = np.empty((2, *after.shape), dtype), np.empty((2, *after.shape))
    loss = np.empty(len(after))
    _backend.relu_tables(lower, upper, centre, after, charge, slopes, constants, loss, factors)
    return slopes, constants, loss


class Chain(Protocol):
    """Steps of a backward walk over dense layers, run in one call; it keeps the tables alive.

    Step k first relaxes or pays (one of `relax` and `pay` must be called for it), then multiplies
    when `product` was called; then comes step k - 1. Rows have the dtype of the chain, tables one
    row per box.
    """

    def relax(self, index: int, n: int, slopes: Pairs, constants: Pairs, loss: Float64) -> None:
        """Pass an activation as `relax_rows` does, then d -= loss[box]."""

    def pay(self, index: int, n: int, weight: Float64 | None, loss: Float64 | None) -> None:
        """d -= |rows|·weight + loss[box] for tables (B, n) and (B,); None costs nothing."""

    def product(self, index: int, weight: Array, width: int) -> None:
        """Multiply by ``weight`` (n, columns), of which ``width`` columns count.

        A row of it must be whole 64 bytes: `padded`. Call it after `relax` or `pay`.
        """

    def run(self, last: int, rows: Array, d: Float64, box: Int64, block_bytes: int) -> None:
        """Take rows (N, n) through steps last..0, in place; d float64 (N,) gets the result.

        After each step d also pays for its own float64 additions. Blocks of rows use about
        ``block_bytes`` of scratch memory.
        """


def chain(steps: int, boxes: int, dtype: np.dtype[Any]) -> Chain | None:
    """An empty chain for tables of ``boxes`` boxes; None without the compiled library."""
    if _backend is fallback:
        return None
    made: Chain = _backend.Chain(steps, boxes, dtype)
    return made


def padded(n: int, dtype: np.dtype[Any]) -> int:
    """The least number of columns >= n that fills whole 64 bytes."""
    per = 64 // dtype.itemsize
    return -(-n // per) * per


class DenseLayer(NamedTuple):
    """One layer of a `DenseNetwork`; a ReLU follows all but the last.

    Attributes:
        stored: weight f (m, n) as in the file. rows: the same in the rows' dtype, `padded`.
        bias: float64 (m,) or None. row_sum: float64 (m,), at least Σ|W|.
        factors: γ of float64 sums of n terms; charge of a product per |a| and spread; factor of
            weights summed over m entries; γ of float64 sums of m terms; underflow of a product per
            unit of its input's radii.
    """

    stored: Array
    rows: Array
    bias: Float64 | None
    row_sum: Float64
    factors: tuple[float, float, float, float, float]


class DenseNetwork(Protocol):
    """Dense layers and ReLUs whose whole CROWN walk runs in one call.

    Attributes:
        layers: as given. room: bytes of memory that `run` needs.
    """

    layers: tuple[DenseLayer, ...]
    room: int

    def run(
        self,
        box: tuple[Float64, Float64, Float64],
        bounds: Float64,
        tables: tuple[Array, Float64, Float64] | None,
        counts: tuple[Int64, Float64],
        memory: Array,
        factors: tuple[float, float, float],
        span: tuple[int, int],
        flags: tuple[bool, bool, bool],
    ) -> int:
        """Walk boxes span[0]..span[1] of B; returns how many ends contradict each other.

        Args:
            box: lower, upper, centre of the input, float64 (B, n).
            bounds: float64, 8·B·neurons entries; layer after layer (8, B, m): centre, spread,
                noise, lower, upper of the layer, then lower, upper, centre of its ReLU.
            tables: None to make none (then no rows), or slopes in the rows' dtype, constants
                (2·B·neurons entries each; layer after
                layer (2, B, m), lower then upper) and losses (layers, B), as in `relu_tables`.
            counts: neurons bounded by rows, seconds; (layers,) each, added to.
            memory: float64, at least ``room`` bytes, overwritten.
            factors: of the input's radii in a sum over them; 1.01·u of the rows; the share of live
                neurons up to which dead ones are left out (negative: never).
            flags: tighten hidden layers by rows; the output; ``bounds`` hold bounds already.
        """


def dense_network(layers: Sequence[DenseLayer], dtype: np.dtype[Any]) -> DenseNetwork | None:
    """The layers ready for walks with rows of ``dtype``; None without the compiled library."""
    if _backend is fallback:
        return None
    made: DenseNetwork = _backend.DenseNetwork(layers, dtype)
    return made


def _map64(name: str, x: npt.ArrayLike) -> Float64:
    values = np.ascontiguousarray(x, dtype=np.float64)
    out: Float64 = getattr(_backend, name)(values.reshape(-1)).reshape(np.shape(x))
    return out


def erf(x: npt.ArrayLike) -> Float64:
    """Error function of each entry in float64, by the C library (error under 2 ulp there)."""
    return _map64("erf", x)


def erfc(x: npt.ArrayLike) -> Float64:
    """1 − erf of each entry in float64, accurate in the right tail, by the C library."""
    return _map64("erfc", x)


def _same(names: tuple[str, ...], arrays: tuple[Array, ...]) -> None:
    dtype, shape = arrays[0].dtype, arrays[0].shape
    if dtype not in _FLOATS:
        raise _refuse(names[0], f"dtype {dtype}", "float32 or float64")
    for array in arrays:
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
            for name, given in zip(names, arrays, strict=True):
                _check(name, given, dtype, shape)


def interval_mul(al: Array, au: Array, bl: Array, bu: Array) -> tuple[Array, Array]:
    """[al, au]·[bl, bu] entry by entry, one step outward; a NaN product gives (-inf, inf)."""
    _same(("al", "au", "bl", "bu"), (al, au, bl, bu))
    lower, upper = np.empty_like(al), np.empty_like(al)
    _backend.interval_mul(al, au, bl, bu, lower, upper)
    return lower, upper


def safe_mul_add(
    al: Array, au: Array, bl: Array, bu: Array, cl: Array, cu: Array
) -> tuple[Array, Array]:
    """[al, au]·[bl, bu] + [cl, cu] entry by entry, one step outward after each operation."""
    _same(("al", "au", "bl", "bu", "cl", "cu"), (al, au, bl, bu, cl, cu))
    lower, upper = np.empty_like(al), np.empty_like(al)
    _backend.safe_mul_add(al, au, bl, bu, cl, cu, lower, upper)
    return lower, upper


def pos_neg_split(x: Array) -> tuple[Array, Array]:
    """(max(x, 0), min(x, 0)) exactly; their sum is x, a NaN goes to both."""
    _same(("x",), (x,))
    positive, negative = np.empty_like(x), np.empty_like(x)
    _backend.pos_neg_split(x, positive, negative)
    return positive, negative


def step_down(x: Array) -> Array:
    """The next number of x's dtype below each entry; NaN becomes -inf."""
    return _step(x, False)


def step_up(x: Array) -> Array:
    """The next number of x's dtype above each entry; NaN becomes +inf."""
    return _step(x, True)


def _step(x: Array, up: bool) -> Array:
    _same(("x",), (x,))
    out = np.empty_like(x)
    _backend.step(x, out, up)
    return out


def narrow_down(x: Float64) -> npt.NDArray[np.float32]:
    """The greatest float32 <= each float64 entry (itself if representable); NaN becomes -inf."""
    return _narrow(x, False)


def narrow_up(x: Float64) -> npt.NDArray[np.float32]:
    """The least float32 >= each float64 entry (itself if representable); NaN becomes +inf."""
    return _narrow(x, True)


def _narrow(x: Float64, up: bool) -> npt.NDArray[np.float32]:
    _check("x", x, _F64, x.shape)
    out = np.empty(x.shape, np.float32)
    _backend.narrow(x, out, up)
    return out


def midpoint(lower: Float64, upper: Float64) -> Float64:
    """A finite point of each interval, near its middle, or near 0 where it is unbounded."""
    _check("lower", lower, _F64, lower.shape)
    _check("upper", upper, _F64, lower.shape)
    out = np.empty_like(lower)
    _backend.midpoint(lower, upper, out)
    return out


def radius_about(lower: Float64, upper: Float64, centre: Float64) -> Float64:
    """At least max(upper − centre, centre − lower, 0); exactly 0 for a point, inf for NaN."""
    for name, array in (("lower", lower), ("upper", upper), ("centre", centre)):
        _check(name, array, _F64, lower.shape)
    out = np.empty_like(lower)
    _backend.radius_about(lower, upper, centre, out)
    return out


def dot(x: Array, y: Array) -> float:
    """Σ x·y in float64 (charge g64_n Σ|x||y|); x and y of one shape, f."""
    _same(("x", "y"), (x, y))
    return float(_backend.dot(x.reshape(-1), y.reshape(-1)))


def sum(x: Array) -> float:
    """Σ x in float64 (charge g64_n Σ|x|)."""
    _same(("x",), (x,))
    return float(_backend.sum(x.reshape(-1)))


def _half(name: str, x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    _check("x", x, _FLOATS[0], x.shape)
    out = np.empty(x.shape, np.uint16)
    getattr(_backend, name)(x, out)
    return out


def f16_down(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the greatest float16 <= x; NaN becomes -inf, overflow the last finite one or -inf."""
    return _half("f16_down", x)


def f16_up(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the least float16 >= x; NaN becomes +inf, overflow +inf or the last finite one."""
    return _half("f16_up", x)


def f16_to_f32(x: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 value of float16 bits, exact."""
    _check("x", x, np.dtype(np.uint16), x.shape)
    out = np.empty(x.shape, np.float32)
    _backend.f16_to_f32(x, out)
    return out


use(os.environ.get("GAMMA_ISA") or None)
