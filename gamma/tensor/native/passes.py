"""Interval pass through a whole network: the call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.arguments import F64
from gamma.tensor.native.elementwise import described
from gamma.tensor.native.memory import lined, pointer, scratch

Float64 = npt.NDArray[np.float64]
Pair = tuple[int, int]


class NetworkPass:
    """See `kernels.NetworkPass`."""

    def __init__(self, nodes: Sequence[Any], steps: Pair) -> None:
        self._nodes = ffi.new("struct gamma_node[]", len(nodes))
        self._count = len(nodes)
        self._alive: list[Any] = []
        # By the boxes that go together: these for the library, and doubles that a thread needs.
        self._turns: dict[tuple[int, ...], tuple[Any, int]] = {}
        self._n, self._m = (math.prod(node.shape) for node in (nodes[0], nodes[-1]))
        for index, (entry, node) in enumerate(zip(self._nodes, nodes, strict=True)):
            entry.C, entry.H, entry.W = node.shape
            reading = [k for k, r in enumerate(nodes) if index in r.sources]
            entry.readers = (reading[0], reading[-1] + 1) if reading else (0, 0)
            readers = [nodes[k] for k in reading if nodes[k].weight is not None]
            entry.top, entry.rows = _margins(node.shape[1], readers, 0)
            entry.left, entry.span = _margins(node.shape[2], readers, 1)
            self._fill(entry, node)
        late = len(nodes)
        while late > 1 and nodes[late - 1].shape[1:] == (1, 1):
            late -= 1
        for index, entry in enumerate(self._nodes):
            entry.late = index >= late
            entry.kept = any(index in node.sources for node in nodes[late:]) or index >= late
        self._nodes[0].across, self._nodes[0].along = steps
        self._nodes[0].planar = nodes[0].planar

    def _fill(self, entry: Any, node: Any) -> None:
        """How the node is made."""
        entry.hinge, entry.sign = node.hinge, node.signs
        entry.kh, entry.kw, entry.sh, entry.sw, entry.dh, entry.dw = node.frame.spans
        entry.pad_top, entry.pad_left = node.frame[1:]
        entry.groups, entry.factors = 1, node.factors
        entry.reads = (*node.sources, -1, -1)[:2]
        entry.rate, entry.tilt, entry.shows = node.rate, node.tilt, node.shows
        if node.curve is not None:
            self._alive.append(described(node.curve))
            entry.curve = self._alive[-1]
        arrays = {"weight": node.weight, "bias": node.bias, "row_sum": node.row_sum}
        arrays |= {"pairs": node.pairs, "shift": node.shift, "charge": node.charge}
        arrays |= {"lines": node.lines, "ends": node.ends}
        for name, array in arrays.items():
            if array is not None:
                room = lined(np.empty(array.size + 64 // array.itemsize, array.dtype), array.size)
                room[:] = array.ravel()
                self._alive.append(pointer(room, array.size))
                setattr(entry, name, self._alive[-1])
        if node.weight is not None:
            entry.groups = len(node.weight)

    def run(
        self,
        lower: Float64,
        upper: Float64,
        ends: Float64,
        span: Pair,
        most: tuple[int, int, bool],
        threads: int = 1,
    ) -> int:
        B, (first, last), together = len(lower), span, most[0]
        if not 0 <= first <= last <= B or min(most[:2]) < 1:
            raise UsageError(f"kernel argument span: found {span}, expected a part of 0..{B}")
        if not (lower.dtype == F64 == upper.dtype and ends.dtype == F64):
            raise UsageError(f"kernel argument lower: found {lower.dtype}, expected float64")
        turn = self._turns.get(most)
        if turn is None:
            boxes = ffi.new("size_t[3]", most)
            turn = boxes, lib.gamma_pass_room(self._nodes, self._count, boxes)
            self._turns[most] = turn
        threads = max(1, min(threads, -(-(last - first) // together)))
        place = pointer(ends, 2 * B * self._m, True)
        crossed: int = lib.gamma_pass(
            self._nodes,
            self._count,
            pointer(lower, B * self._n),
            pointer(upper, B * self._n),
            scratch(threads * turn[1]),
            place,
            place + B * self._m,
            first,
            last,
            turn[0],
            threads,
        )
        return crossed


def _margins(size: int, readers: Sequence[Any], axis: int) -> Pair:
    """Zeros before an axis of an image, and its whole length, for the windows of its readers."""
    before = max((r.frame[1 + axis] for r in readers), default=0)
    length = size
    for reader in readers:
        kernel, stride, dilation = reader.frame.spans[axis::2]
        positions = reader.shape[1 + axis]
        reach = (positions - 1) * stride + (kernel - 1) * dilation + 1
        length = max(length, reach - reader.frame[1 + axis])
    return before, before + length
