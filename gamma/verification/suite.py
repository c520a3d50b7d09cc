"""Many instances in one run: a list of models and properties, one durable record for each.

A record is bound to the content of the two files and to the options; ``--resume`` keeps what still
fits and computes the rest, so that a run that was killed ends with the verdicts it would have had.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from gamma.errors import GammaError, UsageError
from gamma.frozen import Frozen
from gamma.runtime import heap
from gamma.runtime.threads import available
from gamma.verification.choices import DECIDING, check_options, limit_of
from gamma.verification.instances import Instance, Key, content_hash
from gamma.verification.instances import read_list as read_list
from gamma.verification.records import SCHEMA, Record, Records

DIED = "the process that worked on it ended; probably out of memory: see the system's log"

KEPT: tuple[str, ...] = ("counterexample", "conjunctions", "method", "dtype", "memory")
KEPT += ("environment", "notes", "branching", "phases")
"""What a record has of a result."""

WORKERS_PER_PROCESSOR = 4
"""More only take memory from each other."""

Progress = Callable[[str], None]


class Options(Frozen, eq=True):
    """How every instance is verified; ``timeout`` caps the one of the list."""

    method: str = "auto"
    guarantee: str = "real"
    dtype: str = "auto"
    attack: bool = True
    seed: int = 0
    timeout: float | None = None
    gzip_ratio: float | None = None
    branch: str = "auto"

    def limit(self, instance: Instance) -> float | None:
        """Seconds this instance may take."""
        limits = [t for t in (instance.timeout, self.timeout) if t is not None]
        return limit_of(min(limits, default=None), self.method)

    def bound_to(self, instance: Instance) -> dict[str, Any]:
        """What a record must agree with to be kept: whatever a verdict may depend on."""
        asked = asdict(self)
        del asked["gzip_ratio"]
        return {**asked, "timeout": self.limit(instance)}


def decide(
    instance: Instance,
    options: Options,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Record:
    """Verify one instance; what goes wrong with it becomes the record's ``error``."""
    start = time.perf_counter()
    model, prop = instance.folder / instance.model, instance.folder / instance.prop
    record: Record = {
        "schema": SCHEMA,
        "model": instance.model,
        "property": instance.prop,
        "number": instance.number,
        "model_sha256": content_hash(model),
        "property_sha256": content_hash(prop),
        "options": options.bound_to(instance),
    }
    try:
        record |= _verified(model, prop, options, options.limit(instance), threads, start, progress)
    except GammaError as error:
        record |= {"verdict": "error", "error": str(error)}
    except MemoryError:
        record |= {"verdict": "error", "error": "out of memory"}
    except Exception as error:  # one bug must not cost the other instances
        text = f"internal error: {type(error).__name__}: {error}"
        record |= {"verdict": "error", "error": text}
    return record | {"seconds": time.perf_counter() - start}


def _verified(
    model: Path,
    property_path: Path,
    options: Options,
    limit: float | None,
    threads: int | None,
    start: float,
    progress: Progress | None,
) -> Record:
    from gamma.formats.vnnlib import read_vnnlib
    from gamma.verification.verdict import verify

    net = _load(model, _stamp(model), options.gzip_ratio)
    prop = read_vnnlib(property_path, options.gzip_ratio)
    if limit is not None:
        # Reading the files counts; a token is left, so that a verdict comes back.
        limit = max(limit - (time.perf_counter() - start), 1e-3)
    result = verify(
        net,
        prop,
        method=options.method,
        guarantee=options.guarantee,
        dtype=options.dtype,
        timeout=limit,
        attack=options.attack,
        seed=options.seed,
        threads=threads,
        branch=options.branch,
        progress=progress,
    ).to_dict()
    open_ = [m for m in result["margins"] if not m["proved"]] or result["margins"]
    worst = min(open_, key=lambda m: float(m["lower"]), default=None)
    kept = {name: result[name] for name in KEPT}
    return {"verdict": result["verdict"], "worst_margin": worst, **kept}


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when the file does, as far as the file system tells."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1)
def _load(path: Path, stamp: tuple[int, int], gzip_ratio: float | None) -> Any:
    """The network of the last instance; lists ask many properties of one model in a row."""
    from gamma.formats.detect import load

    return load(path, gzip_ratio=gzip_ratio)


def kept_records(
    records: Iterable[Record], instances: Sequence[Instance], options: Options
) -> dict[Key, Record]:
    """Of the records found, those that answer an instance of the list as it is asked now."""
    hashes: dict[Path, str | None] = {}

    def hash_of(path: Path) -> str | None:
        if path not in hashes:
            hashes[path] = content_hash(path)
        return hashes[path]

    # Keys compare as text, because a record may hold lists where strings belong.
    wanted = {repr(instance.key): instance for instance in instances}
    kept: dict[Key, Record] = {}
    for record in records:
        key = (record.get("model"), record.get("property"), record.get("number"))
        instance = wanted.get(repr(key))
        if (
            instance is not None
            and record.get("options") == options.bound_to(instance)
            and record.get("model_sha256") == hash_of(instance.folder / instance.model)
            and record.get("property_sha256") == hash_of(instance.folder / instance.prop)
        ):
            kept[instance.key] = record
    return kept


