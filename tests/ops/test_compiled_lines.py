"""Lines of smooth functions made in one C call: proved as the engine's are, and no looser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamma import ops, tuning
from gamma.ops.relaxation import Lines
from gamma.ops.tables import NodeSlopes
from gamma.tensor import kernels
from tests.exact.functions import OPERATORS, broken, intervals, label

SMOOTH = [op for op in OPERATORS if op.compiled]
needs_library = pytest.mark.skipif(len(kernels.available()) == 1, reason="no compiled library")


def test_the_smooth_functions_are_compiled() -> None:
    assert {label(op) for op in SMOOTH} >= {"Sigmoid", "Tanh", "Erf", "Silu", "Softplus", "Exp"}
    assert {op.approximate for op in SMOOTH if isinstance(op, ops.Gelu)} == {"none", "tanh"}


@pytest.mark.parametrize("op", SMOOTH, ids=label)
def test_the_engine_without_the_library(op: Any) -> None:
    """The same exact test as for the compiled lines (`test_relaxation`), gate off."""
    rng = np.random.default_rng(8)
    wrong: list[str] = []
    with tuning.disabled("fused_lines"):
        for a, b in np.stack(intervals(op, rng, 12), axis=1).tolist():
            wrong += broken(op, a, b, np.float32, rng)
    assert not wrong, wrong[:3]


def heights(lines: Lines, middle: Any) -> tuple[Any, Any]:
    """Both lines at the middle, which is how their area is judged."""
    return (
        lines.lower_slope * middle + lines.lower_intercept,
        lines.upper_slope * middle + lines.upper_intercept,
    )


@needs_library
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", SMOOTH, ids=label)
def test_no_looser_than_the_engine(op: Any, dtype: Any) -> None:
    """Up to a millionth of the interval's image, at every size."""
    rng = np.random.default_rng(5)
    lower = rng.normal(0, 3, 4000) * rng.choice([0.1, 1, 4], 4000)
    upper = lower + 10 ** rng.uniform(-8, 2, 4000)
    low, high = op.interval(lower, upper)
    middle = 0.5 * lower + 0.5 * upper
    below, above = heights(op.lines(lower, upper, dtype), middle)
    with tuning.disabled("fused_lines"):
        worst_below, worst_above = heights(op.lines(lower, upper, dtype), middle)
    # A slope of float32 turns the line by up to 2⁻²⁴ of itself on either way to the middle.
    slack = 1e-6 * (high - low) + 1e-12 * (1 + abs(low) + abs(high))
    assert (below >= worst_below - slack).all()
    assert (above <= worst_above + slack).all()


def below(lines: Lines) -> tuple[Any, Any]:
    return lines.lower_slope, lines.lower_intercept


def above(lines: Lines) -> tuple[Any, Any]:
    return lines.upper_slope, lines.upper_intercept


def slopes_for(op: Any, lower: Any, upper: Any, rng: Any) -> NodeSlopes:
    """Slopes that a line may well have, steeper ones, and numbers that no line has."""
    found = [op.derivative(rng.uniform(lower, upper)) for _ in range(2)]
    for slope in found:
        slope[::7] *= rng.normal(0, 3, len(slope[::7]))
        slope[::50] = rng.choice([0.0, np.nan, np.inf, 1e300], len(slope[::50]))
    return NodeSlopes(*found)


@needs_library
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", SMOOTH, ids=label)
def test_given_slopes(op: Any, dtype: Any) -> None:
    """Taken as they are, proved, and no looser than the engine's."""
    rng = np.random.default_rng(6)
    lower = rng.normal(0, 3, 2000)
    upper = lower + 10 ** rng.uniform(-8, 1.5, 2000)
    given = slopes_for(op, lower, upper, rng)
    found = op.lines_of(given, lower, upper, dtype)
    with tuning.disabled("fused_lines"):
        known = op.lines_of(given, lower, upper, dtype)
    points = np.concatenate((np.linspace(lower, upper, 33), rng.uniform(lower, upper, (8, 2000))))
    error = 2.0**-40 * (1 + abs(op.function(points)))
    size = error + 2.0**-48 * abs(points)
    for side, asked, (slope, height), (other_slope, other) in (
        (1, given.lower, below(found), below(known)),
        (-1, given.upper, above(found), above(known)),
    ):
        taken = asked != 1e300  # infinite in float32: each takes its own line
        assert (slope == other_slope)[taken].all()
        gap = side * (op.function(points) - slope * points - height)
        assert (gap >= -size * (1 + abs(slope))).all()
        slack = 1e-6 * (upper - lower) * (1 + abs(slope)) + 1e-11 * (1 + abs(other))
        assert (side * (height - other) >= -slack)[taken].all()


