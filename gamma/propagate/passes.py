"""IBP (Gowal et al. 2018) of a whole network of convolutions, dense layers, sums and activations,
of which the output alone is asked for: one call of the C library for some boxes each.

The rules are those of the operators, and so are the sums of convolutions; only what lies between
two nodes never leaves the cache. Tests hold the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from gamma import telemetry, tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network, Node
from gamma.ops import Conv, Elementwise, Gemm
from gamma.ops.affine import Linear
from gamma.ops.image_interval import in_panels
from gamma.ops.relaxation import described
from gamma.propagate.dense_form import form_of
from gamma.propagate.facts import facts_of
from gamma.propagate.options import Options
from gamma.propagate.single import charged, in_float32
from gamma.runtime import workers
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.passes import (
    ALIKE,
    MOST_NODES,
    NetworkPass,
    PassNode,
    network_pass,
)

Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Shape3 = tuple[int, int, int]

# Bytes of the weights' panels in float64 (those in float32, with their sizes, are as many again):
# more of them are read from memory box after box. Of dense layers alone, which multiply by a weight
# once a box, larger ones are faster as they are stored.
_MOST_BYTES, _MOST_DENSE_BYTES = 32 << 20, 8 << 20
# Times the work that zeros beyond the last channels of panels may make of it, where it is more than
# so many operations a box.
_MOST_PADDED, _FEW_OPERATIONS = 2.0, 5e6
# Bytes of the largest images, of a node and of its reader, that stay in cache; boxes that go
# together through dense layers, and through convolutions with more weights than that.
_CACHE, _MOST_BOXES, _SOME_BOXES = 640 << 10, 32, 16
# Boxes that one thread takes at least: fewer do not pass over what is 0 in all of them.
_FEW_BOXES = 4
# Boxes of a call from which on groups of them may share their reaches, and entries of these.
_ALIKE_BOXES, _ALIKE_ENTRIES = 128, 64
# Lines of a panel whose products take as long as what is done to their sums.
_SETTLED = 16
# Operations of the boxes of one call, some tens of milliseconds, and of those that threads share.
_CALL_OPERATIONS, _SHARED_OPERATIONS = 1e9, 4e6


# Of the functions that the C library has: none, or one that leaves the range of float32.
_UNFIT_CURVES = ("", "EXP")


class Pass(Frozen, eq=True):
    """A network as `NetworkPass` takes it.

    Attributes:
        order: of the output's entries among those of the last node, where it is not theirs.
        boxes: that go together through its dense layers at the end, and before these, at most.
        call: boxes of one call. shared: boxes from which on threads share a call.
        alike: whether boxes of one radius may share products of their reaches.
    """

    kernel: NetworkPass
    entries: int
    order: Index | None
    boxes: tuple[int, int]
    call: int
    shared: int
    alike: bool

    def turn(self, some: int, threads: int) -> tuple[int, int, bool]:
        """Which boxes go together where threads share so many, as `NetworkPass.run` takes it."""
        alike = self.alike and some >= _ALIKE_BOXES
        part = min(self.boxes[0], max(ALIKE if alike else _FEW_BOXES, -(-some // threads)), some)
        before = min(self.boxes[1], part)
        if alike:  # whole groups: bounds do not depend on the threads
            part, before = part // ALIKE * ALIKE, before // ALIKE * ALIKE
        return part, before, alike


def output_ends(network: Network, box: Box, options: Options) -> Float64 | None:
    """IBP ends (2, batch, *output shape) in one call for some boxes, lower ones first, each a
    number or infinite and in order; None where there is no such call."""
    off = tuning.off()
    if options.method != "ibp" or options.guarantee != "real" or "fused_pass" in off:
        return None
    ends: Float64 | None = None
    if len(box.lower) >= network.cached(("pass.abreast", off), _abreast_from):
        from gamma.propagate.abreast import ends_abreast  # few networks need it

        ends = ends_abreast(network, box, options.check)
    if ends is None:
        single = options.single and "single_pass" not in off
        alone = single and len(box.lower) == 1
        made: Pass | None = network.cached(
            ("pass", backend.isa == "numpy", single, alone, off),
            partial(_make, single=single, alone=alone),
        )
        ends = None if made is None else _passed(made, box, options.check)
    shape = network.nodes[network.output].shape
    return ends if ends is None or len(shape) == 1 else ends.reshape(2, -1, *shape)


def _passed(made: Pass, box: Box, check: Callable[[], None]) -> Float64 | None:
    """The ends of one pass; None where some contradict each other: the walk finds out where."""
    lower, upper = np.ascontiguousarray(box.lower), np.ascontiguousarray(box.upper)
    count = len(lower)
    ends = np.empty((2, count, made.entries))
    contradictions = 0
    with telemetry.measure("ibp.network", boxes=count):
        for first in range(0, count, made.call):
            check()
            last = min(first + made.call, count)
            some = last - first
            threads = workers.sharing() if some >= made.shared else 1
            most = made.turn(some, threads)
            contradictions += made.kernel.run(lower, upper, ends, (first, last), most, threads)
    if contradictions:
        return None
    return ends if made.order is None else ends[:, :, made.order]


class _UnfitError(Exception):
    """The network is not of the kind."""


class _Value(Struct):
    """A node's values: entry k is entry order[k] (k itself: None) of a node of the pass."""

    at: int
    order: Index | None = None


