"""Ranges of activations: for every prompt of a language model, or for a set of inputs.

Nothing depends on a radius: behind a norm a vector has bounded length, whatever the input, and what
reads it is bounded by its weights. See `gamma.propagate.ranges` and docs/transformers.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec import field
from msgspec.structs import replace

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.propagate.asked import memory_bytes
from gamma.propagate.caps import useful
from gamma.propagate.choosing import batched
from gamma.propagate.domain import Facts
from gamma.propagate.ranges import FORMATS, Known, range_walk
from gamma.runtime import workers
from gamma.runtime.threads import limit_blas
from gamma.tensor import probe
from gamma.tensor.bounded import BoundedTensor
from gamma.tensor.box import Box
from gamma.tensor.weights import Weight
from gamma.verification.choices import check_options
from gamma.verification.describe import model_record, reading_notes
from gamma.verification.environment import environment, peak_bytes
from gamma.verification.result import Result, Verdict, number
from gamma.verification.verdict import limited_threads

if TYPE_CHECKING:
    from gamma.architectures.model import Model

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

SCHEMA = "gamma.ranges/1"
INT8 = 127
_FEW_POSITIONS = 2


class Range(Frozen, eq=True):
    """The range of one activation.

    Attributes:
        name, operator, shape: of its node; the first axis of a prompt's are its positions.
        lower, upper: least and greatest entry, proved.
        inner: a step within an operator, whose name no file knows.
        moved: entries of an earlier activation in other places.
        observed: least and greatest entry for the prompts that were tried.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    lower: float
    upper: float
    inner: bool = False
    moved: bool = False
    observed: tuple[float, float] | None = None

    @property
    def largest(self) -> float:
        """The largest size of an entry; infinite where nothing is proved."""
        return max(-self.lower, self.upper)

    @property
    def int8_scale(self) -> float:
        """The least scale with which round(x/scale) always fits into int8."""
        return self.largest / INT8 * (1 + 2.0**-50)

    def headroom(self, name: str) -> float:
        """How often the range fits into the format ``name``: 0 where nothing is proved."""
        most = FORMATS[name].largest if name != "int8" else float(INT8)
        return most / self.largest if self.largest else math.inf

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "operator": self.operator,
            "shape": list(self.shape),
            "lower": number(self.lower),
            "upper": number(self.upper),
            "inner": self.inner,
            "headroom": {name: number(self.headroom(name)) for name in FORMATS},
            "int8_scale": number(self.int8_scale),
            "observed": None if self.observed is None else list(self.observed),
        }


