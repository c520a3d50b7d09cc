"""Output bounds as a Result: what there is to say when nothing has to be proved."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate import (
    MemoryPlan,
    ParallelConfig,
    ParallelResult,
    ParallelVerifier,
    StreamingConfig,
    StreamingVerifier,
    bounds,
)
from gamma.propagate.choosing import kept
from gamma.propagate.domain import Facts
from gamma.propagate.remarks import remarks
from gamma.tensor.box import Box
from gamma.verification.choices import AUTO_SECONDS, ENCLOSING, GAP, check_options
from gamma.verification.describe import model_record, property_record, reading_notes
from gamma.verification.environment import peak_bytes
from gamma.verification.extremes import extremes
from gamma.verification.result import Result
from gamma.verification.verdict import limited_threads


def bound_outputs(
    net: Network,
    box: Box,
    *,
    method: str = "crown",
    guarantee: str = "real",
    dtype: str = "auto",
    timeout: float | None = None,
    threads: int | None = None,
    prop: Property | None = None,
    layers: dict[str, tuple[Any, Any]] | None = None,
    positions: int | None = None,
    explain: bool = False,
    streaming: StreamingConfig | None = None,
    gap: float | None = None,
    progress: Callable[[str], None] | None = None,
    caps: Facts | None = None,
) -> Result:
    """Certified output bounds (boxes, *output shape) with the verdict "none".

    ``layers`` is filled with the bounds of every node when given. ``positions`` is an axis of the
    input whose positions are bounded apart where they are independent; a note says whether. Bounds
    are None in a result whose time ran out. Method "branch" is `extremes`, of ``prop`` if it is
    given, with its ``gap``. ``caps``: as of `gamma.bounds`.
    """
    check_options(method, guarantee, dtype, timeout, threads, ENCLOSING)
    if method == "branch":
        if layers is not None or positions is not None or streaming is not None:
            raise UsageError("method branch bounds outputs, all together and in memory")
        asked = {"gap": GAP if gap is None else gap, "timeout": timeout, "progress": progress}
        return _enclosed(net, prop or box, asked, guarantee, dtype, threads)
    if gap is not None:
        raise UsageError(f"gap={gap}: of method branch alone, not of {method}")
    if positions is not None and layers is not None:
        raise UsageError("bounds of every node and of positions apart: ask for one of them")
    if positions is not None and streaming is not None:
        raise UsageError("streaming and positions apart: ask for one of them")
    start = time.monotonic()
    deadline = None if timeout is None else start + timeout
    found: tuple[Any, Any] | None = None
    dtype_used = ""
    notes: tuple[str, ...] = ()
    plan: MemoryPlan | None = None
    blocks: list[dict[str, Any]] = []
    with limited_threads(threads):
        try:
            many = box.batched(net.input_shape)
            if streaming is not None:
                verifier = StreamingVerifier(streaming, guarantee=guarantee, dtype=dtype)
                plan = verifier.plan(net, len(many.lower), method)
            out: Any
            if positions is not None:
                by_position = ParallelVerifier(ParallelConfig(method)).verify_positions_parallel(
                    net, many, positions, guarantee=guarantee, dtype=dtype, deadline=deadline
                )
                out, notes = by_position.output_bounds, (_about(by_position),)
            else:
                out = bounds(
                    net,
                    many,
                    method=method,
                    guarantee=guarantee,
                    dtype=dtype,
                    intermediate=layers is not None,
                    deadline=deadline,
                    streaming=streaming,
                    blocks=blocks if streaming is None or kept(net, method) else None,
                    caps=caps,
                )
            if layers is not None:
                layers |= {name: (b.lower, b.upper) for name, b in out.items()}
                out = out[net.nodes[net.output].name]
            notes += remarks(net, many, method, plan)
            shape = (-1, *net.output_shape)
            found = np.reshape(out.lower, shape), np.reshape(out.upper, shape)
            dtype_used = str(out.lower.dtype)
        except ResourceError:
            if deadline is None or time.monotonic() < deadline:
                raise
    spent = time.monotonic() - start
    return Result(
        verdict="none",
        guarantee=guarantee,
        asked=method,
        used=(method,),
        bounds=found,
        seconds={"bounds": spent, "total": spent},
        memory={
            "peak_bytes": peak_bytes(),
            "planned_bytes": None if plan is None else plan.predicted,
        },
        model=model_record(net),
        property=property_record(prop),
        explain={"nodes": [], "memory": plan.to_dict()} if explain and plan else None,
        blocks=tuple(blocks),
        dtype=dtype_used,
        notes=(*reading_notes(net), *notes),
    )


def _enclosed(
    net: Network,
    asked: Property | Box,
    how: dict[str, Any],
    guarantee: str,
    dtype: str,
    threads: int | None,
) -> Result:
    """What `extremes` finds, as a result."""
    start = time.monotonic()
    found = extremes(net, asked, guarantee=guarantee, dtype=dtype, threads=threads, **how)
    spent = time.monotonic() - start
    return Result(
        verdict="none",
        guarantee=guarantee,
        asked="branch",
        used=("crown", "auto"),
        bounds=(found.lower, found.upper),
        reached=found.to_dict(),
        seconds={"bounds": spent, "total": spent},
        memory={"peak_bytes": peak_bytes(), "planned_bytes": None},
        model=model_record(net),
        property=property_record(asked if isinstance(asked, Property) else None),
        dtype=str(found.lower.dtype),
        notes=reading_notes(net),
        limit=AUTO_SECONDS if how["timeout"] is None else how["timeout"],
        interrupted=found.interrupted,
    )


def _about(result: ParallelResult) -> str:
    """What was split, and why."""
    how = {
        "positions": f"{result.num_positions} positions bounded apart",
        "rows": f"{result.num_positions} positions bounded together, rows shared among threads",
        "none": "positions bounded together",
    }
    return f"{how[result.split]}: {result.reason}"
