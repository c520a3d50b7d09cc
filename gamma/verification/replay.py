"""Witnesses are replayed by an independent forward pass before ``violated`` is said.

onnxruntime runs the file itself when it is installed and the model is ONNX; otherwise a certified
float64 enclosure of the real network decides, and fractions where that is too wide and the network
small. Every comparison is in fractions, without tolerance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.compressed import FileBytes, expanding, read_bytes
from gamma.formats.onnx.outputs import cut
from gamma.frozen import Frozen
from gamma.network.graph import Network, Source
from gamma.network.property import LinearConstraint, Property, Region
from gamma.telemetry import spanned
from gamma.tensor.rounding import fraction_down, fraction_near, fraction_up
from gamma.verification.result import Counterexample

Array = npt.NDArray[Any]
Exact = Sequence[Fraction]
Values = Array | Exact
START_SECONDS, START_PARAMETER = 0.5, 1e-8
"""Time that must be left to start onnxruntime: to import it, and for each parameter to read."""

ENTRY_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    **{f"tensor({n})": np.dtype(n).type for n in ("int8", "int16", "int32", "int64")},
    **{f"tensor({n})": np.dtype(n).type for n in ("uint8", "uint16")},
}


class Runner(Frozen, eq=True):
    """onnxruntime's session of a file: one input (*input shape) in, the outputs (flat) out.

    Raises UnsupportedError for whatever onnxruntime raises when it runs.

    Attributes:
        dtype: of the file's input; only its numbers can be run.
    """

    session: Any
    path: Path
    entry: str
    dtype: Any
    shape: tuple[int, ...]
    outputs: list[str]

    def __call__(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            given = np.ascontiguousarray(x.reshape(self.shape)).astype(self.dtype)
        if not (given == x.reshape(self.shape)).all():
            raise UnsupportedError.at(self.path, self.entry, f"no point of {given.dtype} numbers")
        try:
            return np.ravel(self.session.run(self.outputs, {self.entry: given})[0])
        except Exception as error:  # its own kinds, none of them documented
            raise UnsupportedError.at(
                self.path, "", f"onnxruntime cannot run it: {_first_line(error)}"
            ) from None

    @property
    def coarse(self) -> bool:
        """Some float32 numbers are none of the input's type."""
        return self.dtype not in (np.float32, np.float64)

    def representable(self, x: Array, low: Array, high: Array) -> Array:
        """``x`` (flat float32) moved to the nearest numbers of the input's type in [low, high].

        Where an interval has none, the result lies outside of it.
        """
        if np.dtype(self.dtype).kind in "iu":
            return np.clip(np.rint(x), np.ceil(low), np.floor(high)).astype(x.dtype)
        with np.errstate(over="ignore"):
            near = x.astype(self.dtype)
        near = np.where(near.astype(x.dtype) > high, np.nextafter(near, self.dtype(-np.inf)), near)
        near = np.where(near.astype(x.dtype) < low, np.nextafter(near, self.dtype(np.inf)), near)
        return near.astype(x.dtype)


