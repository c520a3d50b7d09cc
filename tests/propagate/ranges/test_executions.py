"""Ranges under the guarantee float32: executions in several orders of their sums stay inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops
from gamma.network.graph import Network
from gamma.propagate.ranges.sets import Known
from gamma.propagate.ranges.walk import range_walk
from tests.propagate.ranges.test_range_walk import inputs
from tests.propagate.ranges.transformers import MAKERS

Array = Any
ORDERS = ("forward", "reversed", "permuted", "pairwise", "blas")


def summed(terms: Array, order: str, rng: np.random.Generator) -> Array:
    """Float32 sums along the last axis, one rounding after each addition."""
    count = terms.shape[-1]
    if order == "pairwise":
        while terms.shape[-1] > 1:
            odd = terms[..., -1:] if terms.shape[-1] % 2 else terms[..., :0]
            terms = np.concatenate([terms[..., :-1:2] + terms[..., 1::2], odd], axis=-1)
        return terms[..., 0]
    places = {"reversed": np.arange(count)[::-1], "permuted": rng.permutation(count)}
    total = np.zeros(terms.shape[:-1], np.float32)
    for k in places.get(order, np.arange(count)):
        total = total + terms[..., k]
    return total


def executed(net: Network, x: Array, order: str, rng: np.random.Generator) -> list[Array]:
    """Values of every node (batch, *shape) in float32; a variance in one pass where "reversed"."""
    values = [x.astype(np.float32)]
    for node in net.nodes[1 : net.output + 1]:
        op: Any = node.op
        given = [values[i] for i in node.inputs]
        if isinstance(op, ops.Gemm) and order != "blas":
            found = summed(given[0][..., None, :] * op.weight, order, rng)
            found = found if op.bias is None else found + op.bias
        elif isinstance(op, ops.MatMul) and order != "blas":
            a, b = (g.reshape(len(x), *(1,) * (len(node.shape) + 1 - g.ndim), *g.shape[1:])
                    for g in given)  # fmt: skip
            found = summed(a[..., :, None, :] * np.swapaxes(b, -1, -2)[..., None, :, :], order, rng)
        elif isinstance(op, ops.Normalize) and order == "reversed":
            c = given[0]
            square = (c * c).mean(axis=-1, keepdims=True)
            if op.centred:
                mean = c.mean(axis=-1, keepdims=True)
                c, square = c - mean, square - mean * mean
            found = c * (1 / np.sqrt(square + np.float32(op.epsilon)))
        else:
            found = op.forward(*given)
        values.append(found.astype(np.float32))
    return values


def ranges_of(net: Network, size: float, **options: Any) -> list[Known]:
    end = np.full(net.input_shape, size)
    source = Known(net.input_shape, -end, end)
    return range_walk(net, source, guarantee="float32", **options)


@pytest.mark.parametrize("norms_alone", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_no_float32_execution_leaves_the_ranges(name: str, norms_alone: bool) -> None:
    rng = np.random.default_rng(0)
    for seed in range(2):
        net = MAKERS[name](seed, spread=3 * seed)
        known = ranges_of(net, 3.0, norms_alone=norms_alone)
        x = inputs(net, 2000, seed, 3.0)
        for order in ORDERS:
            with np.errstate(all="ignore"):
                values = executed(net, x, order, rng)
            for node, found, value in zip(net.nodes, known, values, strict=True):
                lower, upper = found.bounds
                inside = (value >= lower) & (value <= upper)
                assert (inside | (np.isinf(lower) & np.isinf(upper))).all(), (node.name, order)
        finite = [k.finite for k in known]
        assert all(finite) if name == "pre" else not all(finite)
