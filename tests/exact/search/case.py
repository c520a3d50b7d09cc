"""A case: a network, boxes and a way of asking. It is drawn, judged and written down here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import flint
import numpy as np
import onnx
from flint import arb, fmpq
from hypothesis import strategies as st
from msgspec.structs import astuple

import gamma
from gamma.errors import GammaError, InternalError
from gamma.network.graph import Network
from gamma.tensor.box import Box
from tests.exact.checking import Count, points
from tests.exact.execution import ORDERS, Execution
from tests.exact.oracle import BITS, Truth, above, exact
from tests.exact.search import files, graphs
from tests.exact.search.asking import FORMS, Asking, Form, Space, bounds, forms
from tests.exact.search.domains import SubProblem, subproblem
from tests.exact.search.layers import layers
from tests.exact.search.limits import FLAT, forgotten
from tests.exact.search.numbers import HARD, Numbers
from tests.exact.search.onnx_truth import FileTruth
from tests.exact.search.runtime import sessions

Array = Any
CRASHES = (
    LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError,
)  # fmt: skip
EXECUTED = 20_000
"""Products of the executions of a case in one order, nearly; they take long."""


@dataclass(frozen=True, eq=False)
class Case:
    """What is asked and how.

    Attributes:
        source: a network of gamma's operators, or an ONNX model.
        lower, upper: float64 (batch, *input shape).
        wobble: where uncertain coefficients lie, in [-1, 1].
    """

    source: Network | onnx.ModelProto
    lower: Array
    upper: Array
    asking: Asking
    fused: bool = False
    wobble: int = 0
    seed: int = 0

    @cached_property
    def network(self) -> Network:
        """What gamma bounds. Raises GammaError where a reader refuses."""
        if isinstance(self.source, Network):
            return graphs.simplify(self.source) if self.fused else forgotten(self.source)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.onnx"
            onnx.save(self.source, path)
            return gamma.load(path)

    @property
    def box(self) -> Box:
        """All boxes, or what balls leave of them."""
        return self.asking.inputs(self.lower, self.upper).batched(self.network.input_shape)

    def boxes(self, which: slice | int) -> Case:
        """The case with some boxes only."""
        part = slice(which, which + 1) if isinstance(which, int) else which
        return replace(self, lower=self.lower[part], upper=self.upper[part])


@st.composite
def cases(draw: Any, space: Space) -> Case:
    """Cases of a space; the first choices of every list are the simple ones."""
    source = draw(st.sampled_from(space.sources))
    hard = draw(st.sampled_from(space.numbers)) == "hard"
    family = draw(st.sampled_from(("", *HARD))) if hard else ""
    if source == "layers" and draw(st.booleans()):
        space = space.in_one_call
    asking = space.asking(draw)
    numbers = Numbers(draw, family, () if source == "file" else space.weights)
    if source == "file":
        kinds = tuple(k for k in files.MAKERS if not space.kinds or k in space.kinds)
        found: Any = files.file(numbers, kinds)
        shape = tuple(
            d.dim_value for d in found.graph.input[0].type.tensor_type.shape.dim[1:]
        )  # fmt: skip
    elif source == "layers":
        found = layers(numbers, not FLAT.isdisjoint(asking.limits))
        shape = found.input_shape
    else:
        kinds = tuple(k for k in graphs.KINDS if not space.kinds or k in space.kinds)
        found = graphs.graph(numbers, kinds)
        shape = found.input_shape
    batches = ("many",) if "alike" in asking.limits else space.batches
    many = source == "layers" and draw(st.sampled_from(batches)) == "many"
    low, high = numbers.batch(shape, hard) if many else numbers.boxes(shape, hard)
    fused, wobble = draw(st.booleans()), draw(st.sampled_from((0, 1, -1)))
    return Case(found, low, high, asking, fused, wobble, draw(st.integers(0, 999)))


@dataclass
class Verdict:
    """What a case was found to be: ``refused`` by gamma, or wrong in the ways listed."""

    refused: str = ""
    wrong: tuple[str, ...] = ()


def judge(case: Case, count: Count) -> Verdict:
    """Bounds of a case against exact values and, under float32, against executions."""
    before = len(count.wrong)
    try:
        network, box = case.network, case.box
        if case.asking.question in FORMS:
            _forms(case, network, box, count)
        elif case.asking.question == "splits":
            part = subproblem(network, box, case.asking)
            _values(case, network, part.ends, count, part)
        else:
            _values(case, network, bounds(network, box, case.asking), count)
    except InternalError as error:
        count.wrong.append(f"internal error: {error}")
    except (GammaError, MemoryError) as error:
        return Verdict(refused=f"{type(error).__name__}: {error}")
    except CRASHES as error:
        count.wrong.append(f"crash: {type(error).__name__}: {error}")
    return Verdict(wrong=tuple(count.wrong[before:]))


def truths(case: Case, box: Box) -> Iterator[tuple[int, Array, dict[str, Array]]]:
    """Box, point and exact values by name, at corners, middles and other points; of three boxes."""
    rng = np.random.default_rng(case.seed)
    source = case.source
    if isinstance(source, Network):
        truth = Truth(source, case.wobble)
        names = [node.name for node in source.nodes]

        def values(point: Array) -> dict[str, Array]:
            return dict(zip(names, truth(point), strict=False))
    else:
        values = FileTruth(source)
    batch = len(box.lower)
    for b in range(batch) if batch <= 3 else sorted(rng.choice(batch, 3, replace=False).tolist()):
        for point in points(case.network, box, b, rng, 6):
            try:
                yield b, point, values(point)
            except ZeroDivisionError:
                continue


def _values(
    case: Case,
    network: Network,
    found: dict[str, tuple[Array, Array]],
    count: Count,
    part: SubProblem | None = None,
) -> None:
    """Bounds by name against exact values and executions, wherever ``part`` assumes them."""
    box = case.box
    batch = len(box.lower)
    ends = {
        name: tuple(end.reshape(batch, -1) for end in pair)
        for name, pair in found.items()
    }  # fmt: skip
    output = network.nodes[network.output].name
    known: list[Array] = []
    for b, point, values in truths(case, box):
        known.append((b, point))
        named = dict(values)
        if output not in named:
            named[output] = list(values.values())[-1]
        if part is not None:
            if not part.holds(b, named):
                continue
            if part.empty[b]:
                count.wrong.append(f"box {b} is called empty, {point.tolist()} is in it")
                return
        for name, (low, high) in ends.items():
            if name in named:
                truth = np.asarray(named[name], dtype=object)
                if truth.size != low.shape[1]:
                    count.wrong.append(f"{name}: {low.shape[1]} bounds, {truth.size} values")
                    return
                count.compare(low[b], high[b], truth, f"{name} at {point.tolist()}", len(known) < 2)
    if case.asking.guarantee != "float32":
        return
    for what, b, point, values in executions(case, known):
        if part is None or part.holds(b, values):
            for name in values.keys() & ends.keys():
                low, high = (end[b] for end in ends[name])
                said = f"{name}, {what} execution at"
                _inside(low, high, np.ravel(values[name]), said, point, count)


def executions(
    case: Case, known: list[tuple[int, Array]]
) -> Iterator[tuple[str, int, Array, dict[str, Array]]]:
    """Float32 executions in some orders, or those of onnxruntime: what, box, point and values."""
    singles = [
        (b, p.astype(np.float32))
        for b, p in known
        if p.astype(np.float32)[None] in case.box.slice(b, b + 1)
    ]
    rng = np.random.default_rng(case.seed)
    runs: list[tuple[str, Any]] = []
    if isinstance(case.source, Network):
        if not _single(case.source):
            return
        names = [node.name for node in case.source.nodes]
        sums = [(node, getattr(node.op, "weight", None)) for node in case.source.nodes]
        products = sum(node.size * w[0].size for node, w in sums if w is not None and w.ndim > 1)
        singles = singles[:: 1 + products * len(singles) // EXECUTED]
        for order in rng.choice(ORDERS, 2, replace=False):
            run = Execution(case.source, str(order), rng)
            runs.append((str(order), lambda p, run=run: dict(zip(names, run(p), strict=False))))
    else:
        runs += sessions(case.source)
    for what, run in runs:
        for b, point in singles:
            yield what, b, point, run(point)


def _inside(low: Array, high: Array, value: Array, what: str, point: Array, count: Count) -> None:
    count.comparisons += 2 * value.size
    lost = np.isnan(value)
    bad = ~lost & ~((low <= value) & (value <= high))
    bad |= lost & (np.isfinite(low) | np.isfinite(high))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        count.wrong.append(
            f"{what} {point.tolist()}: {value[k]!r} outside [{low[k]!r}, {high[k]!r}]"
        )


def _single(network: Network) -> bool:
    """Whether every number of the network is one of float32, so that executions are its own."""
    for node in network.nodes:
        for value in astuple(node.op):
            array = np.asarray(value) if isinstance(value, np.ndarray | float) else np.zeros(1)
            if array.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    inexact = array.astype(np.float32) != array
                if (inexact & np.isfinite(array)).any():
                    return False
        if getattr(node.op, "scale_error", 0.0) or np.any(getattr(node.op, "shift_error", 0.0)):
            return False
    return True


def _forms(case: Case, network: Network, box: Box, count: Count) -> None:
    stated = forms(network, box, case.asking)
    count.bounds += len(stated)
    known: list[tuple[int, Array]] = []

    def check(what: str, b: int, point: Array, values: dict[str, Array]) -> None:
        y = np.ravel(values.get(network.nodes[network.output].name, list(values.values())[-1]))
        for form, lower in stated:
            if form.box == b and (not form.at or form.at in values):
                count.comparisons += 1
                if _exceeds(lower, form, y, values[form.at] if form.at else exact(point)):
                    said = f"{what}: stated {lower!r} at {np.ravel(point).tolist()}"
                    count.wrong.append(f"{said}, factor {_short(case.asking.factor)}")

    for b, point, values in truths(case, box):
        known.append((b, point))
        check(case.asking.question, b, point, values)
    if case.asking.guarantee == "float32":
        for what, b, point, run in executions(case, known):
            if all(np.isfinite(value).all() for value in run.values()):
                found = {name: exact(value) for name, value in run.items()}
                check(f"{case.asking.question}, {what} execution", b, point, found)


def _short(value: Fraction) -> str:
    """A fraction far beyond float64, in few characters."""
    return f"{Decimal(value.numerator) / Decimal(value.denominator):.3g}"


def _exceeds(lower: float, form: Form, y: Array, x: Array) -> bool:
    previous = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        total: Any = fmpq(form.constant.numerator, form.constant.denominator)
        for c, value in zip((*form.y, *form.x), (*y, *x.reshape(-1)), strict=True):
            if c:
                factor = fmpq(c.numerator, c.denominator)
                total = total + (arb(factor) * value if isinstance(value, arb) else factor * value)
        return above(lower, total)
    finally:
        flint.ctx.prec = previous
