"""Limits of the BLAS threads, and memory that stays with the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import ThreadpoolController

from gamma.runtime import threads
from gamma.verification import verdict

ROOT = Path(__file__).resolve().parents[2]
BLAS = ThreadpoolController().select(user_api="blas").lib_controllers

pytestmark = pytest.mark.skipif(not BLAS, reason="no BLAS that can be asked")


def now() -> set[int]:
    return {lib.get_num_threads() for lib in BLAS}


@pytest.fixture(autouse=True)
def two() -> Iterator[None]:
    """Two threads outside, one per library in the end as before."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        if now() != {2}:
            pytest.skip("this BLAS has one thread only")
        yield


def test_a_limit_holds_inside_and_what_was_comes_back() -> None:
    with threads.limit_blas(1):
        assert now() == {1} and threads.asked() == 2
        with threads.limit_blas(2):
            assert now() == {1}
    assert now() == {2} == {threads.asked()}
    with pytest.raises(ZeroDivisionError), threads.limit_blas(1):
        raise ZeroDivisionError
    assert now() == {2}


def test_a_limit_never_raises_the_number() -> None:
    with threads.limit_blas(64):
        assert now() == {2}


def test_limits_of_several_threads_end_with_the_last() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with threads.limit_blas(1):
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    other.start()
    assert inside.wait(10)
    with threads.limit_blas(1):
        assert now() == {1}
    assert now() == {1}
    leave.set()
    other.join()
    assert now() == {2}


def test_processors() -> None:
    assert 1 <= threads.available() <= (os.cpu_count() or 1)


V2 = "0::/system/one\n"
V1 = "5:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "granted"),
    [
        (V2, {"system/one/cpu.max": "150000 100000\n"}, 2),
        (V2, {"system/one/cpu.max": "max 100000\n", "system/cpu.max": "50000 100000\n"}, 1),
        (V2, {"system/one/cpu.max": "400000 100000", "system/cpu.max": "300000 100000"}, 3),
        (V2, {"cpu.max": "200000 100000\n"}, 2),  # a container sees its own group as the root
        (V2, {"system/one/cpu.max": "max 100000\n"}, None),
        (V2, {"system/one/cpu.max": "nonsense"}, None),
        (V1, {"cpu,cpuacct/box/cpu.cfs_quota_us": "250000\n"}, 3),
        (V1, {"cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n"}, None),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n"}, 1),
        (V1, {"memory/box/cpu.cfs_quota_us": "100000\n"}, None),
        (None, {}, None),
    ],
)
def test_a_quota_of_processor_time(
    own: str | None, files: dict[str, str], granted: int | None, tmp_path: Path
) -> None:
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "mounted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if name.endswith("quota_us"):
            file.with_name("cpu.cfs_period_us").write_text("100000\n")
    assert threads.quota.__wrapped__(tmp_path / "own", tmp_path / "mounted") == granted


def test_a_quota_counts_as_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = threads.available()
    monkeypatch.setattr(threads, "quota", lambda: 1)
    assert threads.available() == 1
    monkeypatch.setattr(threads, "quota", lambda: 10**6)
    assert threads.available() == whole
    monkeypatch.setattr(verdict, "quota", lambda: 1)
    with verdict.limited_threads(None):
        assert now() == {1}
    with verdict.limited_threads(2):
        assert now() == {2}


def printed(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's allocator")
def test_freed_memory_is_used_again() -> None:
    code = """if True:
        import os, resource
        import numpy as np
        from gamma.runtime import heap
        if not os.environ.get("GAMMA_DISABLE"):
            assert not heap.keep(), "a host's allocator was changed"
        heap.own()
        agreed = heap.keep()
        for size in (3, 4, 5) * 4:  # megabytes; the first rounds find their place
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            parts = [np.ones(size << 17) for _ in range(4)]
            del parts
        print(agreed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    agreed, faults = printed(code).split()
    if agreed != "True":
        pytest.skip("not the GNU C library")
    assert int(faults) < 200
    refused, faults = printed(code, GAMMA_DISABLE="kept_memory").split()
    assert refused == "False" and int(faults) > 200
