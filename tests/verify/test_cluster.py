"""A suite on a dask cluster: a killed worker costs nothing, a deadly instance only itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gamma
from gamma.errors import InternalError, ResourceError, UsageError
from gamma.verification import cluster
from tests.verify.known import dense

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    # The cluster's own threads and sockets end after the test that used them.
    pytest.mark.filterwarnings("ignore"),
]
COUNT = 40
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workers() -> Iterator[Any]:
    """A cluster of two worker processes, each started again when it ends."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """y = (x0, x1) on the unit square; instance k asks for Y_0 >= k / 20."""
    gamma.save(dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])), tmp_path / "net.safetensors")
    declare = "".join(f"(declare-const {v}_{i} Real)\n" for v in "XY" for i in range(2))
    box = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(2))
    for k in range(COUNT):
        (tmp_path / f"p{k}.vnnlib").write_text(declare + box + f"(assert (>= Y_0 {k / 20}))")
    lines = [f"net.safetensors,p{k}.vnnlib,20\n" for k in range(COUNT)]
    (tmp_path / "list.csv").write_text("".join(lines))
    return tmp_path


def test_a_worker_killed_in_the_middle_costs_nothing(folder: Path, workers: Any) -> None:
    out = folder / "out.jsonl"
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "gamma", "suite", folder / "list.csv", "-o", out),
            *("--backend", "dask", "--scheduler", workers.scheduler_address),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        deadline = time.monotonic() + 60
        while not out.exists() or not out.read_text().count("\n"):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        victim = next(iter(workers.workers.values())).pid
        os.kill(victim, signal.SIGKILL)
        done = out.read_text().count("\n")
        text, errors = run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0, errors
    assert done < COUNT  # it was in the middle
    records = [json.loads(line) for line in out.read_text().splitlines()]
    verdicts = {record["property"]: record["verdict"] for record in records}
    assert len(records) == COUNT == len(verdicts)
    expected = {f"p{k}.vnnlib": "violated" if k <= 20 else "verified" for k in range(COUNT)}
    assert verdicts == expected
    assert f"{COUNT} run in" in text


def deadly(item: int) -> int:
    if item == 3:
        os._exit(9)
    return item


def test_what_ends_every_worker_is_given_up(workers: Any, monkeypatch: Any) -> None:
    # Workers import a function by its name; this module has none that they could import.
    import __main__

    monkeypatch.setattr(deadly, "__module__", "__main__")
    monkeypatch.setattr(__main__, "deadly", deadly, raising=False)
    found = list(
        cluster.each(workers.scheduler_address, deadly, lambda item, _: -item, list(range(8)))
    )
    assert sorted(found) == [-3, 0, 1, 2, 4, 5, 6, 7]


def test_the_work_of_a_single_worker_is_not_done_here() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as one:
        found = cluster.each(one.scheduler_address, lambda _: os.getpid(), lambda *_: -1, [0, 1])
        assert set(found) == {one.workers[0].pid}

        def refuse(kind: type[Exception]) -> None:
            raise kind("not today")

        # An error is no worker that ended: it is raised here, once.
        for kind, seen in ((UsageError, UsageError), (KeyError, InternalError)):
            with pytest.raises(seen, match="not today"):
                list(cluster.each(one.scheduler_address, refuse, lambda *_: None, [kind]))


def test_no_cluster(monkeypatch: Any) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with pytest.raises(ResourceError, match=r"no answer in 0\.5 s"):
        cluster.connected("tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="an address like"):
        cluster.connected("nonsense://x")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"gamma-verify\[dask\]"):
        cluster.connected("tcp://127.0.0.1:9")
