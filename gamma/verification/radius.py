"""How far an input may move before its class can change: proved from below, refuted from above."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from gamma.decimals import above, below
from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.exact import exact_fractions
from gamma.network.graph import Network
from gamma.network.property import robustness
from gamma.tensor.box import Box
from gamma.tensor.exactly import exact_float
from gamma.tensor.rounding import fraction_up
from gamma.verification.result import Counterexample, Result
from gamma.verification.search import attack
from gamma.verification.verdict import EachOptions, VerifyOptions, verify

NORMS: dict[str, Callable[..., Box]] = {"inf": Box.linf, "2": Box.l2, "1": Box.l1}
QUESTIONS = 60
"""Radii asked about at most."""


class Radius(Frozen):
    """What is known of the distance to the nearest input of another class.

    Attributes:
        proved: every input of the set within this distance has the label; None when not even the
            input itself does, infinity when the whole of ``clip`` has it.
        refuted: an input so far away, or nearer, has another class (a tie counts); infinity when
            none was found. witness: that input, replayed.
        norm: of the distance. asked: how many radii were asked about. seconds: what that took.
    """

    proved: float | None
    refuted: float
    witness: Counterexample | None
    norm: str
    asked: int
    seconds: float

    def __repr__(self) -> str:
        """Both radii in one line."""
        known = "not even the input itself" if self.proved is None else below(self.proved)
        far = "no witness found" if math.isinf(self.refuted) else f"refuted {above(self.refuted)}"
        return f"Radius(proved {known}, {far}, L{self.norm}, {self.seconds:.3g} s)"


def norm_name(norm: str | float) -> str:
    """ "inf", "2" or "1" for a norm as a word or a number; UsageError for another."""
    name = {"inf": "inf", "2": "2", "1": "1", "2.0": "2", "1.0": "1"}.get(str(norm))
    if name is None:
        raise UsageError(f"norm {norm!r}: expected inf, 2 or 1")
    return name


def certified_radius(
    net: Network,
    x: npt.ArrayLike,
    label: int,
    norm: str | float = "inf",
    *,
    clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    tolerance: float = 0.01,
    timeout: float = 60.0,
    **options: Unpack[EachOptions],
) -> Radius:
    """The radius around ``x`` within which class ``label`` is proved, and one at which it is not.

    Args:
        norm: "inf", "2" or "1", or the number. clip: (low, high), between which inputs lie.
        tolerance: stop when the proved radius is within this share of one that is not proved.
        timeout: seconds in all. Other options as in `gamma.verify`, for every radius.

    Raises:
        UsageError: an argument that does not exist or does not fit.
    """
    name = norm_name(norm)
    if not 0 < exact_float(tolerance, "tolerance") < 1:
        raise UsageError(f"tolerance {tolerance}: expected a share between 0 and 1")
    search = _Search(net, np.asarray(x), label, name, clip, timeout, options)
    return search.run(tolerance)


class _Search:
    """The radii that are known so far: proved <= not proved, and refuted."""

    def __init__(
        self,
        net: Network,
        x: npt.NDArray[Any],
        label: int,
        norm: str,
        clip: Any,
        timeout: float,
        options: EachOptions,
    ) -> None:
        self.net, self.x, self.label, self.norm, self.clip = net, x, label, norm, clip
        self.options = options
        self.start = time.monotonic()
        self.deadline = self.start + exact_float(timeout, "timeout")
        self.proved: float | None = None
        self.open, self.refuted = math.inf, math.inf
        self.witness: Counterexample | None = None
        self.asked = 0

    def run(self, tolerance: float) -> Radius:
        if self.ask(0.0):
            self.grow()
            while self.more() and self.open - self._low() > tolerance * self.open:
                self.ask(self._between(self._low(), self.open))
            self.shrink(tolerance)
        spent = time.monotonic() - self.start
        return Radius(self.proved, self.refuted, self.witness, self.norm, self.asked, spent)

    def _low(self) -> float:
        return self.proved or 0.0

    @staticmethod
    def _between(low: float, high: float) -> float:
        """Halfway on a logarithmic scale where the two are far apart."""
        if not low:
            return high / 4
        return math.sqrt(low * high) if low < high / 2 else (low + high) / 2

    def more(self) -> bool:
        """Whether there is time for another question."""
        return self.asked < QUESTIONS and time.monotonic() < self.deadline

    def grow(self) -> None:
        """Double the radius until it is not proved, or nothing is left outside."""
        size = 1.0
        if self.clip is not None:
            size = float(np.max(np.subtract(self.clip[1], self.clip[0]))) or 1.0
        radius = size / 64
        while self.more():
            whole = self.clip is not None and self._covers(radius)
            if not self.ask(radius):
                return
            if whole:
                self.proved = math.inf
                return
            radius *= 2
            if not math.isfinite(radius):
                return

    def _covers(self, radius: float) -> bool:
        """Whether the set of this radius is all that ``clip`` leaves."""
        low, high = (np.broadcast_to(np.asarray(c, np.float64), self.x.shape) for c in self.clip)
        step = [
            max(abs(a - least), abs(a - most))
            for a, least, most in zip(*map(exact_fractions, (self.x, low, high)), strict=True)
        ]
        return _at_most(step, self.norm, Fraction(radius))

    def shrink(self, tolerance: float) -> None:
        """Look for nearer witnesses between what is not proved and what is refuted."""
        if math.isinf(self.open):
            return
        radius = self.open
        while self.more() and self.refuted - radius > tolerance * radius:
            middle = 2 * radius if math.isinf(self.refuted) else self._between(radius, self.refuted)
            left = max(self.deadline - time.monotonic(), 1e-3)
            self.asked += 1
            found = attack(self.net, self._property(middle), timeout=min(left / 4, 5.0))
            if found is not None:
                self._refute(found)
            elif math.isinf(self.refuted) and middle > 64 * self.open:
                return
            else:
                radius = middle

    def ask(self, radius: float) -> bool:
        """Whether this radius is proved; what the answer says is kept."""
        self.asked += 1
        left = max(self.deadline - time.monotonic(), 1e-3)
        options: VerifyOptions = {**self.options, "timeout": left / 3}
        result: Result = verify(self.net, self._property(radius), **options)
        if result.verdict == "verified":
            self.proved = max(self._low(), radius)
            return True
        self.open = min(self.open, radius)
        if result.counterexample is not None:
            self._refute(result.counterexample)
        return False

    def _property(self, radius: float) -> Any:
        box = NORMS[self.norm](self.x, radius, clip=self.clip)
        return robustness(box, self.label)

    def _refute(self, found: Counterexample) -> None:
        distance = distance_above(found.x, self.x, self.norm)
        if distance < self.refuted:
            self.refuted, self.witness = distance, found


def _at_most(steps: list[Fraction], norm: str, limit: Fraction) -> bool:
    if norm == "inf":
        return max(steps, default=Fraction(0)) <= limit
    if norm == "1":
        return sum(steps, Fraction(0)) <= limit
    return sum((s * s for s in steps), Fraction(0)) <= limit * limit


def distance_above(a: npt.ArrayLike, b: npt.ArrayLike, norm: str) -> float:
    """The distance of two points, rounded up."""
    pairs = zip(exact_fractions(a), exact_fractions(b), strict=True)
    return length_above([abs(p - q) for p, q in pairs], norm)


def length_above(steps: Sequence[Fraction], norm: str) -> float:
    """The norm of sizes of entries, rounded up."""
    if norm != "2":
        return fraction_up(max(steps) if norm == "inf" else sum(steps, Fraction(0)))
    total = sum((s * s for s in steps), Fraction(0))
    found = math.sqrt(fraction_up(total))
    while Fraction(found) ** 2 < total:
        found = math.nextafter(found, math.inf)
    return found