class Replay:
    """Judges candidate inputs of one property.

    Under the guarantee "real" a witness which the float64 enclosure of the real network (or exact
    arithmetic) certainly disproves is rejected, even when float32 agrees.
    """

    def __init__(
        self,
        net: Network,
        prop: Property,
        guarantee: str = "real",
        deadline: float = math.inf,
    ) -> None:
        self.net, self.prop, self.guarantee = net, prop, guarantee
        self.deadline = deadline
        self.notes: list[str] = []
        self._refused = False

    @cached_property
    def runner(self) -> Runner | None:
        """onnxruntime on the model's file; None when it is not there or refuses the file, and
        when too little time is left to start it."""
        source = self.net.source
        if source is None or source.kind != "onnx" or find_spec("onnxruntime") is None:
            return None
        left = self.deadline - time.monotonic()
        if left < START_SECONDS + START_PARAMETER * self.net.parameters:
            self._without(f"{max(left, 0):.2g} s are too few to start onnxruntime")
            return None
        try:
            return onnxruntime_runner(source, self.net)
        except UnsupportedError as error:
            self._without(str(error))
            return None

    def _without(self, reason: str) -> None:
        self.notes.append(f"{reason}; witnesses are replayed by a float64 enclosure")

    def _run(self, shaped: Array) -> Array | None:
        """The outputs (flat) by onnxruntime, None where it does not run or refuses this input."""
        if self.runner is None or self._refused:
            return None
        try:
            return self.runner(shaped)
        except UnsupportedError as error:
            self._refused = True
            self._without(str(error))
            return None

    @spanned("replay")
    def __call__(self, region: int, x: Array) -> Counterexample | None:
        """The counterexample at ``x`` (flat float32) of this region, None when it is none."""
        asked = self.prop.regions[region]
        if self.runner is not None and self.runner.coarse:
            low, high, _ = self.prop.inner_float32(region)
            x = self.runner.representable(x, low, high)
        outside = _outside(asked, x)
        if outside is None or not self._belongs(region, x):
            return None
        shaped = x.reshape(self.net.input_shape)
        y = self._run(shaped)
        if y is None:
            found = self._in_real_arithmetic(asked, shaped)
        else:
            disjunct = certainly_unsafe(asked, x, y, y) if np.isfinite(y).all() else None
            found = None if disjunct is None else ("onnxruntime", y, disjunct)
            if found and self.guarantee == "real" and self._disproved(asked, shaped):
                return None
        if found is None:
            return None
        by, y, disjunct = found
        y = y.reshape(self.net.output_shape)
        return Counterexample(shaped, y, by, region, disjunct, outside)

    def _exact(self, shaped: Array) -> list[Fraction] | None:
        """The outputs as fractions, None where the network is too large for them."""
        from gamma.verification.exact import exact_output

        return exact_output(self.net, shaped)

    def enclosure(self, region: int, x: Array) -> tuple[Array, Array] | None:
        """What encloses the outputs (flat) at ``x`` (flat), None where it is no point of the region
        or its outputs are not finite."""
        if _outside(self.prop.regions[region], x) != 0 or not self._belongs(region, x):
            return None
        shaped = x.reshape(self.net.input_shape)
        exact = self._exact(shaped)
        if exact is None:
            return self._enclose(shaped)
        return np.array([*map(fraction_down, exact)]), np.array([*map(fraction_up, exact)])

    def _in_real_arithmetic(self, asked: Region, shaped: Array) -> tuple[str, Array, int] | None:
        """Who confirms the witness, the outputs, and the disjunct that holds."""
        x, enclosure = shaped.ravel(), self._enclose(shaped)
        if enclosure is not None:
            low, high = enclosure
            disjunct = certainly_unsafe(asked, x, low, high)
            if disjunct is not None:
                return "float64 enclosure", low / 2 + high / 2, disjunct
        exact = self._exact(shaped)
        disjunct = None if exact is None else certainly_unsafe(asked, x, exact, exact)
        if exact is None or disjunct is None:
            return None
        return "exact arithmetic", np.array([*map(fraction_near, exact)]), disjunct

    def _disproved(self, asked: Region, shaped: Array) -> bool:
        """The real network certainly does not reach the unsafe set at this point."""
        x, enclosure = shaped.ravel(), self._enclose(shaped)
        if enclosure is not None:
            if certainly_safe(asked, x, *enclosure):
                return True
            if certainly_unsafe(asked, x, *enclosure) is not None:
                return False
        exact = self._exact(shaped)
        return exact is not None and certainly_safe(asked, x, exact, exact)

    def _belongs(self, region: int, x: Array) -> bool:
        """The point meets what a box cannot say: a norm ball, whole numbers, an integer type."""
        kind = self.net.metadata.get("input_dtype", "float32")
        if "int" in kind:
            limits = np.iinfo(kind)
            if not ((x == np.rint(x)) & (limits.min <= x) & (x <= limits.max)).all():
                return False
        if any(float(x[i]) != int(x[i]) for i in self.prop.integers):
            return False
        return not self.prop.balls or self.prop.balls[region].holds(x.astype(np.float64))

    def _enclose(self, x: Array) -> tuple[Array, Array] | None:
        from gamma.propagate import enclose

        low, high = enclose(self.net, x[None].astype(np.float64))
        low, high = np.ravel(low), np.ravel(high)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        return low, high


