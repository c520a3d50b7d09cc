"""How long a tree will go on, and what that decides: a race, and what waits."""

from __future__ import annotations

import math

import pytest

import gamma
from gamma.verification import auto
from gamma.verification.branching.rise import Rise
from tests.verify.known import hard


def test_a_bound_that_rises_with_the_logarithm_ends_where_it_reaches_0() -> None:
    rise = Rise()
    assert rise.left() == math.inf
    for level in range(8):
        rise.add(2**level, -10.0 + level)
    assert rise.left() == pytest.approx(2**10 - 2**7)
    rise.add(2**8, -0.0)
    assert rise.left() == 0


def test_nothing_is_told_by_a_bound_that_stands_still_or_by_few_rounds() -> None:
    rise = Rise()
    for count, worst in ((1, -math.inf), (8, -1.0), (16, -0.5)):
        rise.add(count, worst)
        assert rise.left() == math.inf
    rise.add(32, -1.0)
    assert rise.left() == math.inf


def test_cases_win_a_race_that_boxes_would_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "RACE_SECONDS", 0.1)
    found = gamma.verify(*hard(12, (12, 8), 0.8), timeout=30, attack=False)
    assert found.verdict == "verified" and found.branched is not None
    assert found.branched.on == "relu"


def test_boxes_go_on_where_they_end_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "RACE_SECONDS", 0.03)
    monkeypatch.setattr(auto, "FIRST_ROUNDS", 1)
    monkeypatch.setattr(auto, "FEWEST_RACED", 0)
    found = gamma.verify(*hard(4, (20, 20), 0.3), timeout=30, attack=False)
    assert found.verdict == "verified" and found.branched is not None
    assert found.branched.on == "input"
