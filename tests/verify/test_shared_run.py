"""One instance on a dask cluster: parts of a tree, put together again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import ResourceError, UsageError
from gamma.verification import cluster, shared_run
from gamma.verification.branching.frontier import named
from gamma.verification.shared_run import Grown, Part
from tests.verify.known import hard


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Parts are done in this process, the last one first; their numbers."""
    done: list[int] = []

    def each(
        address: str, function: Callable[[Part], Grown], lost: Any, parts: Sequence[Part]
    ) -> Iterator[Grown]:
        for part in reversed(parts):
            done.append(part.number)
            yield function(part)

    class Nobody:
        def close(self) -> None: ...

    monkeypatch.setattr(cluster, "connected", lambda _: Nobody())
    monkeypatch.setattr(cluster, "each", each)
    monkeypatch.setattr(shared_run, "PART_SECONDS", 0.1)
    monkeypatch.setattr(shared_run, "PARTS", 4)
    monkeypatch.setattr(shared_run, "LEAST", 2)
    return done


@pytest.mark.parametrize(
    ("branch", "asked"), (("input", (4, (20, 20), 0.3)), ("relu", (3, (16, 16), 0.1)))
)
def test_parts_decide_what_the_whole_does(here: list[int], branch: str, asked: Any) -> None:
    net, prop = hard(*asked)
    how: Any = {"branch": branch, "attack": False}
    alone = gamma.verify(net, prop, threads=1, **how)
    shared = gamma.verify(net, prop, threads=1, scheduler="nowhere", **how)
    again = gamma.verify(net, prop, threads=2, scheduler="nowhere", **how)
    assert alone.verdict == shared.verdict == "verified"
    assert here and shared.branched is not None and again.branched is not None
    assert len(here) % shared_run.PARTS == 0
    assert shared.branched == again.branched and shared.branched.open == 0


def test_parts_are_the_whole(here: list[int]) -> None:
    seen = []
    parted = shared_run.parted

    def watched(state: Any, count: int) -> Any:
        parts = parted(state, count)
        whole = {name: column.copy() for name, column in named(state, "open").items()}
        seen.append((whole, [named(part, "open") for part in parts]))
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_run, "parted", watched)
        gamma.verify(*hard(4, (20, 20), 0.3), threads=1, scheduler="nowhere")
    whole, parts = seen[0]
    for name, column in whole.items():
        together = np.concatenate([part[name] for part in parts])
        assert sorted(map(repr, together.tolist())) == sorted(map(repr, column.tolist()))
    worst = [part["bound"].min() for part in parts]
    assert max(worst) <= np.sort(whole["bound"])[shared_run.PARTS - 1]


def test_parts_that_are_lost_and_what_does_not_go_together(
    here: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, prop = hard(4, (20, 20), 0.3)

    def lost(*_: Any) -> Iterator[Grown]:
        yield Grown(3, None)

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "each", lost)
        with pytest.raises(ResourceError, match="every worker that took part 3"):
            gamma.verify(net, prop, threads=1, scheduler="nowhere")
    with pytest.raises(UsageError, match="scheduler= is for method auto"):
        gamma.verify(net, prop, method="crown", scheduler="nowhere")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_the_middle_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    monkeypatch.setattr(shared_run, "PART_SECONDS", 0.2)
    net, prop = hard(5, (30, 30, 30), 0.3)
    found = []
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as workers:
        for victims in (0, 1):
            killed: list[int] = []

            def kill(message: str, left: int = victims, killed: list[int] = killed) -> None:
                if message.startswith("branching") and len(killed) < left:
                    killed.append(next(iter(workers.workers.values())).pid)
                    threading.Timer(0.7, os.kill, (killed[-1], signal.SIGKILL)).start()

            options: Any = {"threads": 1, "attack": False, "timeout": 120, "progress": kill}
            result = gamma.verify(net, prop, scheduler=workers.scheduler_address, **options)
            assert len(killed) == victims
            found.append((result.verdict, result.branched))
    assert found[0] == found[1]
    assert found[0][0] == "verified"
