"""Threads that share a walk: the same bits for any number of them, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import telemetry, tuning
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import (
    Add,
    Conv,
    Gemm,
    Input,
    LeakyRelu,
    Normalize,
    ReduceMax,
    Relu,
    Reshape,
)
from gamma.propagate import Specification, blocks, lower_bounds
from gamma.propagate.blocks import block_length, row_cost
from gamma.runtime import choices, workers

ROOT = Path(__file__).resolve().parents[2]


def dense(rng: np.random.Generator) -> Network:
    """A chain that the C library walks through block by block."""
    build = Builder(Input(), (12,))
    x = 0
    for size, op in ((40, LeakyRelu(0.1)), (40, Relu()), (40, Relu())):
        width = build.nodes[x].shape[0]
        x = build.add(Gemm(rng.normal(size=(size, width)), rng.normal(size=size)), x)
        x = build.add(op, x)
    x = build.add(Gemm(rng.normal(size=(5, 40))), x)
    return build.build(x)


def relus(rng: np.random.Generator) -> Network:
    """A small dense ReLU network: one call, box by box."""
    build = Builder(Input(), (8,))
    x = 0
    for size in (24, 24):
        width = build.nodes[x].shape[0]
        x = build.add(Relu(), build.add(Gemm(rng.normal(size=(size, width)).astype("f")), x))
    return build.build(build.add(Gemm(rng.normal(size=(3, 24)).astype("f")), x))


def residual(rng: np.random.Generator) -> Network:
    """Convolutions with a skip, a maximum and a dense end."""

    def conv(out: int, into: int, stride: int = 1) -> Conv:
        weight = rng.normal(size=(out, into, 3, 3)).astype(np.float32)
        return Conv(weight, rng.normal(size=out), (stride, stride), (1, 1, 1, 1))

    build = Builder(Input(), (3, 12, 12))
    x = build.add(Relu(), build.add(conv(6, 3), 0))
    y = build.add(conv(6, 6), build.add(Relu(), build.add(conv(6, 6), x)))
    x = build.add(Relu(), build.add(Add(), x, y))
    x = build.add(Relu(), build.add(conv(8, 6, 2), x))
    x = build.add(ReduceMax(1), build.add(Reshape((36, 8)), x))
    x = build.add(Reshape((36,)), x)
    return build.build(build.add(Gemm(rng.normal(size=(4, 36)).astype(np.float32)), x))


NETWORKS: list[Callable[[np.random.Generator], Network]] = [dense, relus, residual]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every walk is worth sharing."""
    monkeypatch.setattr(blocks, "_LEAST_ROWS", 2)
    with choices.using({("rows.share", ""): 1.0}):
        yield


