"""Products of a network's IBP in float32 (`gamma.propagate.passes`): what they take and charge.

docs/numerics.md has the derivation, csrc/simd/single.inc the sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.tensor import rounding
from gamma.tensor.kernels import PANEL
from gamma.tensor.kernels.passes import BLOCK, GROUP, SHOWS, PassNode

Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

# Sizes of weights and offsets with which no sum of products in float32 overflows.
_LARGEST, _MOST_SHIFT = 2.0**40, 2.0**100
# A share of the lines of panels: where no more are not 0, these alone are multiplied.
_SPARSE = 0.5
# Functions of which a little more than shows elsewhere does not: they flatten it.
_FLAT = ("SIGMOID", "TANH")
# Of float32; what is added to radii, once and per size of a weight: more than underflow loses.
_UNIT, _LOST = 2.0**-24, 2.0**-100
# What a centre may be off by, of itself: a rounding of what float64 holds of it.
_CENTRE = Fraction(_UNIT) * (1 + Fraction(1, 2**28))


def in_float32(weight: Float64, bias: Float64 | None) -> dict[str, Any]:
    """What products in float32 take (`docs/numerics.md`), where it has the weights."""
    largest, narrow = abs(weight).max(), weight.astype(np.float32)
    if not 1 / _LARGEST <= largest <= _LARGEST or not np.array_equal(narrow, weight):
        return {}
    if bias is not None and not np.all(abs(bias) <= _MOST_SHIFT):
        return {}
    bias = np.zeros((*weight.shape[:2], PANEL)) if bias is None else bias
    near = bias.astype(np.float32)
    lost = _LOST * (1 + abs(weight).sum(axis=(2, 3, 4)))
    lost = rounding.to_up((abs(bias - near) + lost) * (1 + 2.0**-20))
    # As the entries of a source weigh on average, and two roundings of the sum and of its ends.
    tilt = 4 * _UNIT * float(abs(bias).sum() / abs(weight).sum())
    return {
        "pairs": np.stack([narrow, abs(narrow)], -1),
        "shift": np.stack([near, lost], -1),
        "tilt": tilt,
        **_sparse(weight),
    }


def _sparse(weight: Float64) -> dict[str, Any]:
    """The lines of panels that are not 0, where they are few: others add nothing."""
    groups, panels = weight.shape[:2]
    used = (weight != 0).any(axis=-1).reshape(groups * panels, -1)
    if not tuning.enabled("sparse_weights") or np.count_nonzero(used) > _SPARSE * used.size:
        return {}
    starts = np.arange(0, used.shape[1], BLOCK)
    ends = np.append(0, np.cumsum(np.add.reduceat(used, starts, axis=1, dtype=np.int64)))
    each = np.arange(groups * panels)[:, None] * len(starts) + np.arange(len(starts) + 1)
    lines = np.ascontiguousarray(np.nonzero(used)[1])
    return {"lines": lines, "ends": ends[each].reshape(groups, panels, -1)}


def charged(nodes: Sequence[PassNode]) -> list[PassNode]:
    """The nodes with the charges for their readers' products in float32."""
    made = list(nodes)
    for index, node in enumerate(nodes):
        channels, _, width = node.shape
        readers = [r for r in nodes if index in r.sources and r.pairs is not None]
        # A sum of two values is rounded once.
        summed = any(index in r.sources and len(r.sources) == 2 for r in nodes)
        most = np.full((width, channels), 1 if summed else 0, np.int64)
        for reader in readers:
            np.maximum(most, _reading(reader, node.shape), out=most)
        charge = np.zeros((width, channels, 2), np.float32)
        known = np.array([charge_of(n) for n in range(int(most.max()) + 1)], np.float32)
        charge[...] = known[most]
        rate = float(charge[..., 0].mean())
        if node.planar:
            charge = np.ascontiguousarray(charge.transpose(1, 0, 2))
        taken = index == 0 or readers or summed
        made[index] = replace(node, charge=charge if taken else None, rate=rate)
        if node.pairs is not None:
            size = math.prod(nodes[node.sources[0]].shape)
            made[index] = replace(made[index], tilt=node.tilt * size)
            if node.curve is not None and node.curve.name in _FLAT:
                assert node.weight is not None
                terms = math.prod(node.weight.shape[2:5])
                made[index] = replace(made[index], shows=min(max(SHOWS, terms * _UNIT), 2 * SHOWS))
    return made


def _reading(reader: PassNode, shape: tuple[int, ...]) -> Index:
    """The most roundings of a product with an entry of a line (width, channels) of its source."""
    assert reader.weight is not None
    groups, _, kh, kw, inside, _ = reader.weight.shape
    found = np.zeros((shape[2], groups, inside), np.int64)
    roundings = roundings_of(kh * kw * inside).reshape(kh, kw, inside).max(axis=0)
    _, _, _, stride, _, dilation = reader.frame.spans
    for column in range(kw):
        x = np.arange(reader.shape[2]) * stride + column * dilation - reader.frame.left
        x = x[(x >= 0) & (x < shape[2])]
        found[x] = np.maximum(found[x], roundings[column])
    return found.reshape(shape[2], -1)


def roundings_of(terms: int) -> Index:
    """Roundings that each of a sum's terms goes through (`csrc/simd/single.inc`)."""
    if terms > GROUP:  # two parts, of whole groups the first
        half = (-(-terms // GROUP) + 1) // 2 * GROUP
        parts: Index = np.concatenate([roundings_of(half), roundings_of(terms - half)]) + 1
        return parts
    at: Index = np.arange(terms)
    block, blocks = at // BLOCK, -(-terms // BLOCK)
    own = np.minimum(BLOCK * (block + 1), terms) - at  # in its block, from the term on
    after = blocks - np.maximum(block, 1)  # of the block's sum, to which others are added
    found: Index = own + after + 1  # one for a product that is rounded by itself
    return found


def charge_of(roundings: int) -> tuple[float, float]:
    """At least what a term adds to a radius per unit of its centre, and of its reach."""
    error, kept = Fraction(rounding.gamma_factor(int(roundings))), 1 - Fraction(_UNIT)
    # A reach may be low by a rounding, what it becomes by one, and the sum, with offsets and on the
    # way to ends, by three; the charge itself by two. A centre may be off by a rounding.
    whole = kept**4 * (1 - error)
    exact = (_CENTRE + error) / (whole * kept**2), (1 / (whole * kept) - 1) / kept**2
    centre, reach = (float(rounding.to_up(rounding.fraction_up(one))) for one in exact)
    return centre, reach
