"""The ways in which gamma can be asked for bounds, drawn and carried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from msgspec import structs

import gamma
from gamma import tuning
from gamma.methods import IN_MEMORY
from gamma.network.graph import Network
from gamma.network.property import Ball, LinearConstraint, Property, Region
from gamma.ops import Elementwise
from gamma.ops.products import Product
from gamma.propagate import (
    METHODS,
    NodeSlopes,
    ParallelConfig,
    ParallelVerifier,
    StreamingConfig,
    linear_bounds,
)
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.specification import Specification
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.search import limits

Array = Any
STREAMING: dict[str, StreamingConfig | None] = {
    "off": None,
    "plain": StreamingConfig(enable_crown_streaming=False),
    "interval": StreamingConfig.balanced(),
    "spilled": StreamingConfig(spill=True),
    "limit": StreamingConfig.with_memory_limit(1 << 30),
    "shortened": StreamingConfig(use_f16_checkpoints=True),
    "least": StreamingConfig.min_memory(),
}
EXTREMES = tuple(Fraction(10) ** k for k in (0, 600, -600, 300, -310))
QUESTIONS = (
    "bounds", "layers", "positions", "rows", "verify", "linear", "splits", "decide", "extremes",
)  # fmt: skip
FORMS = ("rows", "verify", "linear", "decide")
"""Questions whose answers are lower bounds of linear forms."""
SOON = 0.3  # seconds for branch and bound; what is proved by then must hold


@dataclass(frozen=True)
class Asking:
    """One way of asking; its fields are those of the interfaces. ``seed`` draws coefficients."""

    question: str = "bounds"
    method: str = "ibp"
    guarantee: str = "real"
    dtype: str = "auto"
    streaming: str = "off"
    interval: int = 10
    isa: str = "numpy"
    gates: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    threads: int = 1
    row_bytes: int = 48 << 20
    factor: Fraction = Fraction(1)
    seed: int = 0
    norm: str = "inf"
    reach: Fraction = Fraction(1)

    def inputs(self, lower: Array, upper: Array) -> Box:
        """The boxes, cut with balls of radius ``reach`` times half the extent of one of them."""
        if self.norm == "inf":
            return Box(lower, upper)
        rng = np.random.default_rng((self.seed, 7))
        half = upper / 2 - lower / 2
        aside = rng.choice([0.0, 0.5, 1.5]) * rng.uniform(-1, 1, half.shape)
        aside *= min(1.0, float(self.reach))  # seldom an empty set
        radius = float(self.reach) * float(half[self.seed % len(half)].max())
        return Box(lower, upper, self.norm, lower / 2 + upper / 2 + aside * half, radius)

    @property
    def config(self) -> StreamingConfig | None:
        """The streaming configuration."""
        chosen = STREAMING[self.streaming]
        return chosen and structs.replace(chosen, checkpoint_interval=self.interval)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Instruction set, gates, limits and threads."""
        with ExitStack() as stack:
            stack.enter_context(kernels.pinned(self.isa))
            stack.enter_context(tuning.disabled(*self.gates))
            stack.enter_context(limits.moved(*self.limits))
            stack.enter_context(workers.limited(self.threads))
            stack.enter_context(np.errstate(all="ignore"))
            yield

    def simpler(self) -> Iterator[Asking]:
        """The same with one field as by default."""
        plain = Asking(question=self.question)
        for name in (
            "gates",
            "limits",
            "isa",
            "threads",
            "row_bytes",
            "interval",
            "streaming",
            "dtype",
            "guarantee",
            "method",
            "factor",
            "seed",
            "norm",
            "reach",
        ):
            if getattr(self, name) != getattr(plain, name):
                yield replace(self, **{name: getattr(plain, name)})
        for name in self.gates:
            yield replace(self, gates=tuple(g for g in self.gates if g != name))
        for name in self.limits:
            yield replace(self, limits=tuple(k for k in self.limits if k != name))


