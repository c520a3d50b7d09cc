"""Limits of size below which gamma takes another way, moved so that small networks take them all.

A way that is meant for hundreds of neurons or boxes holds for a few as well: exact arithmetic can
follow there. Ways differ in time and width, never in soundness.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from msgspec.structs import replace

from gamma.network.graph import Network
from gamma.ops import dense_interval, relaxation, spread
from gamma.propagate import abreast, blocks, dense, dense_form, passes, sides
from gamma.propagate.positions import apart, parallel
from gamma.propagate.rows import ascent, chain
from gamma.runtime import choices

Limit = tuple[Any, str, Any]


def _shown(nodes: Any) -> Any:
    """Nodes of which float32 products may show: nearly all boxes take these then."""
    return [replace(node, shows=2.0**8) for node in _charged(nodes)]


_charged = passes.charged
LIMITS: dict[str, tuple[Limit, ...]] = {
    "sparse": ((dense_form, "_ONE_BY_ONE", 0.0),),
    "sparse rows": (
        (chain, "_SPARSE_FROM", 1), (chain, "_SPARSE", 1.0), (ascent, "_ONE_BY_ONE", 0.0),
    ),
    "abreast": (
        (abreast, "_SHARED", 2), (abreast, "_CALL_PRODUCTS", 100.0), (abreast, "_TOGETHER", 2),
    ),
    "alike": (
        (passes, "_ALIKE_BOXES", 16), (passes, "_ALIKE_ENTRIES", 1), (dense_form, "_NARROW", 0),
    ),
    "single": ((passes, "charged", _shown), (dense_form, "_NARROW", 0)),
    "pass": (
        (passes, "_SHARED_OPERATIONS", 1.0), (passes, "_CALL_OPERATIONS", 1.0),
        (passes, "_CACHE", 1 << 9), (passes, "_SOME_BOXES", 1), (passes, "_SETTLED", 0),
        (dense_form, "_NARROW", 0),
    ),
    "dense": (
        (dense, "_FEW_PRODUCTS", 1 << 30), (dense, "_CALL_OPERATIONS", 1.0),
        (dense, "_SHARED", 1), (dense, "_FEW", 0), (dense, "_FEW_MORE", 0),
        (dense, "_SHARED_OPERATIONS", 0.0),
    ),
    "ascent": ((ascent, "_MATRIX", 1), (ascent, "_MOST_STEPS", 1)),
    "rows": (
        (dense_interval, "_SOME_TERMS", 1), (relaxation, "_SHARED", 1), (sides, "CALLS", 0.0),
        (spread, "SUM_LENGTH", 2), (spread, "_VISIT", 0), (spread, "MANY_GROUPS", 1),
    ),
    "threads": ((blocks, "_LEAST_ROWS", 1), (blocks, "_LEAST_BOXES", 1), (blocks, "_INSIDE", 1)),
    "positions": (
        (apart, "LEAST_RELAXED", 0), (parallel, "_LEAST_COST", 1.0), (parallel, "_LEAST_BOXES", 1),
    ),
}  # fmt: skip
"""Name -> module, constant and its other value."""
CHOICES = {
    "products": {("rows.product", "f"): 0.0, ("rows.product", "d"): 0.0,
                 ("interval.boxes", ""): 0.0},
    "boxes": {("interval.dense", "f"): 0.0, ("interval.dense", "d"): 0.0},
    "starts": {("rows.start", ""): 0.0},
    "threads": {("rows.share", ""): 1.0},
}  # fmt: skip
TOGETHER = (
    "alike+single", "sparse+abreast", "alike", "sparse+dense", "pass+single", "single",
    "dense+rows", "ascent+sparse rows", "",
)  # fmt: skip
"""Limits that open a way together."""
FLAT = frozenset({"alike", "sparse", "dense"})
"""Those of ways for dense layers alone."""
NAMES = tuple(dict.fromkeys((*LIMITS, *CHOICES)))


@contextmanager
def moved(*names: str) -> Iterator[None]:
    """The limits of these names moved."""
    with ExitStack() as stack:
        for name in names:
            for module, constant, value in LIMITS.get(name, ()):
                stack.enter_context(mock.patch.object(module, constant, value))
        limits = {key: size for name in names for key, size in CHOICES.get(name, {}).items()}
        if limits:
            stack.enter_context(choices.using(limits))
        yield


def forgotten(network: Network) -> Network:
    """The network without what was found out about it between other limits."""
    nodes = tuple(replace(node, op=replace(node.op)) for node in network.nodes)
    return Network(nodes, network.output)
