"""A network is a tuple of frozen nodes in topological order; shapes carry no batch axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gamma.errors import InternalError, UsageError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@runtime_checkable
class Operator(Protocol):
    """What the graph needs to know of an operator record (the records live in ``gamma.ops``)."""

    @property
    def name(self) -> str:
        """The operator's ONNX name."""

    @property
    def diagonal(self) -> bool:
        """Whether each output entry is a nonlinear function of one input entry."""

    @property
    def parameters(self) -> int:
        """Number of stored weights."""

    def shape(self, *inputs: Shape) -> Shape:
        """Shape of the output for these input shapes; raises UsageError when they do not fit."""

    def forward(self, *inputs: Array) -> Array:
        """Evaluate on arrays (batch, *shape) in their own dtype."""

    def propagate(self, inputs: Sequence[Any], how: Any) -> Any:
        """Interval bounds of the output (`gamma.ops.bounds.NodeBounds`) from the inputs'."""

    def unstable(self, inputs: Sequence[Any]) -> tuple[Array, ...]:
        """For each input, the neurons whose bounds decide how tight the relaxation is."""

    def relax(
        self,
        inputs: Sequence[Any],
        after: Any,
        how: Any,
        carried: Any = None,
        slopes: Any = None,
    ) -> Any:
        """Linear bounds (`gamma.ops.tables.Relaxation`) on the inputs' bounds."""

    def after(self, previous: Operator) -> Operator | None:
        """The one operator equal, in real arithmetic, to this one applied to ``previous``."""

    def neutral(self, shape: Shape) -> bool:
        """Whether an input of ``shape`` is returned unchanged."""


@dataclass(frozen=True)
class Source:
    """The file a network was read from."""

    path: Path
    sha256: str
    kind: str


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator; ``inputs`` are indices of earlier nodes."""

    name: str
    op: Operator
    inputs: tuple[int, ...]
    shape: Shape

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Network:
    """A directed acyclic graph with one input (node 0) and one output.

    Raises InternalError when nodes are not in topological order or a shape is not the one its
    operator computes.
    """

    nodes: tuple[Node, ...]
    output: int
    source: Source | None = None
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.nodes or self.nodes[0].inputs:
            raise InternalError("a network starts with its input node")
        for position, node in enumerate(self.nodes[1:], start=1):
            if not node.inputs or any(not 0 <= i < position for i in node.inputs):
                raise InternalError(f"node {node.name}: inputs {node.inputs} are not earlier nodes")
            shape = node.op.shape(*(self.nodes[i].shape for i in node.inputs))
            if shape != node.shape:
                raise InternalError(f"node {node.name}: shape {node.shape}, operator says {shape}")
        if not 0 <= self.output < len(self.nodes):
            raise InternalError(f"output node {self.output} does not exist")

    @property
    def input_shape(self) -> Shape:
        """Shape of the input, without the batch axis."""
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        """Shape of the output, without the batch axis."""
        return self.nodes[self.output].shape

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        return sum(node.op.parameters for node in self.nodes)

    @property
    def element_types(self) -> tuple[str, ...]:
        """Types in which the file computes, where it says so: float32, float16, bfloat16..."""
        return tuple(self.metadata.get("element_types", ()))

    @property
    def short_types(self) -> tuple[str, ...]:
        """Those of `element_types` whose executions no guarantee covers."""
        return tuple(t for t in self.element_types if t in ("float16", "bfloat16"))

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it (once per use, in order)."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for position, node in enumerate(self.nodes):
            for i in node.inputs:
                readers[i].append(position)
        return tuple(tuple(r) for r in readers)

    def forward(self, x: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> Array:
        """Evaluate a batch (batch, *input_shape) -> (batch, *output_shape), in ``dtype``.

        A single input without the batch axis is accepted and returned without it. This is
        plain floating point: a point value, not a bound.
        """
        values = np.asarray(x, dtype=dtype)
        single = values.shape == self.input_shape
        if single:
            values = values[None]
        if values.shape[1:] != self.input_shape:
            raise UsageError(
                f"input has shape {values.shape}, the network takes (batch, "
                f"{', '.join(map(str, self.input_shape))})"
            )
        result = self.values(values)[self.output]
        return result[0] if single else result

    def values(self, x: Array, check: Callable[[], None] = lambda: None) -> list[Array]:
        """Every node's value for a batch (batch, *input_shape), in the dtype of ``x``.

        ``check`` is called before every node; what it raises ends the evaluation.
        """
        values: list[Array] = [x]
        for node in self.nodes[1:]:
            check()
            values.append(node.op.forward(*(values[i] for i in node.inputs)))
        return values


class Builder:
    """Collects nodes in order and infers shapes; readers use it."""

    def __init__(self, input_op: Operator, shape: Sequence[int], name: str = "input") -> None:
        self.nodes: list[Node] = [Node(name, input_op, (), tuple(shape))]

    def add(self, op: Operator, *inputs: int, name: str = "") -> int:
        """Append a node and return its index. Raises UsageError when shapes do not fit."""
        shape = op.shape(*(self.nodes[i].shape for i in inputs))
        self.nodes.append(Node(name or f"{op.name}_{len(self.nodes)}", op, inputs, shape))
        return len(self.nodes) - 1

    def build(
        self, output: int, source: Source | None = None, notes: Sequence[str] = ()
    ) -> Network:
        """The finished network."""
        return Network(tuple(self.nodes), output, source, tuple(notes))
