"""Constants of transformers that are irrational: their stated errors hold, in balls."""

from __future__ import annotations

from collections.abc import Iterator

import flint
import numpy as np
import pytest
from flint import arb

from gamma.architectures.layers import root_scale
from gamma.architectures.rope import Linear, Llama3, Rope, Scaling, Yarn, rotary
from gamma.errors import UnsupportedError
from gamma.ops.execution import Execution

POSITIONS, SIZE = 300, 16
BASES = (1.5, 1e4, 1e6, 5e8)


@pytest.fixture(autouse=True)
def precise() -> Iterator[None]:
    previous, flint.ctx.prec = flint.ctx.prec, 200
    yield
    flint.ctx.prec = previous


def angles(base: float) -> list[list[arb]]:
    rates = [arb(base) ** (arb(-2 * i) / SIZE) for i in range(SIZE // 2)]
    return [[p * rate for rate in rates] for p in range(POSITIONS)]


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("base", BASES)
def test_rotary_factors_in_real_arithmetic(base: float, halves: bool) -> None:
    """ROTARY.ANGLE: within the relative error that each factor states; exact at position 0."""
    cos, sin, pair = rotary(Rope(base, halves), POSITIONS, SIZE)
    exact = angles(base)
    assert (cos.scale[0] == 1).all() and (sin.scale[0] == 0).all()
    for op, function in ((cos, arb.cos), (sin, arb.sin)):
        assert op.scale_error < 1e-7  # the largest: where cos is nearly 0
        for p in range(1, POSITIONS, 7):
            for lane in range(SIZE):
                i = lane % (SIZE // 2) if halves else lane // 2
                value, sign = function(exact[p][i]), 1
                if op is sin and pair[lane] > lane:
                    sign = -1
                stored = arb(float(op.scale[p, 0, lane]))
                assert abs(sign * value - stored) <= arb(op.scale_error) * abs(stored)


SCALINGS: list[Scaling] = [
    Linear(3.0),
    Llama3(8.0, 1.0, 4.0, 8192.0),
    Llama3(32.0, 1.0, 1.25, 640.0),
    # One pair of base 5e5 lies in the middle of a narrow band, where a share loses its digits.
    Llama3(1e3, 4.0, 4.0001, 4.00005 * 2 * np.pi * 5e5 ** (6 / SIZE)),
    Yarn(4.0, 32768.0, 32.0, 1.0, 1.2),
    Yarn(40.0, 500.0, 8.0, 0.5, 1.0),
]


def scaled(scaling: Scaling, rates: list[arb], base: float) -> list[arb]:
    """The published formulas, in balls."""
    made = []
    for i, rate in enumerate(rates):
        if isinstance(scaling, Linear):
            made.append(rate / scaling.factor)
            continue
        if isinstance(scaling, Llama3):
            turns = scaling.context * rate / (2 * arb.pi())
            share = (turns - scaling.low) / (arb(scaling.high) - scaling.low)
        else:
            assert isinstance(scaling, Yarn)
            low, high = (
                SIZE * (scaling.context / (arb(t) * 2 * arb.pi())).log() / (2 * arb(base).log())
                for t in (scaling.fast, scaling.slow)
            )
            first, last = max(int(low.floor().unique_fmpz()), 0), int(high.ceil().unique_fmpz())
            last = min(last, SIZE - 1)
            share = 1 - (arb(i) - first) / (last - first)
        share = share.max(arb(0)).min(arb(1))
        made.append(rate * (share + (1 - share) / scaling.factor))
    return made


@pytest.mark.parametrize("base", [1e4, 5e5])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_rates_lie_within_their_stated_error(scaling: Scaling, base: float) -> None:
    """ROTARY.SCALING: in float64, and as a program in float32 makes them."""
    rates, loss = Rope(base, True, scaling).rates(SIZE)
    plain = [arb(base) ** (arb(-2 * i) / SIZE) for i in range(SIZE // 2)]
    for rate, roundings, exact in zip(
        rates.tolist(), loss.tolist(), scaled(scaling, plain, base), strict=True
    ):
        assert abs(exact - rate) <= exact * 2.0**-53 * roundings


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_rates_of_executions(scaling: Scaling) -> None:
    """ROTARY.SCALING in float32: rates, shares and blends each rounded."""
    base = 5e5
    cos, sin, _ = rotary(Rope(base, True, scaling), POSITIONS, SIZE)
    one = np.float32(1)
    rates = one / np.float32(base) ** (np.arange(0, SIZE, 2, dtype=np.float32) / np.float32(SIZE))
    factor = np.float32(scaling.factor)  # type: ignore[attr-defined]
    if isinstance(scaling, Linear):
        made = rates / factor
    else:
        if isinstance(scaling, Llama3):
            low, high = np.float32(scaling.low), np.float32(scaling.high)
            turns = np.float32(scaling.context) / (np.float32(2 * np.pi) / rates)
            share = ((turns - low) / (high - low)).clip(0, 1)
        else:
            exact = scaled(scaling, [arb(1)] * (SIZE // 2), base)
            keep = np.array([float(e) for e in exact])
            share = ((keep - 1 / scaling.factor) / (1 - 1 / scaling.factor)).astype(np.float32)  # type: ignore[attr-defined]
        made = (one - share) * rates / factor + share * rates
    angle = np.arange(POSITIONS, dtype=np.float32)[:, None] * made.astype(np.float32)
    half = SIZE // 2
    for op, function, lanes in ((cos, np.cos, slice(half)), (sin, np.sin, slice(half, None))):
        error = Execution.unpacked(op.execution).error[:, 0, lanes]
        assert (abs(function(angle).astype(np.float64) - op.scale[:, 0, lanes]) <= error).all()


def test_where_programs_may_disagree_about_yarn_is_refused() -> None:
    """1000 positions at 100/2π turns and base 100: exactly pair 4, which rounding may miss."""
    with pytest.raises(UnsupportedError, match=r"pair that turns 15.9.* close to a whole number"):
        Rope(100.0, True, Yarn(2.0, 1000.0, 100 / 2 / np.pi, 1.0, 1.0)).rates(SIZE)


def llama_cpp(base: float) -> np.ndarray:
    """Angles by one factor after another in float32."""
    factor = np.float32(base) ** np.float32(-2.0 / SIZE)
    found = np.empty((POSITIONS, SIZE // 2), np.float32)
    for p in range(POSITIONS):
        theta = np.float32(p)
        for i in range(SIZE // 2):
            found[p, i] = theta
            theta = theta * factor
    return found


def transformers(base: float) -> np.ndarray:
    """Angles by rates in float32."""
    rates = 1 / np.float32(base) ** (np.arange(0, SIZE, 2, dtype=np.float32) / np.float32(SIZE))
    return np.arange(POSITIONS, dtype=np.float32)[:, None] * rates.astype(np.float32)


@pytest.mark.parametrize("base", BASES)
def test_rotary_factors_of_executions(base: float) -> None:
    """ROTARY.FLOAT32: as both families of programs compute them."""
    cos, sin, _ = rotary(Rope(base, True), POSITIONS, SIZE)
    half = SIZE // 2
    for made in (llama_cpp(base), transformers(base)):
        for op, function, lanes in ((cos, np.cos, slice(half)), (sin, np.sin, slice(half, None))):
            run = function(made).astype(np.float64)
            error = Execution.unpacked(op.execution).error[:, 0, lanes]
            assert (abs(run - op.scale[:, 0, lanes]) <= error).all()


@pytest.mark.parametrize("size", [1, 4, 6, 32, 64, 80, 128])
def test_root_scale(size: int) -> None:
    """ROOT: powers of four are exact, the others within what they state."""
    op = root_scale(size)
    true, stored = 1 / arb(size).sqrt(), arb(float(op.scale[0]))
    assert abs(true - stored) <= arb(op.scale_error) * stored
    if size in (1, 4, 64):
        assert true == stored and op.scale_error == 0
        return
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    error = Execution.unpacked(op.execution).error[0]
    for run in (x / np.sqrt(np.float32(size)), x * np.float32(1 / np.sqrt(size))):
        for value, result in zip(x.tolist(), run.tolist(), strict=True):
            assert abs(arb(value) * true - arb(result)) <= arb(float(error)) * abs(arb(value))
