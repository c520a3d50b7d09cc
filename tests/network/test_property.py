"""Properties: outward and inward floats, exact decisions, rows, robustness."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma.errors import PropertyError, UsageError
from gamma.network.property import (
    Ball,
    LinearConstraint,
    Property,
    Region,
    robustness,
)
from gamma.tensor.box import Box

F = Fraction
LARGEST32 = F(float(np.finfo(np.float32).max))

exact = (
    st.fractions(min_value=-4, max_value=4, max_denominator=10**12)
    | st.floats(-(2.0**99), 2.0**99, width=32).map(F)
    | st.floats(-1e-38, 1e-38).map(F)
    | st.integers(-(10**60), 10**60).map(lambda k: F(k, 10**40))
    | st.integers(-9, 9).map(lambda k: F(k, 10**60))
)


def one(lower, upper, unsafe=((),), **more) -> Property:
    return Property((Region(tuple(lower), tuple(upper), unsafe),), len(lower), 1, **more)


def predecessor(value, step):
    return F(float(np.nextafter(value, value.dtype.type(step))))


@settings(max_examples=500, deadline=None)
@given(exact, exact)
def test_region_arrays_are_the_tightest_outward_floats(a, b):
    low, high = sorted((a, b))
    prop = one([low], [high])
    for dtype in (np.float32, np.float64):
        lower, upper = (ends[0, 0] for ends in prop.region_arrays(dtype))
        assert lower.dtype == upper.dtype == dtype
        assert F(float(lower)) <= low < predecessor(lower, np.inf)
        assert predecessor(upper, -np.inf) < high <= F(float(upper))


@settings(max_examples=500, deadline=None)
@given(exact, exact | st.none())
def test_inner_float32_is_the_largest_inner_box(a, b):
    low, high = sorted((a, a + F(1, 10**9) if b is None else b))
    lower, upper, holds = (ends[0] for ends in one([low], [high]).inner_float32(0))
    if holds:
        assert predecessor(lower, -np.inf) < low <= F(float(lower))
        assert F(float(lower)) <= F(float(upper)) <= high < predecessor(upper, np.inf)
    else:
        assert lower == upper
        middle, found = (low + high) / 2, F(float(lower))
        gap = abs(found - middle)
        assert not low <= found <= high
        for step in (-np.inf, np.inf):
            assert gap <= abs(predecessor(lower, step) - middle)


def test_inner_float32_of_a_fixed_decimal():
    tenth = F(1, 10)
    lower, upper, holds = one([tenth, F(1, 2)], [tenth, F(1, 2)]).inner_float32(0)
    assert lower.tolist() == upper.tolist() == [float(np.float32(0.1)), 0.5]
    assert holds.tolist() == [False, True]


def test_ends_beyond_the_range_are_refused():
    prop = one([F(-1)], [F(10**39)])
    prop.region_arrays(np.float64)
    with pytest.raises(PropertyError, match="X_0: an end of its interval is beyond float32"):
        prop.region_arrays(np.float32)
    assert prop.inner_float32(0)[1] == np.float32(LARGEST32)
    for huge in (F(10**400), F(-(10**400))):
        with pytest.raises(PropertyError, match="beyond float64"):
            one([min(huge, F(0))], [max(huge, F(0))]).region_arrays()
    with pytest.raises(UsageError, match="float16"):
        prop.region_arrays(np.float16)


@settings(max_examples=300, deadline=None)
@given(exact, exact, st.floats(-5, 5), st.sampled_from((np.float32, np.float64)))
def test_membership_is_exact(a, b, x, dtype):
    low, high = sorted((a, b))
    prop = one([low], [high])
    edges = [dtype(x), *prop.region_arrays(np.float64)[0][0].astype(dtype)]
    for point in [*edges, *(np.nextafter(edges[1], dtype(s)) for s in (-9, 9))]:
        inside = low <= F(float(point)) <= high
        assert prop.regions_of(np.array([point])) == ([0] if inside else [])


def test_is_unsafe_has_no_tolerance():
    third = LinearConstraint(((0, F(3)),), (), F(1))
    prop = one([F(0)], [F(1)], ((third,),))
    assert prop.is_unsafe([0.5], [1 / 3]) == (0, 0)  # the float64 1/3 is below a third
    above = float(np.nextafter(1 / 3, 1))
    assert prop.is_unsafe([0.5], [above]) is None
    assert prop.is_unsafe(np.float32([0.5]), np.float32([1 / 3])) is None  # rounded up
    assert prop.is_unsafe([1.5], [0.0]) is None
    assert prop.is_unsafe([0.5], [np.nan]) is None
    assert prop.is_unsafe([np.nan], [0.0]) is None
    assert prop.is_unsafe([0.5], [-np.inf]) is None
    strict = LinearConstraint(((0, F(1)),), ((0, F(-1)),), F(0), True)
    prop = one([F(0)], [F(1)], ((third, strict), (strict,)))
    assert prop.is_unsafe([0.5], [0.5]) is None
    assert prop.is_unsafe([0.5], [0.25]) == (0, 0)
    assert prop.is_unsafe([0.75], [0.5]) == (0, 1)


def test_wrong_sizes_and_types_are_refused():
    prop = one([F(0)], [F(1)])
    with pytest.raises(UsageError, match="x has 2 entries"):
        prop.is_unsafe([0.0, 0.0], [0.0])
    with pytest.raises(UsageError, match="y has 3 entries"):
        prop.is_unsafe([0.0], [0.0, 0.0, 0.0])
    with pytest.raises(UsageError, match="dtype"):
        prop.is_unsafe(np.array(["a"]), [0.0])
    with pytest.raises(UsageError, match="call resolve"):
        robustness(Box([0.0], [1.0]), 0).is_unsafe([0.0], [0.0])


def test_whole_inputs():
    prop = one([F(0), F(0)], [F(3), F(3)], integers=frozenset({1}))
    assert prop.is_unsafe([0.5, 2.0], [0.0]) == (0, 0)
    assert prop.is_unsafe([2.0, 0.5], [0.0]) is None


def test_robustness_and_resolve():
    lower, upper = np.float32([[0.1, 0.2]]), np.float32([[0.3, 0.4]])
    waiting = robustness(Box(lower, upper), label=1)
    assert waiting.outputs == 0
    assert waiting.label == 1
    prop = waiting.resolve(3)
    assert prop == robustness(Box(lower, upper), 1, 3)
    assert prop.regions[0].lower == (F(float(lower[0, 0])), F(float(lower[0, 1])))
    assert np.array_equal(prop.region_arrays(np.float32)[1], upper)
    first, second = (part[0] for part in prop.regions[0].unsafe)
    assert first.y == ((0, F(-1)), (1, F(1)))
    assert second.y == ((1, F(1)), (2, F(-1)))
    inside = lower[0]
    assert prop.is_unsafe(inside, [0.0, 1.0, 0.5]) is None
    assert prop.is_unsafe(inside, [0.0, 1.0, 1.0]) == (0, 1)  # a tie is unsafe
    assert prop.resolve(3) is prop
    with pytest.raises(PropertyError, match="declares 3 outputs, the network has 4"):
        prop.resolve(4)
    with pytest.raises(PropertyError, match="label 1: expected 0 to 0"):
        waiting.resolve(1)
    with pytest.raises(PropertyError, match="label -1"):
        robustness(Box(lower, upper), -1, 3)


@pytest.mark.parametrize(("make", "norm"), [(Box.l2, "2"), (Box.l1, "1")])
def test_balls_cut_the_corners(make, norm):
    prop = robustness(make(np.zeros(2), 1.0, clip=(-1, 0.9)), 0, 2)
    assert prop.balls == (Ball(norm, (F(0), F(0)), F(1)),)
    assert prop.is_unsafe([0.9, 0.9], [0.0, 1.0]) is None
    assert prop.is_unsafe([0.5, 0.5], [0.0, 1.0]) == (0, 0)
    edge = [0.6, 0.8] if norm == "2" else [0.5, 0.5]
    exactly = sum(F(v) ** (2 if norm == "2" else 1) for v in edge) <= 1
    assert (prop.is_unsafe(edge, [0.0, 1.0]) is not None) == exactly
    box = prop.box()
    assert (box.norm, box.radius) == (norm, 1.0)
    assert box.center is not None
    assert box.center.tolist() == [[0.0, 0.0]]
    assert box.upper.tolist() == [[0.9, 0.9]]
