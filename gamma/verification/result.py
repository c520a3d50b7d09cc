"""What a verification run says: the verdict, its witness and everything needed to judge it."""

from __future__ import annotations

import builtins
import json
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.decimals import below
from gamma.frames import frame
from gamma.frozen import Frozen
from gamma.runtime import threads
from gamma.verification import environment as process
from gamma.verification.describe import overrun, timeline

if TYPE_CHECKING:
    from gamma.verification.branching.leaves import Leaves
    from gamma.verification.partition import Partition

Verdict = Literal["verified", "violated", "unknown", "timeout", "none"]
Status = Literal["verified", "violated", "unknown", "none"]

SCHEMA = "gamma.result/1"


class Counterexample(Frozen):
    """An input in the region whose replayed output is unsafe.

    Attributes:
        x: float32 or float64 (*input shape), the exact values that were replayed.
        y: (*output shape), the outputs of the replay; infinite where float64 holds no such number.
        replayed_by: "onnxruntime", "float64 enclosure" or "exact arithmetic".
        region, disjunct: which unsafe conjunction holds.
        outside: number of coordinates where the exact interval holds no float32 number, so that
            x has the nearest one.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    replayed_by: str
    region: int = 0
    disjunct: int = 0
    outside: int = 0

    def __repr__(self) -> str:
        """Shapes and who replayed it; the numbers are in ``x`` and ``y``."""
        return f"Counterexample(x {self.x.shape}, y {self.y.shape}, by {self.replayed_by})"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; floats keep full precision."""
        record: dict[str, Any] = {
            "x": [float(v) for v in self.x.ravel()],
            "y": [number(v) for v in self.y.ravel()],
            "replayed_by": self.replayed_by,
            "region": self.region,
            "disjunct": self.disjunct,
        }
        if self.outside:
            record["coordinates_without_float32"] = self.outside
        return record


class Margin(Frozen, eq=True):
    """A sound lower bound of one unsafe conjunction's distance from being met.

    The conjunction cannot hold when ``lower`` > 0 (>= 0 when the constraint is strict).
    """

    label: str
    lower: float
    proved: bool


class Phase(Frozen, eq=True):
    """One step of method auto: what it was, how long it took, how many conjunctions it excluded."""

    name: str
    seconds: float
    proved: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "seconds": self.seconds, "proved": self.proved}


class Branched(Frozen, eq=True):
    """How far branch and bound came.

    Attributes:
        on: "input" or "relu". domains: sub-problems bounded. depth: of the deepest.
        open: sub-problems left. worst: the least bound among them, infinity when there are none.
        proved_share: of the volume of the input set (exact inputs of the set count; never more than
            is true), for "relu" of the tree of cases.
        full: memory ran out, so that the deepest sub-problems came first.
    """

    on: str
    domains: int
    depth: int
    open: int
    worst: float
    proved_share: float
    full: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "on": self.on,
            "domains": self.domains,
            "depth": self.depth,
            "open": self.open,
            "worst_margin": None if self.open == 0 else number(self.worst),
            "proved_share": self.proved_share,
            "memory_full": self.full,
        }