class Ranges(Frozen):
    """Ranges of all activations.

    Attributes:
        tensors: in the order of evaluation. storage: they hold for real arithmetic and, unless it
            is "real", for activations rounded to this format at every operator.
        about: the inputs they hold for, in words.
        guarantee: "real", or "float32": they hold for every float32 execution as well.
        known: node -> what is known of it, along with both ends of every entry.
    """

    tensors: tuple[Range, ...]
    storage: str
    about: str
    known: dict[str, Known] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    guarantee: str = "real"

    def __getitem__(self, name: str) -> BoundedTensor:
        """Both ends of every entry of one activation. KeyError for a name that no node has."""
        return BoundedTensor(*(np.array(end) for end in self.known[name].bounds))

    def beyond(self, name: str, scale: float = 1.0) -> tuple[Range, ...]:
        """Activations of which it is not proved that the format ``name`` holds them.

        "int8" holds round(x/scale). Raises UsageError for ranges that are not about the format.
        """
        if name != "int8" and name != self.storage:
            raise UsageError(f"these ranges are about storage {self.storage}, not {name}")
        most = scale * (INT8 + 0.5) * (1 - 2.0**-50) if name == "int8" else FORMATS[name].largest
        return tuple(r for r in self.tensors if not r.largest <= most)

    def to_dict(self) -> dict[str, Any]:
        """One object, schema ``gamma.ranges/1``."""
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "about": self.about,
            "storage": self.storage,
            "guarantee": self.guarantee,
            "tensors": [r.to_dict() for r in self.tensors],
        }
        if self.storage in FORMATS:
            beyond = [r.name for r in self.beyond(self.storage)]
            verdict = "not proved" if beyond else "impossible"
            found["overflow"] = {"format": self.storage, "verdict": verdict, "not_proved": beyond}
        return found | {
            "seconds": self.seconds,
            "memory": {"peak_bytes": peak_bytes()},
            "model": self.model,
            "environment": environment(),
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The object as JSON; infinities are strings."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


def ranges(
    model: Network | Model,
    box: Box | None = None,
    *,
    storage: str = "f16",
    guarantee: str = "real",
    observed: Sequence[Array] = (),
    output: str | None = None,
    timeout: float | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Ranges:
    """Proved ranges of every activation.

    Args:
        model: a language model (`gamma.open_model`), for every prompt of any length that it takes;
            or a network.
        box: the inputs of a network; all real inputs without one. Of a language model, sets of
            embeddings (positions, hidden) that may lie beside those of all prompts; of a speech
            model, the spectrograms.
        storage: "real" arithmetic alone; or also that "f16" or "bf16" keep every activation, each
            the exact result of its operator on kept inputs, rounded to nearest.
        guarantee: "float32": of every float32 execution of the operators, too, in place of exact
            results. Executions of a layer normalisation are bounded where its input's range shows
            that the variance does not cancel; behind another one nothing is known.
        observed: inputs, embeddings (positions, hidden) of prompts of a language model, which are
            evaluated to show beside the ranges what they reach.
        output: where a model's network ends, see `Model.network`.
        timeout, threads: seconds, and threads that share the work.
        memory: bytes, or like "300MB", that the ranges of all nodes may take: they are kept, so
            that nothing can be streamed.

    Raises:
        UsageError: options or sizes that do not fit. ResourceError: the time or memory is out.
    """
    if storage != "real" and storage not in FORMATS:
        raise UsageError(f"storage {storage!r}: expected real, {', '.join(FORMATS)}")
    check_options("ibp", guarantee, "auto", timeout, threads)
    probe.float32_failures()  # refuses where float64 is not what the formulas need
    start = time.monotonic()
    deadline = None if timeout is None else start + timeout
    with limited_threads(threads):
        net, source, about, options = _question(model, box, output)
        begun = time.monotonic()
        kept = FORMATS.get(storage)
        options |= {"deadline": deadline, "progress": progress, "memory": memory_bytes(memory)}
        options["guarantee"] = guarantee
        known = range_walk(net, source, kept, **options) if kept else range_walk(
            net, source, **options
        )  # fmt: skip
    seconds = {"inputs": begun - start, "ranges": time.monotonic() - begun}
    with limit_blas(1):  # small products: threads of the BLAS would wait for each other
        seen = _observed(model, net, observed, output)
    tensors = tuple(_range(net, i, k, s) for i, (k, s) in enumerate(zip(known, seen, strict=True)))
    # What norms were found by, Gram matrices among it, is not kept.
    by_name = {net.nodes[i].name: replace(k, form=None) for i, k in enumerate(known)}
    seconds["total"] = time.monotonic() - start
    described = model_record(net), reading_notes(net)
    return Ranges(tensors, storage, about, by_name, seconds, *described, guarantee)


def prove_storage(found: Ranges, name: str, scale: float = 1.0) -> Result:
    """The verdict that no activation overflows in ``name``: "verified" or "unknown".

    "int8" keeps round(x/scale), one scale for all.
    """
    beyond = found.beyond(name, scale)
    verdict: Verdict = "unknown" if beyond else "verified"
    worst = max(found.tensors, key=lambda r: r.largest)
    said = f"largest activation {worst.name}: at most {worst.largest:.6g}"
    if beyond:
        said += f"; {len(beyond)} of {len(found.tensors)} activations may overflow"
    return Result(
        verdict=verdict,
        guarantee=found.guarantee,
        asked=f"ranges {name}",
        used=("norm caps",),
        proved=len(found.tensors) - len(beyond),
        conjunctions=len(found.tensors),
        seconds=found.seconds,
        memory={"peak_bytes": peak_bytes(), "planned_bytes": None},
        model=found.model,
        property={"path": None, "sha256": None, "ranges": name, "about": found.about},
        notes=(*found.notes, said, _meaning(name, scale, found.guarantee)),
    )


def caps_of(found: Ranges, net: Network) -> Facts:
    """The ranges of a language model as norm caps of its network for one prompt.

    They hold at every position: nodes of which more is known at some are left out.
    """
    known = {i: found.known.get(node.name) for i, node in enumerate(net.nodes)}
    return useful(net, {i: k for i, k in known.items() if k is not None})


def _meaning(name: str, scale: float, guarantee: str) -> str:
    exact = guarantee == "real"
    if name == "int8":
        of = "real arithmetic" if exact else "every float32 execution"
        return f"int8 keeps round(x/{scale:g}) of every activation, of {of}"
    each = "the exact result" if exact else "any float32 execution"
    return (
        f"activations are kept in {name}, each {each} of its operator rounded once; what "
        "an operator sums inside is not kept in it"
    )


def _range(net: Network, index: int, known: Known, seen: tuple[float, float] | None) -> Range:
    node = net.nodes[index]
    moved = node.op.moves
    lower, upper = float(known.lower.min()), float(known.upper.max())
    return Range(node.name, node.op.name, node.shape, lower, upper, node.inner, moved, seen)


def _observed(
    model: Network | Model, net: Network, inputs: Sequence[Array], output: str | None
) -> list[tuple[float, float] | None]:
    """Least and greatest entry of every node over the inputs, one network for each length."""
    ends = []
    for x in inputs:
        same = isinstance(model, Network) or len(x) == net.input_shape[0]
        own = net if same else model.network(len(x), output=output)  # type: ignore[union-attr]
        values = own.values(np.asarray(x, np.float32)[None])
        ends.append([(float(v.min()), float(v.max())) for v in values])
    if not ends:
        return [None] * len(net.nodes)
    return [(min(a for a, _ in node), max(b for _, b in node)) for node in zip(*ends, strict=True)]


def _question(
    model: Network | Model, box: Box | None, output: str | None
) -> tuple[Network, Known, str, dict[str, Any]]:
    """The network, what is known of its input, for which inputs, and how far positions go."""
    if not isinstance(model, Network):
        return _every_prompt(model, box, output)
    shape = model.input_shape
    if box is None:
        end = np.full((1,) * len(shape), np.inf)
        return model, Known(shape, -end, end), "every input", {}
    many = batched(model, box)
    known = Known(shape, many.lower.min(axis=0), many.upper.max(axis=0))
    count = f"{len(many.lower)} input sets" if len(many.lower) > 1 else "the input set"
    return model, known, f"all of {count}", {}


def _every_prompt(
    model: Model, box: Box | None, output: str | None
) -> tuple[Network, Known, str, dict[str, Any]]:
    """Any embeddings of the vocabulary at any position that the model takes."""
    if not model.architecture.text:
        return _every_spectrogram(model, box, output)
    most, width = model.config.context, model.config.hidden
    if box is not None and (box.lower.ndim < 2 or box.lower.shape[-1] != width):
        raise UsageError(f"box of shape {box.lower.shape}: expected (positions, {width})")
    # Rotary positions are covered wherever they are; learned ones are read from the file.
    everywhere = model.config.rope is not None
    few = _FEW_POSITIONS if box is None else box.lower.shape[-2]
    net = model.network(few if everywhere and most > 1 else most, output=output)
    lower, upper = hull(model.tensors.weight("token_embd.weight"))
    about = f"every prompt of 1 to {most:,} tokens of {model.vocabulary:,}"
    if box is not None:
        every = tuple(range(box.lower.ndim - 1))
        lower = np.minimum(lower, box.lower.min(axis=every))
        upper = np.maximum(upper, box.upper.max(axis=every))
        about += ", and the input set"
    known = Known(net.input_shape, lower[None], upper[None])
    return net, known, about, {"everywhere": everywhere, "positions": most}


def _every_spectrogram(
    model: Model, box: Box | None, output: str | None
) -> tuple[Network, Known, str, dict[str, Any]]:
    """Any spectrogram, or those of a set, whose states may stand at any position."""
    if box is None:
        net = model.network(model.config.context, output=output)
        end = np.full((1, 1), np.inf)
        return net, Known(net.input_shape, -end, end), "every spectrogram", {}
    positions = box.lower.shape[-1] // 2
    net = model.network(positions, output=output)
    many = box.batched(net.input_shape)
    known = Known(net.input_shape, many.lower.min(axis=0), many.upper.max(axis=0))
    joined = model.network(positions, until=0).output
    return net, known, "all of the input set", {"joined": joined}


def hull(weight: Weight) -> tuple[Float64, Float64]:
    """The least and greatest entry of every column (columns,), read panel by panel."""

    def part(start: int) -> tuple[Array, Array]:
        low, high = None, None
        for first in range(start, min(start + piece, weight.rows), step):
            panel = weight.panel(first, min(first + step, weight.rows), dtype)
            ends = panel.min(axis=0), panel.max(axis=0)
            low = ends[0] if low is None else np.minimum(low, ends[0])
            high = ends[1] if high is None else np.maximum(high, ends[1])
        assert low is not None and high is not None
        return low, high

    dtype = np.float64 if weight.kind == "f64" else np.float32
    step = weight.panel_rows
    piece = step * max(1, weight.rows // (8 * step))
    found = workers.run([partial(part, start) for start in range(0, weight.rows, piece)])
    lower = np.min([low for low, _ in found], axis=0).astype(np.float64)
    return lower, np.max([high for _, high in found], axis=0).astype(np.float64)
