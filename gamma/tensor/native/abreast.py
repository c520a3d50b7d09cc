"""Interval pass through dense layers, boxes abreast: the call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.tensor._simd import ffi, lib
from gamma.tensor.kernels.abreast import LAST
from gamma.tensor.native.memory import nonzeros, pointer, scratch

Float64 = npt.NDArray[np.float64]

# Terms of sums that the library knows by their number.
_FEW = 4


class Abreast:
    """See `kernels.abreast.Abreast`."""

    def __init__(self, sums: Any) -> None:
        self._all, self._sums = ffi.new("struct gamma_abreast *"), sums
        made, count = self._all, len(sums.to)
        made.count, made.n, made.m, made.slots = count, sums.inputs, sums.outputs, sums.slots
        made.starts, made.places, made.weight = nonzeros(sums.weight, count, np.dtype(np.float64))
        made.charge, made.to = pointer(sums.charge, 2 * count), pointer(sums.to, count)
        made.kind, made.grow, made.share = pointer(sums.kind, count), sums.grow, sums.share
        self._rows = together(sums)
        made.rows = pointer(self._rows, count)
        self._n, self._m = sums.inputs, sums.outputs

    def ends(
        self, lower: Float64, upper: Float64, out: Float64, span: tuple[int, int], threads: int
    ) -> int:
        B, made = len(lower), self._all
        if not 0 <= span[0] <= span[1] <= B:
            raise UsageError(f"interval pass: found boxes {span} of {B}")
        ends = pointer(out, 2 * B * self._m, True)
        lost: int = lib.gamma_abreast_ends(
            made,
            pointer(lower, B * self._n),
            pointer(upper, B * self._n),
            scratch(lib.gamma_abreast_room(made, threads)),
            ends,
            ends + B * self._m,
            *span,
            threads,
        )
        return lost


def together(sums: Any) -> npt.NDArray[np.uint8]:
    """How many sums from each one on have the same places, and take none of these themselves; 1
    where these are few, as sums of a known number of terms are quicker one by one."""
    starts, places = sums.weight.starts, sums.weight.places
    counts = np.diff(starts)
    row = np.repeat(np.arange(len(counts)), counts)
    found = np.ones(len(counts), np.uint8)
    if not len(places):
        return found
    # Entry e of a sum is entry e + n of the next one, where both have n.
    next_one = np.minimum(np.arange(len(places)) + counts[row], len(places) - 1)
    last = sums.kind == LAST
    other = (places != places[next_one]) | ((places == sums.to[row]) & ~last[row])
    alike = np.append((counts[1:] == counts[:-1]) & (counts[:-1] > _FEW), False)
    alike[row[other]] = False
    for _ in range(lib.GAMMA_ABREAST_ROWS - 1):
        found = np.where(alike, 1 + np.append(found[1:], np.uint8(0)), 1).astype(np.uint8)
    return found
