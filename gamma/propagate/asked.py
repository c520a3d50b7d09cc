"""What a caller asks for in words, as the values that a walk takes."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from gamma.errors import UsageError
from gamma.propagate.domain import Facts
from gamma.propagate.memory.planning import parse_size
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.propagate.options import DType
from gamma.tensor.exactly import exact_float, exact_integer


class BoundsOptions(TypedDict, total=False):
    """The options of `gamma.bounds`, which says what each means."""

    method: str
    guarantee: str
    dtype: DType
    timeout: float | None
    memory: int | str | None
    deadline: float | None
    row_bytes: int
    streaming: StreamingConfig | None
    max_memory_bytes: int
    steps: int
    blocks: list[dict[str, Any]] | None
    caps: Facts | None


def deadline_of(timeout: float | None, deadline: float | None = None) -> float | None:
    """The ``time.monotonic()`` value at which ``timeout`` seconds are over, or ``deadline``."""
    if timeout is None:
        return deadline
    if deadline is not None:
        raise UsageError("timeout and deadline exclude each other: give one")
    seconds = exact_float(timeout, "timeout")
    if not seconds > 0:
        raise UsageError(f"timeout {seconds:g}: expected a positive number of seconds")
    return time.monotonic() + seconds


def memory_bytes(memory: int | str | None) -> int:
    """Bytes of a limit such as "300MB" or 300_000_000; 0 for None, which is no limit."""
    if memory is None:
        return 0
    if not isinstance(memory, str):
        return exact_integer(memory, "memory", least=1)
    try:
        return parse_size(memory)
    except ValueError:
        raise UsageError(
            f"memory {memory[:40]!r}: expected a size such as 200MB, 1.5GiB or 300000"
        ) from None
