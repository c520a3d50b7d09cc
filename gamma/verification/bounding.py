"""Output bounds as a Result: what there is to say when nothing has to be proved."""

from __future__ import annotations

import time
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
from gamma.tensor.box import Box
from gamma.verification.choices import check_options
from gamma.verification.describe import model_record, property_record, reading_notes
from gamma.verification.environment import environment, peak_bytes
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
) -> Result:
    """Certified output bounds (boxes, *output shape) with the verdict "none".

    ``layers`` is filled with the bounds of every node when given. ``positions`` is an axis of the
    input whose positions are bounded apart where they are independent; a note says whether. Bounds
    are None in a result whose time ran out.
    """
    check_options(method, guarantee, dtype, timeout, threads)
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
                    blocks=None if streaming else blocks,
                )
            if layers is not None:
                layers |= {name: (b.lower, b.upper) for name, b in out.items()}
                out = out[net.nodes[net.output].name]
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
        environment=environment(),
        explain={"nodes": [], "memory": plan.to_dict()} if explain and plan else None,
        blocks=tuple(blocks),
        dtype=dtype_used,
        notes=(*reading_notes(net), *notes),
    )


def _about(result: ParallelResult) -> str:
    """What was split, and why."""
    how = {
        "positions": f"{result.num_positions} positions bounded apart",
        "rows": f"{result.num_positions} positions bounded together, rows shared among threads",
        "none": "positions bounded together",
    }
    return f"{how[result.split]}: {result.reason}"
