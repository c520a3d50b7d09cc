"""The least work of a case: bytes that must move and operations of the products that must run.

A floor is no prediction: it leaves out every relaxation, every charge and every call. What it
counts: each weight is read once; the interval pass multiplies every linear layer by a centre and a
radius; CROWN carries two rows per neuron whose bound decides something (as the walk itself counted
them) back to the input, through the live neurons of dense layers only and over the receptive field
only in convolutions. The first product of a row and its negative is shared but for the unstable
columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gamma.cli.measuring import Machine
from gamma.network.graph import Network
from gamma.ops import Add, Conv, Elementwise, Gemm, Relu
from gamma.propagate import bounds
from gamma.propagate.api import lower_bounds
from gamma.propagate.specification import Specification
from gamma.tensor.box import Box

Extent = tuple[int, int]


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
    size = 8 if dtype == "float64" else 4
    ends = 2 * size * (network.nodes[0].size + network.nodes[network.output].size)
    operations: float = 2 * sum(_products(network, index) for index in range(1, network.output + 1))
    if method != "ibp":
        live, unstable, rows = _counts(network, box, method)
        for index, count in rows.items():
            operations += count * _backward(network, index, live, unstable)
    return Work(network.parameters * size, ends, operations)


def _products(network: Network, index: int) -> int:
    """Operations of one forward product of a node."""
    node = network.nodes[index]
    if isinstance(node.op, Gemm):
        positions = node.size // node.shape[-1]
        return 2 * positions * node.op.weight.size
    if isinstance(node.op, Conv):
        return 2 * math.prod(node.shape[1:]) * node.op.weight.size
    return 0


def _counts(
    network: Network, box: Box, method: str
) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Live and unstable neurons of each ReLU, and how many rows start at each node."""
    known = bounds(network, box, method=method, intermediate=True)
    live, unstable = {}, {}
    for index, node in enumerate(network.nodes[: network.output + 1]):
        if isinstance(node.op, Relu):
            before = known[network.nodes[node.inputs[0]].name]
            live[index] = int((before.upper > 0).sum())
            unstable[index] = int(((before.upper > 0) & (before.lower < 0)).sum())
    outputs = network.nodes[network.output].size
    question = Specification(np.eye(outputs)[:1], None, np.zeros(1), np.zeros(1, np.int64))
    layers = lower_bounds(network, box, question, method=method).layers
    rows = {i: 2 * int(layer["bounded"]) for i, layer in enumerate(layers) if layer["bounded"]}
    rows[network.output] = 2 * outputs
    return live, unstable, rows


def _backward(
    network: Network, start: int, live: dict[int, int], unstable: dict[int, int]
) -> float:
    """Operations that take one row from a neuron of node ``start`` to the input."""
    nodes = network.nodes
    frontier: dict[int, Extent] = {start: (1, 1)}
    total = 0.0
    for index in range(start, 0, -1):
        extent = frontier.pop(index, None)
        if extent is None:
            continue
        node = nodes[index]
        before = _whole(nodes[node.inputs[0]].shape)
        if isinstance(node.op, Conv):
            total += 0 if index == start else 2 * math.prod(extent) * node.op.weight.size
            before = _grown(node.op, extent, before)
        elif isinstance(node.op, Gemm) and index != start:
            total += 2 * _dense(network, index, start, live, unstable)
        elif isinstance(node.op, Elementwise | Add):
            before = extent
        for i in node.inputs:
            wide = frontier.get(i, (0, 0))
            frontier[i] = (max(wide[0], before[0]), max(wide[1], before[1]))
    return total


def _dense(
    network: Network, index: int, start: int, live: dict[int, int], unstable: dict[int, int]
) -> float:
    """Multiplications of one row with a dense weight, dead neurons left out."""
    node = network.nodes[index]
    assert isinstance(node.op, Gemm)
    readers = [r for r in network.consumers[index] if r in live]
    high: float = live[readers[0]] if len(readers) == 1 else node.size
    if len(readers) == 1 and network.nodes[start].inputs == (readers[0],):
        high = (high + unstable[readers[0]]) / 2
    before = node.inputs[0]
    return high * live.get(before, network.nodes[before].size)


def _whole(shape: tuple[int, ...]) -> Extent:
    """Height and width of a node, (1, 1) when it is no image."""
    high, wide = ((1, 1) + tuple(shape[1:]))[-2:] if len(shape) > 1 else (1, 1)
    return high, wide


def _grown(op: Any, extent: Extent, image: Extent) -> Extent:
    """The receptive field of a window, cut to the image."""
    kernel = ((1, 1) + tuple(op.weight.shape[2:]))[-2:]
    strides = ((1, 1) + tuple(op.strides))[-2:]
    dilations = ((1, 1) + tuple(op.dilations))[-2:]
    high, wide = (
        min(limit, (size - 1) * stride + dilation * (k - 1) + 1)
        for size, stride, dilation, k, limit in zip(
            extent, strides, dilations, kernel, image, strict=True
        )
    )
    return high, wide
