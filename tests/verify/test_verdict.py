"""Verdicts on networks whose exact thresholds are known."""

from __future__ import annotations

import json
import math
import time
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import PropertyError, UsageError
from gamma.network.property import LinearConstraint, Property
from gamma.tensor.box import Box
from gamma.verification.choices import DTYPES, GUARANTEES, METHODS
from gamma.verification.describe import describe_safe
from tests.verify.known import ONE, at_least, at_most, dense, hat, ramp, reaches, region, verify

TINY = Fraction(1, 2**30)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_of_the_ramp(method: str, guarantee: str, dtype: str) -> None:
    net = ramp()
    slack = Fraction(1, 2**15)
    options = {"method": method, "guarantee": guarantee, "dtype": dtype}
    above = verify(net, reaches(net, ONE + slack), **options)
    assert above.verdict == "verified"
    assert above.guarantee == guarantee
    assert above.asked == method
    below = verify(net, reaches(net, ONE - slack), **options)
    assert below.verdict == "violated"
    assert below.counterexample is not None
    assert Fraction(float(below.counterexample.y[0])) >= ONE - slack


def test_touching_is_unsafe_and_a_strict_bound_is_not() -> None:
    net = ramp()
    touched = verify(net, reaches(net, ONE))
    assert touched.verdict == "violated"
    assert touched.counterexample is not None
    assert touched.counterexample.x.tolist() == [1.0]
    assert touched.counterexample.replayed_by == "exact arithmetic"
    # y > 1 is never reached; a proof would need a bound without any rounding, so both the proof
    # and honest ignorance are right, a violation is not.
    result = verify(net, reaches(net, ONE, strict=True), attack=False)
    assert result.verdict in ("verified", "unknown")


def test_exact_thresholds_of_decimals() -> None:
    # y = x on [0, 1/10]: float32 has no 1/10, so no float32 input attains y >= 1/10 inside.
    net = dense(([[1.0]], [0.0]))
    tenth = Fraction(1, 10)
    prop = Property((region([0], [tenth], (at_least(0, tenth),)),), 1, 1)
    result = verify(net, prop, timeout=0.5)
    assert result.verdict in (
        "unknown",
        "timeout",
    )  # true at the real point 1/10, which no float32 is
    prop = Property((region([0], [tenth], (at_least(0, tenth + TINY),)),), 1, 1)
    assert verify(net, prop).verdict == "verified"
    near = Fraction(float(np.nextafter(np.float32(0.1), np.float32(0))))
    prop = Property((region([0], [tenth], (at_least(0, near),)),), 1, 1)
    assert verify(net, prop).verdict == "violated"


def test_peak_of_the_hat_is_found_and_not_exceeded() -> None:
    net = hat()
    assert verify(net, reaches(net, ONE)).verdict == "violated"
    over = verify(net, reaches(net, ONE + TINY), attack=False)
    assert over.verdict in ("verified", "unknown")
    assert verify(net, reaches(net, Fraction(4))).verdict == "verified"


def test_a_conjunction_is_excluded_by_one_constraint() -> None:
    net = ramp()
    both = (at_least(0, Fraction(-5)), at_least(0, Fraction(2)))
    assert verify(net, Property((region([-1], [1], both),), 1, 1)).verdict == "verified"
    # y >= 1/4 and y <= 1/2 can be met together.
    met = (at_least(0, Fraction(1, 4)), at_most(0, Fraction(1, 2)))
    result = verify(net, Property((region([-1], [1], met),), 1, 1))
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert 0.25 <= result.counterexample.y[0] <= 0.5
    # y >= 1/2 and y <= 1/4 cannot, whatever the network does.
    never = (at_least(0, Fraction(1, 2)), at_most(0, Fraction(1, 4)))
    result = verify(net, Property((region([-1], [1], never),), 1, 1))
    assert (result.verdict, result.used) == ("verified", ())


def test_input_terms_take_part() -> None:
    net = ramp()
    # y <= x - 1/8 never holds for a ramp (y >= x): needs the joint row y - x, whose adaptive
    # slope on [-1, 2] is 1.
    below = LinearConstraint(((0, ONE),), ((0, -ONE),), Fraction(-1, 8))
    prop = Property((region([-1], [2], (below,)),), 1, 1)
    assert verify(net, prop, method="crown").verdict == "verified"
    # y >= x + 1/2 holds at x <= -1/2.
    above = LinearConstraint(((0, -ONE),), ((0, ONE),), Fraction(-1, 2))
    result = verify(net, Property((region([-1], [1], (above,)),), 1, 1))
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert result.counterexample.x[0] <= -0.5


