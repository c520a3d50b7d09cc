"""IBP of networks of dense layers, narrow or of mostly zeros, boxes abreast in one C call.

Every neuron is a sum of others. The sums come in an order in which what one leaves is soon read
(over a tree, subtree by subtree), and leave it in slots that are taken in turn: what is still to be
read stays in the first-level cache. docs/numerics.md has the terms, csrc/simd/abreast.inc the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gamma import tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.charges import TINY
from gamma.propagate.dense_form import Form, form_of
from gamma.propagate.rows.chain import nonzeros, part_of
from gamma.runtime import workers
from gamma.tensor import kernels, rounding
from gamma.tensor.box import Box
from gamma.tensor.kernels.abreast import LAST, PLAIN, RELU, Abreast, Sums, abreast

Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_WIDE = np.dtype(np.float64)
# Products of one call, some tens of milliseconds; boxes from which on threads may share one.
_CALL_PRODUCTS, _SHARED = 1e8, 64
# Sums of the widest layer that come together: fewer wait for each other, more leave the cache.
_TOGETHER = 64
# A share of a weight: where no more of it is 0, zeros are met, too, so that sums come together.
_FULL = 0.5


class _Made(Frozen, eq=True):
    """The sums, how many are the network's outputs, and boxes of a call."""

    sums: Abreast
    outputs: int
    boxes: int


def ends_abreast(network: Network, box: Box, check: Callable[[], None]) -> Float64 | None:
    """IBP ends of the output (2, batch, size); None where the network is not of the kind."""
    if kernels.isa == "numpy":
        return None
    key = "abreast", tuning.enabled("sparse_weights")
    made: _Made | None = network.cached(key, _make)
    if made is None:
        return None
    lower, upper = np.ascontiguousarray(box.lower), np.ascontiguousarray(box.upper)
    count = len(lower)
    out = np.empty((2, count, made.outputs))
    threads = workers.sharing() if count >= _SHARED else 1
    for first in range(0, count, made.boxes):
        check()
        if made.sums.ends(lower, upper, out, (first, min(first + made.boxes, count)), threads):
            return None  # beyond the range of float64: the walk knows what to do
    return out


@np.errstate(all="ignore")
def _make(network: Network) -> _Made | None:
    form = form_of(network, _WIDE)
    if form is None or not (form.sparse or form.narrow) or any(form.curves):
        return None
    sums = sums_of(network, form)
    made = None if sums is None else abreast(sums)
    if sums is None or made is None:
        return None
    return _Made(made, sums.outputs, max(1, int(_CALL_PRODUCTS // (1 + len(sums.weight.values)))))


class _Layer(Struct):
    """A dense layer: what is not 0 in its weight, the row of each entry, and when its sums come."""

    weight: kernels.Sparse
    rows: Index
    kind: int
    at: Index = np.zeros(0, np.int64)

    @property
    def count(self) -> int:
        """How many sums."""
        return len(self.weight.starts) - 1


def sums_of(network: Network, form: Form) -> Sums | None:
    """The neurons of the layers as sums in order; None where no float64 is half a weight."""
    layers, half = [], 1.0
    for index, op in zip(form.nodes, form.layers, strict=True):
        weight = nonzeros(op, _WIDE, _FULL)
        halved = weight.values * half
        if not np.array_equal(halved / half, weight.values):
            return None
        kind = LAST if index == network.output else PLAIN if index + 1 in form.nodes else RELU
        rows = np.repeat(np.arange(len(op.weight)), np.diff(weight.starts))
        layers.append(_Layer(weight._replace(values=halved), rows, kind))
        half = 0.5 if kind == RELU else 1.0
    _put_in_order(layers)
    order = np.argsort(np.concatenate([layer.at for layer in layers]))
    whole, to = _in_slots(layers)
    terms = np.diff(whole.starts)
    factor = rounding.gamma_factor(int(terms.max()) + 4, np.float64)
    offset = np.concatenate(
        [np.zeros(len(op.weight)) if op.bias is None else op.bias for op in form.layers]
    ).astype(np.float64)
    size = np.bincount(np.repeat(np.arange(len(to)), terms), abs(whole.values), len(to))
    rest = (factor * abs(offset) + TINY * (4 + size)) * (1 + 2.0**-40)
    kinds = np.repeat([layer.kind for layer in layers], [layer.count for layer in layers])
    return Sums(
        layers[0].weight.width,
        layers[-1].count,
        whole.width,
        part_of(whole, order, None),
        np.ascontiguousarray(np.stack([offset, rest], axis=-1)[order]),
        to[order].astype(np.int32),
        kinds[order].astype(np.uint8),
        (1 + factor) * (1 + 2.0**-48),
        factor + 2.0**-50,
    )


def _in_slots(layers: list[_Layer]) -> tuple[kernels.Sparse, Index]:
    """The weights of all layers one below the other, by slots, and where each sum goes: of each
    layer there are as many slots as it has unread sums at once, and they are taken in turn."""
    used = layers[0].weight.width
    places, to = [layers[0].weight.places.astype(np.int64)], []
    for layer, reader in pairwise(layers):
        until = layer.at.copy()
        np.maximum.at(until, reader.weight.places, reader.at[reader.rows])
        turn = np.argsort(np.argsort(layer.at))
        slots = int((np.searchsorted(np.sort(layer.at), until) - turn).max(initial=1))
        to.append(used + turn % slots)
        used += slots
        places.append(to[-1][reader.weight.places])
    to.append(np.arange(layers[-1].count))
    starts = np.cumsum(np.concatenate([[0], *(np.diff(layer.weight.starts) for layer in layers)]))
    values = np.concatenate([layer.weight.values for layer in layers])
    where = np.concatenate(places).astype(np.int32)
    return kernels.Sparse(starts.astype(np.int64), where, values, used), np.concatenate(to)


def _put_in_order(layers: list[_Layer]) -> None:
    """Say when each sum comes: those of the widest layer as they lie, others before it just in
    time, those behind it as soon as they can."""
    counts = [layer.count for layer in layers]
    widest = int(np.argmax(counts))
    ranks = [np.zeros(m, np.int64) for m in counts]
    ranks[widest] = np.arange(counts[widest]) // _TOGETHER
    for k in range(widest + 1, len(layers)):
        np.maximum.at(ranks[k], layers[k].rows, ranks[k - 1][layers[k].weight.places])
    for k in range(widest, 0, -1):
        ranks[k - 1][:] = counts[widest]
        np.minimum.at(ranks[k - 1], layers[k].weight.places, ranks[k][layers[k].rows])
    order = np.lexsort((np.repeat(np.arange(len(layers)), counts), np.concatenate(ranks)))
    at = np.empty_like(order)
    at[order] = np.arange(len(order))
    for layer, own in zip(layers, np.split(at, np.cumsum(counts)[:-1]), strict=True):
        layer.at = own
