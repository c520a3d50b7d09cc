"""The instances of a suite on a dask cluster, through joblib's dask backend.

The scheduler gives the work of a worker that ends to another one. An instance that ends several
workers in turn, the last ones with nothing else at work, is given up and gets a record saying so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gamma.errors import GammaError, InternalError, ResourceError, UsageError
from gamma.frozen import Frozen

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 10.0


def connected(address: str) -> Any:
    """A client of the scheduler at ``address``; close it.

    Raises UsageError without dask or for an address that is none, ResourceError when nobody
    answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "the backend dask needs the packages dask and distributed: "
            "install gamma-verify[dask], here and on the workers"
        ) from None
    client: Any = Client
    try:
        return client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        raise UsageError(
            f"scheduler {address}: {error}; expected an address like tcp://host:8786"
        ) from None
    except OSError:
        raise ResourceError(
            f"scheduler {address}: no answer in {CONNECT_SECONDS:g} s; start one with "
            "`dask scheduler`, and workers with `dask worker`, and give its address"
        ) from None


def each(
    address: str, function: Callable[[T], R], given_up: Callable[[T, float], R], items: Sequence[T]
) -> Iterator[R]:
    """``function`` of every item, as the cluster's workers finish them; each item counts once.

    ``given_up`` makes the result, from the seconds it took, of an item that workers ended on. What
    ``function`` raises is raised here, too.
    """
    from joblib import Parallel, delayed, parallel_config

    client = connected(address)
    try:
        left = dict(enumerate(items))
        started = time.perf_counter()
        # A worker that ends takes innocent items along, time and again: what the first round left
        # is tried again, each with nothing else at work.
        rounds = [list(left)] if items else []
        rounds += [[k] for k in left]
        for numbers in rounds:
            waiting = [k for k in numbers if k in left]
            if not waiting:
                continue
            # Workers that ended are started again; on a busy machine that takes a while.
            patience = CONNECT_SECONDS if numbers is rounds[0] else 6 * CONNECT_SECONDS
            backend = _backend()(client=client, pure=False, wait_for_workers_timeout=patience)
            with parallel_config(backend=backend):
                work = Parallel(return_as="generator_unordered", batch_size=1)
                tasks = [delayed(_numbered)(function, k, left[k]) for k in waiting]
                for outcome in work(tasks):
                    if outcome is not None and left.pop(outcome[0], None) is not None:
                        if isinstance(outcome[1], _Raised):
                            raise outcome[1].error
                        yield outcome[1]
        for item in left.values():
            yield given_up(item, time.perf_counter() - started)
    except TimeoutError:
        raise ResourceError(
            f"scheduler {address}: it has no workers; start some with `dask worker {address}`"
        ) from None
    finally:
        client.close()


def _backend() -> Any:
    """joblib's dask backend, but all work is the cluster's, and what the cluster gave up is over.

    joblib runs the work of one processor in its own process, even where that one is a cluster's
    last living worker: an instance that ends its worker would end the suite. It waits for ever for
    work that the cluster gave up.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() and callback([None]))
            return future

    return Backend


class _Raised(Frozen, eq=True):
    """What an item's function raised. As an error of the task it would look like a worker's end."""

    error: Exception


def _numbered(function: Callable[[T], R], number: int, item: T) -> tuple[int, R | _Raised]:
    try:
        return number, function(item)
    except GammaError as error:
        return number, _Raised(error)
    except Exception as error:  # it may not survive the way here
        line = f"a worker of the cluster failed: {type(error).__name__}: {error}; please report"
        return number, _Raised(InternalError(line))
