"""Values during a translation: constants with their errors, variables with their shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from gamma.frozen import Frozen

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]
Movement = Callable[[Array, Any], Array]


class Constant(Frozen):
    """A value known before any input is.

    ``array`` holds float32 or float64 numbers (or integers, bools). Entry by entry the real value
    lies within ``error`` of it, and what any float32 execution computes instead within ``noise``
    of the real value. ``dtype`` is what the file calls it.
    """

    array: Array
    error: Float64 | float = 0.0
    dtype: str = ""
    noise: Float64 | float = 0.0

    def __post_init__(self) -> None:
        if not self.dtype:
            force_setattr(self, "dtype", self.array.dtype.name)

    @property
    def dims(self) -> Shape:
        return self.array.shape

    @property
    def certain(self) -> bool:
        """Stored in the file, or computed without any rounding, in float32 as well."""
        return not np.any(self.error) and not np.any(self.noise)

    def mapped(self, movement: Callable[[Array], Array], dtype: str = "") -> Constant:
        """Entries moved, their errors along with them."""
        errors = [
            movement(np.broadcast_to(e, self.dims)) if np.any(e) else 0.0
            for e in (self.error, self.noise)
        ]
        return Constant(movement(self.array), errors[0], dtype or self.dtype, errors[1])


class Variable(Frozen, eq=True):
    """A value that depends on the input: a node, its shape in the file, its element type."""

    node: int
    dims: Shape
    dtype: str


class Masked(Variable):
    """A variable plus minus infinity where ``keep`` (which broadcasts to ``dims``) is false.

    The node holds finite numbers there, which mean nothing: see `gamma.formats.onnx.masks`.
    """

    keep: Array


Value = Constant | Variable


def estimates(weight: Constant) -> dict[str, Array | None]:
    """The errors of a weight as the fields of an operator (`gamma.ops.affine.Weighted`)."""
    found = {"weight_error": weight.error, "weight_noise": weight.noise}
    return {
        name: np.array(np.broadcast_to(value, weight.dims), np.float64) if np.any(value) else None
        for name, value in found.items()
    }


def strip(dims: Shape) -> Shape:
    """The node's shape for a shape of the file: a leading 1 is dropped, a scalar is (1,)."""
    if not dims:
        return (1,)
    return dims[1:] if len(dims) > 1 and dims[0] == 1 else dims


def leading(dims: Shape) -> int:
    """How many leading axes `strip` drops."""
    return int(len(dims) > 1 and dims[0] == 1)


def relative(value: Constant, error: Float64 | float) -> float:
    """Largest error relative to the stored entries, rounded up; inf where an entry may be zero."""
    if not np.any(error):
        return 0.0
    size = abs(value.array.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.broadcast_to(error, value.dims) == 0, 0.0, error / size)
    return float(np.nextafter(ratio.max(initial=0.0), np.inf))
