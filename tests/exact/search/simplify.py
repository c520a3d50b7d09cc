"""The smallest case that still fails: fewer boxes, plainer options, plainer numbers.

Hypothesis shrinks what was drawn (operators, shapes, choices); this goes on where a drawn number
stands for a whole array.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs
from onnx import ModelProto, numpy_helper

from gamma.errors import GammaError
from gamma.network.graph import Builder, Network
from tests.exact.search.case import Case

Array = Any
Fails = Callable[[Case], bool]


def smallest(case: Case, fails: Fails, seconds: float) -> Case:
    """Greedy: every simpler case that still fails is the next one, until none is, or time is up."""
    deadline = time.monotonic() + seconds
    going = True
    while going:
        going = False
        for simpler in _simpler(case):
            if time.monotonic() > deadline:
                return case
            if fails(simpler):
                case, going = simpler, True
                break
    return case


def _simpler(case: Case) -> Iterator[Case]:
    if len(case.lower) > 1:
        for b in range(len(case.lower)):
            yield case.boxes(slice(b, b + 1))
        if len(case.lower) > 2:
            yield from (case.boxes(s) for s in (slice(0, 2), slice(1, 3)))
    for asking in case.asking.simpler():
        yield replace(case, asking=asking)
    for name, plain in (("fused", False), ("wobble", 0), ("seed", 0)):
        if getattr(case, name) != plain:
            yield replace(case, **{name: plain})
    yield from _smaller_network(case)
    yield from _plainer_boxes(case)


def _smaller_network(case: Case) -> Iterator[Case]:
    if isinstance(case.source, Network):
        found: Iterator[Any] = _networks(case.source)
    else:
        found = _models(case.source)
    for source in found:
        yield replace(case, source=source)


def _networks(net: Network) -> Iterator[Network]:
    if net.output > 1:
        for last in range(1, net.output):
            yield Network(net.nodes[: last + 1], last)
    for k in range(1, net.output):
        bypassed = _without(net, k)
        if bypassed is not None:
            yield bypassed
    for k, node in enumerate(net.nodes):
        for field in node.op.__struct_fields__:
            value = getattr(node.op, field)
            if isinstance(value, np.ndarray) and field != "index":
                for array in plainer(value):
                    op = structs.replace(node.op, **{field: array})
                    nodes = (*net.nodes[:k], structs.replace(node, op=op), *net.nodes[k + 1 :])
                    yield Network(nodes, net.output)


def _without(net: Network, k: int) -> Network | None:
    """The network in which readers of node ``k`` read its first input instead."""
    if net.nodes[k].shape != net.nodes[net.nodes[k].inputs[0]].shape:
        return None
    source = net.nodes[k].inputs[0]
    builder = Builder(net.nodes[0].op, net.nodes[0].shape, net.nodes[0].name)
    place = {0: 0}
    try:
        for i, node in enumerate(net.nodes[1:], start=1):
            if i != k:
                place[i] = builder.add(node.op, *(place[j] for j in node.inputs), name=node.name)
            else:
                place[i] = place[source]
        return builder.build(place[net.output])
    except GammaError:
        return None


def _models(model: ModelProto) -> Iterator[ModelProto]:
    for k, node in enumerate(model.graph.node):
        for name in node.input:
            changed = ModelProto()
            changed.CopyFrom(model)
            del changed.graph.node[k]
            for other in changed.graph.node:
                for i, source in enumerate(other.input):
                    if source == node.output[0]:
                        other.input[i] = name
            if k + 1 < len(model.graph.node):
                yield _pruned(changed)
    for k, tensor in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            for other in plainer(array):
                changed = ModelProto()
                changed.CopyFrom(model)
                changed.graph.initializer[k].CopyFrom(numpy_helper.from_array(other, tensor.name))
                yield changed


def _pruned(model: ModelProto) -> ModelProto:
    """Without constants that nothing reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def plainer(array: Array) -> Iterator[Array]:
    """Arrays of the same dtype that read more easily: zeros, ones, integers, few digits."""
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        powers = np.where(wide == 0, 0, np.sign(wide) * 2.0 ** np.round(np.log2(abs(wide))))
        tries = [np.zeros_like(wide), np.ones_like(wide), np.round(wide), powers]
        tries += [np.round(wide, 1)]
        for k in range(wide.size if wide.size <= 24 else 0):
            for value in (0.0, 1.0, float(np.round(wide.flat[k]))):
                one = wide.copy()
                one.flat[k] = value
                tries.append(one)
        size = _complexity(array)
        for other in tries:
            found = other.astype(array.dtype)
            if np.isfinite(found.astype(np.float64)).all() and _complexity(found) < size:
                yield found


def _complexity(array: Array) -> int:
    """Characters it takes to write the numbers."""
    numbers = np.ravel(array).astype(np.float64).tolist()
    return sum(len(f"{int(v) if v == int(v) else v!r}") + (v != 0) for v in numbers)


def _plainer_boxes(case: Case) -> Iterator[Case]:
    size = _complexity(case.lower) + _complexity(case.upper)
    tries = [(case.lower, case.lower), (case.upper, case.upper)]
    for places in (0, 1, 2):
        tries.append((np.round(case.lower, places), np.round(case.upper, places)))
    for low in plainer(case.lower):
        tries.append((low, np.maximum(low, case.upper)))
    for high in plainer(case.upper):
        tries.append((np.minimum(case.lower, high), high))
    for low, high in tries:
        if _complexity(low) + _complexity(high) < size:
            yield replace(case, lower=low, upper=high)
