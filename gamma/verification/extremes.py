"""The least and the greatest value of every output, enclosed: proved outside, reached inside.

Branch and bound as certified global optimisation. Each end is a chain of questions for
`gamma.verify`: is any output at least the gap beyond what was reached? A proof ends the chain; a
witness reaches farther, and the next question starts there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.network.exact import exact_fractions
from gamma.network.graph import Network
from gamma.network.property import Conjunction, LinearConstraint, Property, Region, robustness
from gamma.propagate import bounding_method, bounds
from gamma.propagate.choosing import batched
from gamma.runtime.interrupts import Interrupted
from gamma.tensor.box import Box
from gamma.tensor.rounding import fraction_down, fraction_up
from gamma.verification.attack import Attack
from gamma.verification.choices import AUTO_SECONDS, GAP, check_options
from gamma.verification.effort import LONG
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample
from gamma.verification.targets import Targets
from gamma.verification.verdict import limited_threads, verify

Array = npt.NDArray[Any]
Progress = Callable[[str], None]

EFFORT = replace(LONG, work=2.0**30)
ATTACK_SHARE, ATTACK_SECONDS = 0.2, 10.0
"""What the search before any proof takes at most: of the time limit, and in all."""
DESCENTS = 60
"""Steps from a witness to what it leads to."""


class Extremes(Struct, eq=False):
    """Ranges of all outputs over a batch of input sets.

    Attributes:
        lower, upper: float64 (boxes, *output shape), proved: every output lies inside.
        reached_lower, reached_upper: the same shape; an output of the network is at most, and one
            is at least, this number. NaN where no input was evaluated.
        points: the inputs (*input shape) of these, by (box, output, 0 for the lower end or 1).
        gap: what was asked for. interrupted: Ctrl-C came first.
    """

    lower: Array
    upper: Array
    reached_lower: Array
    reached_upper: Array
    gap: float
    points: dict[tuple[int, int, int], Array] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def met(self) -> bool:
        """Whether proved and reached ends lie within the gap everywhere."""
        low, high = self.reached_lower - self.lower, self.upper - self.reached_upper
        return bool((low <= self.gap).all() and (high <= self.gap).all())

    def to_dict(self) -> dict[str, Any]:
        """What was reached, for the JSON of bounds."""
        ends = {"lower": self.reached_lower, "upper": self.reached_upper}
        listed = {
            name: [None if math.isnan(v) else float(v) for v in values.ravel()]
            for name, values in ends.items()
        }
        return {**listed, "gap": self.gap, "met": self.met}


def extremes(
    net: Network,
    box: Box | Property,
    *,
    gap: float = GAP,
    timeout: float | None = None,
    memory: int | str | None = None,
    guarantee: str = "real",
    dtype: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Extremes:
    """The range of every output over ``box``, enclosed from outside and from inside.

    Works until proved and reached ends are within ``gap`` (in the output's units) or ``timeout``
    seconds (60 when None) are over: what is proved then still holds. Of a property only the input
    regions count. ``memory`` limits the bounds, as in `gamma.verify`.

    Raises:
        UsageError: options that do not exist. ResourceError: the time was over before any bounds.
    """
    check_options("auto", guarantee, dtype, timeout, threads, ("auto",))
    if not 0 < gap < math.inf:
        raise UsageError(f"gap {gap}: expected a positive number")
    limit = AUTO_SECONDS if timeout is None else timeout
    prop = _property(net, box)
    with limited_threads(threads):
        search = _Search(net, prop, gap, time.monotonic() + limit, guarantee, dtype)
        search.seed, search.limit, search.tell = seed, limit, progress or (lambda _: None)
        search.memory = memory
        return search.run()


def _property(net: Network, box: Box | Property) -> Property:
    """The input set as a property without an unsafe set."""
    outputs = math.prod(net.output_shape)
    if isinstance(box, Property):
        regions = tuple(replace(region, unsafe=()) for region in box.regions)
        return replace(box, regions=regions, outputs=outputs, label=None)
    many = batched(net, box)
    if len(many.lower) == 1 or many.norm == "inf":
        ends = (e.reshape(len(e), -1) for e in (many.lower, many.upper))
        pairs = [tuple(map(exact_fractions, pair)) for pair in zip(*ends, strict=True)]
        regions = tuple(Region(low, high, ()) for low, high in pairs)
        balls = robustness(box, 0).balls
        return Property(regions, math.prod(net.input_shape), outputs, balls=balls)
    raise UsageError("a batch of balls: ask about one of them at a time")


def _beyond(output: int, end: int, value: Fraction) -> Conjunction:
    """The output is at most ``value``, or for the end 1 at least."""
    sign = Fraction(1 - 2 * end)
    return (LinearConstraint(((output, sign),), (), sign * value),)


class _Search:
    """The ends of all outputs, as they are known so far, in fractions of the numbers kept."""

    seed = 0
    limit = 0.0
    memory: int | str | None = None
    tell: Progress

    def __init__(
        self, net: Network, prop: Property, gap: float, deadline: float, guarantee: str, dtype: str
    ) -> None:
        self.net, self.prop, self.gap, self.deadline = net, prop, gap, deadline
        self.guarantee, self.dtype = guarantee, dtype

    def run(self) -> Extremes:
        """Bounds of crown, one search for all ends, then proofs end by end."""
        deadline = None if math.isinf(self.deadline) else self.deadline
        how: dict[str, Any] = {"guarantee": self.guarantee, "dtype": self.dtype}
        how["memory"] = self.memory
        box = self.prop.box().batched(self.net.input_shape)
        method = bounding_method(self.net, int((box.lower < box.upper).any(axis=0).sum()))
        first = bounds(self.net, box, method=method, deadline=deadline, **how)
        shape = (len(self.prop.regions), *self.net.output_shape)
        low, high = (np.reshape(e, shape).astype(np.float64) for e in (first.lower, first.upper))
        unknown = np.full(shape, np.nan)
        self.found = Extremes(low, high, unknown, unknown.copy(), self.gap)
        try:
            self._attack()
            ends = [(b, i, end) for b in range(shape[0]) for i in range(low[b].size)
                    for end in (0, 1)]  # fmt: skip
            for number, (region, output, end) in enumerate(ends):
                left = self.deadline - time.monotonic()
                self._prove(region, output, end, left / (len(ends) - number))
        except Interrupted:
            self.found.interrupted = True
        return self.found

    def _proved(self, end: int) -> Array:
        return self.found.upper if end else self.found.lower

    def _reached(self, end: int) -> Array:
        return self.found.reached_upper if end else self.found.reached_lower

    def _asked(self, region: int, conjunctions: tuple[Conjunction, ...]) -> Property:
        """One region of the property, with an unsafe set."""
        only = replace(self.prop.regions[region], unsafe=conjunctions)
        balls = self.prop.balls[region : region + 1]
        return replace(self.prop, regions=(only,), balls=balls)

    def _attack(self) -> None:
        """Points of each region where outputs are small and large."""
        limit = min(ATTACK_SECONDS, ATTACK_SHARE * self.limit)
        for region in range(len(self.prop.regions)):
            unsafe, ends = [], []
            for end in (0, 1):
                for output, value in enumerate(self._proved(end)[region].ravel()):
                    # Out of reach: the search comes as near to it as it can.
                    far = max(2.0 * abs(float(value)), 1.0)
                    far = far if math.isfinite(far) else 1e30
                    unsafe.append(_beyond(output, end, Fraction(far if end else -far)))
                    ends.append((output, end))
            prop = self._asked(region, tuple(unsafe))
            search = Attack(self.net, prop, Targets.of(prop), _nobody, self.seed, self.tell)
            search.run(search.attackable, EFFORT, time.monotonic() + limit / len(self.prop.regions))
            for target, (_, x) in search.best.items():
                self._reach(prop, region, *ends[target], x)

    def _reach(self, prop: Property, region: int, output: int, end: int, x: Array) -> bool:
        """Note what the outputs certainly reach at ``x``; whether that is farther than before."""
        replay = Replay(self.net, prop, self.guarantee)
        enclosed = replay.enclosure(0, x)
        if enclosed is None:
            return False
        # The upper end of what encloses the value: the least output is at most this.
        value = float(enclosed[1 - end][output])
        return self._note(region, output, end, value, x)

    def _note(self, region: int, output: int, end: int, value: float, x: Array) -> bool:
        if not math.isfinite(value):  # enclosed by nothing, or an execution that overflows
            return False
        reached = self._reached(end)[region].reshape(-1)
        known = float(reached[output])
        if not math.isnan(known) and (value <= known if end else value >= known):
            return False
        reached[output] = value
        self.found.points[region, output, end] = x.reshape(self.net.input_shape).copy()
        return True

    def _prove(self, region: int, output: int, end: int, seconds: float) -> None:
        """Questions about one end until the gap is met or the time is over."""
        deadline = time.monotonic() + seconds
        proved = self._proved(end)[region].reshape(-1)
        while (left := deadline - time.monotonic()) > 0:
            reached = float(self._reached(end)[region].ravel()[output])
            if math.isnan(reached) or abs(float(proved[output]) - reached) <= self.gap:
                return
            sign = 1 - 2 * end
            exact = sign * Fraction(reached) - Fraction(self.gap)
            value = sign * fraction_up(exact)
            if not math.isfinite(value):
                return
            self.tell(f"output {output}: reached {reached:.6g}, proved {proved[output]:.6g}")
            prop = self._asked(region, (_beyond(output, end, Fraction(value)),))
            if not self._ask(prop, (region, output, end), value, left):
                return

    def _ask(self, prop: Property, at: tuple[int, int, int], value: float, seconds: float) -> bool:
        """One question; True when a witness reached farther."""
        how: dict[str, Any] = {"guarantee": self.guarantee, "dtype": self.dtype}
        how["memory"] = self.memory
        how |= {"timeout": seconds, "seed": self.seed, "progress": self.tell}
        try:
            result = verify(self.net, prop, method="auto", **how)
        except Interrupted as stop:
            if stop.partial is not None:
                self._tighten(stop.partial.margins, at, value)
            raise
        if result.counterexample is not None:
            return self._farther(prop, at, value, result.counterexample)
        if result.verdict == "verified":
            self._better(at, value)
        else:
            self._tighten(result.margins, at, value)
        return False

    def _farther(
        self, prop: Property, at: tuple[int, int, int], value: float, found: Counterexample
    ) -> bool:
        """What the witness, and a descent from it, reach; whether that answers the question."""
        region, output, end = at
        improved = self._reach(prop, region, output, end, found.x.ravel())
        # One execution is one of those that are asked about.
        if self.guarantee == "float32" and found.replayed_by == "onnxruntime":
            y = float(found.y.ravel()[output])
            improved |= self._note(region, output, end, y, found.x)
        known = float(self._reached(end)[region].ravel()[output])
        search = Attack(self.net, prop, Targets.of(prop), _nobody, self.seed, self.tell)
        none = np.zeros(1, np.int64)
        x = found.x.reshape(1, -1).astype(np.float64)
        search.near(none, x, 1, DESCENTS, self.deadline)
        for _, best in search.best.values():
            self._reach(prop, region, output, end, best)
        return improved and (known >= value if end else known <= value)

    def _tighten(self, margins: Any, at: tuple[int, int, int], value: float) -> None:
        """What an unfinished proof says: the distance from the question's value that is proved."""
        for margin in margins:
            if math.isfinite(margin.lower):
                sign = 1 - 2 * at[2]
                exact = sign * Fraction(value) + Fraction(min(margin.lower, 0.0))
                self._better(at, sign * fraction_down(exact))

    def _better(self, at: tuple[int, int, int], value: float) -> None:
        region, output, end = at
        ends = self._proved(end)[region].reshape(-1)
        ends[output] = min(ends[output], value) if end else max(ends[output], value)


def _nobody(region: int, x: Array) -> Counterexample | None:
    """Judges no point: the search goes on to better ones."""
    return None
