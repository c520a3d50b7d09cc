"""The start-up probe passes here, is quick, and notices each broken assumption."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from gamma.tensor import kernels, probe

Product = Callable[[probe.Array, probe.Array], probe.Array]


def test_nothing_fails_here() -> None:
    assert probe.check_arithmetic() == []


@pytest.mark.parametrize("isa", kernels.available())
def test_kernels_keep_subnormals(isa: str) -> None:
    with kernels.pinned(isa):
        assert probe._kernels_keep_subnormals()


def test_cost() -> None:
    code = (
        "import time, gamma.tensor.probe as p\n"
        "best = 1e9\n"
        "for _ in range(5):\n"
        "    p._failures.cache_clear(); t = time.perf_counter(); p.check_arithmetic()\n"
        "    best = min(best, time.perf_counter() - t)\n"
        "print(best)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.005


class _Odd(np.ndarray):  # type: ignore[type-arg]
    """An array whose matrix product is that of ``rule``."""

    rule: Product

    def __matmul__(self, other: probe.Array) -> probe.Array:  # type: ignore[override]
        return type(self).rule(np.asarray(self), np.asarray(other))


def _flush(x: probe.Array) -> probe.Array:
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, 0, x).astype(x.dtype)


def _short(x: probe.Array) -> probe.Array:
    """As a reduced-precision product sees its inputs: ten bits of the fraction."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 1024) / 1024, exponent).astype(x.dtype)


def _strassen(a: probe.Array, b: probe.Array) -> probe.Array:
    """One product of neighbouring rows' sums: small rows drown in large ones."""
    if b.ndim == 1:
        return a @ b
    other = np.roll(a, 1, axis=0)
    return (a + other) @ b - other @ b


BROKEN: dict[str, Product] = {
    "subnormal results": lambda a, b: _flush(a @ b),
    "subnormal inputs": lambda a, b: _flush(a) @ _flush(b),
    "full-precision inputs": lambda a, b: _short(a) @ _short(b),
    "stay apart": _strassen,
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("dtype", probe.TYPES)
def test_broken_products_are_noticed(
    name: str, dtype: np.dtype[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = np.diag

    def odd_diag(values: probe.Array) -> probe.Array:
        return plain(values).view(type("Broken", (_Odd,), {"rule": staticmethod(BROKEN[name])}))

    monkeypatch.setattr(np, "diag", odd_diag)
    assert any(name in failure for failure in probe._product_failures(dtype))
