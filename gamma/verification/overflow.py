"""Whether a network that runs in float16 or bfloat16 can overflow on a set of inputs.

What an execution is: the input, weights and biases are rounded to the format; dense layers,
convolutions, sums and products round after every multiplication and every addition, in any order,
with or without FMA (an execution that sums in more bits rounds less and forms no larger numbers);
every other operator is computed in float32 and its result rounded, as kernels of PyTorch and ONNX
Runtime do. With u half a unit in the last place and η half the least number of the format, a sum
s = Σ w_i x_i + b of n products has in every order (Higham 2002, section 3.1)

    |fl(t)| <= (1 + u)^(n+4) (Σ |w_i||x_i| + |b|) + lost     for every partial sum t of it,
    |fl(s) - s| <= ((1 + u)^(n+4) - 1) (Σ |w_i||x_i| + |b|) + lost,
    lost = 4 (n + 2) (1 + u)^(n+4) η (1 + max |x| + max |w|),

where the four more factors are for the rounding of w, b and the input and for the float64 here. An
overflow is impossible where no bound exceeds the largest number: by induction over the nodes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Network, Node
from gamma.ops.affine import Linear, Weighted
from gamma.ops.bounds import NodeBounds
from gamma.ops.linear import Scale
from gamma.ops.products import Product
from gamma.propagate.interval import input_bounds, interval_pass, interval_step
from gamma.propagate.ranges import FORMATS, Storage
from gamma.tensor import probe, rounding
from gamma.tensor.box import Box
from gamma.verification.choices import check_options
from gamma.verification.describe import model_record
from gamma.verification.environment import environment, peak_bytes
from gamma.verification.result import number
from gamma.verification.verdict import limited_threads

Float64 = npt.NDArray[np.float64]

SCHEMA = "gamma.overflow/1"
TYPES = {"float16": "f16", "bfloat16": "bf16"}
SAMPLES = 16
FUSED = "stands for several operators of the file, whose numbers in between are not known"
_SLACK = 1 + 2.0**-40


@dataclass(frozen=True)
class Reach:
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


@dataclass(frozen=True, eq=False)
class Overflow:
    """Whether any execution in ``dtype`` overflows for an input of the set.

    Attributes:
        verdict: "verified" (impossible), "violated" (a value of the exact network is beyond the
            format at ``witness``), or "unknown". nodes: in the order of evaluation.
        largest: the format's largest number. witness: an input, None without one.
    """

    verdict: str
    dtype: str
    largest: float
    nodes: tuple[Reach, ...]
    witness: npt.NDArray[Any] | None = None
    seconds: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)

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
            "memory": {"peak_bytes": peak_bytes()},
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
    timeout: float | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Overflow:
    """Whether an execution in "float16" or "bfloat16" can overflow on an input of ``box``.

    Args:
        timeout: seconds, after which ResourceError is raised. threads: at most so many.
        seed: of the inputs that are tried.

    Raises:
        UsageError: another dtype, or a box that does not fit the network.
    """
    if dtype not in TYPES:
        raise UsageError(f"dtype {dtype!r}: expected float16 or bfloat16")
    check_options("ibp", "real", "auto", timeout, threads)
    probe.float32_failures()  # refuses where float64 is not what the formulas need
    start = time.monotonic()
    deadline = math.inf if timeout is None else start + timeout
    kept, many = FORMATS[TYPES[dtype]], box.batched(net.input_shape)
    with limited_threads(threads), np.errstate(all="ignore"):
        points = _points(many, seed)
        seen = [float(np.max(abs(v), initial=0.0)) for v in net.values(points)]
        known = [_rounded(input_bounds(many), kept)]
        peaks = [_peak(net.nodes[0], known[0], 0, None, "", seen[0])]
        for index, node in enumerate(net.nodes[1 : net.output + 1], start=1):
            if time.monotonic() > deadline:
                raise ResourceError("the time limit was reached")
            if progress is not None:
                progress(f"overflow: node {index} of {net.output}, {node.name}")
            made, reach, terms, why = _step(node, [known[i] for i in node.inputs], kept)
            known.append(made)
            peaks.append(_peak(node, made, terms, reach, why, seen[index]))
        witness = _witness(net, points, peaks, kept)
    fits = all(not p.why and p.partial <= kept.largest for p in peaks)
    verdict = "verified" if fits else "unknown" if witness is None else "violated"
    spent = time.monotonic() - start
    return Overflow(verdict, dtype, kept.largest, tuple(peaks), witness, spent, model_record(net))


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


def _step(
    node: Node, inputs: Sequence[NodeBounds], kept: Storage
) -> tuple[NodeBounds, Float64 | None, int, str]:
    """Values of the node in every execution, the size of partial sums where there are any, the
    terms of a sum, and why nothing is proved."""
    op = node.op
    if op.moves:
        made = interval_step(node, inputs, "real")
        return made, None, 0, ""
    if not isinstance(op, Linear | Product):
        made = _rounded(interval_step(node, inputs, "float32"), kept)
        return made, None, 0, ""
    made = interval_step(node, inputs, "real")
    reach = [np.maximum(abs(b.lower), abs(b.upper)) for b in inputs]
    size, terms, largest = _size(op, reach)
    noise, partial = _charges(size, terms, largest, reach, kept)
    if isinstance(op, Linear):
        partial = np.maximum(partial * op.peak, largest)
    lower, upper = rounding.down(made.lower - noise), rounding.up(made.upper + noise)
    wide = NodeBounds(lower, upper, rounding.midpoint(lower, upper)).frozen()
    fused = (isinstance(op, Scale) and op.execution is not None) or (
        isinstance(op, Weighted) and op.weight_noise is not None
    )
    return wide, partial, terms, FUSED if fused else ""


def _size(op: Linear | Product, reach: Sequence[Float64]) -> tuple[Float64, int, float]:
    """At least Σ |w||x| + |b| of every entry, the products in it, and the largest constant."""
    shapes = [r.shape[1:] for r in reach]
    if isinstance(op, Product):
        return op.forward(*reach) * (1 + 2.0**-20), op.summed(*shapes), 0.0
    offset, weights = op.offset(), op.stored()
    size = op.linear(reach, absolute=True) * (1 + 2.0**-20)
    largest = 1.0 if weights is None else float(np.max(abs(weights), initial=0.0))
    if offset is not None:
        size = size + abs(offset.astype(np.float64))
        largest = max(largest, float(np.max(abs(offset), initial=0.0)))
    return size, op.terms_for(shapes[0]), largest


def _charges(
    size: Float64, terms: int, largest: float, reach: Sequence[Float64], kept: Storage
) -> tuple[Float64, Float64]:
    """How far an execution strays from the real sum, and the size of its partial sums."""
    growth = float(np.float64(1 + kept.unit) ** (terms + 4)) * _SLACK
    far = 1 + largest + sum(float(np.max(r, initial=0.0)) for r in reach)
    lost = 4 * (terms + 2) * growth * kept.quantum * far
    noise = ((growth - 1 + 2.0**-40) * size + lost) * _SLACK
    return np.where(np.isnan(noise), np.inf, noise), (growth * size + lost) * _SLACK


def _rounded(known: NodeBounds, kept: Storage) -> NodeBounds:
    """Values rounded to the format."""
    low, high = (
        end + sign * (abs(end) * kept.unit * _SLACK + 2 * kept.quantum)
        for end, sign in ((known.lower, -1), (known.upper, 1))
    )
    low, high = rounding.down(low), rounding.up(high)
    return NodeBounds(low, high, rounding.midpoint(low, high)).frozen()


def _peak(
    node: Node, made: NodeBounds, terms: int, reach: Float64 | None, why: str, seen: float
) -> Reach:
    activation = _most(np.maximum(abs(made.lower), abs(made.upper)))
    partial = activation if reach is None else max(_most(reach), activation)
    return Reach(node.name, node.op.name, node.shape, terms, activation, partial, seen, why)


def _most(sizes: Float64) -> float:
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
