"""The VNN-COMP result file: sat, unsat, unknown or timeout, and the witness."""

from __future__ import annotations

from typing import Any

from gamma.verification.result import Result

WORDS = {"verified": "unsat", "violated": "sat", "unknown": "unknown", "timeout": "timeout"}


def vnncomp(result: Result) -> str:
    """The text of a result."""
    found = result.counterexample
    return in_words(result.verdict, None if found is None else found.to_dict())


def in_words(verdict: str, found: dict[str, Any] | None) -> str:
    """The text; numbers are exact (shortest decimals that give back the same float64).

    The values of a counterexample (its JSON form) follow in the competition's form
    ``((X_0 v) ... (Y_0 v) ...)``.
    """
    lines = [WORDS[verdict]]
    if found is not None:
        pairs = [f"(X_{i} {v!r})" for i, v in enumerate(found["x"])]
        pairs += [f"(Y_{i} {v!r})" for i, v in enumerate(found["y"])]
        lines.append("(" + "\n ".join(pairs) + ")")
    return "\n".join(lines) + "\n"
