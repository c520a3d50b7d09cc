"""The VNN-COMP result file: sat, unsat, unknown or timeout, and the witness."""

from __future__ import annotations

from gamma.verification.result import Result

WORDS = {"verified": "unsat", "violated": "sat", "unknown": "unknown", "timeout": "timeout"}


def vnncomp(result: Result) -> str:
    """The text; numbers are exact (shortest decimals that give back the same float64).

    The values of a counterexample follow in the competition's form ``((X_0 v) ... (Y_0 v) ...)``.
    """
    lines = [WORDS[result.verdict]]
    if result.counterexample is not None:
        found = result.counterexample
        pairs = [f"(X_{i} {float(v)!r})" for i, v in enumerate(found.x.ravel())]
        pairs += [f"(Y_{i} {float(v)!r})" for i, v in enumerate(found.y.ravel())]
        lines.append("(" + "\n ".join(pairs) + ")")
    return "\n".join(lines) + "\n"
