"""Certified cosine: every output of an input set points nearly where the centre's output does.

Let ũ be nearly the output u at the centre, within ρ₀, and all outputs v within ρ of ũ. Of the
vectors in a ball about ũ those on a tangent from the origin make the largest angle with ũ, of sine
ρ/|ũ|; angles add, and so cos(u, v) >= √(1 - (ρ + ρ₀)²/|ũ|²), more than one less the square, and
what no smaller number than ρ allows. See docs/numerics.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from numbers import Rational
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from gamma.errors import PropertyError, ResourceError, UsageError
from gamma.network.graph import Network
from gamma.network.property import Property, robustness
from gamma.ops import Normalize, Scale
from gamma.ops.evaluate import evaluate
from gamma.propagate import bounds, linear_bounds
from gamma.propagate.distance import box_distance, farthest
from gamma.propagate.options import refuse_guarantee
from gamma.propagate.remarks import remarks
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_float, exact_floats, exact_integer
from gamma.tensor.rounding import fraction_down
from gamma.verification.angles import cosine_below
from gamma.verification.choices import DECIDING, check_options, limit_of
from gamma.verification.cosine_attack import Search, output_distance
from gamma.verification.describe import model_record, property_record, reading_notes
from gamma.verification.environment import peak_bytes
from gamma.verification.result import Counterexample, Margin, Result, Verdict
from gamma.verification.verdict import limited_threads

Float64 = npt.NDArray[np.float64]


def cosine(
    net: Network,
    inputs: Box | Property,
    least: float | Fraction,
    *,
    centre: npt.ArrayLike | None = None,
    method: str = "auto",
    guarantee: str = "real",
    dtype: str = "auto",
    timeout: float | None = None,
    memory: int | str | None = None,
    attack: bool = True,
    threads: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Whether the outputs of all ``inputs`` have this cosine, or more, with the centre's.

    Outputs of any shape are one vector. Positive factors and a root mean square norm without
    epsilon at the end of the network are left out: they change no direction.

    Args:
        inputs: one input set. least: in (0, 1], taken exactly. centre: an input of the set, its
            centre where None. method: "auto" is "crown". timeout: seconds, 60 for method auto.
        memory: a limit for the bounds, as in `gamma.bounds`.

    Returns:
        A `Result`; its ``cosine`` has the proved lower bound. "verified" where that is at least
        ``least``, "violated" with an input whose cosine is proved to be less.

    Raises:
        UsageError: options that do not exist, more input sets than one, a centre outside.
    """
    check_options(method, guarantee, dtype, timeout, threads, DECIDING)
    refuse_guarantee(net, guarantee)
    seed = exact_integer(seed, "seed", least=0)
    wanted = least if isinstance(least, Rational) else exact_float(least, "least")
    wanted = Fraction(wanted)
    if not 0 < wanted <= 1:
        raise UsageError(f"least {float(wanted):g}: expected a cosine above 0 and at most 1")
    start = time.monotonic()
    limit = limit_of(timeout, method)
    deadline = None if limit is None else start + limit
    prop = inputs if isinstance(inputs, Property) else robustness(inputs, 0)
    with limited_threads(threads):
        asked = _question(directed(net), prop, centre, deadline)
        how = {"guarantee": guarantee, "dtype": dtype, "deadline": deadline, "memory": memory}
        asked.bound(method="crown" if method == "auto" else method, **how)
        if attack and not asked.lower >= wanted:
            asked.refute(prop, wanted, seed, progress or _silent)
    asked.seconds["total"] = time.monotonic() - start
    verdict = asked.verdict(wanted)
    excess = fraction_down(Fraction(asked.lower) - wanted)
    return Result(
        verdict=verdict,
        guarantee=guarantee,
        asked=method,
        used=(asked.used,) if asked.used else (),
        counterexample=asked.witness,
        margins=(Margin(f"cosine - {float(wanted):.9g}", excess, verdict == "verified"),),
        proved=int(verdict == "verified"),
        conjunctions=1,
        seconds=asked.seconds,
        memory={"peak_bytes": peak_bytes(), "planned_bytes": None},
        model=model_record(net),
        property={**property_record(prop), "cosine": float(wanted)},
        blocks=tuple(asked.blocks),
        notes=(*reading_notes(net), *asked.notes),
        limit=limit,
        cosine=asked.record(wanted),
    )