@dataclass(frozen=True)
class Space:
    """What a search draws from: the dimensions of `Asking` and of the networks; of limits, as of
    gates, some at once, with all those of one entry of ``together``."""

    sources: tuple[str, ...] = ("operators", "file", "layers")
    questions: tuple[str, ...] = QUESTIONS
    methods: tuple[str, ...] = METHODS
    guarantees: tuple[str, ...] = ("real", "float32")
    streaming: tuple[str, ...] = tuple(STREAMING)
    numbers: tuple[str, ...] = ("simple", "hard")
    weights: tuple[str, ...] = ("float64", "int64", "int32", "float16", ">f4")
    kinds: tuple[str, ...] = ()
    factors: tuple[Fraction, ...] = EXTREMES
    norms: tuple[str, ...] = ("inf", "2", "1")
    isas: tuple[str, ...] = ("numpy", *kernels.available()[:-1])
    limits: tuple[str, ...] = limits.NAMES
    together: tuple[str, ...] = ("",)
    batches: tuple[str, ...] = ("few", "many")

    @property
    def in_one_call(self) -> Space:
        """What calls of the C library for whole networks are for, of that what is in the space."""

        def kept(values: tuple[str, ...], *wanted: str) -> tuple[str, ...]:
            return tuple(v for v in values if v in wanted) or values

        return replace(
            self,
            questions=kept(self.questions, "bounds"),
            methods=kept(self.methods, "ibp", "crown"),
            guarantees=kept(self.guarantees, "real"),
            streaming=kept(self.streaming, "off"),
            norms=kept(self.norms, "inf"),
            isas=kept(self.isas, *kernels.available()[:-1]),
            together=limits.TOGETHER if self.limits else ("",),
        )

    def asking(self, draw: Any) -> Asking:
        """One way."""

        def one(values: Any) -> Any:
            return draw(st.sampled_from(tuple(values)))

        off = draw(st.lists(st.sampled_from(sorted(tuning.GATES)), max_size=3, unique=True))
        moved = {*one(self.together).split("+")}
        moved |= draw(st.sets(st.sampled_from(self.limits or ("",)), max_size=3))
        question, method = one(self.questions), one(self.methods)
        if question == "linear" and method == "forward":  # refused: it has no lines to give
            method = "forward+crown"
        # Methods that keep all bounds in memory refuse a limit.
        whole = ("linear", "splits", "decide", "extremes")
        plain = method in IN_MEMORY or question in whole
        streaming = ("off",) if plain else self.streaming
        return Asking(
            question=question,
            method=method,
            guarantee=one(self.guarantees),
            dtype=one(("auto", "float32", "float64")),
            streaming=one(streaming),
            interval=one((10, 1, 2, 3)),
            isa=one(self.isas),
            gates=tuple(sorted(off)),
            limits=tuple(sorted(moved - {""})),
            threads=one((1, 2)),
            row_bytes=one((48 << 20, 1)),
            factor=one(self.factors) * one((1, -1, Fraction(1, 3))),
            seed=draw(st.integers(0, 999)),
            norm=one(self.norms),
            reach=one((Fraction(1), Fraction(1, 7), Fraction(5, 3), Fraction(0))),
        )


def bounds(net: Network, box: Box, asking: Asking) -> dict[str, tuple[Array, Array]]:
    """Lower and upper ends (batch, *shape) by name: of the output, or of every value."""
    options: dict[str, Any] = {"guarantee": asking.guarantee, "dtype": asking.dtype}
    with asking.settings():
        if asking.question == "positions":
            verifier = ParallelVerifier(ParallelConfig(asking.method, 1, asking.threads))
            axis = asking.seed % max(1, len(net.input_shape))
            out = verifier.verify_positions_parallel(
                net, box, axis, row_bytes=asking.row_bytes, **options
            ).output_bounds
        elif asking.question == "extremes":
            out = _extremes(net, box, asking, options)
        else:
            out = gamma.bounds(
                net,
                box,
                method=asking.method,
                intermediate=asking.question == "layers",
                row_bytes=asking.row_bytes,
                streaming=asking.config,
                steps=1 if asking.row_bytes == 1 else 3,  # rows one by one take long
                **options,
            )
    named = out if isinstance(out, dict) else {net.nodes[net.output].name: out}
    return {name: (np.asarray(b.lower), np.asarray(b.upper)) for name, b in named.items()}


