"""Whether a network that runs in float16 or bfloat16 can overflow on a set of inputs.

An overflow is impossible where nothing that an execution forms (`gamma.propagate.few_bits`) is
beyond the largest number: by induction over the nodes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from gamma.errors import ResourceError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.affine import Linear
from gamma.propagate.asked import deadline_of, memory_bytes
from gamma.propagate.blocks import boxes_at_once
from gamma.propagate.choosing import batched, own_threads, walks_of
from gamma.propagate.few_bits import Executed, executed, executed_input
from gamma.propagate.interval import input_bounds, interval_pass
from gamma.propagate.options import Options, options_of
from gamma.propagate.ranges import FORMATS, Storage
from gamma.propagate.walks import Walk
from gamma.tensor import probe, rounding
from gamma.tensor.box import Box
from gamma.verification.choices import check_options
from gamma.verification.describe import model_record
from gamma.verification.environment import environment, peak_bytes
from gamma.verification.result import number
from gamma.verification.verdict import limited_threads

SCHEMA = "gamma.overflow/1"
TYPES = {"float16": "f16", "bfloat16": "bf16"}
SAMPLES = 16
_ARRAYS = 12
"""Of float64 for each neuron of a box that is alive: four that are kept, and those of a step."""


class Reach(Frozen, eq=True):
    """What executions of one node reach at most.

    Attributes:
        name, operator, shape: of the node. terms: of the longest sum in it.
        activation: size of its values. partial: of any number on the way there, partial sums in
            any order; both as long as nothing before it overflows.
        seen: size of its values at inputs that were tried, in float32. why: nothing is proved of
            this operator, and why; else empty.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    terms: int
    activation: float
    partial: float
    seen: float
    why: str = ""

    def headroom(self, largest: float) -> float:
        """How many times larger every number could be."""
        return largest / self.partial if self.partial else math.inf


class Overflow(Frozen):
    """Whether any execution in ``dtype`` overflows for an input of the set.

    Attributes:
        verdict: "verified" (impossible), "violated" (a value of the exact network is beyond the
            format at ``witness``), or "unknown". nodes: in the order of evaluation.
        largest: the format's largest number. witness: an input, None without one. method: of the
            bounds of the exact network that executions are compared with; "ibp": of executions
            alone. planned_bytes: of memory, None without a limit.
    """

    verdict: str
    dtype: str
    largest: float
    nodes: tuple[Reach, ...]
    witness: npt.NDArray[Any] | None = None
    seconds: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    method: str = "ibp"
    planned_bytes: int | None = None

    @property
    def beyond(self) -> tuple[Reach, ...]:
        """Nodes of which it is not proved that the format holds every number."""
        return tuple(n for n in self.nodes if n.why or not n.partial <= self.largest)

    def __repr__(self) -> str:
        """Verdict and least headroom in one line."""
        least = min((n.headroom(self.largest) for n in self.nodes), default=math.inf)
        return f"Overflow({self.verdict}, {self.dtype}, least headroom {least:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """One object, schema ``gamma.overflow/1``."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "dtype": self.dtype,
            "method": self.method,
            "largest": self.largest,
            "nodes": [
                {
                    "name": n.name,
                    "operator": n.operator,
                    "shape": list(n.shape),
                    "terms": n.terms,
                    "activation": number(n.activation),
                    "partial": number(n.partial),
                    "headroom": number(n.headroom(self.largest)),
                    "seen": number(n.seen),
                    "not_covered": n.why or None,
                }
                for n in self.nodes
            ],
            "not_proved": [n.name for n in self.beyond],
            "witness": None if self.witness is None else [float(v) for v in self.witness.ravel()],
            "seconds": {"total": self.seconds},
            "memory": {"peak_bytes": peak_bytes(), "planned_bytes": self.planned_bytes},
            "model": self.model,
            "environment": environment(),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The object as JSON; infinities are strings."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


