"""The search: rounds of cases from one seed each, the finds shrunk.

A round with the same seed and space draws the same cases on every machine.
"""

from __future__ import annotations

import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis.errors import NoSuchExample
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.exact.checking import Count
from tests.exact.search.asking import Space
from tests.exact.search.case import Case, cases, judge
from tests.exact.search.simplify import smallest

CASES = 100
"""Cases of a round."""


@dataclass
class Find:
    """A case that fails: in which round, after how long, and what it says."""

    seed: int
    seconds: float
    case: Case
    wrong: tuple[str, ...]


@dataclass
class Tally:
    """What rounds did."""

    count: Count = field(default_factory=Count)
    cases: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    finds: list[Find] = field(default_factory=list)


@contextmanager
def same_draws() -> Iterator[None]:
    """Hypothesis draws the constants of local modules too: of those that happen to be imported, in
    one process other ones than in the next. Not here."""
    cache = type(providers.CONSTANTS_CACHE)(1024)
    with (
        mock.patch.object(providers, "_get_local_constants", Constants),
        mock.patch.object(providers, "CONSTANTS_CACHE", cache),
    ):
        yield


class _TimeUpError(BaseException):
    """Ends hypothesis' shrinking, which would take an Exception for one more find."""


class _Round:
    """Judges cases; after the first find, only for as long as shrinking may take."""

    def __init__(self, tally: Tally, shrinking: float, known: tuple[str, ...]) -> None:
        self.tally, self.shrinking, self.started = tally, shrinking, time.monotonic()
        self.known = known
        self.found: Find | None = None
        self.deadline = float("inf")

    def fails(self, case: Case) -> bool:
        """Whether a case is wrong, and in the way of the first one that was."""
        if time.monotonic() > self.deadline:
            raise _TimeUpError
        count = Count()
        verdict = judge(case, count)
        wrong = tuple(w for w in verdict.wrong if not any(k in w for k in self.known))
        if self.found is None:
            self.tally.cases += 1
            if verdict.refused:
                self.tally.refused[verdict.refused.split(":")[0]] += 1
            self.tally.count.bounds += count.bounds
            self.tally.count.comparisons += count.comparisons
        elif not any(_kind(w) == _kind(self.found.wrong[0]) for w in wrong):
            return False
        if not wrong:
            return False
        if self.found is None:
            spent = time.monotonic() - self.started
            self.deadline = time.monotonic() + self.shrinking
            self.found = Find(0, spent, case, wrong)
        self.found.case, self.found.wrong = case, wrong
        return True


def search(
    seed: int,
    space: Space,
    comparisons: int,
    seconds: float,
    report: Callable[[Find], None],
    known: tuple[str, ...] = (),
    most: int = 5,
) -> Tally:
    """Rounds ``seed``, ``seed`` + 1, ... until enough was compared, time is up or finds abound."""
    tally, deadline = Tally(), time.monotonic() + seconds
    while tally.count.comparisons < comparisons and time.monotonic() < deadline:
        found = round_of(seed, space, tally, known=known)
        if found is not None:
            report(found)
            if len(tally.finds) == most:
                break
        seed += 1
    return tally


def _kind(message: str) -> str:
    """Crash, internal error or a wrong bound: shrinking stays with one of them."""
    first = message.split(":")[0]
    return first if first in ("crash", "internal error") else "bound"


def round_of(
    seed: int,
    space: Space,
    tally: Tally,
    size: int = CASES,
    shrinking: float = 60.0,
    known: tuple[str, ...] = (),
) -> Find | None:
    """One round; its first find, shrunk within about ``shrinking`` seconds, joins the tally.

    Messages with one of the texts ``known`` in them are passed over.
    """
    one = _Round(tally, shrinking / 2, known)
    options: Any = settings(
        max_examples=size,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrinking else (Phase.generate,),
        verbosity=Verbosity.quiet,
    )
    with warnings.catch_warnings(), same_draws():
        warnings.simplefilter("ignore")
        try:
            find(cases(space), one.fails, settings=options, random=random.Random(seed))
        except (NoSuchExample, _TimeUpError):
            pass
    found = one.found
    if found is None:
        return None
    found.seed = seed
    one.deadline = float("inf")
    if shrinking:
        found.case = smallest(found.case, one.fails, shrinking / 2)
    tally.finds.append(found)
    return found
