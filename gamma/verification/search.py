"""`gamma.attack`: the search for a witness alone, without bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate.asked import memory_bytes
from gamma.propagate.options import refuse_guarantee
from gamma.tensor.exactly import exact_float, exact_integer
from gamma.verification.attack import POINT, Attack
from gamma.verification.effort import PATIENT, QUICK
from gamma.verification.fitting import fitting
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample
from gamma.verification.targets import Targets


def attack(
    net: Network,
    prop: Property,
    *,
    timeout: float = 10.0,
    memory: int | str | None = None,
    seed: int = 0,
    guarantee: str = "real",
    progress: Callable[[str], None] | None = None,
) -> Counterexample | None:
    """An input of the property's regions whose output is unsafe, or None when none was found.

    Corners, samples and projected gradient descent with restarts (Madry et al. 2018); what is
    returned was confirmed by an independent forward pass without tolerance. None proves nothing.

    Args:
        timeout: seconds at most. memory: bytes or "300MB", for the points that are tried at once;
            with less the search is slower. seed: of all random choices.
        progress: is told what happens.
        guarantee: "real" also refuses what exact arithmetic disproves.

    Raises:
        PropertyError: the property does not fit the network. UsageError: other arguments.
    """
    if not exact_float(timeout, "timeout") > 0:
        raise UsageError(f"timeout {timeout}: expected a positive number of seconds")
    refuse_guarantee(net, guarantee)
    prop = fitting(prop, net)
    deadline = time.monotonic() + timeout
    targets, replay = Targets.of(prop), Replay(net, prop, guarantee, deadline)
    search = Attack(net, prop, targets, replay, exact_integer(seed, "seed", least=0))
    search.progress = progress or search.progress
    search.memory = memory_bytes(memory)
    least = POINT * search.neurons
    if search.memory and search.memory < least:
        raise ResourceError(f"memory: one point alone takes about {least} bytes, more than allowed")
    for effort in (QUICK, PATIENT):
        found = search.run(targets.attackable(), effort, deadline)
        if found is not None:
            return found
    return None
