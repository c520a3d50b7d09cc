"""`gamma.verify`: from a network and a property to a verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack, overload

from msgspec.structs import replace

from gamma.errors import ResourceError, UsageError
from gamma.formats.detect import load
from gamma.methods import dtype_name, method_name
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate import StreamingConfig
from gamma.propagate.asked import memory_bytes
from gamma.propagate.options import DType, refuse_guarantee
from gamma.runtime import workers
from gamma.runtime.interrupts import Interrupted
from gamma.runtime.threads import limit_blas, quota
from gamma.tensor.exactly import exact_integer
from gamma.verification.auto import AutoRun
from gamma.verification.choices import DECIDING, check_options, limit_of
from gamma.verification.fitting import fitting
from gamma.verification.result import Result
from gamma.verification.run import Progress, Run

Asked = Property | str | Path
Several = list[Property] | list[str] | list[Path] | tuple[Asked, ...]


class EachOptions(TypedDict, total=False):
    """The options of `gamma.verify` that do not limit its time."""

    method: str
    guarantee: str
    dtype: DType
    memory: int | str | None
    attack: bool
    explain: bool
    threads: int | None
    seed: int
    progress: Progress | None
    streaming: StreamingConfig | None
    branch: str
    save_open: str | Path | None
    resume: str | Path | None
    partition: bool
    leaves: bool
    scheduler: str | None


class VerifyOptions(EachOptions, total=False):
    """The options of `gamma.verify`, which says what each means."""

    timeout: float | None


@overload
def verify(net: Network | str | Path, prop: Asked, **options: Unpack[VerifyOptions]) -> Result: ...


@overload
def verify(
    net: Network | str | Path, prop: Several, **options: Unpack[VerifyOptions]
) -> list[Result]: ...


def verify(
    net: Network | str | Path,
    prop: Asked | Several,
    *,
    method: str = "auto",
    guarantee: str = "real",
    dtype: DType = "auto",
    timeout: float | None = None,
    memory: int | str | None = None,
    attack: bool = True,
    explain: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    streaming: StreamingConfig | None = None,
    branch: str = "auto",
    save_open: str | Path | None = None,
    resume: str | Path | None = None,
    partition: bool = False,
    leaves: bool = False,
    scheduler: str | None = None,
) -> Result | list[Result]:
    """Decide whether any input of the property's regions reaches its unsafe set.

    "verified" needs a sound, finite bound for every unsafe conjunction; "violated" needs a
    witness that an independent forward pass confirms without tolerance; everything else is
    "unknown", or "timeout" when the time cut the work short (`Result.status` calls both unknown).

    Args:
        net: a network, or the path of its file. prop: a property, the path of a VNN-LIB file, or a
            list of them for a list of results.
        method: of `gamma.bounds`, or "auto": from the cheapest bounds and
            attacks to branch and bound, until there is a verdict or the time is out.
        guarantee: "real" or "float32", as in `gamma.bounds`; so are dtype and memory.
        timeout: seconds for each property; method "auto" takes 60 when it is None.
        memory: bytes or "300MB": of the bounds, not of the attack. ``streaming`` says more
            (`gamma.propagate.StreamingConfig`).
        attack: search for a witness, too. seed: of the search.
        explain: say where looseness and time went. threads: at most so many.
        progress: is told what happens. branch: what method "auto" splits: "input", "relu",
            "none", or "auto" for what suits the network.
        save_open: a file for what branch and bound has open, written now and then and at the end.
        resume: the one of a run that was cut short, to go on there. Both are of one property and of
            a network that was read from a file.
        partition: of a box of two inputs that vary, keep how it was cut up (`Result.partition`).
        leaves: keep what branch and bound closed and how (`Result.leaves`); hidden neurons get no
            trees of their own then.
        scheduler: address of a dask cluster whose workers share the branch and bound.

    Raises:
        PropertyError: the property does not fit the network.
        UsageError: an option that does not exist. FormatError: a file that cannot be read.
        UnsupportedError: a guarantee that cannot be given for this network.
    """
    start = time.monotonic()
    network = net if isinstance(net, Network) else load(net)
    known, kind = str(method_name(method)), str(dtype_name(dtype))
    check_options(known, guarantee, kind, timeout, threads, DECIDING, branch)
    timeout = limit_of(timeout, known)
    seed = exact_integer(seed, "seed", least=0)
    refuse_guarantee(network, guarantee)
    if memory is not None:
        streaming = replace(streaming or StreamingConfig(), max_memory_bytes=memory_bytes(memory))
    several = isinstance(prop, list | tuple)
    if partition and (known != "auto" or branch not in ("auto", "input")):
        raise UsageError("partition= is for method auto and branch input: it shows boxes of inputs")
    if partition and resume is not None:
        raise UsageError(
            "partition= and resume= exclude each other: what was cut before is unknown"
        )
    if leaves and (known != "auto" or scheduler is not None):
        raise UsageError("leaves= is for method auto, without scheduler=")
    if scheduler is not None and (known != "auto" or streaming is not None):
        raise UsageError("scheduler= is for method auto, without streaming or a memory limit")
    if (save_open, resume) != (None, None) and (known != "auto" or several):
        raise UsageError("save_open= and resume= are for method auto and one property")

    def one(asked: Asked, start: float) -> Result:
        known_to_fit = fitting(asked, network)
        if partition:
            from gamma.verification.partition import two_inputs

            two_inputs(known_to_fit)
        kinds = (AutoRun if scheduler is None else _shared()) if known == "auto" else Run
        run = kinds(network, known_to_fit, known, guarantee, kind, timeout, start, progress)
        run.branch, run.streaming = branch, streaming
        if scheduler is not None:
            run.scheduler = scheduler  # type: ignore[attr-defined]
        if isinstance(run, AutoRun):
            run.keep_open(save_open, resume)
            run.cut_up, run.leaves = partition, leaves
        try:
            return run.decide(attack, explain, seed)
        except ResourceError:
            if time.monotonic() < run.deadline:
                raise
            return run.late()
        except Interrupted as stop:
            stop.partial = run.interrupted()
            raise

    with limited_threads(threads):
        if isinstance(prop, list | tuple):
            return [one(each, time.monotonic()) for each in prop]
        return one(prop, start)


def _shared() -> type[AutoRun]:
    """The run on a cluster, imported where one is asked for."""
    from gamma.verification.shared_run import SharedRun

    return SharedRun


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """At most so many threads inside the block: of the BLAS, and of walks that share their rows.

    None: as many as there are, but no more than a container's quota, which the BLAS does not know.
    """
    if threads is not None:
        with limit_blas(threads), workers.limited(threads):
            yield
    elif (granted := quota()) is not None:
        with limit_blas(granted):
            yield
    else:
        yield
