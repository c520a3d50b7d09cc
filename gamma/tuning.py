"""Every optimisation is a named gate: it can be switched off alone, tested and measured.

    with gamma.tuning.disabled("windows", "compress"):
        gamma.bounds(net, box)

``GAMMA_DISABLE=windows,compress`` in the environment does the same for a whole process. Bounds stay
sound whatever is on; docs/performance/ablation.md says what each gate is worth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gamma.errors import UsageError

GATES: dict[str, str] = {
    "pool": "large temporary arrays from a pool of memory of the thread",
    "compress": "drop the columns of dead ReLUs, and the weights' rows, between dense layers",
    "windows": "carry rows of convolutional neurons on their receptive fields",
    "unstable": "bound only neurons whose bounds decide a relaxation",
    "one_sided": "of neurons whose sign alone matters, a row of the side that decides it first",
    "fused_interval": "read a dense weight once for centre and radius at small batches",
    "narrow_spread": "radii of IBP multiplied in float32 where rows are, the rounding made up for",
    "fused_boxes": "interval steps of dense layers over many boxes in one C call, in cache",
    "fused_lines": "lines of smooth functions searched and proved in one C call",
    "parallel_lines": "a row for both bounds, between parallel lines of smooth functions",
    "fused_layers": "whole steps of small dense networks in one call of the C library",
    "fused_walk": "rows through dense layers, from the first to the input, in one C call",
    "sparse_weights": "rows in that call, and IBP in one, meet only what is not 0 in such weights",
    "fused_network": "CROWN over small dense networks, box by box, in one C call",
    "fused_ascent": "slopes and multipliers of rows, layer after layer: all steps in one C call",
    "fused_alpha": "optimised slopes of all layers of a small dense network in one C call",
    "fused_windows": "rows through convolutions and sums, to the input, in one C call, in cache",
    "fused_tables": "what rows in that call meet at a node, made from its bounds in one C call",
    "fused_starts": "rows over images from the matrix of their node, as they start, in one C call",
    "fused_images": "CROWN of the images a network begins with, where few rows are, in one C call",
    "row_threads": "share the blocks of rows of a walk among threads",
    "walks_apart": "CROWN of many boxes of images: walks of some boxes, each thread its own ones",
    "shared_calls": "share the inside of calls of the C library among threads of its own",
    "kept_memory": "freed memory stays with the process (decided at its first walk)",
    "fused_forward": "a convolution's windows and their product in one C call, in cache",
    "fused_image": "interval steps of convolutions, centre and radius at once, and sums: a C call",
    "fused_pass": "IBP of a whole network of dense layers, convolutions, activations in one C call",
    "single_pass": "products of that call in float32 for boxes in which their rounding cannot show",
    "shared_reach": "in that call, radii of near boxes that have the same meet a dense layer once",
    "fused_adjoint": "products and scatter of a convolution's rows in one C call, in cache",
    "gathered_adjoint": "a convolution's rows pixel by pixel of the result, in registers",
    "pixel_cells": "few channels of a strided convolution's rows: as many pixels as the stride",
    "added_adjoint": "a convolution's rows added to those that came around it, in its C call",
    "live_channels": "channels that are 0 in all rows of a register block passed over in these",
    "norm_caps": "no bound wider than what the norms before it leave possible",
    "ellipsotopes": "ellipsotopes of all nodes go forward where there is a normalisation",
    "apart_positions": "rows over positions that nothing has mixed yet, as rows over one of them",
    "fused_charge": "fold a product's charge into the constants of the activation after it",
}
"""Name -> what the optimisation does."""


def _known(names: Iterable[str]) -> frozenset[str]:
    chosen = frozenset(name.strip() for name in names if name.strip())
    unknown = sorted(chosen - GATES.keys())
    if unknown:
        raise UsageError(f"no optimisation is called {unknown[0]!r}: choose of {', '.join(GATES)}")
    return chosen


_off: ContextVar[frozenset[str] | None] = ContextVar("gamma_disabled", default=None)


def off() -> frozenset[str]:
    """Names of the optimisations that are switched off here. Raises UsageError for unknown ones."""
    current = _off.get()
    if current is None:
        current = _known(os.environ.get("GAMMA_DISABLE", "").split(","))
        _off.set(current)
    return current


def enabled(name: str) -> bool:
    """Whether the optimisation ``name`` may be used."""
    return name not in off()


@contextmanager
def disabled(*names: str) -> Iterator[None]:
    """Switch optimisations off inside the block (this thread and task only)."""
    token = _off.set(off() | _known(names))
    try:
        yield
    finally:
        _off.reset(token)


@contextmanager
def only(*names: str) -> Iterator[None]:
    """Switch everything off but ``names`` inside the block."""
    token = _off.set(frozenset(GATES) - _known(names))
    try:
        yield
    finally:
        _off.reset(token)