def overflow(
    net: Network,
    box: Box,
    dtype: str = "float16",
    *,
    method: str = "ibp",
    timeout: float | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Overflow:
    """Whether an execution in "float16" or "bfloat16" can overflow on an input of ``box``.

    Args:
        box: input sets, with or without a batch axis; all are asked about together.
        method: "ibp" (intervals of the executions alone), or what bounds the exact network, from
            which no execution is far: "crown-ibp", "crown" or "alpha", tighter in deep networks.
        timeout: seconds, after which ResourceError is raised. threads: at most so many.
        memory: a limit, in bytes or like "300MB": fewer boxes at once, or ResourceError with the
            least that would do. seed: of the inputs that are tried.

    Raises:
        UsageError: options that do not exist, or a box that does not fit the network.
    """
    if dtype not in TYPES:
        raise UsageError(f"dtype {dtype!r}: expected float16 or bfloat16")
    probe.float32_failures()  # refuses where float64 is not what the formulas need
    start, limit, many = time.monotonic(), memory_bytes(memory), batched(net, box)
    options = options_of(net, method, "real", "auto", deadline_of(timeout))
    method = options.method
    check_options(method, "real", "auto", timeout, threads)
    kept = FORMATS[TYPES[dtype]]
    with limited_threads(threads), own_threads(net, method), np.errstate(all="ignore"):
        points = _points(many, seed)
        seen = _seen(net, points, limit)
        walk_of, step, planned = _walks(net, options, many, limit)
        nodes = [_Most() for _ in net.nodes[: net.output + 1]]
        for first in range(0, len(many.lower), step):
            _run(net, many.slice(first, first + step), kept, options, walk_of, nodes, progress)
        peaks = [
            Reach(n.name, n.op.name, n.shape, m.terms, m.values, max(m.partial, m.values), s, m.why)
            for n, m, s in zip(net.nodes, nodes, seen, strict=False)
        ]
        witness = _witness(net, points, peaks, kept)
    fits = all(not p.why and p.partial <= kept.largest for p in peaks)
    verdict = "verified" if fits else "unknown" if witness is None else "violated"
    spent, record = time.monotonic() - start, model_record(net)
    return Overflow(
        verdict, dtype, kept.largest, tuple(peaks), witness, spent, record, method, planned
    )


class _Most(Struct):
    """What executions of a node reach in the boxes so far."""

    values: float = 0.0
    partial: float = 0.0
    terms: int = 0
    why: str = ""

    def add(self, found: Executed) -> None:
        size = np.maximum(abs(found.values.lower), abs(found.values.upper))
        self.values = max(self.values, _most(size))
        if found.partial is not None:
            self.partial = max(self.partial, _most(found.partial))
        self.terms, self.why = found.terms, found.why


def _run(
    net: Network,
    box: Box,
    kept: Storage,
    options: Options,
    walk_of: Callable[[Box], Walk] | None,
    nodes: Sequence[_Most],
    progress: Callable[[str], None] | None,
) -> None:
    """Every node in every execution on some of the boxes, into ``nodes``."""
    exact = None if walk_of is None else walk_of(box)
    last = _last_readers(net)
    known = {0: executed_input(input_bounds(box), kept)}
    nodes[0].add(known[0])
    for index, node in enumerate(net.nodes[1 : net.output + 1], start=1):
        options.check()
        if progress is not None:
            progress(f"overflow: node {index} of {net.output}, {node.name}")
        bounds = None
        if exact is not None:
            rows = isinstance(node.op, Linear) and not node.op.moves
            bounds = exact.ask(index) if rows else exact.bounds[index]
        known[index] = executed(node, [known[i] for i in node.inputs], bounds, kept)
        nodes[index].add(known[index])
        for done in {i for i in node.inputs if last[i] == index}:
            del known[done]


def _walks(
    net: Network, options: Options, box: Box, limit: int
) -> tuple[Callable[[Box], Walk] | None, int, int | None]:
    """What bounds the exact network, if anything; boxes at once, and bytes that are foreseen.

    Raises ResourceError where one box takes more than the limit.
    """
    each = 8 * _ARRAYS * _alive(net)
    if limit and each > limit:
        raise ResourceError(f"memory: one box takes {each:,} bytes, the limit is {limit:,}")
    step = max(1, min(boxes_at_once(net), limit // each)) if limit else boxes_at_once(net)
    step = min(step, len(box.lower))
    if not options.relaxes:
        return None, step, each * step if limit else None
    rows = 2 * net.nodes[net.output].size
    walk_of, most, plan = walks_of(net, options, box, rows, None, limit and max(1, limit - each))
    step = min(most, step)
    return walk_of, step, None if plan is None else plan.predicted + each * step


def _last_readers(net: Network) -> dict[int, int]:
    """Node -> the last one that reads it."""
    return {i: index for index, node in enumerate(net.nodes) for i in node.inputs}


def _alive(net: Network) -> int:
    """Neurons that are alive at once, at most."""
    last, alive, most = _last_readers(net), net.nodes[0].size, 0
    for index, node in enumerate(net.nodes[1 : net.output + 1], start=1):
        alive += node.size
        most = max(most, alive)
        alive -= sum(net.nodes[i].size for i in {*node.inputs} if last[i] == index)
    return max(most, alive)


def _seen(net: Network, points: npt.NDArray[np.float32], limit: int) -> list[float]:
    """The largest size of an entry of each node at the inputs."""
    neurons = sum(node.size for node in net.nodes)
    step = max(1, (limit or 1 << 28) // (16 * neurons))
    most = [0.0] * len(net.nodes)
    for first in range(0, len(points), step):
        sizes = [
            float(np.max(abs(v), initial=0.0)) for v in net.values(points[first : first + step])
        ]
        most = [max(pair) for pair in zip(most, sizes, strict=True)]
    return most


def _points(box: Box, seed: int) -> npt.NDArray[np.float32]:
    """Float32 inputs in the first boxes: about their middles, and corners at random."""
    random, found = np.random.default_rng(seed), []
    for k in range(min(len(box), SAMPLES)):
        one = box.slice(k, k + 1)
        low, high = rounding.to_up(one.lower, np.float32), rounding.to_down(one.upper, np.float32)
        corners = [np.where(random.random(low.shape) < 0.5, low, high) for _ in range(SAMPLES)]
        tried = [(low / 2 + high / 2).clip(low, high), *corners]
        found += [x[0] for x in tried if x in one]
    return np.array(found, np.float32).reshape(len(found), *box.shape[1:])


def _most(sizes: npt.NDArray[np.float64]) -> float:
    most = float(np.max(sizes, initial=0.0))
    return math.inf if math.isnan(most) else most


def _witness(
    net: Network, points: npt.NDArray[np.float32], peaks: Sequence[Reach], kept: Storage
) -> npt.NDArray[Any] | None:
    """An input at which a value of the exact network is beyond the format, proved by intervals."""
    # What lies between the largest number and the next one would be, is rounded to the former.
    beyond = kept.largest * (1 + kept.unit)
    if not any(p.seen > beyond for p in peaks):
        return None
    for x in points:
        point = x[None].astype(np.float64)
        for known in interval_pass(net, Box(point, point).batched(net.input_shape)):
            if (known.lower > beyond).any() or (known.upper < -beyond).any():
                return np.asarray(x)
    return None
