"""The search for a witness: corners, samples and batched gradient descent with restarts.

Nothing here decides: a candidate counts only after its replay. All points are float32 numbers
inside the exact region.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.runtime import interrupts
from gamma.telemetry import spanned
from gamma.verification.effort import Effort
from gamma.verification.moves import Mover
from gamma.verification.objective import Float32, Float64, Objective
from gamma.verification.regions import Regions, spread
from gamma.verification.result import Counterexample
from gamma.verification.targets import Int64, Targets, distinct

SCATTER_STEPS = 6

KEPT_GROUPS = 16
"""Groups of targets whose arrays are kept between rounds; of more, each round makes them anew."""

REPLAYS = 16
"""Refused candidates of one target after which a new one must come closer."""

Accept = Callable[[int, Float32], Counterexample | None]

LOW_DIMENSION = 16
"""Up to so many free inputs, sampling covers the region and is worth thousands of points."""


CALL = 2.0**22
"""Fixed cost of one evaluation, in multiplications."""

AT_ONCE = 2.0**32
"""Multiplications of one evaluation at most (where one point takes less): some tenths of a second
on a slow core, between two looks at the clock."""


POINT = 16
"""Bytes of a point for each neuron: its value, a gradient, and a copy of both on the way."""


class _OutOfTimeError(Exception):
    """The deadline passed in the middle of a search."""


class Attack:
    """One attack on a property; it keeps the best points found, so that efforts build up.

    The search is deterministic for a seed, as long as ``deadline`` does not cut it. ``progress``
    is told how far it is.
    """

    def __init__(
        self,
        net: Network,
        prop: Property,
        targets: Targets,
        accept: Accept,
        seed: int = 0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.net, self.prop, self.targets, self.accept = net, prop, targets, accept
        self.progress, self.deadline, self.cut = progress, np.inf, False
        self.seed = seed
        self.memory = 0  # bytes of the points tried at once; no limit
        self.neurons = sum(node.size for node in net.nodes)
        self.cost = float(
            sum(n.size * (1 if n.op.affine is None else n.op.affine.terms) for n in net.nodes)
        )
        self.regions = Regions(prop)
        self.best: dict[int, tuple[float, Float32]] = {}
        self.tried, self.work = 0, 0.0
        self.attackable = targets.attackable()
        self._rejected: dict[int, tuple[int, float]] = {}

    @cached_property
    def random(self) -> np.random.Generator:
        """Made when it is first drawn from: importing NumPy's takes longer than a small proof."""
        return np.random.default_rng(self.seed)

    @spanned("attack")
    def run(self, active: Int64, effort: Effort, deadline: float = np.inf) -> Counterexample | None:
        """Search the unsafe sets of the targets ``active``, most promising first.

        ``cut`` says afterwards whether ``deadline`` (``time.monotonic``) ended the search.
        """
        self.deadline, self.cut = deadline, False
        if not len(active):
            return None
        try:
            with np.errstate(all="ignore"):  # an overflow makes a point worthless, not the search
                return self._search(active, effort)
        except _OutOfTimeError:
            self.cut = True
            return None

    def expected_work(self, active: int, effort: Effort) -> float:
        """Multiplications, roughly, of one round on so many targets."""
        steps = effort.steps + SCATTER_STEPS
        points = max(effort.points, effort.restarts * active)
        return steps * (CALL + 3.0 * self.cost * points) + self.cost * 64 * max(active, 1)

    @spanned("attack")
    def near(
        self, targets: Int64, x: Float64, starts: int, steps: int, deadline: float = np.inf
    ) -> Counterexample | None:
        """Judge points (points, inputs), one of each target; from the first ``starts`` also descend
        by ``steps`` steps. A point outside its region is moved into it."""
        self.deadline = deadline
        worth = np.isin(targets, self.attackable)
        targets, x = targets[worth], x[worth]
        if not len(targets):
            return None
        several, which = np.unique(targets, return_inverse=True)
        which = which.astype(np.int64).ravel()
        try:
            with np.errstate(all="ignore"):
                objective = Objective.of(self.net, self.targets, several, self._check)
                low, high = self._ends(objective, which)
                points = np.clip(x.astype(np.float32), low, high)
                points = self._project(objective, which, points)
                values = objective.value(which, points, objective.outputs(points))
                found = self._judge(objective, which, points, values)
                if found is None and steps:
                    first = slice(0, starts)
                    found = self._follow(objective, which[first], points[first], steps, 3)
                return found
        except _OutOfTimeError:
            return None

    def _search(self, active: Int64, effort: Effort) -> Counterexample | None:
        first = self.work
        groups = list(self._groups(active))
        kept: dict[int, Objective] = {}
        number = 0
        while number == 0 or self.work - first < effort.work:
            for index, group in enumerate(groups):
                self._check()
                objective = kept.get(index) or Objective.of(
                    self.net, self.targets, group, self._check
                )
                if index < KEPT_GROUPS:
                    kept[index] = objective
                found = self._round(objective, effort, number)
                if found is not None:
                    return found
            number += 1
        return None

    def _check(self) -> None:
        interrupts.check()
        if time.monotonic() > self.deadline:
            raise _OutOfTimeError

    def _round(self, objective: Objective, effort: Effort, number: int) -> Counterexample | None:
        """Samples (the first time), one descent with restarts, and local steps (few inputs)."""
        found = self._sample(objective, effort) if number == 0 else None
        if found is None:
            found = self._descend(objective, effort, number)
        first = int(self.targets.region[objective.targets[0]])
        if found is None and self.regions.free(first) <= LOW_DIMENSION:
            found = self._refine(objective, effort)
        return found

    def _groups(self, active: Int64) -> Iterator[Int64]:
        """Targets in groups whose arrays stay small."""
        width = max(self.targets.inputs, self.targets.outputs, self.neurons // 8, 1)
        size = int(np.clip((1 << 22) // width, 4, 256))
        for start in range(0, len(active), size):
            yield active[start : start + size]

    def _batch(self) -> int:
        """Points evaluated at once: the largest arrays stay in tens of megabytes, and the time
        of one evaluation in fractions of a second."""
        fit = int(np.clip((1 << 23) // max(self.neurons, 1), 16, 1 << 14))
        if self.memory:
            fit = min(fit, max(self.memory // (POINT * max(self.neurons, 1)), 1))
        return int(np.clip(AT_ONCE / (3.0 * self.cost + 1.0), 1, fit))

    def _count(self, points: int) -> None:
        """Account for one evaluation; forward and backward cost about three times forward.

        Raises _OutOfTimeError after the deadline: every loop of a search comes by here.
        """
        self.tried += points
        self.work += CALL + 3.0 * self.cost * points
        self.progress(f"attack: {self.tried:,} points tried")
        self._check()

    # --- sampling -------------------------------------------------------------------------------

    def _sample(self, objective: Objective, effort: Effort) -> Counterexample | None:
        """Centre, corners and random points of each region, against all its targets."""
        regions = self.targets.region[objective.targets]
        several = distinct(regions)
        for region in several:
            positions = np.flatnonzero(regions == region).astype(np.int64)
            low, high = self.regions.box(int(region))
            free = self.regions.free(int(region))
            count = effort.samples if free <= LOW_DIMENSION else 64
            count = int(max(16, count // len(several))) if free else 1
            while count > 0:
                batch = min(count, self._batch())
                x = spread(low, high, batch, self.random)
                x = self.regions.inside(int(region), x)
                found = self._judge_all(objective, positions, x)
                count -= batch
                if found is not None:
                    return found
        return None

    def _judge_all(
        self, objective: Objective, positions: Int64, x: Float32
    ) -> Counterexample | None:
        """Judge points of one region against every target of that region."""
        y = objective.outputs(x)
        for position in positions:
            which = np.full(len(x), position, dtype=np.int64)
            found = self._judge(objective, which, x, objective.value(which, x, y))
            if found is not None:
                return found
        return None

    def _judge(
        self, objective: Objective, which: Int64, x: Float32, values: Float64
    ) -> Counterexample | None:
        """Replay the candidates among these points and remember the best point of each target."""
        order = np.argsort(values, kind="stable")
        for i in order[:4]:
            target = int(objective.targets[which[i]])
            if values[i] <= self._slack(objective, which[i]):
                found = self._replay(target, float(values[i]), x[i])
                if found is not None:
                    return found
        self._count(len(x))
        seen: set[int] = set()
        for i in order[:512]:
            target = int(objective.targets[which[i]])
            if target in seen:
                continue
            seen.add(target)
            if target not in self.best or values[i] < self.best[target][0]:
                self.best[target] = float(values[i]), x[i].copy()
        return None

    def _replay(self, target: int, value: float, x: Float32) -> Counterexample | None:
        """Have a candidate judged; after many refusals only a better one is worth another try."""
        count, lowest = self._rejected.get(target, (0, np.inf))
        if count >= REPLAYS and value >= lowest:
            return None
        self._check()
        found = self.accept(int(self.targets.region[target]), x)
        self._rejected[target] = count + 1, min(value, lowest)
        return found

    @staticmethod
    def _slack(objective: Objective, position: int) -> float:
        """Float32 evaluation may miss a touching point by so much; the replay decides."""
        bound = np.abs(objective.constant[position])
        return 1e-6 * (1.0 + float(bound[np.isfinite(bound)].max(initial=0.0)))

    # --- gradient descent -----------------------------------------------------------------------

    def _descend(self, objective: Objective, effort: Effort, number: int) -> Counterexample | None:
        """One round of restarts on every target: sign steps, or Adam in odd rounds."""
        count = len(objective.targets)
        restarts = max(effort.restarts, min(effort.points, self._batch()) // count)
        if count * restarts > 8 * self._batch():
            restarts = max(2, 8 * self._batch() // count)
        which = np.repeat(np.arange(count, dtype=np.int64), restarts)
        for start in range(0, len(which), self._batch()):
            part = which[start : start + self._batch()]
            found = self._walk(objective, part, effort.steps, number)
            if found is not None:
                return found
        return None

    def _walk(
        self, objective: Objective, which: Int64, steps: int, number: int
    ) -> Counterexample | None:
        low, high = self._ends(objective, which)
        x = self._starts(objective, which, low, high)
        x = self._scatter(objective, which, x, low, high)
        return self._follow(objective, which, x, steps, number)

    def _follow(
        self, objective: Objective, which: Int64, x: Float32, steps: int, number: int
    ) -> Counterexample | None:
        """Descend from points (points, inputs) of the targets at positions ``which``."""
        low, high = self._ends(objective, which)
        width = (high - low).astype(np.float64)
        mover = Mover(x.shape, adaptive=number % 2 == 1)
        first, last = ((0.25, 0.004), (0.1, 0.002), (0.5, 0.01), (0.03, 0.0005))[number % 4]
        for step in range(steps):
            values, slope, _ = objective.descend(which, x, soft=number % 3 != 0)
            found = self._judge(objective, which, x, values)
            if found is not None:
                return found
            rate = first * (last / first) ** (step / max(steps - 1, 1))
            move = mover.direction(slope * width, self.random)
            x = np.clip((x + rate * width * move).astype(np.float32), low, high)
            x = self._project(objective, which, x)
        return self._judge(objective, which, x, objective.value(which, x, objective.outputs(x)))

    def _starts(self, objective: Objective, which: Int64, low: Float32, high: Float32) -> Float32:
        """Random points, corners, and for the first restart of a target its best point so far."""
        share = self.random.random(low.shape, dtype=np.float32)
        corners = self.random.random(len(which)) < 0.25
        share = np.where(corners[:, None], np.round(share), share)
        x = (low + share * (high - low)).astype(np.float32)
        fresh = np.r_[True, which[1:] != which[:-1]]
        for i in np.flatnonzero(fresh):
            known = self.best.get(int(objective.targets[which[i]]))
            if known is not None:
                x[i] = known[1]
        return self._project(objective, which, np.clip(x, low, high))

    def _scatter(
        self, objective: Objective, which: Int64, x: Float32, low: Float32, high: Float32
    ) -> Float32:
        """Drive every other point along a random direction of the *outputs* first.

        Random inputs of a wide network all look alike to it and fall into one basin; spreading
        the outputs reaches others (Tashiro et al., Diversity can be Transferred, 2020).
        """
        chosen = np.flatnonzero(np.arange(len(which)) % 2 == 1)
        if not len(chosen):
            return x
        part, floor, ceiling = x[chosen], low[chosen], high[chosen]
        width = ceiling - floor
        direction = self.random.uniform(-1, 1, (len(chosen), self.targets.outputs))
        for _ in range(SCATTER_STEPS):
            self._count(len(part))
            slope = objective.pull(part, direction.astype(np.float32))
            move = (0.3 * width * np.sign(slope)).astype(np.float32)
            part = np.clip(part - move, floor, ceiling)
        x[chosen] = part
        return self._project(objective, which, x)

    def _refine(self, objective: Objective, effort: Effort) -> Counterexample | None:
        """Random steps around the best points, shrinking while they do not help (few inputs)."""
        which = np.arange(len(objective.targets), dtype=np.int64)
        low, high = self._ends(objective, which)
        width = high - low
        each = int(np.clip(self._batch() // len(which), 8, 256))
        radius = 0.1
        for _ in range(effort.steps // 2):
            known = [self.best.get(int(t)) for t in objective.targets]
            if any(k is None for k in known):
                return None
            base = np.stack([k[1] for k in known if k is not None])
            before = sum(k[0] for k in known if k is not None)
            repeated = np.repeat(which, each)
            step = self.random.standard_normal((len(repeated), base.shape[1]))
            keep = self.random.random(step.shape) < self.random.random((len(step), 1))
            x = base[repeated] + (radius * step * keep * width[repeated]).astype(np.float32)
            x = np.clip(x, low[repeated], high[repeated])
            x = self._project(objective, repeated, x)
            y = objective.outputs(x)
            found = self._judge(objective, repeated, x, objective.value(repeated, x, y))
            if found is not None:
                return found
            after = sum(self.best[int(t)][0] for t in objective.targets)
            radius *= 1.3 if after < before else 0.7
            radius = float(np.clip(radius, 1e-6, 0.3))
        return None

    # --- the regions ----------------------------------------------------------------------------

    def _regions_of(self, objective: Objective, which: Int64) -> Int64:
        regions: Int64 = self.targets.region[objective.targets[which]]
        return regions

    def _ends(self, objective: Objective, which: Int64) -> tuple[Float32, Float32]:
        """Region ends (points, inputs) of each point's target."""
        return self.regions.ends(self._regions_of(objective, which))

    def _project(self, objective: Objective, which: Int64, x: Float32) -> Float32:
        return self.regions.project(self._regions_of(objective, which), x)
