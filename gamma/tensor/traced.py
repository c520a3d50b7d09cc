"""Spans around every kernel call, for the time of a recording.

The kernels themselves stay untouched while nobody listens: inside the block the package's functions
are replaced by ones that read the clock, and put back at its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import Any

import numpy as np

from gamma import telemetry
from gamma.tensor import kernels

_NO_KERNELS = ("available", "use", "pinned")
NAMES = tuple(
    name
    for name, value in vars(kernels).items()
    if isfunction(value)
    and value.__module__.startswith(f"{kernels.__name__}.")
    and not name.startswith("_")
    and name not in _NO_KERNELS
)
"""Kernels that get spans ``kernel.NAME``: every public function of the package."""


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
    # Where a kernel is defined too: others there may call it.
    homes = {name: sys.modules[function.__module__] for name, function in before.items()}

    def put(functions: dict[str, Callable[..., Any]]) -> None:
        for name, function in functions.items():
            setattr(kernels, name, function)
            setattr(homes[name], name, function)

    put({name: _traced(name, function) for name, function in before.items()})
    try:
        yield
    finally:
        put(before)