def _extremes(
    net: Network, box: Box, asking: Asking, options: dict[str, Any]
) -> gamma.BoundedTensor:
    """The ranges that branch and bound proves in the first box; nothing about the others."""
    asked = {"gap": 0.1, "timeout": SOON, "threads": asking.threads, "seed": asking.seed}
    found = gamma.extremes(net, box.slice(0, 1), **asked, **options)
    low, high = (np.full((len(box.lower), *net.output_shape), end) for end in (-np.inf, np.inf))
    low[0], high[0] = found.lower.reshape(low[0].shape), found.upper.reshape(low[0].shape)
    return gamma.BoundedTensor(low, high)


@dataclass(frozen=True)
class Form:
    """Sum of coefficients times outputs and inputs, plus a constant: asked about in ``box``.

    ``x`` are coefficients of the value named ``at`` instead, where it is not the input.
    """

    y: tuple[Fraction, ...]
    x: tuple[Fraction, ...]
    constant: Fraction
    box: int
    at: str = ""


def forms(net: Network, box: Box, asking: Asking) -> list[tuple[Form, float]]:
    """Linear forms of outputs and inputs with the lower bounds that gamma states."""
    options: dict[str, Any] = {"guarantee": asking.guarantee, "dtype": asking.dtype}
    if asking.question == "linear":
        return affine(net, box, asking, options)
    if asking.question == "decide":
        return decided(net, box, asking, options)
    options |= {"method": asking.method, "streaming": asking.config}
    if asking.question == "verify":
        asked, prop = margins(net, box, asking)
        with asking.settings():
            result = gamma.verify(net, prop, attack=False, threads=asking.threads, **options)
        lower = [margin.lower for margin in result.margins]
        return list(zip(asked[: len(lower)], lower, strict=True))
    asked, rows = linear_forms(net, box, asking)
    with asking.settings():
        found = lower_bounds(net, box, rows, row_bytes=asking.row_bytes, **options).lower
    return list(zip(asked, found.tolist(), strict=True))


def decided(
    net: Network, box: Box, asking: Asking, options: dict[str, Any]
) -> list[tuple[Form, float]]:
    """Margins after slopes and branch and bound: none below zero where the verdict is verified."""
    asked, prop = margins(net, box, asking)
    with asking.settings():
        result = gamma.verify(
            net, prop, method="auto", timeout=SOON, threads=asking.threads, **options
        )
    if result.verdict == "verified":
        return [(form, 0.0) for form in asked]
    lower = [margin.lower for margin in result.margins]
    return list(zip(asked[: len(lower)], lower, strict=True))


def _sizes(net: Network) -> tuple[int, int]:
    return int(np.prod(net.output_shape)), int(np.prod(net.input_shape))


def linear_forms(net: Network, box: Box, asking: Asking) -> tuple[list[Form], Specification]:
    """Two forms for each box, exactly and as `lower_bounds` takes them."""
    rng = np.random.default_rng(asking.seed)
    outputs, inputs = _sizes(net)
    rows = 2 * len(box.lower)
    y = rng.integers(-3, 4, (rows, outputs)) * rng.choice([1.0, 0.1, 2.0**-20, 2.0**20])
    x = rng.normal(size=(rows, inputs)) if rng.random() < 0.5 else np.zeros((rows, inputs))
    constant, which = rng.normal(size=rows), np.repeat(np.arange(len(box.lower)), 2)
    made = [
        Form(_fractions(y[r]), _fractions(x[r]), Fraction(float(constant[r])), int(which[r]))
        for r in range(rows)
    ]
    return made, Specification(y, x if x.any() else None, constant, which, True)


