"""Clocks and the machine's limits: what ``gamma bench`` and ``benches/`` measure with.

The limits, copy bandwidth and GEMM rate, are measured in the same run as the cases, so that a
share of them means the same on every machine and under any load that lasts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import asdict

from gamma.frozen import Frozen
from gamma.runtime import choices


class Timing(Frozen, eq=True):
    """Seconds per call.

    Attributes:
        best, median: wall clock. cpu: least processor time of one call, summed over threads.
        calls: how many were timed, warm.
    """

    best: float
    median: float
    cpu: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def timed(
    call: Callable[[], object], seconds: float = 0.3, least: int = 3, most: int = 1000
) -> Timing:
    """Time ``call`` for about ``seconds`` after one warm-up; at least ``least`` calls.

    Calls shorter than 50 µs are timed in groups, or the clock would be part of the result.
    """
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    group = max(1, min(1000, int(50e-6 / max(first, 1e-8))))
    walls: list[float] = []
    cpus: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(walls) < least or (time.perf_counter() < deadline and len(walls) < most):
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(group):
            call()
        walls.append((time.perf_counter() - wall) / group)
        cpus.append((time.process_time() - cpu) / group)
    return Timing(min(walls), float(np.median(walls)), min(cpus), len(walls) * group)


class Machine(Frozen, eq=True):
    """What the processor can do, with the BLAS threads of this process.

    Attributes:
        copy: bytes per second read plus written by a large copy.
        gemm32, gemm64: floating-point operations per second of a large product.
        call: seconds of one kernel call on one number: the price of leaving Python.
    """

    copy: float
    gemm32: float
    gemm64: float
    call: float

    def gemm(self, dtype: str) -> float:
        """Rate for coefficient rows of ``dtype``."""
        return self.gemm64 if dtype == "float64" else self.gemm32

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def measure_machine(seconds: float = 0.3) -> Machine:
    """Measure the limits, about four times ``seconds`` in all."""
    from gamma.tensor import kernels

    source = np.ones(8 << 20, np.float64)
    target = np.zeros_like(source)
    copy = timed(lambda: np.copyto(target, source), seconds).best
    tiny = np.ones(1, np.float32)
    return Machine(
        2 * source.nbytes / copy,
        _gemm(np.float32, seconds),
        _gemm(np.float64, seconds),
        timed(lambda: kernels.step_up(tiny), seconds / 4).best,
    )


def _gemm(dtype: type[np.floating[Any]], seconds: float, size: int = 1024) -> float:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((size, size)).astype(dtype)
    out = np.empty_like(a)
    return 2 * size**3 / timed(lambda: np.matmul(a, a, out=out), seconds).best


def describe_machine() -> dict[str, Any]:
    """Processor, BLAS, instruction set and versions, for the head of a record."""
    from gamma.verification.environment import environment

    return {
        **environment(),
        "numpy": np.__version__,
        "processor": choices.processor(),
        "processors": os.cpu_count() or 1,
    }
