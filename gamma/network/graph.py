"""A network is a tuple of frozen nodes in topological order; shapes carry no batch axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import field
from msgspec.structs import force_setattr, replace

from gamma.errors import UsageError
from gamma.frames import frame
from gamma.frozen import Frozen
from gamma.tensor.exactly import exact_integer

if TYPE_CHECKING:  # the records are made of what a network is, which only holds them
    from gamma.ops.base import Operator

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")


class Source(Frozen, eq=True):
    """The file a network was read from; ``digest`` is its SHA-256, or works it out when asked."""

    path: Path
    digest: str | Callable[[], str]
    kind: str

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's content."""
        return self.digest if isinstance(self.digest, str) else self.digest()

    def begin(self) -> None:
        """Let another thread work the hash out, which then is there when it is asked for."""
        if isinstance(self.digest, str):
            return
        from concurrent.futures import Future
        from threading import Thread

        work, found = self.digest, Future[str]()

        def run() -> None:
            try:
                found.set_result(work())
            except BaseException as error:  # raised again by whoever asks
                found.set_exception(error)

        force_setattr(self, "digest", found.result)
        Thread(target=run, name="gamma-digest", daemon=True).start()


class Node(Frozen):
    """One application of an operator; ``inputs`` are indices of earlier nodes.

    ``inner``: a step within an operator of the file. Its name is made up: no value of the file.
    """

    name: str
    op: Operator
    inputs: tuple[int, ...]
    shape: Shape
    inner: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


_COLUMNS = ("name", "operator", "shape", "parameters")


class Network(Frozen):
    """A directed acyclic graph with one input (node 0) and one output.

    Raises UsageError when nodes are not in topological order, two have one name, or a shape is
    empty or not the one its operator computes.
    """

    nodes: tuple[Node, ...]
    output: int
    source: Source | None = None
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.nodes or self.nodes[0].inputs:
            raise UsageError("a network starts with its input node")
        _check_size(self.nodes[0])
        for position, node in enumerate(self.nodes[1:], start=1):
            if not node.inputs or any(not 0 <= i < position for i in node.inputs):
                raise UsageError(f"node {node.name}: inputs {node.inputs} are not earlier nodes")
            shape = shape_of(node.op, [self.nodes[i].shape for i in node.inputs])
            if shape != node.shape:
                raise UsageError(f"node {node.name}: shape {node.shape}, operator says {shape}")
            _check_size(node)
        if not 0 <= exact_integer(self.output, "output") < len(self.nodes):
            raise UsageError(
                f"output node {self.output} does not exist, expected 0 to {len(self.nodes) - 1}"
            )
        if len({node.name for node in self.nodes}) < len(self.nodes):
            (name, count), *_ = Counter(node.name for node in self.nodes).most_common(1)
            raise UsageError(f"{count} nodes have the name {name}, expected one")

    def __repr__(self) -> str:
        """File, shapes, operators and size in one line."""
        name = f"{self.source.path.name}: " if self.source else ""
        kinds = Counter(node.op.name for node in self.nodes[1:] if not node.inner)
        most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        more = ", …" if len(kinds) > 4 else ""
        return (
            f"Network({name}{self.input_shape} -> {self.output_shape}, {most}{more}, "
            f"{self.parameters:,} parameters)"
        )

    def cached(self, key: Hashable, make: Callable[[Network], T]) -> T:
        """What ``make`` finds out about the network, made once; of two threads' one is kept."""
        store = self.__dict__.setdefault("_derived", {})
        try:
            found: T = store[key]
        except KeyError:
            pass
        else:
            return found
        made: T = store.setdefault(key, make(self))
        return made

    def _repr_html_(self) -> str:
        rows = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in self._table()]
        from gamma import markup

        return markup.table(_COLUMNS, rows, repr(self), len(rows))

    def _table(self) -> list[tuple[str, str, Shape, int]]:
        return [(n.name, n.op.name, n.shape, n.op.parameters) for n in self.nodes]

    def to_pandas(self) -> Any:
        """A DataFrame of the nodes (needs pandas)."""
        return frame(dict(zip(_COLUMNS, zip(*self._table(), strict=True), strict=True)))

    def __call__(self, x: npt.ArrayLike) -> Array:
        """`forward` in float32: outputs of one input, or of a batch of them."""
        return self.forward(x)

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

    @property
    def real_only(self) -> tuple[str, ...]:
        """Operators of the file whose float32 executions no guarantee covers."""
        return tuple(self.metadata.get("real_only", ()))

    @property
    def batch_hint(self) -> str:
        """What to do where a property does not fit because the file fixes its batch, or nothing."""
        count, dims = self.metadata.get("fixed_batch", 0), self.metadata.get("input_dims", ())
        if not count:
            return ""
        row = (1, *dims[1:])
        return f", or input_shape={row} for one row of the batch that the file fixes at {count}"

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


def shape_of(op: Operator, inputs: Sequence[Shape]) -> Shape:
    """Shape of the output. Raises UsageError when the operator does not take these inputs."""
    if len(inputs) > 1 and not op.several:
        raise UsageError(f"{op.name} takes one input, found {len(inputs)}")
    return op.shape(*inputs)


def _check_size(node: Node) -> None:
    if any(n < 1 for n in node.shape):
        raise UsageError(f"node {node.name}: shape {node.shape} holds no neurons")


class Builder:
    """Collects nodes in order, infers shapes and keeps names apart; readers use it.

    ``reserved`` are names that only `add` and `label` give, never a made-up one.
    """

    def __init__(
        self,
        input_op: Operator,
        shape: Sequence[int],
        name: str = "input",
        reserved: Iterable[str] = (),
    ) -> None:
        sizes = tuple(exact_integer(n, "input shape", least=1) for n in shape)
        self.nodes: list[Node] = [Node(name, input_op, (), sizes)]
        self._names, self._reserved = {name}, frozenset(reserved)
        self._made: Counter[str] = Counter()

    def add(self, op: Operator, *inputs: int, name: str = "", inner: bool = False) -> int:
        """Append a node and return its index.

        Without a name it gets one; an ``inner`` node gets one made of ``name``, see `Node`. Raises
        UsageError when shapes do not fit or another node has the name.
        """
        for i in inputs:
            if not 0 <= exact_integer(i, f"an input of {op.name}") < len(self.nodes):
                raise UsageError(f"{op.name}: input {i} is not one of {len(self.nodes)} nodes")
        shape = shape_of(op, [self.nodes[i].shape for i in inputs])
        if inner or not name:
            name = self._free(name, f"{op.name}_{len(self.nodes)}")
        elif name in self._names:
            raise UsageError(f"another node has the name {name}: give each its own")
        node = Node(name, op, inputs, shape, inner)
        _check_size(node)
        self._names.add(name)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def label(self, index: int, name: str) -> None:
        """Give an inner node the name of the value that it turned out to be."""
        if self.nodes[index].inner and name not in self._names:
            self._names.add(name)
            self.nodes[index] = replace(self.nodes[index], name=name, inner=False)

    def build(
        self, output: int, source: Source | None = None, notes: Sequence[str] = ()
    ) -> Network:
        """The finished network."""
        return Network(tuple(self.nodes), output, source, tuple(notes))

    def _free(self, base: str, plain: str) -> str:
        """A name that no node has and nobody reserved."""
        name, base = (f"{base}/1", base) if base else (plain, plain)
        while name in self._names or name in self._reserved:
            self._made[base] += 1
            name = f"{base}/{self._made[base]}"
        return name