@needs_library
@pytest.mark.parametrize("op", SMOOTH, ids=label)
def test_given_slopes_exactly(op: Any) -> None:
    """Against the function in balls, at the points where a line comes closest."""
    rng = np.random.default_rng(9)
    wrong: list[str] = []
    for a, b in np.stack(intervals(op, rng, 6), axis=1).tolist():
        lower, upper = np.array([a]), np.array([b])
        slopes = NodeSlopes(*(op.derivative(rng.uniform(lower, upper)) for _ in range(2)))
        wrong += broken(op, a, b, np.float32, rng, slopes)
    assert not wrong, wrong[:3]


@needs_library
def test_what_no_line_can_be_known_of() -> None:
    """Infinite ends, NaN: the constants that the engine gives, up to errors of the functions."""
    lower = np.array([-np.inf, -1.0, -np.inf, np.nan, 0.0, 1.0])
    upper = np.array([0.0, np.inf, np.inf, 1.0, np.nan, 1.0])
    for op in SMOOTH:
        found = op.lines(lower, upper, np.float64)
        with tuning.disabled("fused_lines"):
            known = op.lines(lower, upper, np.float64)
        for name in ("lower_slope", "lower_intercept", "upper_slope", "upper_intercept"):
            ours, theirs = getattr(found, name)[:-1], getattr(known, name)[:-1]
            with np.errstate(invalid="ignore"):
                assert ((ours == theirs) | (abs(ours - theirs) <= 2.0**-46)).all()
        assert found.lower_slope[-1] + found.lower_intercept[-1] <= op.function(upper[-1:])[0]


def made(op: Any, lower: Any, upper: Any, *errors: float) -> Any:
    """Lines of a function of which so much is unknown: value and slope, relative and absolute."""
    value, absolute, slope, slope_absolute = errors
    name, breaks, curvature = op.compiled, tuple(op.breaks), tuple(op.curvature)
    known = (value, absolute, slope, slope_absolute, 0.0)
    curve = kernels.Curve(name, False, breaks, curvature, np.nan, op.image, known)
    wide = np.full_like(lower, 1e300)  # no constant is better than a line
    found = kernels.lines(curve, lower, upper, -wide, wide)
    assert found is not None
    return found


@needs_library
@pytest.mark.parametrize("op", SMOOTH, ids=label)
@pytest.mark.parametrize("errors", [(2.0**-10, 0.0), (0.0, 2.0**-10)], ids=["value", "absolute"])
def test_errors_of_values_are_paid(op: Any, errors: tuple[float, float]) -> None:
    """C.LINE.VALUE, C.LINE.ABSOLUTE: at the ends the line clears what the value may be off by."""
    rng = np.random.default_rng(1)
    lower = rng.normal(0, 2, 200)
    upper = lower + rng.uniform(0.1, 3, 200)
    slope, intercept, upper_slope, upper_intercept = made(op, lower, upper, *errors, 0.0, 0.0)
    for x in (lower, upper):
        value = op.function(x)
        error = 0.99 * (errors[0] * abs(value) + errors[1])
        assert (slope * x + intercept <= value - error).all()
        assert (upper_slope * x + upper_intercept >= value + error).all()


@needs_library
@pytest.mark.parametrize("errors", [(2.0**-10, 0.0), (0.0, 2.0**-10)], ids=["slope", "absolute"])
@pytest.mark.parametrize("op", [ops.Softplus(), ops.Exp()], ids=label)
def test_errors_of_slopes_are_paid(op: Any, errors: tuple[float, float]) -> None:
    """C.TANGENT.SLOPE: the tangent at the middle may be steeper, on either half."""
    rng = np.random.default_rng(2)
    lower = rng.normal(0, 2, 200)
    upper = lower + 2.0**-12
    slope, intercept, _, _ = made(op, lower, upper, 0.0, 0.0, *errors)
    middle = 0.5 * lower + 0.5 * upper
    lost = 0.9 * (errors[0] * abs(slope) + errors[1]) * (upper - lower) / 2
    assert (slope * middle + intercept <= op.function(middle) - lost).all()
    assert (slope > 0).all()


@needs_library
def test_hulls_that_touch_two_convex_pieces() -> None:
    """Above GELU and SiLU, over their whole bend, a line may touch both concave tails."""
    for op in (ops.Gelu(), ops.Gelu("tanh"), ops.Silu()):
        lower, upper = np.array([-9.0, -4.0, -2.5]), np.array([2.6, 1.6, 3.0])
        lines = op.lines(lower, upper, np.float64)
        grid = np.linspace(lower, upper, 2001)
        gap = lines.upper_slope * grid + lines.upper_intercept - op.function(grid)
        assert (gap > -1e-12).all()
        assert (np.sort(gap, axis=0)[0] < 1e-6).all()
