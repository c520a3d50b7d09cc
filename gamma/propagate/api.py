"""The walks as functions: arrays in, sound bounds out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import telemetry
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.blocks import boxes_per_share
from gamma.propagate.caps import block_table, joined, norm_caps
from gamma.propagate.domain import Domain
from gamma.propagate.facts import facts_of
from gamma.propagate.interval import interval_pass
from gamma.propagate.looseness import losses
from gamma.propagate.memory.planning import MemoryPlan, plan_memory
from gamma.propagate.memory.streaming import StreamingConfig, streamed_walk
from gamma.propagate.questions import ask, question
from gamma.propagate.specification import Specification
from gamma.propagate.walks import (
    DEFAULT_ROW_BYTES,
    Options,
    Walk,
    boxes_at_once,
    narrow,
    one_call,
    refuse_guarantee,
    to_output,
    walk,
)
from gamma.runtime import threads, workers
from gamma.tensor import probe
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_floats

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


_FEW_OUTPUTS = 16
_SMALL = 4096  # neurons


@dataclass
class Analysis:
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


def options_of(
    network: Network,
    method: str,
    guarantee: str,
    dtype: str,
    deadline: float | None,
    row_bytes: int = DEFAULT_ROW_BYTES,
    progress: Callable[[str], None] | None = None,
    steps: int = 3,
) -> Options:
    """What a walk is asked for, from the words of a caller; UsageError for one that is unknown."""
    if not isinstance(network, Network):
        raise UsageError(f"net is {type(network).__name__}, expected a Network: gamma.load(path)")
    if dtype not in ("auto", "float32", "float64"):
        raise UsageError(f"dtype {dtype!r}: expected auto, float32 or float64")
    refuse_guarantee(network, guarantee)
    # A failed probe means that products may break the assumptions of the float32 charges.
    wide = (
        bool(probe.float32_failures())
        or dtype == "float64"
        or (dtype == "auto" and narrow(network))
    )
    chosen = np.dtype(np.float64 if wide else np.float32)
    return Options(method, guarantee, chosen, row_bytes, deadline, progress, steps)


def _batched(net: Network, box: Box) -> Box:
    """The boxes as a batch of the network's inputs. Raises UsageError when there are none."""
    if not isinstance(box, Box):
        raise UsageError(f"box is {type(box).__name__}, expected a gamma.Box: Box(lower, upper)")
    many = box.batched(net.input_shape)
    if not len(many.lower):
        raise UsageError("the box is an empty batch, expected one input set or more")
    return many


def _walks(
    net: Network,
    options: Options,
    box: Box,
    questions: int,
    streaming: StreamingConfig | None,
    limit: int,
) -> tuple[Callable[[Box], Walk], int, MemoryPlan | None]:
    """What makes a walk, how many boxes one takes, and the plan when memory was asked about."""
    step = boxes_at_once(net)
    if streaming is None and not limit:
        return _in_memory(net, options, box), step, None
    if options.method == "alpha":
        raise UsageError("method alpha keeps all bounds in memory: leave out the memory limit")
    config = streaming or StreamingConfig()
    config = replace(config, max_memory_bytes=limit or config.max_memory_bytes)
    count = min(step, len(box.lower))
    if one_call(net, box.slice(0, count), options) is not None:
        count = 1  # such a network is walked box by box: so is it here, for the same bits
    method, row_bytes = options.method, options.row_bytes
    plan = plan_memory(net, count, questions, method, options.dtype, config, row_bytes)
    if not config.enable_crown_streaming:
        return _in_memory(net, options, box), step, plan
    chosen = replace(options, row_bytes=plan.row_bytes)
    start = partial(streamed_walk, net, options=chosen, config=plan.config)
    return start, max(1, plan.boxes), plan


def _in_memory(net: Network, options: Options, box: Box) -> Callable[[Box], Walk]:
    """A walk over some of the boxes, which norm caps are known of."""
    start = partial(alpha_walk if options.method == "alpha" else walk, net, options=options)
    thrifty = options.method == "ibp"
    caps = norm_caps(net, box, options.guarantee, thrifty, options.deadline)
    return (lambda part: start(Domain(part, caps))) if caps else start


def _own_threads(net: Network, method: str) -> AbstractContextManager[None]:
    """A BLAS of one thread where gamma's threads share the work.

    Threads of the BLAS wait for more work by spinning: they would take the processors from ours.
    Changing their number takes 30 µs, as long as a small network.
    """
    shared = method == "alpha" or (method == "crown" and _large(net))
    if not shared or workers.workers() == 1:
        return nullcontext()
    return threads.limit_blas(1)


def _large(net: Network) -> bool:
    """Whether the rows of a convolutional network are work enough to share."""
    return facts_of(net).convolves and sum(facts_of(net).sizes) > _SMALL


