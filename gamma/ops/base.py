"""What every operator record provides, and the two families that share their rules.

`Linear` operators are a forward map and its adjoint; the walks own the one rule for their
rounding. Everything else brings its own interval rule and its own relaxation, with the way back to
each input (`gamma.ops.tables`), so that a new operator is one file here and nothing in the walks.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from gamma.errors import UnsupportedError, UsageError
from gamma.network.graph import Operator as OperatorProtocol
from gamma.ops import affine_interval
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.execution import PACKED, overflowed, stored
from gamma.runtime import resident
from gamma.tensor import rounding
from gamma.tensor.exactly import exact_float, exact_floats, exact_integer

if TYPE_CHECKING:
    from gamma.ops.charges import LinearCharge
    from gamma.ops.tables import NodeSlopes, Precision, Relaxation

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]
# Fields that hold no weights but what is known about their rounding.
_ESTIMATES = ("weight_error", "weight_noise", "shift_error", "execution")
# One thread makes or drops derived constants at a time: two would hold two copies of a weight. Made
# while it is held are others of the same operator, hence reentrant.
_DERIVED = threading.RLock()
_ABSENT = object()


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of the records: a frozen value that holds weights and attributes, never a bound.

    Class data: ``linear_map`` whether it is `Linear`; ``diagonal`` whether its relaxation is a
    `gamma.ops.tables.Diagonal`, which takes over the charge of a linear input.

    Raises UsageError for a weight or attribute that is not of its field's kind, or that float64
    does not hold: see `gamma.tensor.exactly`.
    """

    linear_map: ClassVar[bool] = False
    diagonal: ClassVar[bool] = False
    several: ClassVar[bool] = False  # takes more inputs than one

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            found = _taken(f"{type(self).__name__} {f.name}", str(f.type), value)
            if found is not value:
                object.__setattr__(self, f.name, found)

    @property
    def name(self) -> str:
        """The operator's ONNX name."""
        return type(self).__name__

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        values = (getattr(self, f.name) for f in fields(self) if f.name not in _ESTIMATES)
        return sum(v.size for v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f")

    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for these input shapes."""
        raise UsageError(f"{self.name} does not say its shape")

    def forward(self, *inputs: Array) -> Array:
        """Evaluate on (batch, *shape) arrays in their dtype."""
        raise UsageError(f"{self.name} cannot be evaluated")

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        """Gradient with respect to each input, for one (batch, *shape) of the output."""
        raise UsageError(f"{self.name} has no gradient")

    def after(self, previous: OperatorProtocol) -> OperatorProtocol | None:
        """The one operator equal to this one applied to ``previous`` in real arithmetic."""
        return None

    def neutral(self, shape: Shape) -> bool:
        """Whether an input of ``shape`` is returned unchanged."""
        return False

    def mixes(self, rank: int) -> tuple[int, ...] | None:
        """Axes of the input along which an entry of the output reads more than its own index.

        ``rank`` is the output's; () entry by entry; None: not known, or not in this sense.
        """
        return None

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> OperatorProtocol | None:
        """The same for arrays without ``dropped`` leading axes of length 1; None: there is none.

        ``shape`` is the output's with them. ``alike``: as many such axes lead in every input.
        """
        return None

    def propagate(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        """Interval bounds of the output from those of the inputs."""
        raise UnsupportedError(f"{self.name} has no interval rule")

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        """`propagate` with what a float32 execution loses, and clean ends.

        Raises InternalError where the ends contradict each other.
        """
        found = self.propagate(inputs, how)
        lower, upper = found.lower, found.upper
        if how.guarantee == "float32":
            lower, upper = affine_interval.float32_range(lower, upper)
        return affine_interval.centred(*clean(lower, upper, self.name))

    def unstable(self, inputs: Sequence[NodeBounds]) -> tuple[npt.NDArray[np.bool_], ...]:
        """For each input, the neurons (batch, *shape) whose bounds decide how tight this one is."""
        return tuple(np.zeros(x.lower.shape, bool) for x in inputs)

    def forms(self, inputs: Sequence[NodeBounds]) -> Array | None:
        """Weights (`Forms`) of forms in the one input whose bounds would tighten the relaxation."""
        return None

    def relax(
        self,
        inputs: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
        carried: LinearCharge | None = None,
        slopes: NodeSlopes | None = None,
    ) -> Relaxation:
        """Linear bounds on the inputs' bounds; ``after`` are the node's own.

        ``carried`` is the charge of a linear input that a ``diagonal`` operator alone reads.
        """
        raise UnsupportedError(f"{self.name} has no linear relaxation")

    def table_size(self, *inputs: Shape) -> int:
        """Entries of the relaxation's tables, for one box, beyond those of diagonal operators."""
        return 0

    def cached(self, key: str, make: Any) -> Any:
        """A derived constant (a cast or absolute copy of a weight), computed once per record."""
        store = self.__dict__.setdefault("_derived", {})
        found = store.get(key, _ABSENT)
        if found is _ABSENT:
            with _DERIVED:
                found = store.get(key, _ABSENT)
                if found is _ABSENT:
                    found = store[key] = make()
        return found

    def forget(self, least_bytes: int = 1 << 16) -> None:
        """Drop derived constants of at least ``least_bytes``; they are made again when needed."""
        store = self.__dict__.get("_derived", {})
        own = {id(getattr(self, f.name)) for f in fields(self)}
        with _DERIVED:
            for key, value in list(store.items()):
                if _size_of(value, own) >= least_bytes:
                    del store[key]


def _taken(what: str, kind: str, value: Any) -> Any:
    """The value of a field annotated ``kind``: the numbers that were given, and no others."""
    if value is None and "None" in kind:
        return None
    if "int64" in kind:
        array = np.asarray(value)
        if array.dtype.kind not in "iu" or not (array.astype(np.int64) == array).all():
            raise UsageError(f"{what} has dtype {array.dtype}, expected int64 indices")
        return array.astype(np.int64, copy=False)
    if kind == "float" or (kind.endswith("| float") and np.ndim(value) == 0):
        return exact_float(value, what)
    if "Array" in kind or "Float64" in kind:
        return exact_floats(value, what)
    if kind == "int":
        return exact_integer(value, what)
    if kind in ("Shape", "tuple[int, ...]"):
        if not isinstance(value, tuple | list):
            raise UsageError(f"{what}: found {value!r}, expected a tuple of whole numbers")
        return tuple(exact_integer(v, what) for v in value)
    return value


def shortened(op: Any, rank: int) -> Any:
    """An entrywise operator whose arrays have no more than ``rank`` axes, the leading ones dropped.

    Several in one array (`PACKED`) keep the axis that numbers them.
    """
    values: dict[str, Array] = {}
    for entry in fields(op):
        array = getattr(op, entry.name)
        packed = int(entry.name in PACKED)
        if isinstance(array, np.ndarray) and array.ndim - packed > rank:
            shape = array.shape[:packed] + array.shape[array.ndim - rank :]
            values[entry.name] = array.reshape(shape)
    return replace(op, **values) if values else op


def _size_of(value: Any, own: set[int]) -> int:
    """Bytes of the arrays in a derived constant that are not the operator's ``own`` ones."""
    if isinstance(value, np.ndarray):
        return 0 if id(value) in own else value.nbytes
    return sum(_size_of(v, own) for v in value) if isinstance(value, tuple | list) else 0


@dataclass(frozen=True, eq=False)
class Input(Operator):
    """The network's input."""

    def shape(self, *inputs: Shape) -> Shape:
        raise UsageError("the input has no operator to infer its shape")

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> OperatorProtocol | None:
        return self


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """y = L x + offset with L fixed; x may be several inputs.

    ``terms``: the longest sum behind one output entry (products of a row of L).
    ``adjoint_terms``: the longest sum behind one entry of the adjoint's result.
    ``uncertainty``: relative error of the float64 coefficients against the real operator.
    ``independent``: each output entry reads one input entry and none is read twice, so the
    interval image of a box is exact coordinate by coordinate.
    """

    linear_map = True
    # Output entries have the inputs' places: a scaling, a sum of tensors.
    entrywise: ClassVar[bool] = False

    @property
    def terms(self) -> int:
        return 1

    def terms_for(self, shape: Shape) -> int:
        """`terms` where it depends on the (first) input's shape."""
        return self.terms

    @property
    def adjoint_terms(self) -> int:
        return 1

    @property
    def adjoint_products(self) -> int:
        """Products behind one entry of the adjoint's result: each may be lost to underflow."""
        return self.adjoint_terms

    @property
    def unit(self) -> bool:
        """All coefficients are 0 or ±1: products are exact."""
        return False

    @property
    def moves(self) -> bool:
        """Entries are only copied (or filled in): exact in both directions of the interval pass."""
        return False

    @property
    def uncertainty(self) -> float:
        return 0.0

    @property
    def offset_uncertainty(self) -> Float64 | float:
        """Absolute error of ``offset`` against the real operator, per entry."""
        return 0.0

    @property
    def independent(self) -> bool:
        return False

    def strayed(self, reach: Sequence[Array], executed: bool) -> Float64 | None:
        """How far L x with the real coefficients (``executed``: with those that a float32 execution
        computes) may lie from L x as stored, for |x| <= reach; None where they are the same."""
        return None

    def windowed(self, shape: Shape) -> bool:
        """Whether rows over an input image of ``shape`` can be windows of what they reach."""
        return False

    @property
    def peak(self) -> float:
        """A float32 execution forms no number beyond this times |L||x| + |offset|."""
        return 1.0

    def float32_noise(self, reach: Sequence[Float64]) -> Float64:
        """How far a float32 execution (any order of sums, with or without FMA) strays from y.

        ``reach``: at least |x| of each input. Infinite where an execution may overflow.
        """
        n, offset = self.terms_for(reach[0].shape[1:]), self.offset()
        size = self.linear(reach, absolute=True) * (1 + 2.0**-20)
        strayed = self.strayed(reach, True)
        size = size if strayed is None else size + strayed
        if offset is not None:
            size = size + abs(offset.astype(np.float64))
        lost, steps = n * 2.0**-148, n + 1
        if not (self.exact_in(np.float32) and stored(offset)):  # coefficients are rounded first
            lost, steps = lost * (1 + max(float(r.max(initial=0.0)) for r in reach)), steps + 2
        noise = rounding.gamma_factor(steps, np.float32) * size + lost
        return overflowed(noise, self.peak * size + noise + self._largest_stored())

    def _largest_stored(self) -> float:
        """Largest coefficient, where the largest float32 may be exceeded."""
        stored = self.stored()
        if stored is None or stored.dtype == np.float32:
            return 0.0
        return float(self.cached("largest", lambda: abs(stored).max(initial=0.0)))

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        """L x, or |L| x when ``absolute``: (batch, *in) -> (batch, *out) in the inputs' dtype."""
        raise UsageError(f"{self.name} has no forward map")

    def row_sums(self, shapes: Sequence[Shape]) -> Float64:
        """At least |L|·1 for inputs of these ``shapes``: (1, *output shape)."""
        ones = [np.ones((1, *shape)) for shape in shapes]
        key = "absolute.sum." + ",".join(str(o.shape) for o in ones)
        total: Float64 = self.cached(key, lambda: self.linear(ones, absolute=True) * (1 + 2.0**-20))
        return total

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        """rows (N, *out) times L: one (N, *in) per input, in the rows' dtype."""
        raise UsageError(f"{self.name} has no adjoint")

    def start_rows(self, neurons: Array, shapes: Sequence[Shape], dtype: npt.DTypeLike) -> Array:
        """Rows ``neurons`` (flat output indices) of L for one input: (N, *in) in ``dtype``."""
        out = self.shape(*shapes)
        unit = np.zeros((len(neurons), int(np.prod(out))), dtype)
        unit[np.arange(len(neurons)), neurons] = 1
        return self.adjoint(unit.reshape(len(neurons), *out), shapes)[0]

    def offset(self) -> Array | None:
        """The constant part, broadcastable to the output shape, as stored; None when zero."""
        return None

    def shifted(self, shift: Array) -> Linear | None:
        """This operator with ``shift`` added to its output, when that needs no rounding."""
        return None

    def stored(self) -> Array | None:
        """The coefficients as stored (None when they are 0 and ±1)."""
        return None

    def exact_in(self, dtype: npt.DTypeLike) -> bool:
        """Whether every coefficient is a number of ``dtype``."""
        weights = self.stored()
        if weights is None or weights.dtype == dtype or np.dtype(dtype) == np.float64:
            return True
        return bool(self.cached("exact32", lambda: (weights.astype(np.float32) == weights).all()))

    @property
    def inexact(self) -> bool:
        """Whether the real coefficients are known within an error per entry only."""
        return False

    def interval_bounds(self, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
        return affine_interval.linear_bounds(self, inputs, how)

    def moved(self, inputs: Sequence[NodeBounds]) -> NodeBounds:
        """`interval_bounds` where entries only move."""
        return affine_interval.moved(self, inputs)

    def fused_interval(
        self, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike
    ) -> NodeBounds | None:
        """`interval_bounds` in one call of the C library, for real arithmetic; None: no such."""
        return None

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        """L·centre and |L|·radius, each within γ_n of its absolute sum."""
        return affine_interval.products(self, centres, radii, dtype)

    def forward(self, *inputs: Array) -> Array:
        result = self.linear(inputs)
        offset = self.offset()
        return result if offset is None else result + offset.astype(result.dtype)

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        return self.adjoint(gradient, [x.shape[1:] for x in inputs])


@dataclass(frozen=True, eq=False)
class Weighted(Linear):
    """A linear operator with a weight and a bias; the weight may be a computed constant.

    ``weight_error`` bounds, entry by entry, how far the real weight lies from the stored one;
    ``weight_noise`` how far any float32 execution's weight lies from the real one (None: 0).
    """

    weight: Array
    bias: Array | None = None
    weight_error: Array | None = field(default=None, kw_only=True)
    weight_noise: Array | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in (self.weight_error, self.weight_noise):
            if part is not None and part.shape != self.weight.shape:
                raise UsageError(
                    f"{self.name}: errors of shape {part.shape} for a weight {self.weight.shape}"
                )

    def stored(self) -> Array:
        return self.weight

    @property
    def inexact(self) -> bool:
        return self.weight_error is not None

    def strayed(self, reach: Sequence[Array], executed: bool) -> Float64 | None:
        parts = [self.weight_error, self.weight_noise if executed else None]
        known = [p.astype(np.float64) for p in parts if p is not None]
        if not known:
            return None
        blank: Any = {
            "weight": sum(known),
            "bias": None,
            "weight_error": None,
            "weight_noise": None,
        }
        errors: Linear = self.cached(f"strayed.{executed}", lambda: replace(self, **blank))
        found: Float64 = errors.linear(reach, absolute=True) * (1 + 2.0**-20)
        return found


def nonzero(x: Array) -> npt.NDArray[np.int64] | None:
    """Rows of a matrix that are not 0, where half of them are: rows that start at one position of a
    sequence have nothing at the others. Their products are 0."""
    if len(x) < 2:
        return None
    some = np.flatnonzero(x.any(axis=1))
    return some if 2 * len(some) <= len(x) else None


def cast_weight(
    op: Operator, weight: Array, key: str, dtype: npt.DTypeLike, absolute: bool
) -> Array:
    """``weight`` in C order and ``dtype``, absolute when asked; computed once per record."""
    wanted = np.dtype(dtype)
    if weight.dtype == wanted and not absolute and weight.flags.c_contiguous:
        return weight
    name = f"{key}.{wanted.char}{'.abs' if absolute else ''}"
    return op.cached(  # type: ignore[no-any-return]
        name,
        lambda: resident.contiguous(abs(weight) if absolute else weight, wanted),
    )
