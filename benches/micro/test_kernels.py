"""Every kernel on every instruction set and in NumPy, from 4 to a million numbers, checked."""

from __future__ import annotations

from typing import Any

import pytest

from benches.kernels import CASES
from gamma.tensor import kernels

SIZES = (4, 32, 256, 1 << 10, 1 << 16, 1 << 20)


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_kernel(benchmark: Any, name: str, size: int, isa: str) -> None:
    case = CASES[name]
    if isa == "numpy" and not case.numpy:
        pytest.skip("only in the C library")
    with kernels.pinned(isa):
        call, check = case.make(size)
        benchmark.group = f"{name} {size}"
        benchmark.extra_info |= {"isa": isa, "bytes": case.moved * size}
        benchmark(call)
        check()
