"""Float32 executions of a network, in any order of its sums, with or without FMA.

Every operation is done exactly in rationals and rounded once to float32 by `round32`; NumPy's own
float32 product ("blas") is one more order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import fmpq

from gamma import ops
from gamma.network.graph import Network
from tests.exact.oracle import Truth, exact, q

Array = Any
ORDERS = ("sequential", "reversed", "permuted", "pairwise", "fma", "blas")


def round32(value: fmpq) -> np.float32:
    """The float32 nearest to a rational, ties to even."""
    double = int(value.p) / int(value.q)  # correctly rounded
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(double)
    if not np.isfinite(near):
        return near
    best = near
    for other in (np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
        if not np.isfinite(other):
            continue
        gap, known = abs(q(other) - value), abs(q(best) - value)
        even = other.view(np.uint32) % 2 == 0
        if gap < known or (gap == known and even):
            best = other
    return best


class Execution:
    """One way of running a network in float32."""

    def __init__(self, network: Network, order: str, rng: np.random.Generator) -> None:
        self.network, self.order, self.rng = network, order, rng
        self._matrices: dict[int, tuple[Any, Any]] = {}

    def __call__(self, point: Array) -> list[Array]:
        """Float32 values of every node; infinities end a value's story, NaN included."""
        values = [np.asarray(point, np.float32).reshape(self.network.input_shape)]
        for index, node in enumerate(self.network.nodes[1 : self.network.output + 1], start=1):
            inputs = [values[i] for i in node.inputs]
            op: Any = node.op
            with np.errstate(all="ignore"):
                if isinstance(op, ops.MatMul) and self.order != "blas":
                    value = self._matmul(op, *inputs)
                elif not isinstance(op, ops.Linear):
                    value = op.forward(*(x[None] for x in inputs))[0]
                elif op.moves:
                    value = op.forward(*(x[None] for x in inputs))[0]
                elif self.order == "blas":
                    value = op.forward(*(x[None] for x in inputs))[0]
                else:
                    value = self._linear(index, inputs)
            values.append(np.asarray(value, np.float32))
        return values

    def _matrix(self, index: int) -> tuple[Any, Any]:
        """Coefficients (out, in) and offset (out,) of a linear node, exactly."""
        if index not in self._matrices:
            node = self.network.nodes[index]
            truth = Truth(self.network)
            shapes = [self.network.nodes[i].shape for i in node.inputs]
            sizes = [int(np.prod(s)) for s in shapes]
            op: Any = node.op
            if isinstance(op, ops.ReduceSum):
                op = ops.ReduceSum(op.axes, op.keepdims)
            method = getattr(truth, f"_{type(op).__name__.lower()}")
            zero = [exact(np.zeros(s)) for s in shapes]
            offset = method(op, *zero).reshape(-1)
            rows = np.empty((len(offset), sum(sizes)), object)
            column = 0
            for which, size in enumerate(sizes):
                for j in range(size):
                    unit = [z.copy() for z in zero]
                    unit[which].reshape(-1)[j] = fmpq(1)
                    rows[:, column] = method(op, *unit).reshape(-1) - offset
                    column += 1
            self._matrices[index] = rows, offset
        return self._matrices[index]

    def _matmul(self, op: ops.MatMul, x: Array, y: Array) -> Array:
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return op.forward(x[None], y[None])[0]
        out = np.empty(op.shape(x.shape, y.shape), np.float32)
        a = np.broadcast_to(x, (*out.shape[:-2], *x.shape[-2:]))
        b = np.broadcast_to(y, (*out.shape[:-2], *y.shape[-2:]))
        for *lead, i, j in np.ndindex(*out.shape):
            row, column = a[(*lead, i)], b[(*lead, slice(None), j)]
            try:
                out[(*lead, i, j)] = self._sum(exact(column), exact(row), fmpq(0))
            except OverflowError:
                out[(*lead, i, j)] = _overflowing(exact(column), row, fmpq(0))
        return out

    def _linear(self, index: int, inputs: list[Array]) -> Array:
        node = self.network.nodes[index]
        flat = np.concatenate([x.reshape(-1) for x in inputs])
        finite = bool(np.isfinite(flat).all())
        x = exact(flat) if finite else None
        rows, offset = self._matrix(index)
        out = np.empty(len(offset), np.float32)
        for k, row in enumerate(rows):
            # A product with a stored zero is executed too: of infinity it is NaN.
            used = np.flatnonzero(row != 0) if not isinstance(node.op, ops.Gemm) else slice(None)
            try:
                if x is None:
                    raise OverflowError
                out[k] = self._sum(row[used], x[used], offset[k])
            except OverflowError:
                out[k] = _overflowing(row[used], flat[used], offset[k])
        if isinstance(node.op, ops.ReduceSum) and node.op.scale != 1:
            out = out * np.float32(node.op.scale)
        return out.reshape(node.shape)

    def _sum(self, weights: Any, x: Any, offset: fmpq) -> np.float32:
        order = np.arange(len(weights))
        if self.order == "reversed":
            order = order[::-1]
        if self.order == "permuted":
            order = self.rng.permutation(order)
        total = offset
        if self.order == "fma":
            for k in order:
                total = _finite(round32(weights[k] * x[k] + total))
            return round32(total)
        terms = [_finite(round32(weights[k] * x[k])) for k in order]
        if self.order == "pairwise":
            terms.append(offset)
            while len(terms) > 1:
                pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
                terms = [_finite(round32(sum(p, fmpq(0)))) for p in pairs]
            return round32(terms[0])
        if self.order != "sequential":
            terms, total = [*terms, offset], fmpq(0)
        for term in terms:
            total = _finite(round32(total + term))
        return round32(total)


def _finite(value: np.float32) -> fmpq:
    """Back to a rational. Raises OverflowError for an infinity."""
    if not np.isfinite(value):
        raise OverflowError
    return q(float(value))


def _overflowing(weights: Any, x: Array, offset: fmpq) -> np.float32:
    """The sum as the hardware does it, in order: infinities and NaN where they arise."""
    total = round32(offset)
    with np.errstate(all="ignore"):
        for weight, value in zip(weights, x, strict=True):
            total = np.float32(total + round32(weight) * value)
    return total