def directed(net: Network) -> Network:
    """The network without what only scales its whole output by a positive number."""
    index = net.output
    while _keeps_direction(net, index):
        (index,) = net.nodes[index].inputs
    if index == net.output:
        return net
    return Network(net.nodes[: index + 1], index, net.source, net.notes, net.metadata)


def _keeps_direction(net: Network, index: int) -> bool:
    node = net.nodes[index]
    op = node.op
    if isinstance(op, Scale):
        shift = op.shift is not None and bool(np.any(op.shift))
        return op.scale.size == 1 and float(op.scale.ravel()[0]) > 0 and not shift
    if isinstance(op, Normalize):
        return not op.centred and op.epsilon == 0 and op.axis % len(node.shape) == 0
    return False


def _silent(_: str) -> None:
    pass


def _question(
    net: Network, prop: Property, centre: npt.ArrayLike | None, deadline: float | None
) -> _Question:
    if len(prop.regions) != 1:
        raise UsageError(f"a cosine is of one input set, found {len(prop.regions)}")
    if prop.inputs != math.prod(net.input_shape):
        raise PropertyError(
            f"the input set has {prop.inputs} entries, the network takes "
            f"{math.prod(net.input_shape)}"
        )
    box = prop.box()
    point = _centre(prop, box, centre)
    near = evaluate(net, point.reshape(1, *net.input_shape)).ravel()
    return _Question(net, box, point, near, math.inf if deadline is None else deadline)


def _centre(prop: Property, box: Box, given: npt.ArrayLike | None) -> Float64:
    """The input (inputs,) that others are compared with."""
    if given is not None:
        point = np.asarray(exact_floats(given, "centre"), np.float64).ravel()
    elif box.center is not None:
        point = box.center.ravel()
    else:
        region = prop.regions[0]
        ends = zip(region.lower, region.upper, strict=True)
        point = np.array([float((a + b) / 2) for a, b in ends])
    if point.size != prop.inputs or not prop.regions_of(point):
        raise UsageError("centre: it is no input of the set")
    return point


class _Question(Struct):
    """One input set, and what is known of the outputs' directions.

    Attributes:
        near: (outputs,), within ``own`` of the output at ``centre``; all outputs are within
            ``distance`` of it. lower: of their cosines with the centre's. seen: the least of a
            point tried.
    """

    net: Network
    box: Box
    centre: Float64
    near: Float64
    deadline: float
    distance: float = math.inf
    own: float = math.inf
    lower: float = -1.0
    seen: float | None = None
    witness: Counterexample | None = None
    used: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def bound(self, method: str, **how: Any) -> None:
        """Fill distances and cosine, unless the time runs out."""
        begun = time.monotonic()
        many = self.box.batched(self.net.input_shape)
        self.notes = remarks(self.net, many, method, None)
        try:
            self.distance, own = self._distances(method, {"blocks": self.blocks, **how})
            # What another execution makes of the centre is known by its bounds alone.
            real = how["guarantee"] == "real"
            self.own = min(own, output_distance(self.net, self.centre, self.near) if real else own)
            self.lower, self.used = cosine_below(self.near, self.distance, self.own), method
        except ResourceError:
            if time.monotonic() < self.deadline:
                raise
        self.seconds["bounds"] = time.monotonic() - begun

    def _distances(self, method: str, how: dict[str, Any]) -> tuple[float, float]:
        """At least the distance from ``near`` of all outputs, and of the centre's."""
        if method == "ibp":
            out = bounds(self.net, self.box, method=method, **how)
            far = box_distance(out.lower, out.upper, self.near)
            return far, far
        forms = linear_bounds(self.net, self.box, method=method, **how)
        return farthest(forms, self.box, self.centre, self.near)

    def refute(
        self, prop: Property, least: Fraction, seed: int, progress: Callable[[str], None]
    ) -> None:
        """Look for an input with a lower cosine."""
        begun = time.monotonic()
        search = Search(self.net, prop, self.near, self.own, seed, self.deadline, progress)
        self.witness, self.seen = search.below(least), search.least_seen
        self.seconds["attack"] = time.monotonic() - begun

    def verdict(self, least: Fraction) -> Verdict:
        """What is decided, by now."""
        if self.lower >= least:
            return "verified"
        if self.witness is not None:
            return "violated"
        return "timeout" if time.monotonic() > self.deadline else "unknown"

    def record(self, least: Fraction) -> dict[str, float | None]:
        """The JSON form."""
        return {
            "asked": float(least),
            "lower": self.lower,
            "least_found": self.seen,
            "distance": self.distance,
            "norm": float(np.linalg.norm(self.near)),
        }