def affine(
    net: Network, box: Box, asking: Asking, options: dict[str, Any]
) -> list[tuple[Form, float]]:
    """Linear bounds of the outputs, also with given slopes, as forms that are at least 0."""
    rng = np.random.default_rng((asking.seed, 3))
    given = slopes(net, len(box.lower), rng) if rng.random() < 0.5 else {}
    named = {net.nodes[i].name: s for i, s in given.items()}
    at, places = 0, [i for i in range(1, net.output) if not net.nodes[i].inner]
    if places and rng.random() < 0.5 and _passed(net, places[len(places) // 2]):
        at = places[len(places) // 2]
    where = net.nodes[at].name if at else "input"
    method = "crown-ibp" if asking.method == "ibp" else asking.method  # ibp has no rows
    with asking.settings():
        found = linear_bounds(net, box, at=where, method=method, slopes=named, **options)
    parts = [
        np.reshape(part, (len(box.lower), net.nodes[net.output].size, *rest))
        for part, rest in (
            (found.lower_coefficients, (-1,)),
            (found.lower_constant, ()),
            (found.upper_coefficients, (-1,)),
            (found.upper_constant, ()),
        )
    ]
    made = []
    for b, k in np.ndindex(*parts[1].shape):
        for sign, rows, constant in ((1, *parts[:2]), (-1, *parts[2:])):
            if np.isfinite(constant[b, k]) and np.isfinite(rows[b, k]).all():
                y = tuple(Fraction(sign * (j == k)) for j in range(parts[1].shape[1]))
                x = tuple(-sign * c for c in _fractions(rows[b, k]))
                shift = -sign * Fraction(float(constant[b, k]))
                made.append((Form(y, x, shift, b, where if at else ""), 0.0))
    return made


def _passed(net: Network, at: int) -> bool:
    """Whether every path to the output passes node ``at``."""
    free = {0}
    for index, node in enumerate(net.nodes[1 : net.output + 1], start=1):
        if index != at and free & set(node.inputs):
            free.add(index)
    return net.output not in free


def slopes(net: Network, count: int, rng: np.random.Generator) -> dict[int, NodeSlopes]:
    """Of some nodes, (count, size): ordinary ones, and any numbers at all."""

    def drawn(size: int) -> Array:
        usual = rng.random((count, size))
        wild = rng.normal(size=usual.shape) * rng.choice([3.0, 1e-30, 1e10], usual.shape)
        return np.where(rng.random(usual.shape) < 0.3, wild, usual)

    found = {}
    for index, node in enumerate(net.nodes[: net.output + 1]):
        size = node.size
        if isinstance(node.op, Product):
            size = 2 * node.op.term_count(*(net.nodes[i].shape for i in node.inputs))
        elif not isinstance(node.op, Elementwise):
            continue
        if rng.random() < 0.7:
            both = int(rng.integers(1, 4))
            ends = (drawn(size) if both & 1 else None, drawn(size) if both & 2 else None)
            found[index] = NodeSlopes(*ends)
    return found


def margins(net: Network, box: Box, asking: Asking) -> tuple[list[Form], Property]:
    """factor·y_k <= factor·c is unsafe in the first box, for some outputs k: forms, property."""
    rng = np.random.default_rng(asking.seed)
    outputs, inputs = _sizes(net)
    made = []
    for k in range(min(outputs, 3)):
        y = tuple(asking.factor * (j == k) for j in range(outputs))
        bound = asking.factor * int(rng.integers(-2, 3))
        made.append(Form(y, (Fraction(0),) * inputs, -bound, 0))
    region = Region(
        _fractions(box.lower[0]),
        _fractions(box.upper[0]),
        tuple((LinearConstraint(_terms(f.y), (), -f.constant),) for f in made),
    )
    balls: tuple[Ball, ...] = ()
    if box.center is not None and box.radius is not None:
        balls = (Ball(box.norm, _fractions(box.center[0]), Fraction(box.radius)),)
    return made, Property((region,), inputs, outputs, balls=balls)


def _fractions(values: Array) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(v)) for v in np.ravel(values))


def _terms(values: tuple[Fraction, ...]) -> tuple[tuple[int, Fraction], ...]:
    return tuple((i, v) for i, v in enumerate(values) if v)
