"""The least work of a case: bytes that must move and operations of the products that must run.

A floor is no prediction: it leaves out every relaxation, every charge and every call. It counts
the terms of products, where the weight is not zero and the window lies on the image. The interval
pass multiplies each layer by a centre, whose entries may be fixed at zero, and by a radius, whose
entries may be fixed at all. CROWN carries a row and its negative from every neuron that the walk
bounds to the input, through neurons that can change. The pair is one row until an unstable
activation; in the product below it the two differ only in neurons whose lower line has a slope.
Nothing is counted below a maximum. Each weight that is used is read once.

Two things are not taken off: entries of a single row that happen to be zero, and that weights in a
cache are read faster than memory copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import structs

from gamma.cli.measuring import Machine
from gamma.network.graph import Network
from gamma.ops import Conv, ConvTranspose, Elementwise, Gemm, Linear, Relu
from gamma.propagate.domain import Domain
from gamma.propagate.options import Options
from gamma.propagate.walks import Walk
from gamma.tensor.box import Box

PRODUCTS = (Gemm, Conv, ConvTranspose)
BYTES = 4  # of a stored number, whatever the rows are
PLACES = 64  # whose rows are followed at once


@dataclass(frozen=True)
class Work:
    """Bytes and floating-point operations: ``fixed`` bytes whatever the batch, the rest per box."""

    fixed: float
    bytes: float
    operations: float

    def seconds(self, machine: Machine, dtype: str, batch: int = 1) -> float:
        """Least time: memory and arithmetic overlap perfectly."""
        moved = self.fixed + batch * self.bytes
        return max(moved / machine.copy, batch * self.operations / machine.gemm(dtype))


def least_work(network: Network, box: Box, method: str, dtype: str = "auto") -> Work:
    """Least work of ``method`` on one box."""
    nodes = network.nodes
    rows = np.dtype(np.float64 if dtype == "float64" else np.float32)
    walk = _Watched(network, Domain(box), Options(method=method, dtype=rows))
    walk.run()
    terms, unread = 0.0, 0
    for index, node in enumerate(nodes):
        if isinstance(node.op, PRODUCTS):
            known = walk.bounds[node.inputs[0]]
            live = (known.lower != 0) | (known.upper != 0)
            terms += _terms(node.op, live).sum()
            # Rows that start at the output need no radius there.
            if method == "ibp" or index != network.output:
                terms += _terms(node.op, known.lower < known.upper).sum()
            used = node.op.weight != 0
            if isinstance(node.op, Gemm) and live.ndim == 2:
                used &= live[0]
            unread += used.size - int(used.sum())
    if method != "ibp":
        descent = _Descent(walk)
        terms += sum(descent.terms(start, pairs) for start, pairs in walk.starts().items())
    ends = 2 * BYTES * (nodes[0].size + nodes[network.output].size)
    return Work(BYTES * (network.parameters - unread), ends, 2 * float(terms))


class _Watched(Walk):
    """A walk that keeps which neurons it bounded."""

    def __init__(self, network: Network, domain: Domain, options: Options) -> None:
        self.wanted: dict[int, Any] = {}
        super().__init__(network, domain, options, [])

    def _wanted(self, index: int) -> Any:
        self.wanted[index] = super()._wanted(index)
        return self.wanted[index]

    def starts(self) -> dict[int, Any]:
        """Pairs of rows that start at each neuron (of the node's shape)."""
        shapes = [node.shape for node in self.network.nodes]
        pairs = {self.network.output: np.ones(shapes[self.network.output])}
        for index, count in self.unstable.items():
            # Of a dense network that was walked in one call only the number is known.
            mask = self.wanted.get(index, np.full(shapes[index], count / math.prod(shapes[index])))
            pairs[index] = mask.reshape(shapes[index])
        return pairs


class _Descent:
    """Follows which entries a pair of rows has (0, 1 or 2 rows each) from a neuron to the input."""

    def __init__(self, walk: Walk) -> None:
        self.nodes = walk.network.nodes
        self.free = [known.lower[0] < known.upper[0] for known in walk.bounds]
        # Of each activation: neurons with two lines, and those whose lower one has a slope.
        self.split: dict[int, Any] = {}
        self.sloped: dict[int, Any] = {}
        self.fan: dict[int, Any] = {}  # terms below each entry of a product's result
        for index, node in enumerate(self.nodes):
            if isinstance(node.op, Elementwise):
                known = walk.bounds[node.inputs[0]]
                below, above = known.lower[0], known.upper[0]
                relu = isinstance(node.op, Relu)
                self.split[index] = (below < 0) & (above > 0) if relu else below < above
                self.sloped[index] = self.split[index] & ((above > -below) if relu else True)
            elif isinstance(node.op, PRODUCTS):
                self.fan[index] = _terms(node.op, self.free[node.inputs[0]][None])[0]

    def terms(self, start: int, pairs: Any) -> float:
        """Terms of the products that ``pairs`` (per neuron of node ``start``) of rows pass."""
        # Rows of one pixel, or position, go together: they have the same windows.
        axis = 0 if pairs.ndim == 3 else pairs.ndim - 1
        counts = pairs.sum(axis=axis, keepdims=True)
        places = np.argwhere(counts)
        total = 0.0
        for first in range(0, len(places), PLACES):
            some = places[first : first + PLACES]
            rows = np.zeros((len(some), *counts.shape), np.float32)
            rows[np.arange(len(some)), *some.T] = 1
            rows = np.repeat(rows, pairs.shape[axis], axis + 1)
            total += float(counts[tuple(some.T)] @ self._each(start, rows))
        return total

    def _each(self, start: int, rows: Any) -> Any:
        """Terms of each pair (P, *shape of the node) of rows."""
        total = np.zeros(len(rows))
        # Stages: before any activation, a row and its negative still, two rows.
        frontier = {start: (rows, 0)}
        for index in range(start, 0, -1):
            if index not in frontier:
                continue
            rows, stage = frontier.pop(index)
            node, rows = self.nodes[index], rows * self.free[index]
            if isinstance(node.op, Elementwise):
                if stage < 2:
                    rows = np.minimum(rows * (1 + self.sloped[index]), 2)
                parts, stage = (rows,), max(stage, 1 + int(self.split[index].any()))
            elif isinstance(node.op, Linear):
                # Before any activation the rows are rows of the weights: nothing is multiplied.
                if index in self.fan and stage:
                    total += (rows * self.fan[index]).sum(axis=tuple(range(1, rows.ndim)))
                    rows = np.where(rows > 0, np.float32(2), 0) if stage == 2 else rows
                parts = self._passed(index, rows)
            else:
                continue
            for before, part in zip(node.inputs, parts, strict=True):
                other, reached = frontier.get(before, (np.float32(0), 0))
                frontier[before] = np.maximum(part, other), max(stage, reached)
        return total

    def _passed(self, index: int, rows: Any) -> tuple[Any, ...]:
        """Rows that reach the inputs' entries: those of an entry that has most."""
        node, op = self.nodes[index], _counting(self.nodes[index].op)
        shapes = [self.nodes[i].shape for i in node.inputs]
        one, two = (op.adjoint((rows > k).astype(np.float32), shapes) for k in range(2))
        return tuple((a != 0) + np.float32(b != 0) for a, b in zip(one, two, strict=True))


def _terms(op: Any, entries: Any) -> Any:
    """For each output of a product, the terms that read one of ``entries`` (batch, *shape)."""
    return _counting(op).linear([entries.astype(np.float32)])


def _counting(op: Any) -> Any:
    """A product with weight 1 wherever the operator's own is not zero; another as it is."""
    if not isinstance(op, PRODUCTS):
        return op
    return op.cached(
        "counting", lambda: structs.replace(op, weight=(op.weight != 0).astype(np.float32))
    )