class Result(Frozen):
    """The outcome of ``gamma.verify``. It has no truth value: verdicts are three-valued.

    ``verdict`` is the word of the JSON form and of the exit status, in which a run that the time
    cut short is a "timeout". ``status`` is the answer, one of three, and ``reason`` says why an
    answer is missing.

    Attributes:
        guarantee: what bounds hold for. asked, used: the method, and what ran. dtype: of the rows.
        counterexample: the witness of "violated", else None.
        bounds: lower and upper float64 (*output shape) over all regions that had to be bounded.
        margins: sound lower bounds, one for each unsafe conjunction, 1000 at most.
        proved, conjunctions: how many sound bounds exclude, of how many.
        seconds: of each phase, and "total". limit: of the time, in seconds.
        memory: bytes. model, property: what was read, with hashes. explain, blocks: tables of
            layers, and of a language model's blocks. notes: what a reader should know.
        branched, phases: how far branch and bound came, and the steps of method auto.
        cosine: of `gamma.cosine`. reached: of `gamma.extremes`. partition: for a picture.
        leaves: of each tree of branch and bound, where ``leaves`` were asked for.
        interrupted: Ctrl-C ended it. blas_limit: of the BLAS's threads, None where there was none.
    """

    verdict: Verdict
    guarantee: str
    asked: str
    used: tuple[str, ...] = ()
    counterexample: Counterexample | None = None
    bounds: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    margins: tuple[Margin, ...] = ()
    proved: int = 0
    conjunctions: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    property: dict[str, Any] = field(default_factory=dict)
    blas_limit: int | None = field(default_factory=threads.limit)
    explain: dict[str, Any] | None = None
    blocks: tuple[dict[str, Any], ...] = ()
    dtype: str = ""
    notes: tuple[str, ...] = ()
    branched: Branched | None = None
    phases: tuple[Phase, ...] = ()
    limit: float | None = None
    cosine: dict[str, float | None] | None = None
    interrupted: bool = False
    reached: dict[str, Any] | None = None
    partition: Partition | None = None
    leaves: tuple[Leaves, ...] = ()

    @builtins.property
    def environment(self) -> dict[str, Any]:
        """Versions, instruction set, and the BLAS with its threads when the result was made."""
        return process.environment(self.blas_limit)

    def __bool__(self) -> bool:
        raise TypeError(
            "a Result has no truth value: verdicts are three-valued; compare result.verdict with "
            '"verified", "violated", "unknown" or "timeout"'
        )

    @builtins.property
    def status(self) -> Status:
        """The answer: "verified", "violated" or "unknown", which a timeout is ("none": no
        question)."""
        return "unknown" if self.verdict == "timeout" else self.verdict

    @builtins.property
    def reason(self) -> str:
        """Why the answer is unknown; empty for any other."""
        if self.status != "unknown":
            return ""
        if self.verdict == "timeout":
            limit = f"the time limit of {self.limit:g} s" if self.limit else "the time limit"
            why = f"{limit} was reached"
        else:
            why = "the bounds are too loose, and no witness was found"
        worst = self.worst_margin
        least = "" if worst is None else f", worst margin at least {below(worst)}"
        return f"{why}; {self.proved} of {self.conjunctions} proved{least}"

    @builtins.property
    def worst_margin(self) -> float | None:
        """The least of `margins`, a lower bound of every one; None where nothing was bounded."""
        known = [m.lower for m in self.margins if not (m.proved and m.lower == -math.inf)]
        return min(known, default=None)

    def __repr__(self) -> str:
        """Verdict, guarantee, what is proved and the time in one line."""
        parts = [self.verdict, *self.used[:1], f"guarantee {self.guarantee}"]
        if self.conjunctions:
            parts.append(f"{self.proved} of {self.conjunctions} proved")
        if self.counterexample is not None:
            parts.append(f"witness replayed by {self.counterexample.replayed_by}")
        elif self.worst_margin is not None:
            parts.append(f"worst margin >= {below(self.worst_margin)}")
        seconds = self.seconds.get("total")
        parts += [] if seconds is None else [f"{seconds:.3g} s"]
        return f"Result({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from gamma.verification.card import card

        return card(self)

    def to_pandas(self) -> Any:
        """A DataFrame of the margins: label, lower, proved (needs pandas)."""
        names = ("label", "lower", "proved")
        return frame({name: [getattr(m, name) for m in self.margins] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """The contract's object, schema ``gamma.result/1``."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "status": self.status,
            "reason": self.reason,
            "guarantee": self.guarantee,
            "method": {"asked": self.asked, "used": list(self.used)},
            "bounds": None if self.bounds is None else _bounds(*self.bounds),
            "reached": self.reached,
            "counterexample": None
            if self.counterexample is None
            else self.counterexample.to_dict(),
            "margins": [
                {"label": m.label, "lower": number(m.lower), "proved": m.proved}
                for m in self.margins
            ],
            "conjunctions": {"proved": self.proved, "total": self.conjunctions},
            "seconds": timeline(self.seconds),
            "timeout": self.limit,
            "interrupted": self.interrupted,
            "memory": self.memory,
            "model": self.model,
            "property": self.property,
            "environment": self.environment,
            "blocks": [_row(block) for block in self.blocks],
            "dtype": self.dtype,
            "notes": [*self.notes, *overrun(self.seconds, self.limit)],
            "cosine": None if self.cosine is None else _row(self.cosine),
            "branching": None if self.branched is None else self.branched.to_dict(),
            "phases": [phase.to_dict() for phase in self.phases],
            "explain": self.explain,
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The result as one JSON object (strict JSON: infinities are the strings "inf", "-inf")."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


def _row(block: dict[str, Any]) -> dict[str, Any]:
    """A block's row of the table, its numbers for strict JSON."""
    return {k: number(v) if isinstance(v, float) else v for k, v in block.items()}


def number(value: float) -> float | str:
    """A float for strict JSON: infinities and NaN become strings."""
    number = float(value)
    return number if math.isfinite(number) else repr(number)


def _bounds(lower: npt.NDArray[Any], upper: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        "lower": [number(v) for v in np.ravel(lower)],
        "upper": [number(v) for v in np.ravel(upper)],
        "shape": list(lower.shape),
    }
