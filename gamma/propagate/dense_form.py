"""Which networks one call of the C library takes: see `gamma.propagate.dense`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops import Gemm
from gamma.ops.elementwise import Elementwise
from gamma.propagate.facts import facts_of

# Operations of one box beyond which a walk should look at the clock on its way.
_MOST_OPERATIONS = 1e10
_NARROW = 1 << 15
# What an entry of a weight of mostly zeros takes as long as in a dense one.
_ONE_BY_ONE = 48.0
# Entries of a weight that is looked at by so many of its rows first.
_LARGE, _SAMPLE = 1 << 16, 8


class Form(Struct):
    """What one call takes of a network.

    Attributes:
        nodes, layers: the dense layers. curves: the smooth activation behind each (None: a ReLU, or
            nothing).
        operations: of one box. sparse: whether rows meet only what is not 0 in the weights.
    """

    nodes: list[int] = []
    layers: list[Gemm] = []
    curves: list[Elementwise | None] = []
    operations: float = 0.0
    sparse: bool = False

    @property
    def narrow(self) -> bool:
        """Whether all weights stay in a processor's cache, beside the values of some boxes."""
        return sum(op.weight.size for op in self.layers) <= _NARROW


def made_for_one_call(network: Network) -> bool:
    """Whether the network is of the kind."""
    return form_of(network, np.dtype(np.float32)) is not None


def form_of(network: Network, dtype: np.dtype[Any]) -> Form | None:
    """What `dense_network` takes, if it does; no weight is copied to find out."""
    key = "dense.form", dtype.char, tuning.enabled("sparse_weights")
    return network.cached(key, partial(_form, dtype=dtype))


@np.errstate(all="ignore")  # a weight beyond the range of dtype is not exact in it
def _form(network: Network, dtype: np.dtype[Any]) -> Form | None:
    index, nodes, form = 1, network.nodes, Form()
    while index < network.output and nodes[index].op.keeps_order:
        index += 1
    if index > network.output or not facts_of(network).sequential[network.output]:
        return None
    while index <= network.output:
        op, after = nodes[index].op.dense, None
        if op is None or op.weight_error is not None or not op.exact_in(dtype):
            return None
        form.nodes.append(index)
        form.layers.append(op)
        index += 1
        if index <= network.output and nodes[index].op.dense is None:
            if index == network.output:
                return None
            if not nodes[index].op.hinge:
                after = nodes[index].op.activation
                if after is None or not after.compiled:
                    return None
            index += 1
        form.curves.append(after)
    form.operations, form.sparse = _operations(form.layers)
    return form if form.operations <= _MOST_OPERATIONS else None


def _operations(layers: list[Gemm]) -> tuple[float, bool]:
    """Of one box's rows, and whether these are fewer where rows skip what is 0 in the weights.

    A row that skips it has at most so many entries in a layer as all its entries in the one behind
    meet there: as many as the layer, or, over a tree, far fewer.
    """
    sizes = [len(op.weight) for op in layers]
    dense = 4.0 * sum(m * sum(op.weight.size for op in layers[:k]) for k, m in enumerate(sizes))
    if not tuning.enabled("sparse_weights") or any(map(_full, layers)):
        return dense, False
    some = [float(np.count_nonzero(op.weight)) for op in layers]
    few = 0.0
    for last, m in enumerate(sizes):
        entries = 1.0
        for k in range(last, -1, -1):
            entries = min(entries, sizes[k]) * some[k] / sizes[k]
            few += 4.0 * m * entries * _ONE_BY_ONE
    return min(dense, few), few < dense


def _full(op: Gemm) -> bool:
    """Whether a weight is no small one and has few zeros, by some of its rows: of a large one in a
    file no more is read to find out."""
    some = op.weight[:: max(1, len(op.weight) // _SAMPLE)]
    return op.weight.size > _LARGE and int(np.count_nonzero(some)) > some.size // 4
