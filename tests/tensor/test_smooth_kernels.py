"""Images under smooth functions by vectors: errors against exact arithmetic, the same bits on every
instruction set."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import flint
import numpy as np
import pytest
from flint import arb, fmpq

from gamma import ops
from gamma.ops.relaxation import TINY, VALUE_ERROR, described
from gamma.tensor import kernels
from tests.exact.oracle import BITS, above, below, q

ISAS = [name for name in kernels.available() if name != "numpy"]
pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled library")

SOURCE = Path(__file__).parents[2] / "csrc" / "simd" / "smooth.inc"
VECTORS = (ops.Sigmoid(), ops.Tanh(), ops.Silu(), ops.Softplus())
UNIT = Fraction(1, 2**53)
# docs/numerics.md, "Smooth functions by vectors": of p; of a function.
POWER, FUNCTION = 2.0**-47.5, 2.0**-46
REACH = Fraction(6931471805599453095, 2 * 10**19) * (1 + Fraction(1, 2**40))  # log 2, over 2


class Rounded(NamedTuple):
    """A number of at most this size, and what floating point may have made it err by."""

    size: Fraction
    error: Fraction = Fraction(0)

    def __add__(self, other: Any) -> Rounded:
        size, error = self.size + other.size, self.error + other.error
        return Rounded(size, error + UNIT * (size + error))

    def __mul__(self, other: Any) -> Rounded:
        size = self.size * other.size
        error = self.size * other.error + self.error * other.size + self.error * other.error
        return Rounded(size, error + UNIT * (size + error))


def polynomial() -> list[float]:
    """The polynomial's coefficients, as the source has them."""
    body = SOURCE.read_text().split("double a = (")[1].split("return r")[0]
    found = re.findall(r"0x1[.0-9a-f]*p[-+]?\d+|\b\d\.\d+\b", body)
    return [float.fromhex(number) if "x" in number else float(number) for number in found]


def test_the_polynomial_is_near_the_exponential() -> None:
    """For every number of the range, by cells; and what each operation of the arithmetic adds."""
    coefficients = polynomial()
    assert len(coefficients) == 10 and coefficients[:2] == [1.0, 0.5]
    terms, cells = 40, 2048
    power = [fmpq(1) / math.factorial(k + 1) for k in range(terms)]
    apart = [q(c) - p for c, p in zip(coefficients, power, strict=False)]
    apart += [-p for p in power[len(coefficients) :]]
    reach = fmpq(REACH.numerator, REACH.denominator)
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        worst = 0.0
        for cell in range(-cells, cells):
            r = arb(fmpq(2 * cell + 1, 2 * cells) * reach, reach / (2 * cells))
            total = arb(0)
            for coefficient in reversed(apart):
                total = total * r + coefficient
            rest = r.abs_upper() ** terms  # of the power series: less than this
            least = (1 - (-r.abs_upper()).exp()) / r.abs_upper()
            worst = max(worst, float(((abs(total) + rest) / least).abs_upper()))
    finally:
        flint.ctx.prec = previous
    r = Rounded(REACH)
    square = r * r
    c = [Rounded(abs(Fraction(x))) for x in coefficients]
    a = (c[0] + r * c[1]) + square * (c[2] + r * c[3])
    b = (c[4] + r * c[5]) + square * (c[6] + r * c[7])
    fourth = square * square
    made = r * (a + fourth * (b + fourth * (c[8] + r * c[9])))
    # The size of p is at least r times (1 - exp(-R))/R.
    rounding = float(made.error / REACH) / ((1 - math.exp(-float(REACH))) / float(REACH))
    assert worst + rounding < POWER * 0.999


def truth_of(op: Any, x: float) -> arb:
    """By exp(-|x|), which does not leave the range of balls."""
    size = arb(q(abs(x)))
    small = (-size).exp() if abs(x) < 1e5 else arb(0, 2.0**-1070)
    if op.name == "Tanh":
        return arb(q(x)).tanh()
    if op.name == "Softplus":
        return arb(q(max(x, 0.0))) + small.log1p()
    value = 1 / (1 + small) if x >= 0 else small / (1 + small)
    if op.name == "Silu":  # x·exp(x) is as small as exp(x) there
        return value if x < -1e5 else value * arb(q(x))
    return value