def test_a_constraint_on_inputs_alone_is_decided_exactly() -> None:
    net = ramp()
    outside = LinearConstraint((), ((0, -ONE),), -ONE - TINY)  # x >= 1 + tiny
    anything = at_least(0, Fraction(-9))
    prop = Property((region([-1], [1], (outside, anything)),), 1, 1)
    result = verify(net, prop)
    assert result.verdict == "verified"
    corner = LinearConstraint((), ((0, -ONE),), -ONE)  # x >= 1 leaves one point
    prop = Property((region([-1], [1], (corner, anything)),), 1, 1)
    result = verify(net, prop)
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert result.counterexample.x.tolist() == [1.0]


def test_all_regions_count() -> None:
    net = ramp()
    safe = region([-1], [0], (at_least(0, Fraction(1, 2)),))
    unsafe = region([0], [1], (at_least(0, Fraction(1, 2)),))
    assert verify(net, Property((safe, safe), 1, 1)).verdict == "verified"
    result = verify(net, Property((safe, unsafe), 1, 1))
    assert result.verdict == "violated"
    assert result.counterexample is not None
    assert result.counterexample.region == 1


def test_many_regions() -> None:
    net = ramp()
    regions = tuple(
        region([Fraction(i, 1000)], [Fraction(i + 1, 1000)], (at_least(0, Fraction(i + 2, 1000)),))
        for i in range(1000)
    )
    assert verify(net, Property(regions, 1, 1)).verdict == "verified"
    bad = region([Fraction(1, 2)], [Fraction(501, 1000)], (at_least(0, Fraction(1, 2)),))
    assert verify(net, Property((*regions, bad), 1, 1)).verdict == "violated"


def test_coefficients_beyond_float64_never_verify_wrongly() -> None:
    net = ramp()
    huge, small = Fraction(10**400), Fraction(1, 10**400)
    for scale in (huge, small, Fraction(1, 3), Fraction(10**30, 7)):
        reached = LinearConstraint(((0, -scale),), (), -scale / 2)  # y >= 1/2
        assert verify(net, Property((region([-1], [1], (reached,)),), 1, 1)).verdict in (
            "violated",
            "unknown",
        )
        missed = LinearConstraint(((0, -scale),), (), -scale * 2)  # y >= 2
        assert verify(net, Property((region([-1], [1], (missed,)),), 1, 1)).verdict in (
            "verified",
            "unknown",
        )


def test_an_empty_conjunction_is_the_whole_region() -> None:
    result = verify(ramp(), Property((region([-1], [1], ()),), 1, 1))
    assert result.verdict in ("violated", "unknown")
    assert verify(ramp(), Property((region([-1], [1], ()),), 1, 1), attack=False).verdict == (
        "unknown"
    )


def test_robustness_of_a_linear_classifier() -> None:
    # y = (x0, x1): class 0 wins exactly while x0 > x1.
    net = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    x = np.array([1.0, 0.0], np.float32)
    assert gamma.verify(net, gamma.robustness(Box.linf(x, 0.49), label=0)).verdict == "verified"
    result = gamma.verify(net, gamma.robustness(Box.linf(x, 0.5), label=0))
    assert result.verdict == "violated"  # the tie (0.5, 0.5) counts
    # In the Euclidean ball the border is at distance 1/sqrt(2) = 0.70710..., in L1 at 1.
    assert gamma.verify(net, gamma.robustness(Box.l2(x, 0.7071), label=0)).verdict == "verified"
    result = gamma.verify(net, gamma.robustness(Box.l2(x, 0.708), label=0))
    assert result.verdict == "violated"
    assert result.counterexample is not None
    pairs = zip(result.counterexample.x, x, strict=True)
    step = [Fraction(float(a)) - Fraction(float(b)) for a, b in pairs]
    assert sum(s * s for s in step) <= Fraction(0.708) ** 2
    assert gamma.verify(net, gamma.robustness(Box.l1(x, 0.99), label=0)).verdict == "verified"
    assert gamma.verify(net, gamma.robustness(Box.l1(x, 1.01), label=0)).verdict == "violated"


def test_a_result_is_three_valued() -> None:
    result = verify(ramp(), reaches(ramp(), Fraction(2)))
    with pytest.raises(TypeError, match="three-valued"):
        bool(result)
    with pytest.raises(TypeError, match="three-valued"):
        assert not result


def test_json_schema() -> None:
    for bound in (Fraction(2), Fraction(1, 2)):
        result = verify(ramp(), reaches(ramp(), bound), explain=True)
        record = json.loads(result.to_json())
        assert record["schema"] == "gamma.result/1"
        assert set(record) >= {
            *("verdict", "guarantee", "method", "bounds", "counterexample", "seconds", "memory"),
            *("model", "property", "environment", "explain"),
        }
        assert set(record["method"]) == {"asked", "used"}
        assert set(record["memory"]) == {"peak_bytes", "planned_bytes"}
        assert set(record["environment"]) >= {"gamma", "isa", "blas", "threads"}
        assert record["seconds"]["total"] > 0
        if record["verdict"] == "violated":
            assert set(record["counterexample"]) >= {"x", "y", "replayed_by"}
        else:
            assert record["explain"]["nodes"][0]["name"] == "input"