def bounds(
    net: Network,
    box: Box,
    *,
    method: str = "crown",
    guarantee: str = "real",
    dtype: str = "auto",
    intermediate: bool = False,
    deadline: float | None = None,
    row_bytes: int = DEFAULT_ROW_BYTES,
    streaming: StreamingConfig | None = None,
    max_memory_bytes: int = 0,
    steps: int = 20,
    blocks: list[dict[str, Any]] | None = None,
) -> Any:
    """Certified bounds on the outputs for every input in ``box``.

    Args:
        net: the network. box: input set; a leading batch axis gives a leading batch axis.
        method: "ibp", "crown-ibp" (intermediate bounds by IBP), "crown" or "alpha" (its slopes
            optimised layer by layer).
        guarantee: "real" (the real-arithmetic network) or "float32" (also every float32 execution).
        dtype: of the coefficient rows; "auto" takes float64 for narrow networks, and for the rows
            of a few outputs.
        intermediate: return a dict of node name -> BoundedTensor instead: of the values of the file
            that are computed. Steps inside an operator of the file and values that fusing left out
            have none.
        deadline: ``time.monotonic()`` value after which ResourceError is raised.
        streaming: keep bounds in a store, read weights when they are used (`StreamingConfig`).
        max_memory_bytes: a limit for this call; streams as it needs to.
        steps: descents by which method "alpha" raises each row; twice as many for the outputs.
        blocks: filled with the table of a language model's blocks, `caps.block_table`.

    Returns:
        BoundedTensor of shape (*output_shape) or (batch, *output_shape), in the rows' dtype; it
        unpacks as its two ends.

    Raises:
        UsageError: sizes or options that do not fit. ResourceError: the deadline passed.
        UnsupportedError: float64 arithmetic is not what sound bounds need on this machine.
    """
    options = options_of(net, method, guarantee, dtype, deadline, row_bytes, steps=steps)
    many = _batched(net, box)
    single = many.shape != box.shape and len(many.lower) == 1
    few = dtype == "auto" and options.refines and net.nodes[net.output].size <= _FEW_OUTPUTS
    rows = 2 * net.nodes[net.output].size
    start_walk, step, _ = _walks(net, options, many, rows, streaming, max_memory_bytes)
    count = len(many.lower)
    if streaming is None and not max_memory_bytes and not options.refines:
        step = min(step, boxes_per_share(net, count))
    nodes = [net.output]
    if intermediate:
        nodes = [k for k in range(net.output + 1) if k == net.output or not net.nodes[k].inner]

    tables: list[list[dict[str, Any]]] = []

    def ends(start: int) -> list[tuple[Array, Array]]:
        with telemetry.measure("bounds", boxes=min(step, count - start)):
            made = start_walk(many.slice(start, start + step))
            # A few output rows cost little in float64 and pay no float32 charge.
            output = (made.in_float64() if few else made).output()
            known = [output if index == net.output else made.ask(index) for index in nodes]
            if blocks is not None:
                tables.append(block_table(net, made.bounds, made.domain.facts))
        return [to_output(k.lower, k.upper, options.dtype) for k in known]

    shares = [partial(ends, start) for start in range(0, count, step)]
    parallel = not options.refines and streaming is None and not max_memory_bytes
    with _own_threads(net, method):
        parts = workers.run(shares) if parallel else [share() for share in shares]
    for table in tables:
        assert blocks is not None
        blocks[:] = joined(blocks, table)
    found = {net.nodes[index].name: [part[k] for part in parts] for k, index in enumerate(nodes)}
    tensors = {name: _joined(parts, single) for name, parts in found.items()}
    return tensors if intermediate else tensors[net.nodes[net.output].name]


def _joined(parts: Sequence[tuple[Array, Array]], single: bool) -> BoundedTensor:
    lower, upper = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return BoundedTensor(lower[0], upper[0]) if single else BoundedTensor(lower, upper)


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
    options = options_of(net, method, guarantee, dtype, deadline, row_bytes, progress)
    many = _batched(net, box)
    size = int(np.prod(net.output_shape))
    if specification.output_rows.shape[1:] != (size,):
        raise UsageError(
            f"specification: rows of {specification.output_rows.shape[1:]} entries, the network "
            f"has {size} outputs"
        )
    result = Analysis(np.empty(len(specification.box)), (), options.dtype.name, {})
    redone = 0
    questions = -(-len(specification.box) // max(1, len(many.lower)))
    start_walk, step, result.plan = _walks(
        net, options, many, questions, streaming, max_memory_bytes
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
        with span, _own_threads(net, method):
            redone += _one_batch(start_walk, chosen, part, options, dtype, result, rows, explain)
    result.used = (method, f"{redone} rows again in float64") if redone else (method,)
    if failed := probe.float32_failures():
        result.used += (f"float64 because the arithmetic probe failed: {', '.join(failed)}",)
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
    few = len(part.box) <= _FEW_OUTPUTS * len(box.lower)
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
        if not lower[worst] > 0 and options.relaxes and options.method != "alpha":
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
    table = block_table(made.network, made.bounds, made.domain.facts)
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