def raw(op: Any, x: Any) -> Any:
    """The function's values as the loops compute them."""
    curve = described(op, op.compiled, False)
    plain = kernels.Curve(
        *(curve.name, 0, curve.breaks, curve.curvature, math.nan),
        *((-math.inf, math.inf), (0.0, 0.0, 0.0, 0.0, 0.0)),
    )
    found = kernels.image(plain, x, x)
    assert found is not None
    assert (found[0] == found[1]).all()
    return found[0]


def arguments(rng: np.random.Generator) -> Any:
    """Every binade, both sides of each change of the exponent, those of the clamp, and others."""
    sizes = np.float64(2.0) ** np.arange(-1074, 1024)
    turns = (np.arange(0, 1050)[:, None] + 0.5) * math.log(2)
    near = turns * (1 + np.arange(-2, 3) * 2.0**-52)
    last = 708.0 * (1 + np.arange(-3, 4) * 2.0**-52)
    some = [*(rng.normal(0, scale, 1500) for scale in (1e-3, 0.5, 5.0, 60.0, 600.0))]
    size = np.concatenate([[0.0], sizes, near.ravel(), near.ravel() / 2, last, last / 2, *some])
    return np.concatenate([size, -size])


@pytest.mark.parametrize("op", VECTORS, ids=lambda op: op.name)
def test_values_err_by_what_is_proved(op: Any) -> None:
    x = arguments(np.random.default_rng(0))
    with kernels.pinned(ISAS[0]):
        found = raw(op, x)
    assert np.isfinite(found).all()
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        for value, at in zip(found.tolist(), x.tolist(), strict=True):
            truth = truth_of(op, at)
            error = abs(arb(q(value)) - truth)
            assert error <= arb(q(FUNCTION)) * abs(truth) + arb(q(TINY / 2))
    finally:
        flint.ctx.prec = previous
    assert FUNCTION * (1 + 2 * FUNCTION) + 4 * 2.0**-53 < VALUE_ERROR


@pytest.mark.parametrize("op", VECTORS, ids=lambda op: op.name)
def test_the_same_bits_everywhere(op: Any) -> None:
    """Of any length, and of ends that are no numbers."""
    rng = np.random.default_rng(1)
    x = arguments(rng)
    curve = described(op, op.compiled, False)
    lower = np.concatenate([x, [math.nan, 0.0, -math.inf, 1.0, math.inf, -math.inf]])
    reach = rng.choice([0.0, 1e-12, 0.5, 30.0], len(x))
    upper = np.concatenate([x + reach, [0.0, math.nan, -3.0, math.inf, math.inf, math.inf]])
    with kernels.pinned(ISAS[-1]):
        truth = kernels.image(curve, lower, upper)
    assert truth is not None
    floor, ceiling = truth
    assert (floor[-6:-4] == -math.inf).all() and (ceiling[-6:-4] == math.inf).all()
    assert (floor <= ceiling).all()
    for isa in ISAS:
        with kernels.pinned(isa):
            for count in (len(lower), 17, 8, 7, 3, 1, 0):
                found = kernels.image(curve, lower[-count:].copy(), upper[-count:].copy())
                assert found is not None
                assert (found[0] == floor[-count:]).all() and (found[1] == ceiling[-count:]).all()


@pytest.mark.parametrize("op", VECTORS, ids=lambda op: op.name)
def test_images_enclose(op: Any) -> None:
    """Values at ends and inside, at the extremum too, those at infinity among them."""
    rng = np.random.default_rng(2)
    lower = np.append(rng.choice(arguments(rng), 2000), [-math.inf, -math.inf, 3.0, -1.5])
    upper = lower + rng.choice([0.0, 1e-9, 1.0, 40.0], len(lower))
    upper[-4:] = -3.0, math.inf, math.inf, 7.0
    found = kernels.image(described(op, op.compiled, False), lower, upper)
    assert found is not None
    left, right = np.maximum(lower, -1e308), np.minimum(upper, 1e308)
    inside = [left, right, np.clip(0.5 * left + 0.5 * right, left, right)]
    inside += [np.clip(point, left, right) for point in op.stationary]
    previous, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        for x in inside:
            for low, high, at in zip(*(f.tolist() for f in found), x.tolist(), strict=True):
                truth = truth_of(op, at)
                assert not above(low, truth) and not below(high, truth)
    finally:
        flint.ctx.prec = previous