def boxes(network: Network, rng: np.random.Generator, batch: int) -> gamma.Box:
    centre = rng.normal(size=(batch, *network.input_shape))
    return gamma.Box(centre - 0.05, centre + 0.05)


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("method", ["crown", "crown-ibp"])
@pytest.mark.usefixtures("small")
def test_the_same_bits_for_any_number_of_threads(
    make: Callable[..., Network], batch: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    network = make(rng)
    if make is relus:
        monkeypatch.setattr("gamma.propagate.dense._CALL_OPERATIONS", 1.0)
        monkeypatch.setattr("gamma.propagate.dense._SHARED_OPERATIONS", 0.0)
    box = boxes(network, rng, batch)
    rows = rng.normal(size=(40, network.nodes[-1].size))
    which = rng.integers(0, batch, 40)
    asked = Specification(rows, None, np.zeros(40), which)
    found: list[tuple[Any, ...]] = []
    for count in (1, 2, 4):
        with workers.limited(count):
            known = gamma.bounds(network, box, method=method, intermediate=True)
            answer = lower_bounds(network, box, asked, method=method)
            found.append((known, answer.lower))
    with tuning.disabled("row_threads"):
        known = gamma.bounds(network, box, method=method, intermediate=True)
        found.append((known, lower_bounds(network, box, asked, method=method).lower))
    for known, lower in found[1:]:
        assert (lower == found[0][1]).all()
        for name, first in found[0][0].items():
            assert (known[name].lower == first.lower).all()
            assert (known[name].upper == first.upper).all()


@pytest.mark.parametrize("make", [make for make in NETWORKS if make is not relus])
@pytest.mark.usefixtures("small")
def test_a_walk_is_really_shared(make: Callable[..., Network]) -> None:
    rng = np.random.default_rng(4)
    network = make(rng)
    # A call so short may be over before another thread wakes up: one of many is not.
    for _ in range(200):
        alone = tuning.disabled("shared_calls")  # else calls are shared inside, where none looks
        with alone, workers.limited(2), telemetry.recording() as recorder:
            gamma.bounds(network, boxes(network, rng, 4))
        names = {span.name for span in recorder.spans}
        assert "rows.shared" in names
        if telemetry.HELPER in names:
            break
    else:
        raise AssertionError("no other thread ever took a share")
    root = recorder.tree()
    callers = [b.seconds for b in root.children.values() if b.name != telemetry.HELPER]
    assert root.seconds == sum(callers)  # what helpers do is no time of its own
    with tuning.disabled("row_threads"), telemetry.recording() as recorder:
        gamma.bounds(network, boxes(network, rng, 4))
    assert "rows.shared" not in {span.name for span in recorder.spans}


def test_blocks_fit_into_memory_and_do_not_waste_threads() -> None:
    network = residual(np.random.default_rng(0))
    last = network.output
    for count in (1, 7, 63, 1000, 12345):
        for most in (1, 2, 9, 100, 10**6):
            for threads in (1, 2):
                with workers.limited(threads):
                    step = block_length(network, last, count, 2, most)
                assert 1 <= step <= max(1, most // threads)
    assert block_length(network, last, 10, 2, 10**6) == 10  # nothing to gain
    with workers.limited(2), choices.using({("rows.share", ""): 100 * row_cost(network, last)}):
        # Of 120 rows, steps that take three descents each keep two threads busy.
        assert block_length(network, last, 60, 2, 10**6, times=1) == 60
        assert block_length(network, last, 60, 2, 10**6, times=3) == 30
    pixel, whole = row_cost(network, 1), row_cost(network, last)
    assert pixel < whole / 10  # a row from one pixel touches its window only


def test_rows_that_go_node_by_node_are_shared_when_there_are_many() -> None:
    """Of a network with normalisations, a share must outlast the interpreter's own work."""
    build, x = Builder(Input(), (2, 8)), 0
    for _ in range(6):
        x = build.add(Gemm(np.ones((8, 8), np.float32)), build.add(Normalize(1, 1e-5), x))
    network = build.build(x)
    each = row_cost(network, x)
    few = int(2 * x * blocks._NODE / each)
    with workers.limited(2), choices.using({("rows.share", ""): few * each / 64}):
        for times in (1, 3):
            assert block_length(network, x, few - 64, 1, 10**9, times) == few - 64
            assert block_length(network, x, few + 64, 1, 10**9, times) < few


def test_results_come_in_order_from_several_threads() -> None:
    meet = threading.Barrier(3, timeout=30)

    def task(number: int) -> tuple[int, int]:
        if number < 3:
            meet.wait()  # only passes when three threads work at once
        return number, threading.get_ident()

    tasks = [lambda n=n: task(n) for n in range(20)]
    with workers.limited(3):
        done = workers.run(tasks)
        assert [number for number, _ in done] == list(range(20))
        assert len({thread for _, thread in done}) == 3
        few = workers.run(tasks[3:], 1)
        short = workers.run(tasks[3:], operations=1000.0)
    for alone in (few, short):
        assert {thread for _, thread in alone} == {threading.get_ident()}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("where", [0, 1])
def test_an_exception_ends_the_work_and_is_raised(error: type[BaseException], where: int) -> None:
    meet = threading.Barrier(2, timeout=30)
    caller, ran = threading.get_ident(), []

    def first() -> None:
        meet.wait()
        if (threading.get_ident() == caller) == (where == 0):
            raise error

    def later(number: int) -> None:
        time.sleep(0.005)
        ran.append(number)

    tasks = [first, first, *(lambda n=n: later(n) for n in range(200))]
    with workers.limited(2), pytest.raises(error):
        workers.run(tasks)
    seen = len(ran)
    assert seen < 100
    time.sleep(0.05)
    assert len(ran) == seen  # nobody works on
    with workers.limited(2):
        assert workers.run([lambda: 1, lambda: 2]) == [1, 2]


def test_threads_see_what_the_caller_set_and_do_not_share_again() -> None:
    meet = threading.Barrier(2, timeout=30)

    def task() -> tuple[bool, int, str]:
        meet.wait()
        return tuning.enabled("windows"), workers.workers(), np.geterr()["over"]

    with workers.limited(2), tuning.disabled("windows"), np.errstate(over="raise"):
        assert workers.run([task, task]) == [(False, 1, "raise")] * 2


@pytest.mark.usefixtures("small")
def test_the_time_limit_holds_in_threads() -> None:
    rng = np.random.default_rng(5)
    network = residual(rng)
    with workers.limited(2), pytest.raises(ResourceError, match="time limit"):
        gamma.bounds(network, boxes(network, rng, 4), deadline=time.monotonic() + 1e-4)


def test_how_many() -> None:
    with pytest.raises(UsageError, match="at least 1"), workers.limited(0):
        pass
    with workers.limited(3):
        assert workers.workers() == 3
        with workers.limited(None):
            assert workers.workers() == 3
        with tuning.disabled("row_threads"):
            assert workers.workers() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    code = """if True:
        import os, sys, threading
        from gamma.runtime import workers
        meet = lambda barrier: lambda: barrier.wait(20)
        with workers.limited(2):
            workers.run([meet(barrier := threading.Barrier(2)), meet(barrier)])
            child = os.fork()
            workers.run([meet(barrier := threading.Barrier(2)), meet(barrier)])
        if child == 0:
            os._exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=120)
    assert done.returncode == 7


def test_one_blas_thread_asked_means_no_helpers() -> None:
    code = "from gamma.runtime import workers; print(workers.workers())"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_tasks_that_run_ahead(count: int) -> None:
    """Each runs once, whoever comes first; a failure is raised to the one who asks for it."""
    ran: list[int] = []

    def task(number: int) -> int:
        ran.append(number)
        if number == 2:
            raise ValueError("two")
        return 10 * number

    tasks = [partial(task, number) for number in range(6)]
    with workers.limited(count), workers.ahead(tasks) as found:
        assert found[5] == 50 and found[5] == 50
        with pytest.raises(ValueError, match="two"):
            found[2]
    assert [found[number] for number in (0, 1, 3, 4)] == [0, 10, 30, 40]
    assert sorted(ran) == list(range(6))


def test_who_waits_for_a_task_takes_the_next_ones() -> None:
    begun, free, ran = threading.Event(), threading.Event(), dict[int, int]()

    def task(number: int) -> int:
        ran[number] = threading.get_ident()
        if number == 0:  # of the other thread, which waits for the calling one to work
            begun.set()
            assert free.wait(60)
        if number == 2:
            free.set()
        return number

    with workers.limited(2), workers.ahead([partial(task, i) for i in range(3)]) as found:
        begun.wait(60)
        assert found[0] == 0
    assert ran[0] != threading.get_ident() and {ran[1], ran[2]} == {threading.get_ident()}


def test_leaving_ends_the_tasks_that_run_ahead() -> None:
    begun, left, ran = threading.Event(), threading.Event(), []

    def task(number: int) -> None:
        ran.append(number)
        begun.set()
        left.wait(60)

    def leave() -> None:
        begun.wait(60)
        time.sleep(0.05)  # the calling thread waits for the task that runs
        left.set()

    threading.Thread(target=leave).start()
    with workers.limited(2), workers.ahead([partial(task, i) for i in range(9)]):
        begun.wait(60)
    assert ran == [0]
