"""One verification: bounds and attacks, the cheaper first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.errors import ResourceError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate import (
    MemoryPlan,
    Specification,
    StreamingConfig,
    expected_seconds,
    lower_bounds,
)
from gamma.propagate.caps import joined
from gamma.propagate.remarks import remarks
from gamma.runtime import interrupts
from gamma.tensor.box import Box
from gamma.verification.advice import advice
from gamma.verification.attack import Attack
from gamma.verification.describe import describe_safe, model_record, property_record, reading_notes
from gamma.verification.effort import LONG, PATIENT, QUICK, Effort
from gamma.verification.environment import peak_bytes
from gamma.verification.replay import Replay
from gamma.verification.result import Counterexample, Margin, Result, Verdict
from gamma.verification.targets import STEP, Float64, Int64, Rows, Targets, distinct

MARGINS_KEPT = 1000
"""A result lists so many conjunctions at most; the counts always cover all."""

UNASKED_SECONDS = 5.0
"""The longest attack of a caller who set no time limit."""

AT_LEAST_SECONDS = 0.02
"""Interval bounds expected to take no longer are computed even when the time has run out."""

MULTIPLICATION = 0.05e-9
"""Seconds, roughly, in an evaluation of the attack."""

CENTRES = 16
"""Regions whose centre is tried although float64 cannot express what is asked there."""

Progress = Callable[[str], None]


class Run:
    """One verification: what is proved so far and where the time went."""

    def __init__(
        self,
        net: Network,
        prop: Property,
        method: str,
        guarantee: str,
        dtype: str,
        timeout: float | None,
        start: float,
        progress: Progress | None,
    ) -> None:
        self.net, self.prop = net, prop
        self.method, self.guarantee, self.dtype = method, guarantee, dtype
        self.start, self.timeout = start, timeout
        self.deadline = start + timeout if timeout is not None else math.inf
        self.progress = progress or (lambda _: None)
        self.targets = Targets.of(prop, self._is_late, self._check)
        self.lower = np.full(len(self.targets), -np.inf)
        self.proved = self.targets.excluded.copy()
        self.explain = False
        self.streaming: StreamingConfig | None = None
        self.branch = "auto"
        self.plan: MemoryPlan | None = None
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.used: list[str] = []
        self.dtype_used = ""
        self.explained: list[dict[str, Any]] = []
        self.blocks: list[dict[str, Any]] = []
        self.path = ""
        self.bounds: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
        self.seconds["rows"] = time.monotonic() - start

    def _is_late(self) -> bool:
        return time.monotonic() > self.deadline

    def _check(self) -> None:
        """Raise ResourceError when the deadline has passed."""
        interrupts.check()
        if self._is_late():
            raise ResourceError("the time limit was reached")

    def late(self) -> Result:
        """What is known when the time was out before anything could be decided."""
        return self._result(None, 0, True)

    def interrupted(self) -> Result:
        """What is known when Ctrl-C ended the run."""
        return replace(self._result(None, 0, False), interrupted=True)

    def decide(self, attack: bool, explain: bool, seed: int) -> Result:
        self.explain = explain
        replay = Replay(self.net, self.prop, self.guarantee, self.deadline)
        self.notes = replay.notes
        search = Attack(self.net, self.prop, self.targets, replay, seed, self.progress)
        attackable = self.targets.attackable() if attack else np.zeros(0, np.int64)
        found = None if not attack else self._centres(replay, attackable)
        attack_first = found is None and not self._bounds_are_cheaper(search, attackable)
        if attack_first:
            found = self._quick(search, attackable)
        cut = found is None and self._bounds_cut_short()
        if found is None and not attack_first and not cut:
            found = self._quick(search, attackable)
        if found is None and not cut:
            found = self._long(search, attackable)
        if found is None and not self.used:
            self._bounds_at_least()
        return self._result(found, search.tried, cut)

    def _centres(self, replay: Replay, attackable: Int64) -> Counterexample | None:
        """One point of each region with numbers out of float64's reach: no search can aim there."""
        known = self.targets.excluded.copy()
        known[attackable] = True
        for region in distinct(self.targets.region[~known])[:CENTRES]:
            low, high, _ = self.prop.inner_float32(int(region))
            found = replay(int(region), (low / 2 + high / 2).clip(low, high))
            if found is not None:
                return found
        return None

    def _bounds_are_cheaper(self, search: Attack, attackable: Int64) -> bool:
        """What the bounds will probably take is less than what the quick attack will."""
        if not len(attackable):
            return True
        boxes = len(distinct(self.targets.region))
        questions = -(-len(self.targets.questions) // boxes)
        bounds = expected_seconds(self.net, self.method, boxes, questions)
        return bounds < MULTIPLICATION * search.expected_work(len(attackable), QUICK)

    def _quick(self, search: Attack, attackable: Int64) -> Counterexample | None:
        limit = UNASKED_SECONDS if self.timeout is None else 0.2 * self.timeout
        return self._attack(search, self._open(attackable), QUICK, limit)

    def _long(self, search: Attack, attackable: Int64) -> Counterexample | None:
        if self.timeout is not None:
            return self._attack(search, self._open(attackable), PATIENT, math.inf)
        found = self._attack(search, self._open(attackable), LONG, UNASKED_SECONDS)
        if search.cut:
            self.notes.append(
                f"the search for a witness ended after {UNASKED_SECONDS:g} s: timeout= allows more"
            )
        return found

    def _open(self, attackable: Int64) -> Int64:
        """Targets that nothing excludes yet, the least proved first."""
        remaining = attackable[~self.proved[attackable]]
        return remaining[np.argsort(self.lower[remaining], kind="stable")]

    def _bounds_cut_short(self) -> bool:
        """Bound what is open; True when the deadline came first."""
        try:
            self._bound(self.method, self.deadline)
        except ResourceError:
            if time.monotonic() < self.deadline:
                raise
            return True
        return False

    def _bounds_at_least(self) -> None:
        """Interval bounds where the time was too short for any and these take next to nothing."""
        boxes = len(distinct(self.targets.region))
        if len(self.targets.questions) >= STEP:
            return
        if expected_seconds(self.net, "ibp", boxes, 1) < AT_LEAST_SECONDS:
            self._bound("ibp", math.inf)

    def _attack(
        self, search: Attack, active: Int64, effort: Effort, limit: float
    ) -> Counterexample | None:
        begin = time.monotonic()
        found = search.run(active, effort, min(self.deadline, begin + limit))
        self._spent("attack", begin)
        return found

    def _spent(self, phase: str, begin: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - begin

    # --- bounds ---------------------------------------------------------------------------------

    def _bound(self, method: str, deadline: float) -> None:
        """Bound the rows of all open targets, a chunk of regions at a time."""
        begin = time.monotonic()
        rows = self.targets.provable()
        rows = rows[~self.proved[self.targets.question_owner[rows]]]
        regions = self.targets.region[self.targets.question_owner[rows]]
        box = self.prop.box()
        try:
            for start, stop in self._chunks(regions):
                self.progress(f"{method}: {start} of {len(rows)} rows bounded")
                self._bound_chunk(rows[start:stop], regions[start:stop], box, method, deadline)
        finally:
            self._spent("bounds", begin)

    def _chunks(self, regions: Int64) -> Iterator[tuple[int, int]]:
        """Row ranges that cover whole regions, few enough for the arrays to stay small."""
        neurons = sum(node.size for node in self.net.nodes)
        most = max(1, (1 << 21) // max(neurons, 1))
        changes = np.flatnonzero(np.diff(regions)) + 1
        if not len(regions):
            return
        starts = np.r_[0, changes][::most]
        stops = np.r_[starts[1:], len(regions)]
        yield from zip(starts.tolist(), stops.tolist(), strict=True)

    def _bound_chunk(
        self, rows: Int64, regions: Int64, box: Box, method: str, deadline: float
    ) -> None:
        distinct, index = np.unique(regions, return_inverse=True)
        forms = self.targets.rows(rows)
        specification = Specification(
            output_rows=forms.rows_y,
            input_rows=forms.rows_x,
            constant=forms.constant,
            box=index.astype(np.int64).ravel(),
            exact=forms.exact,
        )
        boxes = select(box, distinct).batched(self.net.input_shape)
        analysis = lower_bounds(
            self.net,
            boxes,
            specification,
            method=method,
            guarantee=self.guarantee,
            dtype=self.dtype,
            deadline=None if math.isinf(deadline) else deadline,
            streaming=self.streaming,
            progress=self.progress,
            explain=self.explain,
        )
        for said in remarks(self.net, boxes, method, analysis.plan):
            self.notes += [] if said in self.notes else [said]
        self.plan, self.blocks = analysis.plan, joined(self.blocks, analysis.blocks)
        self._record(rows, analysis.lower, forms)
        self._enclose(analysis.output)
        self.used += [name for name in analysis.used if name not in self.used]
        self.dtype_used = str(analysis.dtype)
        for phase, seconds in analysis.seconds.items():
            self.seconds[f"bounds.{phase}"] = self.seconds.get(f"bounds.{phase}", 0.0) + seconds
        if self.explain and not self.explained:
            self.explained, self.path = analysis.explain(), analysis.path

    def _enclose(self, output: tuple[Float64, Float64] | None) -> None:
        """Bounds of the output over all regions that had to be bounded."""
        if output is not None and self.bounds is not None:
            output = np.minimum(output[0], self.bounds[0]), np.maximum(output[1], self.bounds[1])
        self.bounds = output if output is not None else self.bounds

    def _record(self, rows: Int64, lower: Float64, forms: Rows) -> None:
        """One excluded constraint, or the mean of all, excludes its conjunction."""
        owner = self.targets.question_owner[rows]
        excluded = np.isfinite(lower) & np.where(forms.strict, lower >= 0, lower > 0)
        np.maximum.at(self.lower, owner, forms.unscaled(lower))
        self.proved[owner[excluded]] = True

    # --- the outcome ----------------------------------------------------------------------------

    def _result(self, found: Counterexample | None, tried: int, cut: bool) -> Result:
        late = cut or time.monotonic() > self.deadline
        verdict: Verdict
        if found is not None:
            verdict = "violated"
        elif self.proved.all():
            verdict = "verified"
        else:
            verdict = "timeout" if late else "unknown"
        explain: dict[str, Any] | None = None
        if self.explain:
            explain = {"nodes": self.explained, "path": self.path, "attack_points": tried}
            if verdict in ("unknown", "timeout"):
                explain["advice"] = advice(self.explained, self.method)
            if self.plan is not None:
                explain["memory"] = self.plan.to_dict()
        self.seconds["total"] = time.monotonic() - self.start
        return Result(
            verdict=verdict,
            guarantee=self.guarantee,
            asked=self.method,
            used=tuple(self.used),
            counterexample=found,
            bounds=self.bounds,
            margins=self._margins(),
            proved=int(self.proved.sum()),
            conjunctions=len(self.targets),
            seconds=self.seconds,
            memory={
                "peak_bytes": peak_bytes(),
                "planned_bytes": None if self.plan is None else self.plan.predicted,
            },
            model=model_record(self.net),
            property=property_record(self.prop),
            explain=explain,
            blocks=tuple(self.blocks),
            dtype=self.dtype_used,
            notes=self._notes(found),
            limit=self.timeout,
        )

    def _margins(self) -> tuple[Margin, ...]:
        if not self.used:
            return ()
        ends = np.searchsorted(self.targets.owner, np.arange(len(self.targets) + 1))
        many = len(self.prop.regions) > 1
        margins = []
        for t in range(min(len(self.targets), MARGINS_KEPT)):
            members = self.targets.constraints[ends[t] : ends[t + 1]]
            label = " or ".join(describe_safe(c) for c in members[:3])
            label += f" or {len(members) - 3} more" if len(members) > 3 else ""
            prefix = f"box {self.targets.region[t]}: " if many else ""
            margins.append(Margin(prefix + label, float(self.lower[t]), bool(self.proved[t])))
        return tuple(margins)

    def _notes(self, found: Counterexample | None) -> tuple[str, ...]:
        notes = (*reading_notes(self.net), *self.notes)
        if found is None or not found.outside:
            return notes
        return (
            *notes,
            f"{found.outside} input intervals hold no float32 number: the witness has the nearest "
            "float32 there",
        )


def select(box: Box, which: Int64) -> Box:
    """The boxes ``which`` of a batched set."""
    centre = None if box.center is None else box.center[which]
    return Box(box.lower[which], box.upper[which], box.norm, centre, box.radius)
