"""The names a verification can be asked for, importable without NumPy."""

from __future__ import annotations

from gamma.errors import UsageError
from gamma.methods import GUARANTEES as GUARANTEES
from gamma.methods import METHODS as METHODS

DECIDING = ("auto", *METHODS)
"""Methods of a verdict: auto goes on with branch and bound where bounds alone do not decide."""
BRANCHINGS = ("auto", "input", "relu", "none")
DTYPES = ("auto", "float32", "float64")
NORMS = ("inf", "2", "1")

ENCLOSING = (*METHODS, "branch")
"""Methods of bounds: branch goes on until proved and reached ends are within a gap."""

AUTO_SECONDS = 60.0
"""Time limit of methods auto and branch when none is given."""
GAP = 0.01
"""Of method branch when none is given, in the outputs' units."""


def limit_of(timeout: float | None, method: str) -> float | None:
    """Seconds that a method may take: what is given, or what it has when nothing is."""
    return AUTO_SECONDS if timeout is None and method == "auto" else timeout


def check_options(
    method: str,
    guarantee: str,
    dtype: str,
    timeout: float | None,
    threads: int | None,
    methods: tuple[str, ...] = METHODS,
    branch: str = "auto",
) -> None:
    """Raise UsageError for an option value that does not exist."""
    for name, value, known in (
        ("method", method, methods),
        ("branch", branch, BRANCHINGS),
        ("guarantee", guarantee, GUARANTEES),
        ("dtype", dtype, DTYPES),
    ):
        if value not in known:
            raise UsageError(f"{name} {value!r}: expected one of {', '.join(known)}")
    if timeout is not None:
        from gamma.tensor.exactly import exact_float  # the command line's help needs no NumPy

        if not exact_float(timeout, "timeout") > 0:
            raise UsageError(f"timeout {timeout}: expected a positive number of seconds")
    if threads is not None and threads < 1:
        raise UsageError(f"threads {threads}: expected at least 1")
