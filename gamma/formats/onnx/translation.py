"""The state of one translation: values by name, the network under construction, its limits.

A value of the file is a `Constant` or a `Variable`. A variable keeps its shape as the file sees it,
for a batch of one (``dims``); the network's node drops a leading axis of length one (`strip`). That
is a rule on shapes alone: a network evaluated on one input may carry or lose such an axis anywhere
without a change of meaning, so no operator needs to know which axis "is" the batch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, field
from msgspec.structs import astuple, replace

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.limits import check_nodes
from gamma.formats.onnx.read import Call, Model
from gamma.formats.onnx.values import (
    Array,
    Constant,
    Float64,
    Movement,
    Shape,
    Value,
    Variable,
    leading,
    relative,
    strip,
)
from gamma.network.graph import Builder
from gamma.ops import Concat, Gather, Operator, Reshape, Scale
from gamma.ops.exact import narrow
from gamma.ops.execution import Execution
from gamma.runtime import resident

# Entries of index arrays and constants that a translation may make (int64: 128 MB).
ENTRIES_LIMIT = 1 << 24
# The same, counting temporary arrays as well: this bounds time.
WORK_LIMIT = 1 << 28
NODE_LIMIT = 1 << 31
MAX_AXES = 16


class Translation(Struct, eq=False):
    """What translators work on: ``emit`` adds nodes, ``move`` moves entries."""

    model: Model
    builder: Builder
    values: dict[str, Value] = field(default_factory=dict)
    # Nodes that only add zeros around an image: what they pad, and the pads (begins, ends).
    padded: dict[int, tuple[Variable, Shape]] = field(default_factory=dict)
    # Comparisons that depend on the input, by the name of their result (pointwise.Test).
    conditions: dict[str, Any] = field(default_factory=dict)
    # What no guarantee about float32 executions covers: operators whose steps runtimes choose.
    real_only: set[str] = field(default_factory=set)
    # Names of values in the file, and of those that graphs inside of nodes were given.
    taken: set[str] = field(default_factory=set)
    kept: int = 0
    spent: int = 0

    @property
    def opset(self) -> int:
        return self.model.opset

    def fail(self, call: Call, message: str) -> UnsupportedError:
        """The error for something well formed that gamma cannot express."""
        return UnsupportedError.at(*self._where(call), self._what(call, message))

    def malformed(self, call: Call, message: str) -> FormatError:
        """The error for something that contradicts the ONNX standard."""
        return FormatError.at(*self._where(call), self._what(call, message))

    def _where(self, call: Call) -> tuple[Path, str]:
        return self.model.path, f"node {call.name}"

    def _what(self, call: Call, message: str) -> str:
        shapes = ", ".join(self._describe(n) for n in call.inputs if n) or "none"
        return f"{call.op} (inputs {shapes}): {message}"

    def _describe(self, name: str) -> str:
        value = self.values.get(name)
        if value is None:
            return name
        kind = "constant " if isinstance(value, Constant) else ""
        return f"{kind}{list(value.dims)}"

    def charge(self, call: Call, dims: Shape, kept: bool = True) -> None:
        """Account for an array of this shape before it is made. Raises UnsupportedError."""
        if len(dims) > MAX_AXES:
            raise self.fail(call, f"makes a tensor of {len(dims)} axes, at most {MAX_AXES}")
        size = math.prod(dims)
        self.kept += size if kept else 0
        self.spent += size
        if size + self.kept > ENTRIES_LIMIT or self.spent > WORK_LIMIT:
            raise UnsupportedError.at(
                self.model.path,
                f"node {call.name}",
                f"{call.op} makes a tensor of shape {list(dims)}: over the limit of "
                f"{ENTRIES_LIMIT} entries moved or made by a network's shape operators",
            )

    def shape(self, x: Variable) -> Shape:
        """The node's shape (no leading axis)."""
        return self.builder.nodes[x.node].shape

    def emit(self, call: Call, op: Operator, *inputs: Variable, dims: Shape) -> Variable:
        """Add a node whose value has shape ``dims`` in the file."""
        check_nodes(len(self.builder.nodes), self.model.path)
        node = self.builder.add(op, *(x.node for x in inputs), name=call.name, inner=True)
        size = math.prod(dims)
        if size == 0 or size > NODE_LIMIT:
            raise self.fail(call, f"makes a tensor of shape {list(dims)}")
        return self.settle(call, Variable(node, dims, inputs[0].dtype))

    def settle(self, call: Call, x: Variable) -> Variable:
        """Bring the node into the shape that `strip` says."""
        wanted = strip(x.dims)
        if self.shape(x) == wanted:
            return x
        node = self.builder.add(Reshape(wanted), x.node, name=call.name, inner=True)
        return Variable(node, x.dims, x.dtype)

    def as_shape(self, call: Call, x: Variable, shape: Shape) -> Variable:
        """The variable with its node reshaped to ``shape`` (for operators that need an axis)."""
        if self.shape(x) == shape:
            return x
        return Variable(
            self.builder.add(Reshape(shape), x.node, name=call.name, inner=True), x.dims, x.dtype
        )

    def reshape(self, call: Call, x: Value, dims: Shape) -> Value:
        """The same entries in row-major order under another shape."""
        if math.prod(dims) != math.prod(x.dims):
            raise self.malformed(call, f"cannot arrange the entries as {list(dims)}")
        if isinstance(x, Constant):
            return x.mapped(lambda a: a.reshape(dims))
        return self.settle(call, Variable(x.node, dims, x.dtype))

    def move(
        self, call: Call, x: Value, dims: Shape, movement: Movement, fill: float = 0.0
    ) -> Value:
        """Entries moved by ``movement(array, fill)``, which makes an array of shape ``dims``."""
        self.charge(call, dims)
        if isinstance(x, Constant):
            first = Constant(x.array, 0.0, x.dtype).mapped(
                lambda a: movement(a, a.dtype.type(fill))
            )
            rest = x.mapped(lambda a: movement(a, a.dtype.type(0)))
            return replace(first, error=rest.error, noise=rest.noise)
        size = math.prod(x.dims)
        self.charge(call, (size,), kept=False)
        index = movement(np.arange(size, dtype=np.int64).reshape(x.dims), -1)
        if index.shape != dims:
            raise self.malformed(call, f"makes shape {list(index.shape)}, not {list(dims)}")
        return self.pick(call, x, np.ascontiguousarray(index), fill)

    def pick(self, call: Call, x: Variable, index: Array, fill: float = 0.0) -> Variable:
        """y = x.flat[index] (fill at -1), of the shape of ``index``."""
        flat = index.reshape(-1)
        if flat.size == math.prod(x.dims) and bool((flat == np.arange(flat.size)).all()):
            return self.settle(call, Variable(x.node, index.shape, x.dtype))
        # A copy: a part of another index would keep all of that alive.
        op = Gather(flat.astype(np.int64), strip(index.shape), float(fill))
        return self.emit(call, op, x, dims=index.shape)

    def assembled(
        self, call: Call, parts: list[tuple[Variable, Array]], dims: Shape, fill: float = 0.0
    ) -> Variable:
        """Entries of the parts at their flat places in ``dims``; ``fill`` where no part has one."""
        index, start = np.full(math.prod(dims), -1, np.int64), 0
        flat = []
        for x, places in parts:
            size = math.prod(x.dims)
            index[places.reshape(-1)] = start + np.arange(size)
            flat.append(self.as_shape(call, x, (size,)).node)
            start += size
        node = flat[0]
        if len(flat) > 1:
            node = self.builder.add(Concat(0), *flat, name=call.name, inner=True)
        whole = Variable(node, (start,), parts[0][0].dtype)
        return self.pick(call, whole, index.reshape(dims), fill)

    def expand(self, call: Call, x: Value, dims: Shape) -> Value:
        """NumPy broadcasting to ``dims``."""
        if x.dims == dims:
            return x
        if math.prod(x.dims) == math.prod(dims):
            return self.reshape(call, x, dims)
        return self.move(call, x, dims, lambda a, _: np.broadcast_to(a, dims))

    def broadcast(self, call: Call, *values: Value) -> Shape:
        """The common shape of operands. Raises FormatError when there is none."""
        try:
            return tuple(int(n) for n in np.broadcast_shapes(*(v.dims for v in values)))
        except ValueError:
            raise self.malformed(call, "the shapes do not broadcast") from None

    def aligned(self, array: Array, dims: Shape) -> Array:
        """A constant that broadcasts to ``dims``, arranged to broadcast to the node's shape."""
        full = array.reshape((1,) * (len(dims) - array.ndim) + array.shape)
        return full[0] if leading(dims) else full

    def scale(
        self,
        call: Call,
        x: Variable,
        scale: Constant | None,
        shift: Constant | None = None,
        execution: Execution | None = None,
    ) -> Variable:
        """scale · x + shift with broadcasting; None stands for 1 and 0.

        ``execution`` (of shapes that broadcast to the result's dims) states what a float32
        execution does where that is more than one product and one sum.
        """
        parts = [v for v in (scale, shift) if v is not None]
        dims = self.broadcast(call, x, *parts)
        wide = self.expand(call, x, dims)
        assert isinstance(wide, Variable)
        factor, uncertain = np.ones((), np.float32), 0.0
        if scale is not None:
            self.finite(call, scale)
            uncertain = relative(scale, scale.error)
            if not math.isfinite(uncertain):
                raise self.fail(call, "a computed factor may be zero: its error is too large")
            factor = narrow(self.aligned(scale.array, dims))
        offset: Array | None = None
        absolute: Float64 | float = 0.0
        if shift is not None:
            self.finite(call, shift)
            offset = narrow(self.aligned(shift.array, dims))
            if np.any(shift.error):
                error = np.broadcast_to(np.asarray(shift.error, np.float64), shift.dims)
                absolute = self.aligned(np.ascontiguousarray(error), dims)
            elif not offset.any():
                offset = None
        plain = execution is None and not any(np.any(v.noise) for v in parts)
        if offset is None and uncertain == 0.0 and plain and bool((factor == 1).all()):
            return wide
        steps = None if plain else self._steps(execution, scale, shift, dims)
        return self.emit(call, Scale(factor, offset, uncertain, absolute, steps), wide, dims=dims)

    def _steps(
        self,
        execution: Execution | None,
        scale: Constant | None,
        shift: Constant | None,
        dims: Shape,
    ) -> Array:
        """What a float32 execution does that also computes the constants itself."""
        one = Constant(np.ones((), np.float32))
        factor = scale or one
        known = execution or Execution.of(factor.array, None if shift is None else shift.array)
        known = known.plus(factor.noise, 0.0 if shift is None else shift.noise)
        aligned = (self.aligned(np.asarray(part), dims) for part in astuple(known))
        return Execution(*aligned).packed()

    def finite(self, call: Call, value: Constant) -> None:
        """Raise FormatError when a constant that enters arithmetic is not a finite float."""
        if value.array.dtype.kind != "f":
            raise self.fail(call, f"arithmetic on {value.dtype} values, expected floats")
        parts = (value.array, np.asarray(value.error))
        if not all(resident.all_finite(v) for v in parts):
            raise self.malformed(call, "a constant is NaN or infinite, expected finite numbers")

    def coefficients(self, call: Call, value: Value | None, what: str = "weight") -> Constant:
        """A constant of finite floats (a kernel, a bias), with its errors."""
        if not isinstance(value, Constant):
            raise self.fail(call, f"the {what} depends on the input, expected a constant")
        self.finite(call, value)
        return replace(value, array=narrow(value.array))

    def weight(self, call: Call, value: Value | None, what: str = "weight") -> Array:
        """The array of a constant that must be exact."""
        found = self.coefficients(call, value, what)
        if not found.certain:
            raise self.fail(
                call, f"the {what} is computed inexactly in the graph: store its value in the file"
            )
        return found.array


def attribute(call: Call, name: str, default: Any) -> Any:
    """An attribute of the type of ``default``. Raises FormatError when it has another type.

    A tuple holds integers, or, where ``default`` does, floats.
    """
    value = call.attributes.get(name, default)
    if default is not None and type(value) is not type(default):
        raise FormatError(
            f"attribute {name} of {call.op} is {type(value).__name__}, "
            f"expected {type(default).__name__}"
        )
    if isinstance(default, tuple):
        entry = type(default[0]) if default else int
        if any(type(v) is not entry for v in value):
            raise FormatError(f"attribute {name} of {call.op} holds no {entry.__name__}s")
    return value
