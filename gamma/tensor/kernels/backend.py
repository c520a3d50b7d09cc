"""Which kernels run: the compiled ones on an instruction set, or NumPy's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gamma.errors import UsageError
from gamma.tensor import fallback

try:
    from gamma.tensor import native
except ImportError:  # installed without a compiler: correct, and slower
    native = None  # type: ignore[assignment]

NAMES = ("avx512", "avx2", "neon", "scalar", "numpy")
isa: str = "numpy"
compiled = False
current: Any = fallback
"""What is called: the package `native` when compiled, or the module `fallback`."""


def available() -> tuple[str, ...]:
    """Instruction sets this process can run, best first; "numpy" is always the last."""
    return (*(native.available() if native is not None else ()), "numpy")


def use(name: str | None = None) -> None:
    """Run on ``name`` from now on, or on the best available set when None.

    Raises UsageError when this machine, or this installation, cannot run ``name``.
    """
    global isa, current, compiled
    able = available()
    if name is None:
        name = able[0]
    if name not in able:
        known = "not an instruction set gamma knows" if name not in NAMES else "not available here"
        raise UsageError(f"GAMMA_ISA={name}: {known}; choose one of {', '.join(able)}")
    if name != "numpy":
        native.select(name)
    isa, compiled = name, name != "numpy"
    current = native if compiled else fallback


@contextmanager
def pinned(name: str) -> Iterator[None]:
    """Run on ``name`` inside the block (process-wide; for tests and benches)."""
    before = isa
    use(name)
    try:
        yield
    finally:
        use(before)


use(os.environ.get("GAMMA_ISA") or None)
