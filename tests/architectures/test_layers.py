"""Constants of transformers that are irrational: their stated errors hold, in balls."""

from __future__ import annotations

from collections.abc import Iterator

import flint
import numpy as np
import pytest
from flint import arb

from gamma.architectures.layers import Rope, root_scale, rotary
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