def onnxruntime_runner(source: Source, net: Network) -> Runner:
    """The file as onnxruntime runs it.

    The file's own bytes are run (decompressed where it is gzip), on one thread of the CPU.
    Raises FormatError when the file changed since it was read, UnsupportedError when onnxruntime
    refuses it.
    """
    import onnxruntime

    with expanding(math.inf):  # it was read before, and has to be the same
        content = read_bytes(source.path)
    if content.sha256 != source.sha256:
        raise FormatError.at(source.path, "", "changed since the network was read; load it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    given, output = net.metadata["input"], net.metadata["output"]
    session = _session(source, content, options, (given, output))
    (entry,) = [i for i in session.get_inputs() if i.name == given]
    shape = tuple(net.metadata["input_dims"])
    if entry.type not in ENTRY_TYPES:
        raise UnsupportedError.at(
            source.path, given, f"onnxruntime wants {entry.type}, not numbers as they are here"
        )
    return Runner(session, source.path, given, ENTRY_TYPES[entry.type], shape, [output])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _spellings(content: FileBytes, given: str, output: str) -> Iterator[bytes | str]:
    """The model as it is, by its path, and cut to one input and output; made when asked for."""
    yield content.data
    yield str(content.path)
    yield cut(content.data, given, output)


def _session(source: Source, content: FileBytes, options: Any, ends: tuple[str, str]) -> Any:
    """onnxruntime's session for (input, output); weights in other files need the model's path."""
    import onnxruntime

    problem = ""
    given, output = ends
    for model in _spellings(content, given, output):
        try:
            providers = ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(model, options, providers=providers)
            weights = {i.name for i in session.get_overridable_initializers()}
            inputs = {i.name for i in session.get_inputs()} - weights
            if inputs == {given} and output in {o.name for o in session.get_outputs()}:
                return session
        except Exception as error:  # onnxruntime raises its own kinds, none of them documented
            problem = problem or _first_line(error)
    problem = problem or "it sees other inputs or outputs"
    raise UnsupportedError.at(source.path, "", f"onnxruntime cannot run it: {problem}")


def certainly_unsafe(region: Region, x: Array, low: Values, high: Values) -> int | None:
    """The first disjunct that holds for every output in [low, high], None when there is none."""
    xs, lows, highs = _fractions(x), _fractions(low), _fractions(high)
    for index, conjunction in enumerate(region.unsafe):
        if all(_meets(c, _extreme(c, xs, highs, lows)) for c in conjunction):
            return index
    return None


def certainly_safe(region: Region, x: Array, low: Values, high: Values) -> bool:
    """No disjunct holds for any output in [low, high]."""
    xs, lows, highs = _fractions(x), _fractions(low), _fractions(high)
    return all(
        any(not _meets(c, _extreme(c, xs, lows, highs)) for c in conjunction)
        for conjunction in region.unsafe
    )


def _extreme(constraint: LinearConstraint, x: Exact, positive: Exact, negative: Exact) -> Fraction:
    """The constraint's left side with ``positive`` where c > 0 and ``negative`` where c < 0."""
    total = sum((c * x[j] for j, c in constraint.x), start=Fraction(0))
    return total + sum(
        (c * (positive[i] if c > 0 else negative[i]) for i, c in constraint.y), start=Fraction(0)
    )


def _meets(constraint: LinearConstraint, value: Fraction) -> bool:
    return value < constraint.bound if constraint.strict else value <= constraint.bound


def _fractions(values: Values) -> Exact:
    if not isinstance(values, np.ndarray):
        return values
    return [Fraction(v) for v in np.ravel(values).astype(np.float64).tolist()]


def _outside(region: Region, x: Array) -> int | None:
    """How many coordinates lie outside only because their interval holds no float32 number.

    None when a coordinate lies outside for any other reason: then x is no point of the region.
    """
    count = 0
    if not np.isfinite(x).all():
        return None
    for value, low, high in zip(x, region.lower, region.upper, strict=True):
        exact = Fraction(float(value))
        if low <= exact <= high:
            continue
        step = np.float32(value)
        with np.errstate(over="ignore"):
            beyond = np.nextafter(step, np.float32(np.inf if exact < low else -np.inf))
        if not np.isfinite(beyond):
            return None  # the interval lies behind the largest number, not between two
        neighbour = Fraction(float(beyond))
        crossed = neighbour > high if exact < low else neighbour < low
        if x.dtype != np.float32 or not crossed:
            return None
        count += 1
    return count