def run(
    instances: Sequence[Instance],
    records: Records,
    options: Options,
    *,
    jobs: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    report: Callable[[Record, int, float], None] = lambda record, left, eta: None,
    progress: Progress | None = None,
) -> list[Record]:
    """Decide every instance that ``records`` does not answer yet; all records, in list order.

    ``scheduler`` is the address of a dask cluster whose workers decide the instances; without it
    ``jobs`` processes of this machine do (`worker_count` caps them). ``threads`` are for each
    instance; None for its share of the processors, and on a cluster one. ``report`` is told each
    new record, how many instances are left and an estimate of the seconds they take; ``progress``
    what an instance does that is decided in this process.

    Raises:
        ResourceError: the result file's disk is full, or the cluster is out of reach.
        UsageError: options that do not exist, or dask is not installed.
    """
    how = options.guarantee, options.dtype, options.timeout, threads
    check_options(options.method, *how, DECIDING, options.branch)
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected at least 1")
    done = kept_records(records.found, instances, options)
    open_ = [instance for instance in instances if instance.key not in done]
    jobs = worker_count(jobs, len(open_))
    start, total = time.perf_counter(), len(open_)
    if scheduler is not None:
        results = on_cluster(open_, options, scheduler, threads or 1)
    elif jobs == 1:
        results = one_by_one(open_, options, threads, progress)
    else:
        results = in_processes(open_, options, jobs, threads or max(available() // jobs, 1))
    for count, record in enumerate(results, 1):
        records.append(record)
        done[record["model"], record["property"], record["number"]] = record
        eta = (time.perf_counter() - start) / count * (total - count)
        report(record, total - count, eta)
    return [done[instance.key] for instance in instances]


def worker_count(jobs: int, instances: int) -> int:
    """Workers that ``jobs`` becomes: no more than instances, or than the machine can serve."""
    return max(1, min(jobs, instances, WORKERS_PER_PROCESSOR * available()))


def one_by_one(
    instances: Sequence[Instance],
    options: Options,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """The records, computed here."""
    for instance in instances:
        yield decide(instance, options, threads, progress)


def in_processes(
    instances: Sequence[Instance], options: Options, jobs: int, threads: int
) -> Iterator[Record]:
    """The records, as worker processes finish them; each worker has ``threads``.

    When a worker dies, what was in work is tried again, each alone, so that the one it died of is
    found: it gets a record with an error, the others their verdicts.
    """
    left = {instance.key: instance for instance in instances}
    while left:
        try:
            for record in _parallel(list(left.values()), options, jobs, threads):
                del left[record["model"], record["property"], record["number"]]
                yield record
        except _died():
            # Only so many are handed out at a time, in this order.
            for instance in list(left.values())[:jobs]:
                del left[instance.key]
                yield _alone(instance, options, jobs, threads)


def _died() -> type[BaseException]:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    kind: type[BaseException] = BrokenProcessPool
    return kind


def _parallel(
    instances: Sequence[Instance], options: Options, jobs: int, threads: int
) -> Iterator[Record]:
    from joblib import Parallel, delayed, parallel_config

    own = {"initializer": _end_with, "initargs": (os.getpid(),)}
    with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=threads, **own):
        work = Parallel(return_as="generator_unordered", pre_dispatch=jobs, batch_size=1)
        with _interrupts_waiting():  # the first call starts the workers
            results = work(delayed(decide)(one, options, threads) for one in instances)
        yield from results


@contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Ctrl-C reaches this process after the block; processes started in it never hear of it.

    A terminal sends it to all of them. Workers would print where they were; this one ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """End this worker soon after the run that started it, however that one ended.

    Otherwise workers of a killed run would compete with the run that resumes it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    heap.own()
    threading.Thread(target=watch, daemon=True).start()


def on_cluster(
    instances: Sequence[Instance], options: Options, scheduler: str, threads: int = 1
) -> Iterator[Record]:
    """The records, as the workers of a dask cluster finish them; they must see the same files."""
    from gamma.verification import cluster

    there = {
        instance.key: replace(instance, folder=instance.folder.resolve()) for instance in instances
    }
    # By default one: dask starts as many workers, or threads of workers, as there are processors.
    one = partial(decide, options=options, threads=threads)
    lost = partial(_lost, options=options)
    yield from cluster.each(scheduler, one, lost, list(there.values()))


def _alone(instance: Instance, options: Options, jobs: int, threads: int) -> Record:
    start = time.perf_counter()
    try:
        (record,) = _parallel([instance], options, max(jobs, 2), threads)
        return record
    except _died():
        return _lost(instance, time.perf_counter() - start, options)


def _lost(instance: Instance, seconds: float, options: Options) -> Record:
    """The record of an instance whose worker ended."""
    return {
        "schema": SCHEMA,
        "model": instance.model,
        "property": instance.prop,
        "number": instance.number,
        "model_sha256": content_hash(instance.folder / instance.model),
        "property_sha256": content_hash(instance.folder / instance.prop),
        "options": options.bound_to(instance),
        "verdict": "error",
        "error": DIED,
        "seconds": seconds,
    }
