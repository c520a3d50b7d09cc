"""The page on several processors: one section is renewed without the others, noise is named."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benches import parallel, scaling
from benches.cases import DATA


def test_a_section_takes_the_place_of_the_one_of_its_title() -> None:
    page = parallel.HEADING
    for text in ("## One\n\na\n", "## Two\n\nb\n", "## One\n\nc\n"):
        page = parallel.with_section(page, text)
    assert page == f"{parallel.HEADING}\n## One\n\nc\n\n## Two\n\nb\n"
    assert parallel.with_section(page, "## Two\n\nd\n").endswith("c\n\n## Two\n\nd\n")


def test_each_side_has_its_number_of_threads() -> None:
    """A process each; what one answers is a time of the call it was asked for."""
    for threads in (1, 2):
        side = scaling.Side("digits_mlp", DATA, threads)
        began = time.perf_counter()
        found = side.measure(scaling.Asked("crown", 2), 0.0)
        assert 0 < found["wall"] < time.perf_counter() - began
        assert found["used"] > 0 and found["others"] >= 0
        side.close()


def side(*rounds: tuple[float, float]) -> scaling.Side:
    """One whose rounds (wall, others) are known."""
    made = object.__new__(scaling.Side)
    answers = iter([(1.0, 0.0), *rounds])
    made.measure = lambda asked, seconds: dict(  # type: ignore[method-assign]
        zip(("wall", "others", "used"), (*next(answers), 1.0), strict=True)
    )
    return made


def test_a_round_with_the_machine_to_itself_counts_before_a_faster_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "ROUNDS", (2, 3))
    sides = [side((4.0, 0.0), (2.0, 0.9), (3.0, 0.0)), side((1.0, 0.9), (1.0, 0.9), (1.5, 0.9))]
    asked = scaling.Asked("crown", 1)
    one, two = scaling.compared(sides, asked, np.inf)
    assert one["wall"] == 3.0 and two["wall"] == 1.0
    name, *cells = scaling._row("case", asked, one, two)
    assert name == "case crown" and cells[2] == "3.00" and cells[-1] == "**no**"
