"""What a walk is asked for: one settings value, made once of the words of a caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma import tuning
from gamma.errors import ResourceError, UnsupportedError, UsageError
from gamma.frozen import Frozen
from gamma.methods import FORWARD, GUARANTEES, METHODS, REFINING, dtype_name, method_name
from gamma.network.graph import Network
from gamma.ops.tables import Precision
from gamma.propagate.facts import facts_of, several_places
from gamma.runtime import interrupts
from gamma.tensor import probe
from gamma.tensor.exactly import exact_float, exact_integer

DType = str | npt.DTypeLike

# Bytes of coefficient rows alive at once when no limit is given: small enough for the caches.
DEFAULT_ROW_BYTES = 48 << 20
NARROW = 128
"""Neurons of a node up to which rows in float64 cost little."""


class Options(Frozen, eq=True):
    """What a walk was asked for, the one settings value inside; ``progress`` is told which node it
    bounds. ``single``: whether products may be in float32 where their rounding cannot show,
    whatever the rows are.

    Raises UsageError for an unknown method or guarantee, and for sizes and times that are none.
    """

    method: str = "crown"
    guarantee: str = "real"
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    row_bytes: int = DEFAULT_ROW_BYTES
    deadline: float | None = None
    progress: Callable[[str], None] | None = None
    steps: int = 3
    single: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r}: expected one of {', '.join(METHODS)}")
        if self.guarantee not in GUARANTEES:
            raise UsageError(f"guarantee {self.guarantee!r}: expected real or float32")
        exact_integer(self.row_bytes, "row_bytes", least=1)
        if self.deadline is not None:
            exact_float(self.deadline, "deadline")
        exact_integer(self.steps, "steps", least=1)

    @cached_property
    def precision(self) -> Precision:
        """Guarantee and type of rows, as operators take them."""
        return Precision(self.guarantee, self.dtype)

    @cached_property
    def relaxes(self) -> bool:
        """Whether rows pass nonlinear nodes."""
        return self.method not in ("ibp", "forward")

    @cached_property
    def refines(self) -> bool:
        """Whether inner neurons get rows of their own."""
        return self.method in REFINING

    @cached_property
    def forward(self) -> bool:
        """Whether linear forms in the inputs go forward through all nodes."""
        return self.method in FORWARD

    def check(self) -> None:
        """Raise ResourceError when the deadline (time.monotonic) has passed."""
        interrupts.check()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise ResourceError("the time limit was reached")


def refuse_guarantee(network: Network, guarantee: str) -> None:
    """Raise UnsupportedError where ``guarantee`` would say more about the network than is true."""
    if guarantee == "real":
        return
    path = network.source.path if network.source else None
    if network.real_only:
        raise UnsupportedError.at(
            path,
            "",
            f"has {', '.join(network.real_only)}, whose steps every runtime chooses for itself: "
            f"the guarantee {guarantee} does not cover them, ask for the guarantee real",
        )
    if not network.short_types:
        return
    raise UnsupportedError.at(
        path,
        "",
        f"computes in {' and '.join(network.short_types)}, the guarantee {guarantee} covers "
        "executions in float32 alone: ask for the guarantee real, or export the network in float32",
    )


def options_of(
    network: Network,
    method: str,
    guarantee: str,
    dtype: DType,
    deadline: float | None,
    row_bytes: int = DEFAULT_ROW_BYTES,
    progress: Callable[[str], None] | None = None,
    steps: int = 3,
) -> Options:
    """What a walk is asked for, from the words of a caller; UsageError for one that is unknown."""
    if not isinstance(network, Network):
        raise UsageError(f"net is {type(network).__name__}, expected a Network: gamma.load(path)")
    kind = dtype_name(dtype)
    if kind not in ("auto", "float32", "float64"):
        raise UsageError(f"dtype {kind!r}: expected auto, float32 or float64")
    refuse_guarantee(network, guarantee)
    # A failed probe means that products may break the assumptions of the float32 charges.
    single = kind != "float64" and not probe.float32_failures()
    name = str(method_name(method))
    wide = not single or (kind == "auto" and narrow(network, name))
    rows = _ROWS[wide]
    asked = name, guarantee, rows, row_bytes, deadline, progress, steps, single
    try:
        return _checked(*asked) if deadline is None and progress is None else Options(*asked)
    except TypeError:  # what cannot be a key is no option: it is refused by name
        return Options(*asked)


_ROWS = np.dtype(np.float32), np.dtype(np.float64)

# Checks of options take longer than bounds of a small network.
_checked = lru_cache(maxsize=64, typed=True)(Options)


def narrow(network: Network, method: str) -> bool:
    """Whether every node is at most 128 wide, where positions are apart at each of them: float64
    then costs little and charges nothing."""
    if facts_of(network).widest[-1] <= NARROW:
        return True
    if method not in REFINING or not several_places(network):
        return False
    from gamma.propagate.positions.apart import position_of

    position = position_of(network) if tuning.enabled("apart_positions") else None
    if position is None:
        return False
    behind = facts_of(network).sizes[position.network.output + 1 :]
    return max(facts_of(position.network).widest[-1], *behind, 0) <= NARROW
