"""The page beside other verifiers: what counts as decided, as behind, and as a contradiction."""

from __future__ import annotations

from typing import Any

import pytest

from benches import verifiers
from benches.verifiers import lines, page


def theirs(name: str, verdict: str, seconds: float, tool: str = "abcrown") -> dict[str, Any]:
    return {"tool": tool, "benchmark": "b", "onnx": "n", "vnnlib": name, "verdict": verdict,
            "wall_s": seconds, "limit_s": 60}  # fmt: skip


def ours(name: str, verdict: str, wall: float, processor: float) -> dict[str, Any]:
    return {"benchmark": "b", "onnx": "n", "vnnlib": name, "verdict": verdict, "limit": 60.0,
            "wall": wall, "processor": processor}  # fmt: skip


def test_counts_and_means() -> None:
    rows = [
        theirs("p", "timeout", 60),
        theirs("p", "unsat", 9),
        theirs("p", "unsat", 7),  # of several runs the best
        theirs("q", "sat", 5),
        theirs("r", "unsat", 5),  # nobody asked gamma
        theirs("q", "timeout", 60, "nnenum"),
    ]
    records = [ours("p", "verified", 4, 2), ours("q", "violated", 8, 4)]
    first, second = lines(records, rows)
    assert first[1:] == ("b", 2, 2, 2, (6.0, 6.0, 3.0)) and not first.behind
    assert second == ("nnenum", "b", 1, 0, 1, None) and not second.behind
    slow = [ours("p", "verified", 40, 20), records[1]]
    assert [line.behind for line in lines(slow, rows)] == [True, False]
    fewer = [ours("p", "timeout", 60, 60), records[1]]
    assert lines(fewer, rows)[0].behind
    with pytest.raises(ValueError, match="abcrown says sat"):
        lines([ours("q", "verified", 1, 1)], rows)


def test_the_page_says_where_gamma_is_behind() -> None:
    document = {"tools": "T", "machine": "M", "rows": [theirs("p", "unsat", 1)]}
    text = page([ours("p", "verified", 9, 3)], document)
    assert "behind, by fewer decided or more time, on b (α,β-CROWN)" in text.replace("\n", " ")
    assert "33 % of a processor" in text.replace("\n", " ")
    assert "nowhere behind" in page([ours("p", "verified", 0.5, 0.5)], document)
    assert verifiers.PAGE.read_text().startswith("# Beside other verifiers\n\nWritten by")
