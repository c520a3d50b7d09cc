"""Certified bounds of a network's outputs over input sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Unpack, overload

import numpy as np
import numpy.typing as npt

from gamma import telemetry
from gamma.network.graph import Network
from gamma.propagate.asked import BoundsOptions, deadline_of, memory_bytes
from gamma.propagate.blocks import boxes_at_once
from gamma.propagate.caps import block_table, joined
from gamma.propagate.choosing import batched, few_in_float64, in_shares, kept, own_threads, walks_of
from gamma.propagate.domain import Facts
from gamma.propagate.interval import interval_pass
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.propagate.options import DEFAULT_ROW_BYTES, DType, options_of
from gamma.propagate.passes import output_ends
from gamma.runtime import workers
from gamma.tensor import probe, rounding
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_floats

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@overload
def bounds(
    net: Network,
    box: Box,
    *,
    intermediate: Literal[False] = False,
    **options: Unpack[BoundsOptions],
) -> BoundedTensor: ...


@overload
def bounds(
    net: Network, box: Box, *, intermediate: Literal[True], **options: Unpack[BoundsOptions]
) -> dict[str, BoundedTensor]: ...


@overload
def bounds(
    net: Network, box: Box, *, intermediate: bool, **options: Unpack[BoundsOptions]
) -> BoundedTensor | dict[str, BoundedTensor]: ...


def bounds(
    net: Network,
    box: Box,
    *,
    method: str = "crown",
    guarantee: str = "real",
    dtype: DType = "auto",
    intermediate: bool = False,
    timeout: float | None = None,
    memory: int | str | None = None,
    deadline: float | None = None,
    row_bytes: int = DEFAULT_ROW_BYTES,
    streaming: StreamingConfig | None = None,
    max_memory_bytes: int = 0,
    steps: int = 20,
    blocks: list[dict[str, Any]] | None = None,
    caps: Facts | None = None,
) -> BoundedTensor | dict[str, BoundedTensor]:
    """Certified bounds on the outputs for every input in ``box``.

    Args:
        net: the network. box: input set; a leading batch axis gives a leading batch axis.
        method: "ibp" (Gowal et al. 2018), "crown" (Zhang et al. 2018), "crown-ibp" (intermediate
            bounds by IBP; Zhang et al. 2020), "alpha" (CROWN's slopes optimised layer by layer;
            Xu et al. 2021), "forward" (linear forms in the inputs that vary) or "forward+crown"
            (intermediate bounds by these); also as papers spell them, "CROWN".
        guarantee: "real" (the real-arithmetic network) or "float32" (also every float32 execution).
        dtype: of the coefficient rows, a name or NumPy's type; "auto" takes float64 for narrow
            networks, and for the rows of a few outputs.
        intermediate: return a dict of node name -> BoundedTensor instead: of the values of the file
            that are computed. Steps inside an operator of the file and values that fusing left out
            have none. `gamma.layer_bounds` shows them as a table.
        timeout: seconds after which ResourceError is raised; or ``deadline``, a
            ``time.monotonic()`` value.
        memory: a limit for this call, in bytes or like "300MB"; streams as it needs to, or raises
            ResourceError with the least that would do. ``max_memory_bytes`` is the same in bytes.
        streaming: keep bounds in a store, read weights when they are used (`StreamingConfig`).
        steps: descents by which method "alpha" raises each row; 2.1 times as many, rounded
            down, for the outputs.
        blocks: filled with the table of a language model's blocks, `caps.block_table`.
        caps: proved ends of nodes, (1, *node shape) each, in place of those that norms leave.

    Returns:
        BoundedTensor of shape (*output_shape) or (batch, *output_shape), in the rows' dtype; it
        unpacks as its two ends.

    Raises:
        UsageError: sizes or options that do not fit. ResourceError: the time or memory is out.
        UnsupportedError: float64 arithmetic is not what sound bounds need on this machine.
    """
    deadline = deadline_of(timeout, deadline)
    options = options_of(net, method, guarantee, dtype, deadline, row_bytes, steps=steps)
    limit = memory_bytes(memory) or max_memory_bytes
    many = batched(net, box)
    single = many.shape != box.shape and len(many.lower) == 1
    if streaming is None and not (limit or caps or intermediate or blocks is not None):
        passed = output_ends(net, many, options)
        if passed is not None:
            lower, upper = passed
            if options.dtype != np.float64:  # these they are
                lower, upper = to_output(lower, upper, options.dtype)
            return BoundedTensor(lower[0], upper[0]) if single else BoundedTensor(lower, upper)
    few = few_in_float64(net, options.method, str(dtype))
    rows = 2 * net.nodes[net.output].size
    keep = None if intermediate else kept(net, options.method)
    start_walk, step, _ = walks_of(net, options, many, rows, streaming, limit, caps, keep, few)
    count = len(many.lower)
    apart = False
    if streaming is None and not limit:
        step, apart = in_shares(net, options, many, step)
    nodes = [net.output]
    if intermediate:
        nodes = [k for k in range(net.output + 1) if k == net.output or not net.nodes[k].inner]

    tables: list[list[dict[str, Any]]] = []

    def ends(start: int) -> list[tuple[Array, Array]]:
        with telemetry.measure("bounds", boxes=min(step, count - start)):
            made = start_walk(many.slice(start, start + step))
            output = (made.in_float64() if few else made).output()
            known = [output if index == net.output else made.ask(index) for index in nodes]
            if blocks is not None:
                tables.append(block_table(made))
        return [to_output(k.lower, k.upper, options.dtype) for k in known]

    shares = [partial(ends, start) for start in range(0, count, step)]
    with own_threads(net, options.method):
        parts = workers.run(shares) if apart else [share() for share in shares]
    for table in tables:
        assert blocks is not None
        blocks[:] = joined(blocks, table)
    found = {net.nodes[index].name: [part[k] for part in parts] for k, index in enumerate(nodes)}
    tensors = {name: _joined(parts, single) for name, parts in found.items()}
    return tensors if intermediate else tensors[net.nodes[net.output].name]


def _joined(parts: Sequence[tuple[Array, Array]], single: bool) -> BoundedTensor:
    lower, upper = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return BoundedTensor(lower[0], upper[0]) if single else BoundedTensor(lower, upper)


def enclose(net: Network, x: npt.ArrayLike) -> tuple[Float64, Float64]:
    """Certified float64 enclosure of the exact outputs at points (batch, *input shape)."""
    probe.float32_failures()  # refuses where float64 is not what the formulas need
    points = np.ascontiguousarray(exact_floats(x, "x"), dtype=np.float64)
    lower, upper = [], []
    step = boxes_at_once(net)
    for start in range(0, len(points), step):
        part = points[start : start + step]
        known = interval_pass(net, Box(part, part).batched(net.input_shape))[net.output]
        lower.append(known.lower)
        upper.append(known.upper)
    return np.concatenate(lower), np.concatenate(upper)


def to_output(lower: Float64, upper: Float64, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Ends in ``dtype``, rounded outward."""
    return rounding.to_down(lower, dtype), rounding.to_up(upper, dtype)
