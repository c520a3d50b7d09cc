"""Lower bounds of linear questions, and how they came about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import replace

from gamma import telemetry
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.propagate.caps import block_table, joined
from gamma.propagate.choosing import FEW_OUTPUTS, batched, own_threads, walks_of
from gamma.propagate.memory.planning import MemoryPlan
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.propagate.options import DEFAULT_ROW_BYTES, Options, options_of
from gamma.propagate.questions import ask, question
from gamma.propagate.specification import Specification
from gamma.propagate.walks import Walk
from gamma.tensor import probe
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Descents of a hidden layer's rows in method "alpha": a verdict in less than 4 times crown's time.
_STEPS = 2


class Analysis(Struct):
    """What `lower_bounds` found and how.

    Attributes:
        lower: float64 (rows,), sound lower bounds; -inf where nothing is known.
        used: the methods that really ran. dtype: of the coefficient rows.
        seconds: by phase. layers: one dict per node (name, op, shape, unstable, width, seconds),
            summed or averaged over the boxes.
        output: float64 ends (*output shape) that enclose the outputs over all boxes asked about.
        blocks: of a language model, see `gamma.propagate.caps.block_table`.
        path: how rows went down, when that was asked for.
        plan: of the memory, when there was a limit or streaming.
    """

    lower: Float64
    used: tuple[str, ...]
    dtype: str
    seconds: dict[str, float]
    layers: list[dict[str, Any]] = field(default_factory=list)
    output: tuple[Float64, Float64] | None = None
    path: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    plan: MemoryPlan | None = None

    def explain(self) -> list[dict[str, Any]]:
        """Where looseness and time went, node by node."""
        return self.layers


def lower_bounds(
    net: Network,
    box: Box,
    specification: Specification,
    *,
    method: str = "crown",
    guarantee: str = "real",
    dtype: str = "auto",
    deadline: float | None = None,
    row_bytes: int = DEFAULT_ROW_BYTES,
    streaming: StreamingConfig | None = None,
    max_memory_bytes: int = 0,
    progress: Callable[[str], None] | None = None,
    explain: bool = False,
) -> Analysis:
    """Sound lower bounds of linear questions about outputs (and inputs).

    With dtype "auto", rows that float32 leaves undecided only by its own rounding charges are done
    again in float64, and the result says so. ``progress`` is told which node is bounded. With
    ``explain`` the layers say what their relaxation cost the worst undecided row.

    Raises:
        ResourceError: the deadline passed. UsageError: sizes or options that do not fit.
    """
    options = options_of(net, method, guarantee, dtype, deadline, row_bytes, progress, _STEPS)
    many = batched(net, box)
    size = int(np.prod(net.output_shape))
    if specification.output_rows.shape[1:] != (size,):
        raise UsageError(
            f"specification: rows of {specification.output_rows.shape[1:]} entries, the network "
            f"has {size} outputs"
        )
    result = Analysis(np.empty(len(specification.box)), (), options.dtype.name, {})
    redone = 0
    questions = -(-len(specification.box) // max(1, len(many.lower)))
    start_walk, step, result.plan = walks_of(
        net,
        options,
        many,
        questions,
        streaming,
        max_memory_bytes,
        wide=dtype == "auto" and options.relaxes,
    )
    for start in range(0, len(many.lower), step):
        mine = (specification.box >= start) & (specification.box < start + step)
        rows = np.flatnonzero(mine)
        if not len(rows):
            continue
        part = specification.take(rows)
        part = replace(part, box=part.box - start)
        chosen = many.slice(start, start + step)
        span = telemetry.measure("lower_bounds", boxes=len(chosen.lower), questions=len(rows))
        with span, own_threads(net, method):
            redone += _one_batch(start_walk, chosen, part, options, dtype, result, rows, explain)
    result.used = (method, f"{redone} rows again in float64") if redone else (method,)
    if failed := probe.float32_failures():
        result.used += (f"float64 because the arithmetic probe failed: {', '.join(failed)}",)
    result.lower.flags.writeable = False
    return result


def _one_batch(
    start_walk: Callable[[Box], Walk],
    box: Box,
    part: Specification,
    options: Options,
    dtype: str,
    result: Analysis,
    rows: npt.NDArray[np.int64],
    explain: bool,
) -> int:
    """Bounds of one batch's rows into ``result``; returns how many rows were done twice."""
    started = time.perf_counter()
    made = start_walk(box)
    middle = time.perf_counter()
    few = len(part.box) <= FEW_OUTPUTS * len(box.lower)
    if options.method == "alpha" and dtype == "auto" and few:
        # To optimise a few rows twice costs more than to do it in float64 at once.
        made = made.in_float64()
    lower = ask(made, part)
    redone = 0
    undecided = np.flatnonzero(~(lower > 0))
    if dtype == "auto" and made.options.dtype == np.float32 and len(undecided):
        redone = _again(made, part, lower, undecided)
    result.lower[rows] = lower
    ended = time.perf_counter()
    for phase, seconds in (("intermediate", middle - started), ("rows", ended - middle)):
        result.seconds[phase] = result.seconds.get(phase, 0.0) + seconds
    _describe(made, result)
    if explain:
        result.path = made.path
        worst = int(np.argmin(np.where(np.isnan(lower), -np.inf, lower)))
        if not lower[worst] > 0 and options.relaxes:  # of alpha, by the operators' own lines
            from gamma.propagate.looseness import losses

            one = part.take(np.array([worst]))
            for index, amount in losses(made, *question(made, one), one.box).items():
                layer = result.layers[index]
                layer["lost"] = max(layer.get("lost", 0.0), amount)
    return redone


def _again(made: Walk, part: Specification, lower: Float64, undecided: Array) -> int:
    """Redo in float64 the rows that float32's charges alone may have left undecided."""
    again = part.take(undecided)
    made.options.check()
    wide = made.in_float64()
    better = ask(wide, again)
    lower[undecided] = np.maximum(lower[undecided], better)
    return int((better > 0).sum())


def _describe(made: Walk, result: Analysis) -> None:
    """Add one walk to the layer table and to the enclosure of the output."""
    output = made.bounds[made.network.output]
    low, high = output.lower.min(axis=0), output.upper.max(axis=0)
    if result.output is not None:
        low, high = np.minimum(low, result.output[0]), np.maximum(high, result.output[1])
    result.output = low, high
    table = block_table(made)
    result.blocks = joined(result.blocks, table)
    for index, known in enumerate(made.bounds):
        node = made.network.nodes[index]
        with np.errstate(all="ignore"):
            width = float(np.mean(known.upper - known.lower)) if known.lower.size else 0.0
        if index >= len(result.layers):
            result.layers.append(
                {
                    "name": node.name,
                    "op": node.op.name,
                    "shape": list(node.shape),
                    "bounded": 0,
                    "width": 0.0,
                    "seconds": 0.0,
                    "boxes": 0,
                }
            )
        layer = result.layers[index]
        boxes, mine = layer["boxes"], len(known.lower)
        layer["width"] = (layer["width"] * boxes + width * mine) / max(boxes + mine, 1)
        layer["boxes"] = boxes + mine
        layer["bounded"] += made.unstable.get(index, 0)
        layer["seconds"] += made.seconds.get(index, 0.0)
