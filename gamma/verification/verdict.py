"""From a network and a property to a verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gamma.errors import PropertyError, ResourceError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate import StreamingConfig
from gamma.propagate.options import refuse_guarantee
from gamma.runtime import workers
from gamma.runtime.interrupts import Interrupted
from gamma.runtime.threads import limit_blas, quota
from gamma.tensor.exactly import exact_integer
from gamma.verification.auto import AutoRun
from gamma.verification.choices import AUTO_SECONDS, DECIDING, check_options
from gamma.verification.result import Result
from gamma.verification.run import Progress, Run


def verify(
    net: Network,
    prop: Property,
    *,
    method: str = "auto",
    guarantee: str = "real",
    dtype: str = "auto",
    timeout: float | None = None,
    attack: bool = True,
    explain: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    streaming: StreamingConfig | None = None,
    branch: str = "auto",
) -> Result:
    """Decide whether any input of the property's regions reaches its unsafe set.

    "verified" needs a sound, finite bound for every unsafe conjunction; "violated" needs a
    witness that an independent forward pass confirms without tolerance; everything else is
    "unknown", or "timeout" when ``timeout`` (seconds) cut the work short. ``streaming`` bounds with
    little memory (`gamma.propagate.StreamingConfig`); its limit is the bounds', not the attack's.

    Method "auto" goes from the cheapest bounds and attacks to branch and bound, until there is a
    verdict or the time is out: after 60 seconds when ``timeout`` is None. ``branch``: what it
    splits, "input", "relu", "none", or "auto" for what suits the network.

    Raises:
        PropertyError: the property does not fit the network.
        UsageError: an option that does not exist.
        UnsupportedError: a guarantee that cannot be given for this network.
    """
    check_options(method, guarantee, dtype, timeout, threads, DECIDING, branch)
    if method == "auto" and timeout is None:
        timeout = AUTO_SECONDS
    seed = exact_integer(seed, "seed", least=0)
    refuse_guarantee(net, guarantee)
    start = time.monotonic()
    prop = prop.resolve(math.prod(net.output_shape), net.batch_hint)
    if prop.inputs != math.prod(net.input_shape):
        raise PropertyError.at(
            prop.source,
            "",
            f"the property declares {prop.inputs} inputs, the network has "
            f"{math.prod(net.input_shape)}: give the property written for this network"
            f"{net.batch_hint}",
        )
    with limited_threads(threads):
        kind = AutoRun if method == "auto" else Run
        run = kind(net, prop, method, guarantee, dtype, timeout, start, progress)
        run.branch = branch
        run.streaming = streaming
        try:
            return run.decide(attack, explain, seed)
        except ResourceError:
            if time.monotonic() < run.deadline:
                raise
            return run.late()
        except Interrupted as stop:
            stop.partial = run.interrupted()
            raise


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
