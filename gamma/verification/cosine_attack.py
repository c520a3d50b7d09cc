"""The search for an input whose output points elsewhere than the centre's: see `cosine`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import ResourceError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.ops.evaluate import evaluate, gradient
from gamma.propagate import bounds, enclose
from gamma.propagate.distance import box_distance
from gamma.tensor.box import Box
from gamma.verification.angles import cosine_above
from gamma.verification.moves import Mover, into_ball
from gamma.verification.result import Counterexample

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ATTACK_SECONDS = 5.0
"""The longest search; less where the time limit is near."""
POINTS, STEPS, ROUNDS = 16, 12, 4


class _LateError(Exception):
    """The time for the search is over."""


def output_distance(net: Network, x: Float64, near: Float64) -> float:
    """At least the distance of the output at ``x`` from its float64 value, by intervals."""
    low, high = enclose(net, x.reshape(1, *net.input_shape))
    return box_distance(low, high, near)


class Search:
    """Descends the cosine from random corners; what is small enough is proved to be so.

    Attributes:
        least_seen: the least cosine of a point in floating point, None before any.
    """

    def __init__(
        self,
        net: Network,
        prop: Property,
        near: Float64,
        own: float,
        seed: int,
        deadline: float,
        progress: Callable[[str], None],
    ) -> None:
        """``near`` (outputs,) is within ``own`` of the centre's output."""
        self.net, self.prop, self.near, self.own = net, prop, near, own
        self.random = np.random.default_rng(seed)
        self.progress, self.limit = progress, deadline
        self.deadline = min(deadline, time.monotonic() + ATTACK_SECONDS)
        self.low, self.high, self.holds = prop.inner_float32(0)
        self.least_seen: float | None = None

    def below(self, least: Fraction) -> Counterexample | None:
        """An input whose output certainly has a lower cosine than ``least`` with the centre's."""
        try:
            with np.errstate(all="ignore"):
                for number in range(ROUNDS):
                    x, value = self._descend(adaptive=number % 2 == 1)
                    found = self._proved(x, least) if value < least else None
                    if found is not None:
                        return found
        except _LateError:
            pass
        return None

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise _LateError

    def _descend(self, adaptive: bool) -> tuple[Float32, float]:
        """The point of the least cosine seen on one descent, and its cosine in floats."""
        width = (self.high - self.low).astype(np.float64)
        share = np.round(self.random.random((POINTS, len(width)), dtype=np.float32))
        x = self._inside(self.low + share * (self.high - self.low))
        mover = Mover(x.shape, adaptive)
        best, lowest = x[0], math.inf
        for step in range(STEPS):
            values, slope = self._slope(x)
            first = int(np.argmin(values))
            if values[first] < lowest:
                best, lowest = x[first].copy(), float(values[first])
                self.least_seen = min(lowest, self.least_seen or math.inf)
            self.progress(f"attack: least cosine {lowest:.9g}")
            move = mover.direction(slope * width, self.random)
            x = self._inside(x + (0.5 ** (1 + step / 2) * width * move).astype(np.float32))
        return best, lowest

    def _inside(self, x: Float32) -> Float32:
        x = np.clip(x, self.low, self.high)
        return into_ball(self.prop.balls[0], x) if self.prop.balls else x

    def _slope(self, x: Float32) -> tuple[Float64, Float64]:
        """Cosines (points,) and their gradients (points, inputs)."""
        u = self.near / np.linalg.norm(self.near)
        values: Float64 = np.zeros(0)

        def seed(y: Any) -> Any:
            nonlocal values
            v = y.reshape(len(x), -1).astype(np.float64)
            size = np.linalg.norm(v, axis=1, keepdims=True)
            cosine = (v @ u)[:, None] / size
            values = np.where(np.isnan(cosine), np.inf, cosine).ravel()
            return ((u - cosine * v / size) / size).astype(y.dtype).reshape(y.shape)

        given = x.reshape(-1, *self.net.input_shape)
        _, slope = gradient(self.net, given, seed, self._check)
        return values, np.asarray(slope, np.float64).reshape(len(x), -1)

    def _proved(self, x: Float32, least: Fraction) -> Counterexample | None:
        """The witness that x is, where its cosine is certainly below what was asked."""
        wide = self._wide(x)
        if not self.prop.regions_of(wide):
            return None
        near = evaluate(self.net, wide.reshape(1, *self.net.input_shape)).ravel()
        for distance in (output_distance, self._by_rows):
            other = distance(self.net, wide, near)
            if cosine_above(self.near, self.own, near, other) < least:
                shape = self.net.output_shape
                point = (x if self.holds.all() else wide).reshape(self.net.input_shape)
                return Counterexample(point, near.reshape(shape), "float64 enclosure")
        return None

    def _wide(self, x: Float32) -> Float64:
        """The point in float64; where its interval holds no float32 number, the middle."""
        wide, region = x.astype(np.float64), self.prop.regions[0]
        for index in np.flatnonzero(~self.holds):
            wide[index] = float((region.lower[index] + region.upper[index]) / 2)
        return wide

    def _by_rows(self, net: Network, x: Float64, near: Float64) -> float:
        """As `output_distance`, by linear bounds: intervals grow through deep networks."""
        deadline = None if math.isinf(self.limit) else self.limit
        try:
            point = Box(x, x).batched(net.input_shape)
            out = bounds(net, point, dtype="float64", deadline=deadline)
        except ResourceError:
            return math.inf
        return box_distance(out.lower, out.upper, near)
