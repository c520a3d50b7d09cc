"""What every operator record provides.

Two families share their rules: `gamma.ops.affine.Linear` (a forward map and its adjoint) and
`gamma.ops.elementwise.Elementwise` (a function of one entry). Everything else brings its own
interval rule and its own relaxation, with the way back to each input (`gamma.ops.tables`), so that
a new operator is one file here and nothing in the walks.
"""

from __future__ import annotations

import math
import threading
from collections import ChainMap
from collections.abc import Hashable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple, force_setattr, replace

from gamma.errors import UnsupportedError, UsageError
from gamma.frozen import Frozen
from gamma.ops import affine_interval
from gamma.ops.bounds import NodeBounds, clean
from gamma.ops.execution import PACKED
from gamma.runtime import resident
from gamma.tensor.exactly import exact_float, exact_floats, exact_integer

if TYPE_CHECKING:
    from gamma.ops.affine import Linear
    from gamma.ops.charges import LinearCharge
    from gamma.ops.composite import Step
    from gamma.ops.convolution import Conv
    from gamma.ops.elementwise import Elementwise
    from gamma.ops.ellipsotope import Ellipsotope
    from gamma.ops.linear import Gemm
    from gamma.ops.tables import NodeSlopes, Precision, Relaxation

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]
Mask = npt.NDArray[np.bool_]
Cut = tuple[slice, ...]
"""Ranges along the leading axes of a node's shape."""
# Fields that hold no weights but what is known about their rounding.
_ESTIMATES = ("weight_error", "weight_noise", "shift_error", "execution")
# One thread makes or drops derived constants at a time: two would hold two copies of a weight. Made
# while it is held are others of the same operator, hence reentrant.
_DERIVED = threading.RLock()
_ABSENT = object()