class _Maker:
    """The nodes of a pass, as the network's nodes come."""

    def __init__(self, network: Network, single: bool, alone: bool = False) -> None:
        self.network, self.single, self.alone = network, single, alone
        self.made: list[PassNode] = []
        self.values: list[_Value] = [_Value(-1)]
        self.steps: tuple[int, int] | None = None
        self.operations = self.padded = 0.0
        # Bytes that the panels may still take.
        self.left = _MOST_BYTES if facts_of(network).convolves else _MOST_DENSE_BYTES

    def visit(self, node: Node) -> None:
        op, values = node.op, [self.values[i] for i in node.inputs]
        if op.hinge:
            self.values.append(self._activated(node, hinge=True))
        elif isinstance(op, Elementwise) and op.compiled not in _UNFIT_CURVES:
            self.values.append(self._activated(node, curve=described(op, op.compiled, False)))
        elif op.moves and len(values) == 1:
            self.values.append(self._moved(node, values[0]))
        elif isinstance(op, Conv):
            self.values.append(self._convolved(node, op, values[0]))
        elif isinstance(op, Gemm) and len(node.shape) == 1:
            self.values.append(self._dense(node, op, values[0]))
        elif op.signs is not None and len(op.signs) == 2 and op.affine is not None:
            self.values.append(self._summed(node, op.affine, op.signs, values))
        else:
            raise _UnfitError

    def _activated(self, node: Node, **activation: Any) -> _Value:
        """An activation is part of the node before it, which nothing else may read."""
        index = node.inputs[0]
        value = self.values[index]
        while index > 0 and self.network.nodes[index].op.moves:
            if len(self.network.consumers[index]) != 1:
                raise _UnfitError
            index = self.network.nodes[index].inputs[0]
        alone = value.at >= 1 and len(self.network.consumers[index]) == 1
        if not alone or self.made[value.at].hinge or self.made[value.at].curve is not None:
            raise _UnfitError
        self.made[value.at] = replace(self.made[value.at], **activation)
        return value

    def _moved(self, node: Node, value: _Value) -> _Value:
        if node.op.keeps_order:
            return value
        op, shape = node.op.affine, self.network.nodes[node.inputs[0]].shape
        places = np.arange(1.0, 1 + math.prod(shape)).reshape(1, *shape)
        if op is None or op.offset() is not None or node.size != places.size:
            raise _UnfitError
        order = op.linear([places]).ravel().astype(np.int64) - 1
        if not np.array_equal(np.sort(order), np.arange(places.size)):
            raise _UnfitError
        return replace(value, order=order if value.order is None else value.order[order])

    def _source(self, value: _Value, shape: Shape3) -> int:
        """The pass's node with these values as an image of this shape."""
        size = math.prod(shape)
        if value.at >= 1:
            if value.order is not None or self.made[value.at].shape != shape:
                raise _UnfitError
            return value.at
        order = np.arange(size) if value.order is None else value.order
        grid = order.reshape(shape[0], -1)
        across = int(grid[1, 0]) if shape[0] > 1 else 0
        along = int(grid[0, 1]) if grid.shape[1] > 1 else 0
        places = np.arange(shape[0])[:, None] * across + np.arange(grid.shape[1]) * along
        if not np.array_equal(places, grid) or self.steps not in (None, (across, along)):
            raise _UnfitError
        if self.made and self.made[0].shape != shape:
            raise _UnfitError
        if not self.made:
            self.made.append(PassNode(shape))
            self.steps = across, along
        return 0

    def _add(self, node: PassNode) -> _Value:
        self.made.append(node)
        return _Value(len(self.made) - 1)

    def _convolved(self, node: Node, op: Conv, value: _Value) -> _Value:
        shape = self.network.nodes[node.inputs[0]].shape
        window = op.window(shape)
        source = self._source(value, (shape[0], *window.image))
        groups, own = op.group, len(op.weight) // op.group
        positions = window.positions
        spans = (*window.kernel, *window.strides, *window.dilations)
        sums = op.row_sums([shape]).reshape(groups, own, *positions)
        made = PassNode(
            (groups * own, *positions),
            (source,),
            frame=kernels.Frame(spans, *window.pads[:2]),
            **self._panels(op, op.weight, groups, window.kernel),
            row_sum=_padded(sums.transpose(0, 2, 3, 1)),
            factors=_factors(op),
        )
        return self._count(made, op)

    def _dense(self, node: Node, op: Gemm, value: _Value) -> _Value:
        """A kernel as large as the image, whose channels come last."""
        m, n = op.weight.shape
        flat: Shape3 = (n, 1, 1)
        shape = self.made[value.at].shape if value.at >= 1 else flat
        weight = op.weight
        if value.at >= 1:
            if value.order is not None:
                weight = np.empty_like(weight)
                weight[:, value.order] = op.weight
            source = value.at
        else:
            source = self._source(value, flat)
        sums = np.ascontiguousarray(op.row_sums([(n,)])).reshape(1, m, 1, 1)
        made = PassNode(
            (m, 1, 1),
            (source,),
            frame=kernels.Frame((*shape[1:], 1, 1, 1, 1), 0, 0),
            **self._panels(op, weight.reshape(m, *shape), 1, (shape[1], shape[2])),
            row_sum=_padded(sums.transpose(0, 2, 3, 1)),
            factors=_factors(op),
        )
        return self._count(made, op)

    def _summed(
        self, node: Node, op: Linear, signs: tuple[int, ...], values: list[_Value]
    ) -> _Value:
        plain: Shape3 = (*node.shape[:1], *(1,) * (3 - len(node.shape)), *node.shape[1:])  # type: ignore[assignment]
        if len(plain) != 3:
            raise _UnfitError
        sources = self._source(values[0], plain), self._source(values[1], plain)
        sums = op.row_sums([node.shape] * 2)[0].reshape(plain)
        made = PassNode(
            plain,
            sources,
            row_sum=np.ascontiguousarray(sums.transpose(1, 2, 0)),
            factors=(rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty),
            signs=(signs[0], signs[1]),
        )
        return self._add(made)

    def _panels(
        self, op: Conv | Gemm, weight: npt.NDArray[Any], groups: int, kernel: tuple[int, int]
    ) -> dict[str, Any]:
        """What a node has of its weight."""
        if op.inexact or np.any(op.offset_uncertainty) or not isinstance(op.weight, np.ndarray):
            raise _UnfitError
        if 8 * weight.size > self.left:
            raise _UnfitError
        made = in_panels(weight, groups, kernel)
        self.left -= made.nbytes
        bias = _bias_panels(op, groups, len(weight) // groups)
        # A weight that one box meets once takes as long to come as both its products in float64.
        single = self.single and not op.uncertainty and not (self.alone and isinstance(op, Gemm))
        narrow = in_float32(made, bias) if single else {}
        return {"weight": made, "bias": bias, **narrow}

    def _count(self, node: PassNode, op: Conv | Gemm) -> _Value:
        assert node.weight is not None
        positions = math.prod(node.shape[1:])
        self.operations += 4.0 * op.weight.size * positions
        entries = node.weight.size
        if node.lines is not None:
            panels = math.prod(node.weight.shape[:2])
            entries = min(entries, kernels.PANEL * (len(node.lines) + _SETTLED * panels))
        self.padded += 4.0 * entries * positions
        return self._add(node)


def _abreast_from(network: Network) -> float:
    """Boxes from which on `gamma.propagate.abreast` takes them: of weights that are mostly 0 one,
    of others, where all are small, as many as would share the products of a pass."""
    form = form_of(network, np.dtype(np.float64))
    if form is None or any(form.curves):
        return math.inf
    return 1 if form.sparse else _FEW_BOXES + 1 if form.narrow else math.inf


def _make(network: Network, single: bool, alone: bool = False) -> Pass | None:
    """The network as a pass; None when it is not of the kind or its weights are too large.

    Args:
        single: whether products may be in float32. alone: those of one box only, not of dense
            layers.
    """
    maker = _Maker(network, single, alone)
    try:
        with np.errstate(over="ignore"):  # sums of rows that overflow make bounds infinite
            for node in network.nodes[1 : network.output + 1]:
                maker.visit(node)
    except _UnfitError:
        return None
    value, nodes, steps = maker.values[network.output], maker.made, maker.steps
    fits = 1 < len(nodes) <= MOST_NODES and value.at == len(nodes) - 1
    if not fits or steps is None or maker.left < 0 or not maker.operations:
        return None
    if maker.padded > max(_MOST_PADDED * maker.operations, _FEW_OPERATIONS):
        return None
    sums = any(len(node.sources) == 2 and 0 in node.sources for node in nodes)
    if steps[1] == 1 and nodes[0].shape[1:] != (1, 1) and not sums:
        nodes[0] = replace(nodes[0], planar=True)
    if any(node.pairs is not None for node in nodes):
        nodes = charged(nodes)
    kernel = network_pass(nodes, steps)
    if kernel is None:
        return None
    # Of boxes whose products are in float32 an image has pairs of these.
    size = 8 if any(node.pairs is not None for node in nodes) else 16
    images = [size * math.prod(node.shape) for node in nodes[:-1]]
    pairs = max(a + b for a, b in zip(images, [*images[1:], 0], strict=True))
    # Weights come anew for every turn.
    weights = sum(n.weight.nbytes for n in nodes if n.weight is not None and n.shape[1:] != (1, 1))
    turn = max(1, min(_MOST_BOXES, _CACHE // pairs), min(_SOME_BOXES, weights // pairs))
    call = max(_MOST_BOXES, int(_CALL_OPERATIONS / maker.padded) // _MOST_BOXES * _MOST_BOXES)
    shared = max(2 * _FEW_BOXES, int(_SHARED_OPERATIONS / maker.padded))
    boxes = _MOST_BOXES, turn
    long = nodes[0].shape[1:] == (1, 1) and nodes[0].shape[0] >= _ALIKE_ENTRIES
    alike = long and turn >= ALIKE and tuning.enabled("shared_reach")
    return Pass(kernel, math.prod(nodes[-1].shape), value.order, boxes, call, shared, alike)


def _factors(op: Linear) -> tuple[float, float]:
    return rounding.gamma_factor(op.terms + 4, np.float64), op.uncertainty


def _bias_panels(op: Conv | Gemm, groups: int, own: int) -> Float64 | None:
    """The offset of every channel, (groups, panels, PANEL)."""
    if op.bias is None:
        return None
    return _padded(op.bias.astype(np.float64).reshape(groups, 1, 1, own))[:, :, 0, 0]


def _padded(values: npt.NDArray[Any]) -> Float64:
    """(groups, h, w, channels) as (groups, panels, h, w, PANEL), zeros beyond the last channel."""
    groups, height, width, own = values.shape
    count = -(-own // kernels.PANEL)
    full = np.zeros((groups, height, width, count * kernels.PANEL))
    full[..., :own] = values
    split = full.reshape(groups, height, width, count, kernels.PANEL)
    return np.ascontiguousarray(split.transpose(0, 3, 1, 2, 4))
