"""Rotary positions (Su et al. 2021) and the published ways to stretch them to longer contexts.

A pair of entries at position p turns by p·r, one rate r for each pair. A scaling changes the rates:
linear interpolation (Chen et al. 2023), YaRN (Peng et al. 2023) and that of Llama 3.1, which keeps
fast pairs, slows slow ones and blends between. Rates are irrational; each comes with a bound on
what rounding did to it, in float64 and in the float32 programs that people run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.architectures.settings import Settings
from gamma.errors import FormatError, UnsupportedError
from gamma.frozen import Frozen
from gamma.ops import Scale
from gamma.ops.execution import Execution

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


FASTEST = 2.0**20
"""Radians a position; published models turn by 1 at most."""


class Scaling(Protocol):
    """What becomes of the rates of all pairs, fastest first."""

    def rates(self, rates: Float64, base: float, loss: Float64) -> tuple[Float64, Float64]:
        """New rates and their relative errors; ``loss`` is that of ``rates``, in roundings."""

    @property
    def gain(self) -> float:
        """Factor on the entries that turn."""


class Linear(Frozen, eq=True):
    """Every rate divided by ``factor``."""

    factor: float
    gain: float = 1.0

    def rates(self, rates: Float64, base: float, loss: Float64) -> tuple[Float64, Float64]:
        return rates / self.factor, loss + 1


class Llama3(Frozen, eq=True):
    """Rates are kept above ``high`` turns in ``context`` positions, divided by ``factor`` below
    ``low``, and blended between."""

    factor: float
    low: float
    high: float
    context: float
    gain: float = 1.0

    def rates(self, rates: Float64, base: float, loss: Float64) -> tuple[Float64, Float64]:
        turns = self.context * rates / (2 * math.pi)
        share = (turns - self.low) / (self.high - self.low)
        error = (turns * (loss + 4) + self.low) / (self.high - self.low) + 2
        return _blended(rates, np.clip(share, 0, 1), self.factor, loss, error)


class Yarn(Frozen, eq=True):
    """As `Llama3`, blended by the pair's number between those that turn ``fast`` and ``slow`` times
    in ``context`` positions, rounded outward; what turns is multiplied by ``gain``."""

    factor: float
    context: float
    fast: float
    slow: float
    gain: float

    def rates(self, rates: Float64, base: float, loss: Float64) -> tuple[Float64, Float64]:
        pairs = len(rates)
        low = max(math.floor(self._pair(self.fast, pairs, base)), 0)
        high = min(math.ceil(self._pair(self.slow, pairs, base)), 2 * pairs - 1)
        share = 1 - np.clip((np.arange(pairs) - low) / max(high - low, 1e-3), 0, 1)
        return _blended(rates, share, self.factor, loss, np.full(pairs, 4.0))

    def _pair(self, turns: float, pairs: int, base: float) -> float:
        """Number of the pair, between two as a rule, that turns so often.

        UnsupportedError where rounding decides between two whole numbers.
        """
        found = pairs * math.log(self.context / (turns * 2 * math.pi)) / math.log(base)
        if abs(found - round(found)) < 1e-9 * (1 + abs(found)):
            message = f"the pair that turns {turns} times is {found}, too close to a whole number"
            raise UnsupportedError(f"rotary positions: {message} for all programs to agree")
        return found


def _blended(
    rates: Float64, share: Float64, factor: float, loss: Float64, error: Float64
) -> tuple[Float64, Float64]:
    """rates · (share + (1 - share)/factor); ``error`` of ``share`` in roundings, where it is
    neither 0 nor 1."""
    kept = share + (1 - share) / factor
    between = (share > 0) & (share < 1)
    return rates * kept, loss + 6 + np.where(between, error * abs(1 - 1 / factor) / kept, 0.0)


class Rope(Frozen, eq=True):
    """Rotary positions: a pair of entries turns by position · base^(-2i/size), scaled.

    ``halves``: a pair is (i, i + size/2), as in transformers and GGUF's NeoX models; else it is
    (2i, 2i + 1), as in GGUF's Llama models, whose rows were permuted for that.
    """

    base: float
    halves: bool
    scaling: Scaling | None = None

    @property
    def gain(self) -> float:
        """Factor on the entries that turn."""
        return self.scaling.gain if self.scaling else 1.0

    def rates(self, size: int, divisors: Array | None = None) -> tuple[Float64, Float64]:
        """Rates of the size/2 pairs, and their relative errors in roundings of their arithmetic.

        The rounding of the exponent costs log(base) of them, the power a few. ``divisors``: one
        for each rate, as GGUF files hold Llama 3.1's scaling.
        """
        rates = self.base ** (-np.arange(size // 2) * 2.0 / size)
        loss = np.full(size // 2, 8 + abs(math.log(self.base)))
        if divisors is not None:
            rates, loss = rates / divisors.astype(np.float64), loss + 1
        if self.scaling is None:
            return rates, loss
        return self.scaling.rates(rates, self.base, loss)


def rotary(
    rope: Rope,
    positions: int,
    size: int,
    divisors: Array | None = None,
    start: int = 0,
    path: Path | None = None,
) -> tuple[Scale, Scale, Array]:
    """Coefficients of an entry and of its pair (positions, 1, size), and where the pair is.

    The positions are those from ``start`` on. Raises UnsupportedError where pairs turn so fast that
    float64 says nothing of their cosines.
    """
    half = size // 2
    with np.errstate(all="ignore"):
        rates, loss = rope.rates(size, divisors)
    if not (rates.max(initial=0.0) <= FASTEST and np.isfinite(loss).all()):
        raise UnsupportedError.at(
            path,
            "rotary positions",
            f"pairs turn by up to {rates.max():g} a position, expected at most {FASTEST:g}: check "
            "the model's base, scaling and rope_freqs.weight",
        )
    lanes = np.tile(np.arange(half), 2) if rope.halves else np.repeat(np.arange(half), 2)
    pair = np.roll(np.arange(size), half) if rope.halves else np.arange(size) ^ 1
    first = pair > np.arange(size)
    angles = ((start + np.arange(positions))[:, None] * rates)[:, lanes]
    cos, sin = np.cos(angles), np.sin(angles) * np.where(first, -1.0, 1.0)
    return _turning(cos, angles, loss[lanes]), _turning(sin, angles, loss[lanes]), pair


def _turning(factor: Float64, angle: Float64, loss: Float64) -> Scale:
    """One trigonometric factor with its errors: relative in float64, absolute in float32.

    An angle is position · rate. In float32 the rate may come from size/2 products of one factor,
    as in llama.cpp, each of which is a few 2^-24 off.
    """
    size, moved = factor.shape[-1], angle != 0  # at position 0 both factors are exact
    error = np.where(moved, 2.0**-52 * (loss * angle + 2 * abs(factor)), 0.0)
    relative = float(np.max(error / np.where(factor == 0, 1.0, abs(factor)), initial=0.0))
    single = np.where(moved, (size / 2 + loss) * 2.0**-22 * angle + 2.0**-21, 0.0)
    steps = Execution.of(factor, None).plus(single, 0.0).packed()
    shape = (len(factor), 1, size)
    return Scale(factor.reshape(shape), None, relative, 0.0, steps.reshape(4, *shape))


def amplified(gain: float) -> Scale:
    """gain · x, where a float32 execution may round ``gain`` and multiply twice."""
    steps = Execution.of(np.array([gain]), None).plus(2.0**-22 * gain, 0.0)
    return Scale(np.array([gain]), None, 2.0**-49, 0.0, steps.packed())


def from_config(s: Settings) -> Rope:
    """``rope_theta`` with ``rope_scaling``, or ``rope_parameters``, which newer files have."""
    stated = [key for key in ("rope_scaling", "rope_parameters") if s.get(key) is not None]
    values: dict[str, Any] = {}
    for key in stated:
        if not isinstance(s.get(key), dict):
            raise FormatError.at(s.path, key, "expected an object or null")
        for name, value in s.get(key).items():
            if values.setdefault(name, value) != value:
                raise UnsupportedError.at(s.path, key, f"{name!r} differs from rope_scaling's")
    key = stated[-1] if stated else "rope_scaling"
    inner = Settings(s.path, {f"{key}.{k}": v for k, v in values.items()}, f"{key}.")
    inner.ready = s.ready
    kinds = {"default": "", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
    kind = inner.choice("rope scaling", kinds, "rope_type", "type", default="default")
    inner.get("type")  # older files state both
    holder = inner if inner.has("rope_theta") else s
    base = holder.number("rope base", "rope_theta", default=1e4, positive=True)
    scaling = _scaling(s, inner, kind, base) if kind else None
    inner.finish()
    return Rope(base, True, scaling)


def _scaling(s: Settings, inner: Settings, kind: str, base: float) -> Scaling:
    factor = inner.number("rope factor", "factor", positive=True)
    if kind == "linear":
        return Linear(factor)
    context = _context(s, inner, kind)
    if kind == "llama3":
        return _llama3(inner, factor, context)
    inner.refuse("truncate", [True], "YaRN between whole numbers")
    gain = _yarn_gain(factor)
    if inner.has("attention_factor"):
        gain = inner.number("rope gain", "attention_factor", positive=True)
    return _yarn(inner, base, Yarn(factor, context, 32.0, 1.0, gain), "beta_fast", "beta_slow")


def _context(s: Settings, inner: Settings, kind: str) -> float:
    """Positions that the model was first trained for."""
    key = "original_max_position_embeddings"
    if kind == "llama3" or inner.has(key):
        return float(inner.whole("first context", key))
    return float(s.whole("context", "max_position_embeddings"))


def _llama3(s: Settings, factor: float, context: float) -> Llama3:
    low = s.number("slow turns", "low_freq_factor", positive=True)
    high = s.number("fast turns", "high_freq_factor", positive=True)
    if not low < high:
        key = f"{s.prefix}high_freq_factor"
        raise FormatError.at(s.path, key, f"is {high}, expected more than low_freq_factor, {low}")
    return Llama3(factor, low, high, context)


def _yarn_gain(factor: float) -> float:
    """What the paper multiplies queries and keys with."""
    return 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def _yarn(s: Settings, base: float, usual: Yarn, fast_key: str, slow_key: str) -> Yarn:
    """``usual`` with the turns that the file states."""
    fast = s.number("fast turns", fast_key, default=usual.fast, positive=True)
    slow = s.number("slow turns", slow_key, default=usual.slow, positive=True)
    if not slow < fast or not base > 1:
        message = f"YaRN needs {slow_key} {slow} below {fast_key} {fast} and a base {base} above 1"
        raise FormatError.at(s.path, f"{s.prefix}{fast_key}", message)
    return replace(usual, fast=fast, slow=slow)


def from_gguf(s: Settings, halves: bool) -> Rope:
    """The keys of llama.cpp; a file that names no kind of scaling means a linear one."""
    base = s.number("rope base", "rope.freq_base", default=1e4, positive=True)
    kinds = {"none": "", "linear": "linear", "yarn": "yarn"}
    kind = s.choice("rope scaling", kinds, "rope.scaling.type", default="linear")
    keys = "rope.scaling.factor", "rope.scale_linear"
    factor = s.number("rope factor", *keys, default=1.0) or 1.0
    first = "rope.scaling.original_context_length"
    given = s.get("rope.scaling.finetuned"), s.get(first)  # they decide nothing by themselves
    scaling: Scaling | None = None
    if kind == "linear" and factor != 1:
        scaling = Linear(factor)
    elif kind == "yarn":
        at = (first, "context_length") if given[1] else ("context_length",)
        context = float(s.whole("first context", *at))
        usual = Yarn(factor, context, 32.0, 1.0, _yarn_gain(factor))
        turns = "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"
        scaling = _yarn(s, base, usual, *turns)
        s.refuse("rope.scaling.attn_factor", [1.0], "another factor on attention")
    return Rope(base, halves, scaling)