class Operator(Frozen):
    """Base of the records: a frozen value that holds weights and attributes, never a bound.

    Walks never ask for a class. They ask what an operator can do, by concern:

    - its rule: ``affine`` (the record as a linear operator), ``activation`` (as a function of one
      entry whose lines take any slope), ``hinge`` (that function is max(x, 0)), ``diagonal`` (its
      relaxation is a `gamma.ops.tables.Diagonal`, which takes over the charge of a linear input).
    - its arithmetic, for the kernels: ``dense`` (a matrix in memory on the last axis),
      ``correlation`` (a kernel over an image), ``windowed``, ``signs`` (a sum of inputs).
    - how entries move: ``moves``, ``keeps_order``, ``independent``, ``entrywise``, ``mixes``,
      ``restricted``, ``without_axes``.
    - what is known of its range: ``bounded``, ``shrinks``, ``normalizes``.

    Raises UsageError for a weight or attribute that is not of its field's kind, or that float64
    does not hold: see `gamma.tensor.exactly`.
    """

    diagonal: ClassVar[bool] = False
    hinge: ClassVar[bool] = False
    several: ClassVar[bool] = False  # takes more inputs than one
    # Output entries have the inputs' places: a scaling, a sum of tensors.
    entrywise: ClassVar[bool] = False
    # The entries in row-major order are the input's: a change of shape.
    keeps_order: ClassVar[bool] = False
    # The range is known whatever the inputs are.
    bounded: ClassVar[bool] = False
    # The same is done to every entry, wherever it is.
    alike: ClassVar[bool] = False
    # |f(x)| <= |x| everywhere.
    shrinks: ClassVar[bool] = False
    # The output's norm is known whatever the inputs are.
    normalizes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field, kind in _kinds(type(self)).items():
            value = getattr(self, field)
            found = _taken(f"{type(self).__name__} {field}", kind, value)
            if found is not value:
                force_setattr(self, field, found)

    @property
    def name(self) -> str:
        """The operator's ONNX name."""
        return type(self).__name__

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        values = (getattr(self, f) for f in self.__struct_fields__ if f not in _ESTIMATES)
        return sum(v.size for v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f")

    @property
    def affine(self) -> Linear | None:
        """The operator as y = L x + offset with L fixed; None where it is nonlinear."""
        return None

    @property
    def activation(self) -> Elementwise | None:
        """The operator as a function of one entry; None where it reads more."""
        return None

    @property
    def dense(self) -> Gemm | None:
        """The operator as a matrix in memory on the last axis; None where it is none."""
        return None

    @property
    def correlation(self) -> Conv | None:
        """The operator as a kernel that moves over an image; None where it is none."""
        return None

    @property
    def composed(self) -> tuple[Step, ...]:
        """Operators on one value that this one stands for; () where it is one of its own."""
        return ()

    @property
    def signs(self) -> tuple[int, ...] | None:
        """Of the inputs, where the operator is their sum; None elsewhere."""
        return None

    def summed(self, *inputs: Shape) -> int:
        """Terms of the sum behind one output entry."""
        return 1

    @property
    def matrix_terms(self) -> int:
        """Products of an output entry with weights that form a matrix; 0: no work to speak of."""
        return 0

    @property
    def moves(self) -> bool:
        """Entries are only copied (or filled in): exact in both directions of the interval pass."""
        return False

    @property
    def aim(self) -> float | None:
        """What a maximum is compared with: entries that stay below it need no better bounds. None
        for operators that are no maximum of many entries."""
        return None

    @property
    def independent(self) -> bool:
        """Each output entry reads one input entry and none is read twice, linearly: the interval
        image of a box is exact coordinate by coordinate."""
        return False

    def windowed(self, shape: Shape) -> bool:
        """Whether rows over an input image of ``shape`` can be windows of what they reach."""
        return False

    def restricted(
        self, shape: Shape, source: Mask, kept: Mask
    ) -> tuple[Operator, Hashable] | None:
        """The operator from some entries of its inputs to some of its output, of ``shape`` then,
        and what tells it from others of the same; None: not known in general.

        ``source``, ``kept``: bool, of the first input's and the output's shape.
        """
        return None

    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for these input shapes."""
        raise UsageError(f"{self.name} does not say its shape")

    def forward(self, *inputs: Array) -> Array:
        """Evaluate on (batch, *shape) arrays in their dtype."""
        raise UsageError(f"{self.name} cannot be evaluated")

    def vjp(self, gradient: Array, inputs: Sequence[Array], output: Array) -> tuple[Array, ...]:
        """Gradient with respect to each input, for one (batch, *shape) of the output."""
        raise UsageError(f"{self.name} has no gradient")

    def after(self, previous: Operator) -> Operator | None:
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

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Operator | None:
        """The same for arrays without ``dropped`` leading axes of length 1; None: there is none.

        ``shape`` is the output's with them. ``alike``: as many such axes lead in every input.
        """
        return None

    def part(self, cut: Cut, *inputs: Shape) -> tuple[Operator, tuple[Cut, ...]] | None:
        """The operator on the entries ``cut`` of its output, and the parts of its inputs that it
        reads there; None: not known. All axes but the last are cut."""
        return (self, (cut,)) if self.alike and len(inputs) == 1 else None

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

    def enclose(
        self,
        inputs: Sequence[Ellipsotope],
        before: Sequence[NodeBounds],
        after: NodeBounds,
        how: Precision,
    ) -> Ellipsotope | None:
        """The node's values from those of its inputs; bounds ``before`` it and ``after`` are those
        of one box. None: it has no rule, or nothing is known."""
        return None

    def table_size(self, *inputs: Shape) -> int:
        """Entries of the relaxation's tables, for one box, beyond those of diagonal operators."""
        return 0

    def table_bytes(self, itemsize: int, *inputs: Shape) -> int:
        """Bytes of the relaxation's tables for one box, slopes of ``itemsize`` bytes.

        Here those of a diagonal one: two slopes and two constants for each entry of the output.
        """
        return math.prod(self.shape(*inputs)) * (2 * itemsize + 16)

    def cached(self, key: Hashable, make: Any) -> Any:
        """A derived constant (a cast or absolute copy of a weight), computed once per record."""
        store = self.__dict__.setdefault("_derived", {})
        found = store.get(key, _ABSENT)
        if found is _ABSENT:
            with _DERIVED:
                found = store.get(key, _ABSENT)
                if found is _ABSENT:
                    found = store[key] = make()
        return found

    def copies(self, how: Precision, boxes: int = 0, shape: Shape = (0,)) -> dict[Hashable, int]:
        """Forms of its weights that `cached` keeps, key -> bytes: those that an interval step over
        ``boxes`` boxes of ``shape`` makes, or (0) rows that pass. Memory plans add them up."""
        return {}

    def held(self) -> dict[Hashable, int]:
        """What `cached` keeps now, as `copies`: its own arrays and small constants left out."""
        own = {id(getattr(self, f)) for f in self.__struct_fields__}
        sizes = {k: _size_of(v, own) for k, v in list(self.__dict__.get("_derived", {}).items())}
        return {key: size for key, size in sizes.items() if size}

    def release(self) -> None:
        """Let the system take back the pages of weights that are mapped from a file."""
        for name in ("weight", "bias"):
            array = getattr(self, name, None)
            if isinstance(array, np.ndarray):
                resident.release(array)

    def forget(self, least_bytes: int = 1 << 16) -> None:
        """Drop derived constants of at least ``least_bytes``; they are made again when needed."""
        with _DERIVED:
            for key, size in self.held().items():
                if size >= least_bytes:
                    del self.__dict__["_derived"][key]


@cache
def _kinds(record: type[Operator]) -> dict[str, str]:
    """How each field of a record is annotated."""
    written = ChainMap(*(vars(base).get("__annotations__", {}) for base in record.__mro__))
    return {field: str(written[field]) for field in record.__struct_fields__}


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
    for field in op.__struct_fields__:
        array = getattr(op, field)
        packed = int(field in PACKED)
        if isinstance(array, np.ndarray) and array.ndim - packed > rank:
            shape = array.shape[:packed] + array.shape[array.ndim - rank :]
            values[field] = array.reshape(shape)
    return replace(op, **values) if values else op


def cut_to(array: Array, cut: Cut, rank: int) -> Array:
    """The part ``cut`` of an array that broadcasts to ``rank`` axes."""
    own = zip(array.shape, cut[rank - array.ndim :], strict=False)
    return array[tuple(slice(None) if n == 1 else c for n, c in own)]


def _size_of(value: Any, own: set[int]) -> int:
    """Bytes of the arrays in a derived constant that are not the operator's ``own`` ones."""
    if isinstance(value, np.ndarray):
        return 0 if id(value) in own else value.nbytes
    if isinstance(value, Operator):  # such as that of a weight's errors, with copies of its own
        return _size_of(astuple(value), own) + sum(value.held().values())
    return sum(_size_of(v, own) for v in value) if isinstance(value, tuple | list) else 0


class Input(Operator):
    """The network's input."""

    def shape(self, *inputs: Shape) -> Shape:
        raise UsageError("the input has no operator to infer its shape")

    def without_axes(self, dropped: int, shape: Shape, alike: bool) -> Operator | None:
        return self