def test_time_limit_is_kept() -> None:
    rng = np.random.default_rng(0)
    sizes = (10, 400, 400, 400, 400, 5)
    layers = [
        ((rng.standard_normal((b, a)) * 2 / math.sqrt(a)).tolist(), [0.0] * b)
        for a, b in pairwise(sizes)
    ]
    net = dense(*layers)
    reach = float(np.abs(net.forward(rng.uniform(-1, 1, (2000, 10)))).max()) * 8
    unsafe = tuple((at_least(i, Fraction(reach)),) for i in range(5))
    prop = Property((region([-1] * 10, [1] * 10, *unsafe),), 10, 5)
    start = time.perf_counter()
    result = verify(net, prop, timeout=0.7)
    assert time.perf_counter() - start < 0.7 * 1.1 + 0.5
    assert result.verdict in ("timeout", "verified", "unknown")
    start = time.perf_counter()
    result = verify(net, prop, timeout=1e-4, attack=False)
    assert time.perf_counter() - start < 0.5
    assert result.verdict == "timeout"


def test_same_seed_same_witness() -> None:
    prop = reaches(hat(), Fraction(1, 3))
    first, second = (verify(hat(), prop, seed=3).counterexample for _ in range(2))
    assert first is not None and second is not None
    assert first.x.tolist() == second.x.tolist()


@pytest.mark.parametrize("seed", [-1, 0.5, "1"])
def test_a_seed_is_a_whole_number_from_zero(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed: found"):
        verify(hat(), reaches(hat(), Fraction(1, 3)), seed=seed)


def test_what_does_not_fit_is_refused() -> None:
    net = ramp()
    with pytest.raises(PropertyError, match="inputs"):
        verify(net, Property((region([0, 0], [1, 1], (at_least(0, ONE),)),), 2, 1))
    with pytest.raises(PropertyError, match="outputs"):
        verify(net, Property((region([0], [1], (at_least(1, ONE),)),), 1, 2))
    for name, value in (("method", "magic"), ("guarantee", "most"), ("dtype", "float16")):
        with pytest.raises(UsageError, match=name):
            verify(net, reaches(net, ONE), **{name: value})
    with pytest.raises(UsageError, match="timeout"):
        verify(net, reaches(net, ONE), timeout=-1.0)
    with pytest.raises(UsageError, match="threads"):
        verify(net, reaches(net, ONE), threads=0)


def test_labels_read_like_the_safe_side() -> None:
    assert describe_safe(LinearConstraint(((0, ONE), (3, -ONE)), (), Fraction(0))) == "Y_0 > Y_3"
    assert describe_safe(at_least(2, Fraction(5))) == "Y_2 < 5"
    tiny = Fraction(1, 10**600)
    assert describe_safe(at_most(2, -tiny)) == "Y_2 > a tiny negative number"
    assert describe_safe(at_most(2, 1 / tiny)) == "Y_2 > a huge number"
    assert describe_safe(at_most(2, Fraction(1, 2), strict=True)) == "Y_2 >= 0.5"
    mixed = LinearConstraint(((0, Fraction(2)),), ((1, -ONE),), Fraction(3))
    assert describe_safe(mixed) == "2·Y_0 - X_1 > 3"


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("(<= Y_0 1e2000)", "violated"),
        ("(<= Y_0 1e300)", "violated"),
        ("(>= Y_0 -1e2000)", "violated"),
        ("(and (<= Y_0 1e2000) (>= Y_0 -1e2000))", "violated"),
        ("(<= Y_0 -1e2000)", "verified"),
        ("(<= Y_0 -1e300)", "verified"),
        ("(or (>= Y_0 1e2000) (< Y_0 -1e400))", "verified"),
        ("(and (<= Y_0 1e2000) (<= Y_0 -1e2000))", "verified"),
    ],
)
def test_thresholds_beyond_float64_are_decided(condition, verdict):
    from gamma.formats.vnnlib import read_string
    from gamma.network.graph import Builder
    from gamma.ops import Gemm, Input, Relu

    builder = Builder(Input(), (1,))
    hidden = builder.add(Gemm(np.array([[2.0]], np.float32)), 0)
    net = builder.build(builder.add(Relu(), hidden))
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= -1 X_0 1))"
    result = gamma.verify(net, read_string(f"{head}(assert {condition})"), timeout=20)
    assert result.verdict == verdict
