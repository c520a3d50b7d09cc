"""Memory as a promise: what a streamed walk will take, and the settings that keep it in a limit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.errors import ResourceError, UsageError
from gamma.frozen import Frozen
from gamma.methods import IN_MEMORY
from gamma.network.graph import Network
from gamma.ops.tables import Precision
from gamma.propagate.caps import caps_bytes
from gamma.propagate.facts import facts_of
from gamma.propagate.known import STREAMED_BLOCKS
from gamma.propagate.memory.store import bytes_of, checkpoints
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.propagate.options import DEFAULT_ROW_BYTES
from gamma.runtime import resident

# Code and buffers of the libraries that a first walk brings in.
_FIXED = 10 << 20
_WIDE = np.dtype(np.float64)
# Blocks of rows alive where a network is dense layers and activations, which work in place: rows
# and their product, and inside CROWN the rows that they started from.
_DENSE_BLOCKS = {"crown-ibp": 2, "crown": 3}
# The part of a plan that norm caps take; without it the walk has none.
CAPS = "norm caps"
# Intervals the planner tries, the cheapest in time first.
_INTERVALS = (1 << 30, 50, 20, 10, 5, 3, 2, 1)


class MemoryPlan(Frozen, eq=True):
    """What a walk will do to stay within a limit, and what it will take.

    Attributes:
        config: the settings that were chosen. boxes: taken by one walk. row_bytes: of coefficient
            rows alive at once. parts: bytes by purpose; their sum is the predicted peak.
        limit: bytes, 0 for none. dropped: bounds go as soon as no other node needs them.
    """

    config: StreamingConfig
    boxes: int
    row_bytes: int
    parts: dict[str, int]
    limit: int
    dropped: bool = False

    @property
    def predicted(self) -> int:
        """Bytes above what the process had before the network was read."""
        return sum(self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """For ``--explain`` and JSON."""
        return {
            "limit_bytes": self.limit or None,
            "predicted_bytes": self.predicted,
            "parts": self.parts,
            "checkpoint_interval": None if self.dropped else self.config.checkpoint_interval,
            "f16_checkpoints": self.config.use_f16_checkpoints,
            "spilled": self.config.spill,
            "boxes_at_once": self.boxes,
            "row_bytes": self.row_bytes,
        }


def plan_memory(
    network: Network,
    boxes: int,
    questions: int,
    method: str,
    dtype: np.dtype[Any],
    config: StreamingConfig,
    row_bytes: int = DEFAULT_ROW_BYTES,
    keep: frozenset[int] | None = None,
    wide: bool = False,
) -> MemoryPlan:
    """Settings for ``boxes`` boxes with ``questions`` rows each, within ``config``'s limit.

    ``keep``: as of `walk`. ``wide``: the questions' rows may be of float64. Without a limit: the
    settings as they are, and what they will take. Norm caps are part of it where there is room
    for them.
    Raises ResourceError when nothing fits; the message says the least that would, and UsageError
    for a method that keeps all bounds.
    """
    if method in IN_MEMORY:
        raise UsageError(f"method {method} keeps all bounds in memory: leave out the memory limit")
    if keep is not None:
        plan = _plan_pass(network, boxes, dtype, config, row_bytes, keep)
    else:
        predict = partial(_predict, network, method=method, dtype=dtype, wide=wide)
        plan = _planned(predict, boxes, questions, method, config, row_bytes)
    caps = caps_bytes(network)
    fits = caps and (not plan.limit or plan.predicted + caps <= plan.limit)
    return replace(plan, parts=plan.parts | {CAPS: caps}) if fits else plan


def _planned(
    predict: Callable[..., MemoryPlan],
    boxes: int,
    questions: int,
    method: str,
    config: StreamingConfig,
    row_bytes: int,
) -> MemoryPlan:
    """Of a walk whose bounds are in a store."""
    first = predict(boxes, questions, config=config, row_bytes=row_bytes)
    limit = config.max_memory_bytes
    if not limit or first.predicted <= limit:
        return first
    best = first
    for f16, spill in _exactness(config, method):
        for interval in _INTERVALS if method != "crown" else (config.checkpoint_interval,):
            if interval > config.checkpoint_interval and method != "crown":
                continue
            for count in _counts(boxes):
                for rows in (row_bytes, row_bytes // 8, 4 << 20, 1 << 20, 1):
                    tried = replace(
                        config,
                        checkpoint_interval=interval,
                        use_f16_checkpoints=f16,
                        spill=spill,
                    )
                    least = min(rows, row_bytes)
                    found = predict(count, questions, config=tried, row_bytes=least)
                    if found.predicted <= limit:
                        return found
                    best = min(best, found, key=lambda plan: plan.predicted)
    raise _too_little(best, method)


def _too_little(best: MemoryPlan, method: str) -> ResourceError:
    return ResourceError(
        f"memory limit {_size(best.limit)}: this network needs at least {_size(best.predicted)} "
        f"with method {method}; give that much, or take a cheaper method"
    )


def _plan_pass(
    network: Network,
    boxes: int,
    dtype: np.dtype[Any],
    config: StreamingConfig,
    row_bytes: int,
    keep: frozenset[int],
) -> MemoryPlan:
    """Of one interval pass that drops bounds once they are read: as many boxes as fit."""
    from gamma.propagate import strips

    for count in _counts(boxes):
        held, forward, _ = _weights(network, count, "ibp", dtype)
        bounds, step = strips.peak(network, count, keep)
        parts = {"libraries": _FIXED, "weights": held, "bounds": bounds}
        parts |= {"weights in use": forward, "step": step}
        plan = MemoryPlan(config, count, row_bytes, parts, config.max_memory_bytes, dropped=True)
        if not plan.limit or plan.predicted <= plan.limit:
            return plan
    raise _too_little(plan, "ibp")


def _exactness(config: StreamingConfig, method: str) -> list[tuple[bool, bool]]:
    """(f16, spill) to try: exact before rounded, in memory before in a file."""
    wanted = config.use_f16_checkpoints
    choices = [(wanted, config.spill)]
    if method == "crown" and not config.spill:
        choices.append((wanted, True))
    return choices


def _counts(boxes: int) -> list[int]:
    counts = [boxes]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return counts


def _predict(
    network: Network,
    boxes: int,
    questions: int,
    method: str,
    dtype: np.dtype[Any],
    config: StreamingConfig,
    row_bytes: int,
    wide: bool,
) -> MemoryPlan:
    sizes = facts_of(network).sizes
    last = network.output
    held, forward, _ = _weights(network, boxes, method, dtype)
    parts = {"libraries": _FIXED, "weights": held}
    if method == "crown":
        # Those of activations are computed again; shortened numbers are float32 at worst.
        each = 20 if config.use_f16_checkpoints else 40
        layers = (i for i in range(last + 1) if network.nodes[i].op.affine is not None)
        kept = boxes * each * (sizes[0] + sum(sizes[i] for i in layers))
        parts["bounds"] = 0 if config.spill else kept
        parts["segment"] = 4 * max(bytes_of(network, i, boxes) for i in range(last + 1))
        wanted = boxes * max([questions, *(2 * s for s in sizes[:last])])
    else:
        ends = checkpoints(network, config.checkpoint_interval)
        each = 8 if config.use_f16_checkpoints else 16
        parts["bounds"] = boxes * (16 * sizes[0] + each * sum(sizes[i] for i in ends[1:-1]))
        # An exact checkpoint is no copy when a segment starts with it.
        first = 0 if config.use_f16_checkpoints else 1
        parts["segment"] = max(
            sum(bytes_of(network, i, boxes) for i in range(start + first, end + 1))
            for start, end in pairwise(ends)
        )
        wanted = boxes * questions
    step = max((_step(network, index, boxes) for index in range(1, last + 1)), default=0)
    phase = {"weights in use": forward, "step": step}
    if method != "ibp":
        passes = [_passing(network, boxes, wanted, method, dtype, row_bytes)]
        if wide and dtype != _WIDE:
            asked = boxes * questions
            passes.append(_passing(network, boxes, asked, method, _WIDE, row_bytes))
        passing = max(passes, key=lambda parts: sum(parts.values()))
        parts["rows"] = passing.pop("rows")
        # Rows wait while a segment is computed again: one or the other.
        phase = max(phase, passing, key=lambda parts: sum(parts.values()))
    parts.update(phase)
    return MemoryPlan(config, boxes, row_bytes, parts, config.max_memory_bytes)


def _passing(
    network: Network, boxes: int, wanted: int, method: str, dtype: np.dtype[Any], row_bytes: int
) -> dict[str, int]:
    """Bytes while ``wanted`` rows of ``dtype``, or as many as fit, pass the largest node."""
    sizes = facts_of(network).sizes
    row = max(sizes[: network.output + 1]) * dtype.itemsize
    together = min(wanted, max(row_bytes // (row * STREAMED_BLOCKS), 2))
    dense = all(n.op.dense is not None or n.op.diagonal for n in network.nodes[1:])
    # The tables of one node, the radius and the charge of its input.
    tables = boxes * (16 * max(sizes) + _largest_tables(network, dtype.itemsize))
    return {
        "rows": together * row * (_DENSE_BLOCKS[method] if dense else STREAMED_BLOCKS),
        "weights in use": _weights(network, boxes, method, dtype)[2],
        "tables": tables,
    }


def _weights(
    network: Network, boxes: int, method: str, dtype: np.dtype[Any]
) -> tuple[int, int, int]:
    """Weights in memory; of the largest layer while boxes pass it, and while rows do."""
    held, forward, backward = 0, 0, 0
    how = Precision("real", dtype)
    for node in network.nodes:
        shape = network.nodes[node.inputs[0]].shape if node.inputs else ()
        weight = getattr(node.op, "weight", None)
        if not isinstance(weight, np.ndarray):
            forward = max(forward, sum(node.op.copies(how, boxes, shape).values()))
            backward = max(backward, sum(node.op.copies(how, 0, shape).values()))
            continue
        mapped = resident.mapping_of(weight) is not None
        held += 0 if mapped else weight.nbytes
        turned = not weight.flags.c_contiguous  # copied in C order, its own pages given back
        # Rows of hidden layers earn a copy without the columns of dead neurons.
        live = method == "crown" and node.op.dense is not None
        pages = weight.nbytes if mapped and not turned else 0
        forward = max(forward, pages + sum(node.op.copies(how, boxes, shape).values()))
        rows = sum(node.op.copies(how, 0, shape).values()) + live * weight.size * dtype.itemsize
        backward = max(backward, pages + rows)
    return held, forward, backward


def _largest_tables(network: Network, itemsize: int) -> int:
    """Bytes of the largest relaxation for one box."""
    nodes = network.nodes
    shapes = [[nodes[i].shape for i in node.inputs] for node in nodes]
    found = (n.op.table_bytes(itemsize, *s) for n, s in zip(nodes, shapes, strict=True) if s)
    return max(found, default=0)


def _step(network: Network, index: int, boxes: int) -> int:
    """Temporaries of one interval step."""
    node = network.nodes[index]
    inputs = sum(network.nodes[i].size for i in node.inputs)
    total = boxes * 8 * inputs
    conv = node.op.correlation
    if conv is not None:
        positions = node.size // node.shape[0]
        total += 3 * boxes * 8 * positions * conv.terms * conv.group
    if node.op.affine is not None:
        total += boxes * 8 * 2 * node.size
    return total


def _size(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 20 else f"{count} bytes"


def parse_size(text: str) -> int:
    """Bytes of ``200MB``, ``1.5GiB``, ``300000``; ValueError for anything else."""
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        units[letter + "B"] = units[letter] = 1000**power
        units[letter + "IB"] = 1024**power
    stripped = text.strip().upper()
    number = stripped.rstrip("KMGTIB")
    unit = stripped[len(number) :]
    count = float(number) * units[unit] if unit in units else float("nan")
    if not 1 <= count < 2**60:
        raise ValueError(text)
    return int(count)
