"""Spans around every kernel call, for the time of a recording.

The kernels themselves stay untouched while nobody listens: inside the block the module's functions
are replaced by ones that read the clock, and put back at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gamma import telemetry
from gamma.tensor import kernels

NAMES = (
    "relax_rows",
    "abs_dot_rows",
    "dot_rows",
    "interval_affine",
    "fold_last",
    "interval_mul",
    "safe_mul_add",
    "pos_neg_split",
    "step_down",
    "step_up",
    "narrow_down",
    "narrow_up",
    "midpoint",
    "radius_about",
    "erf",
    "erfc",
    "dot",
    "sum",
    "f16_down",
    "f16_up",
    "f16_to_f32",
)
"""Kernels that get spans ``kernel.NAME``."""


def _traced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    span = f"kernel.{name}"

    def call(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **options)
        end = time.perf_counter()
        size = sum(a.nbytes for a in (*args, *_arrays(result)) if isinstance(a, np.ndarray))
        telemetry.record(span, start, end, isa=kernels.isa, bytes=size)
        return result

    return call


def _arrays(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


@contextmanager
def kernel_spans() -> Iterator[None]:
    """Record every kernel call of the process: name, instruction set, bytes of its arrays."""
    before = {name: getattr(kernels, name) for name in NAMES}
    for name, function in before.items():
        setattr(kernels, name, _traced(name, function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(kernels, name, function)
