"""Threads that share the blocks of one walk.

The products and kernels of a block release the interpreter's lock, so a few threads, each with a
BLAS of one thread, fill the processors. What is cut into blocks, and how, never depends on the
number of threads: results are the same bits for any.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from gamma import telemetry, tuning
from gamma.errors import UsageError
from gamma.runtime import threads

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")

# Threads are started as they are needed, so this is only what nobody will reach.
_MOST = 256
# Operations of float64 products, of a millisecond.
_FEW_OPERATIONS = 1e7

# Seconds for which an answer of the system and the BLAS holds: asking is dear beside a small bound.
_FRESH = 1e-3
_given = 1, 0.0  # threads, and until when

_limit: ContextVar[int | None] = ContextVar("gamma_workers", default=None)
_pool: ThreadPoolExecutor | None = None


def workers() -> int:
    """Threads that may share the work here: 1 inside shared work and where nobody gave more."""
    if not tuning.enabled("row_threads"):
        return 1
    limit = _limit.get()
    return _everybody() if limit is None else limit


def _everybody() -> int:
    """Threads that the machine has and the process was given."""
    global _given
    now = time.monotonic()
    if now >= _given[1]:
        _given = min(threads.available(), threads.asked()), now + _FRESH
    return _given[0]


def sharing() -> int:
    """Threads that may share the inside of one call of the C library here."""
    return workers() if tuning.enabled("shared_calls") else 1


@contextmanager
def limited(count: int | None) -> Iterator[None]:
    """At most ``count`` threads inside the block (this thread and task only); None: no limit.

    Raises UsageError below 1.
    """
    if count is not None and count < 1:
        raise UsageError(f"threads {count}: expected at least 1")
    token = _limit.set(_limit.get() if count is None else count)
    try:
        yield
    finally:
        _limit.reset(token)


def run(
    tasks: Sequence[Callable[[], T]], most: int = _MOST, operations: float = math.inf
) -> list[T]:
    """The results of independent tasks, in their order; at most ``most`` (memory) run at once.

    ``operations``: of all tasks outside the interpreter, roughly. Few are not shared: threads that
    take turns at the interpreter's lock would take longer.
    The calling thread works too, so that nothing waits for a pool that others keep busy. The first
    exception ends the sharing: running tasks are waited for, waiting ones dropped, and it is raised
    here, as is an interrupt of the calling thread.
    """
    count = min(len(tasks), most)
    count = min(count, workers()) if count > 1 and operations >= _FEW_OPERATIONS else 1
    if count == 1:
        return [task() for task in tasks]
    from concurrent.futures import wait

    results: dict[int, T] = {}
    failures: list[BaseException] = []
    waiting = iter(list(enumerate(tasks)))  # a list's iterator: taking the next one is atomic

    def work() -> None:
        try:
            for number, task in waiting:
                if failures:
                    return
                results[number] = task()
        except BaseException as error:  # raised again by the calling thread
            failures.append(error)

    helpers = _helped(work, count - 1)
    try:
        copy_context().run(_alone, work, "rows.shared", np.geterr())
        wait([helper for helper in helpers if not helper.cancel()])
    except BaseException as error:  # an interrupt while waiting
        failures.append(error)
        raise
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(tasks))]


def _helped(work: Callable[[], None], count: int) -> list[Future[None]]:
    """``work`` on as many other threads, in a copy of this context."""
    state = np.geterr()
    return [
        _executor().submit(copy_context().run, _alone, work, telemetry.HELPER, state)
        for _ in range(count)
    ]


def _alone(work: Callable[[], None], name: str, state: Any) -> None:
    """``work`` by one thread of several: it shares nothing further."""
    _limit.set(1)
    with telemetry.measure(name), threads.limit_blas(1), np.errstate(**state):
        work()


class Ahead(Generic[T]):
    """Results of independent tasks that other threads take, in their order, while the calling one
    does something else; what it asks for before it was taken it computes itself, and while it waits
    for another thread it takes the next ones.
    """

    def __init__(self, tasks: Sequence[Callable[[], T]]) -> None:
        from concurrent.futures import Future

        self._tasks = tasks
        self._found: list[Future[T]] = [Future() for _ in tasks]
        self._open = set(range(len(tasks)))  # removing one is atomic
        self._ended = False

    def __getitem__(self, number: int) -> T:
        """The result of one task; raises what it raised."""
        self._take(number)
        for other in range(number + 1, len(self._tasks)):
            if self._found[number].done():
                break
            self._take(other)
        return self._found[number].result()

    def _take(self, number: int) -> None:
        try:
            self._open.remove(number)
        except KeyError:
            return
        try:
            self._found[number].set_result(self._tasks[number]())
        except BaseException as error:  # raised again by whoever asks
            self._found[number].set_exception(error)

    def _work(self) -> None:
        for number in range(len(self._tasks)):
            if self._ended:
                return
            self._take(number)


@contextmanager
def ahead(tasks: Sequence[Callable[[], T]]) -> Iterator[Ahead[T]]:
    """The tasks' results as they are asked for. On leaving, threads end after the task they are at;
    what was not taken is computed when it is asked for later.
    """
    from concurrent.futures import wait

    found = Ahead(tasks)
    helpers = _helped(found._work, min(len(tasks), workers() - 1))
    try:
        yield found
    finally:
        found._ended = True
        wait([helper for helper in helpers if not helper.cancel()])


def _executor() -> ThreadPoolExecutor:
    """The process's threads, started when first needed."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(_MOST, "gamma-rows")
    return _pool


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # A forked process has the object but none of its threads.
    os.register_at_fork(after_in_child=_forget)
