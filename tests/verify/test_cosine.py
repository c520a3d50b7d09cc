"""Certified cosines: against exact arithmetic, in the direction that each bound promises."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Normalize, Relu, Scale
from gamma.propagate import linear_bounds
from gamma.propagate.distance import box_distance, farthest
from gamma.verification.angles import cosine_above, cosine_below, exact_dot, root_below
from gamma.verification.cosine import directed

Array = np.ndarray


def exact_below(value: float, u: Array, v: Array) -> bool:
    """value <= cos(u, v), decided in fractions; value >= 0."""
    dot = exact_dot(u, v)
    return dot > 0 and Fraction(value) ** 2 * exact_dot(u, u) * exact_dot(v, v) <= dot**2


def square(x: list[Fraction]) -> Fraction:
    return sum((v * v for v in x), start=Fraction(0))


# --- from distances to cosines --------------------------------------------------------------------


def test_roots_and_products_are_exact() -> None:
    for value in (
        Fraction(2),
        Fraction(1, 3),
        Fraction(2) ** 900,
        Fraction(1, 2**900),
        Fraction(0),
    ):
        root = root_below(value)
        assert root * root <= value <= (root * (1 + Fraction(1, 2**80))) ** 2
    u = np.array([2.0**500, -3.5, 2.0**-1074, 0.1])
    assert exact_dot(u, u) == square([Fraction(x) for x in u])


@pytest.mark.parametrize("size", [2, 7])
@pytest.mark.parametrize("own", [0.0, 1e-9, 0.05])
def test_cosines_of_vectors_in_balls(size: int, own: float) -> None:
    """Of the tangents from the origin, which are the worst, and of vectors anywhere in the ball."""
    rng = np.random.default_rng(size)
    for distance in (1e-7, 1e-3, 0.3, 0.9):
        u = rng.standard_normal(size)
        u *= 1.5 / np.linalg.norm(u)
        lower = cosine_below(u, distance, own)
        side = rng.standard_normal(size)
        side -= (side @ u) / (u @ u) * u
        side /= np.linalg.norm(side)
        far, shrunk = distance * (1 - 1e-12), 1 - own * (1 - 1e-12) / np.linalg.norm(u)
        sine = min(far / (np.linalg.norm(u) * shrunk), 1.0)
        for v in (
            u + far * (math.sqrt(max(1 - sine**2, 0.0)) * side - sine * u / np.linalg.norm(u)),
            u + far * rng.choice((-1.0, 1.0), size) / math.sqrt(size),
        ):
            assert exact_below(lower, u, v)
            assert exact_below(lower, u * shrunk, v)
        if not own:
            tangent = math.sqrt(1 - (distance / np.linalg.norm(u)) ** 2)
            assert tangent - 1e-12 <= lower <= tangent


def test_both_vectors_may_move() -> None:
    """The output at the centre turns one way and the other the other way: both distances count."""
    u, own, distance = np.array([1.0, 0.0]), 0.1, 0.2
    lower = cosine_below(u, distance, own)
    turned = np.array([math.sqrt(1 - 0.01), -0.0999])
    other = np.array([1.0 - 0.04, 0.195])
    assert exact_below(lower, turned, other)
    assert not exact_below(cosine_below(u, distance, 0.0), turned, other)


def test_cosines_from_above() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        u, v = rng.standard_normal((2, 5))
        own, other = 10.0 ** rng.uniform(-9, -0.5, 2)
        above = cosine_above(u, own, v, other)
        a = u + own * 0.999 * v / np.linalg.norm(v)
        b = v + other * 0.999 * u / np.linalg.norm(u)
        assert above >= float(a @ b) / math.sqrt((a @ a) * (b @ b)) - 1e-15
        exact = cosine_above(u, 0.0, v, 0.0)
        assert exact >= float(u @ v) / math.sqrt((u @ u) * (v @ v)) - 1e-15
        assert exact_below(exact - 1e-15, u, v) if exact > 1e-15 else True


@pytest.mark.parametrize("distance", [math.inf, math.nan, 1.0, 2.0])
def test_nothing_is_known_of_a_ball_with_the_origin(distance: float) -> None:
    assert cosine_below(np.array([1.0, 0.0]), distance, 0.0) == -1.0
    assert cosine_above(np.array([1.0, 0.0]), 0.0, np.array([0.5, 0.0]), distance) == 1.0
    assert cosine_below(np.array([np.nan, 1.0]), 0.1, 0.0) == -1.0


# --- distances ------------------------------------------------------------------------------------


def dense(rng: np.random.Generator, sizes: tuple[int, ...], scale: float = 1.0) -> Network:
    builder = Builder(Input(), (sizes[0],))
    x = 0
    for k, (n, m) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        weight = (scale * rng.standard_normal((m, n)) / math.sqrt(n)).astype(np.float32)
        x = builder.add(Gemm(weight, rng.standard_normal(m).astype(np.float32)), x)
        x = builder.add(Relu(), x) if k + 2 < len(sizes) else x
    return builder.build(x)


def output(net: Network, x: Array) -> list[Fraction]:
    """Exact outputs of dense layers and ReLUs."""
    value = [Fraction(v) for v in x.tolist()]
    for node in net.nodes[1:]:
        if isinstance(node.op, Relu):
            value = [max(v, Fraction(0)) for v in value]
            continue
        rows = node.op.weight.astype(np.float64).tolist()
        bias = node.op.bias.astype(np.float64).tolist()
        value = [
            sum((Fraction(w) * v for w, v in zip(row, value, strict=True)), start=Fraction(b))
            for row, b in zip(rows, bias, strict=True)
        ]
    return value


def boxes(x: Array, radius: float) -> dict[str, gamma.Box]:
    rest = np.where(np.arange(len(x)) % 3 == 0, 0.0, radius)
    return {
        "inf": gamma.Box.linf(x, radius),
        "some": gamma.Box.linf(x, rest),
        "2": gamma.Box.l2(x, radius),
        "1": gamma.Box.l1(x, radius),
    }


@pytest.mark.parametrize("kind", ["inf", "some", "2", "1"])
@pytest.mark.parametrize(("shift", "radius"), [(0.0, 0.1), (2.0**20, 2.0**-10), (0.0, 1e-9)])
def test_no_output_is_farther(kind: str, shift: float, radius: float) -> None:
    rng = np.random.default_rng(7)
    net = dense(rng, (6, 9, 7))
    x = rng.standard_normal(6) + shift
    box = boxes(x, radius)[kind]
    point = net.forward(x, np.float64)
    far, own = farthest(linear_bounds(net, box), box, x, point)
    p = [Fraction(v) for v in point.tolist()]
    at_centre = square([a - b for a, b in zip(output(net, x), p, strict=True)])
    assert at_centre <= Fraction(own) ** 2
    largest = Fraction(0)
    for _ in range(40):
        step = rng.choice((-1.0, 1.0), 6)
        if kind == "2":
            step /= np.linalg.norm(step) * (1 + 1e-12)
        if kind == "1":
            step = step * (np.arange(6) == rng.integers(6))
        y = np.clip(x + radius * step, box.lower, box.upper)
        apart = square([a - b for a, b in zip(output(net, y), p, strict=True)])
        assert apart <= Fraction(far) ** 2
        largest = max(largest, apart)
    assert Fraction(far) ** 2 <= 40 * largest  # it says something


def given(low: Array, high: Array, below: float, above: float) -> gamma.LinearBounds:
    ends = np.array([below]), np.array([above])
    return gamma.LinearBounds(low[None], ends[0], high[None], ends[1], "input", "crown")


def test_forms_that_are_apart_count_over_the_whole_box() -> None:
    """0 <= v <= 2x + 2 on [-1, 1]: v may be 4, the mean form alone reaches 3."""
    forms = given(np.array([0.0]), np.array([2.0]), 0.0, 2.0)
    box = gamma.Box(np.array([-1.0]), np.array([1.0]))
    far, own = farthest(forms, box, np.zeros(1), np.zeros(1))
    assert 4 <= far < 4.001 and 2 <= own


def test_rounding_at_the_centre_counts() -> None:
    """2^53 + 1 - 2^53 is 1; in float64 the sum before is a tie and loses it."""
    rows, x = np.ones(2), np.array([2.0**53, 1.0])
    forms = given(rows, rows, -(2.0**53), -(2.0**53))
    far, own = farthest(forms, gamma.Box(x, x), x, np.zeros(1))
    assert 1 <= own <= far


def test_the_spectral_norm_is_less_than_the_boxes_diagonal() -> None:
    rng = np.random.default_rng(1)
    net = dense(rng, (60, 60))
    box = gamma.Box.linf(np.zeros(60), 1e-3)
    point = net.forward(np.zeros(60), np.float64)
    far, _ = farthest(linear_bounds(net, box), box, np.zeros(60), point)
    out = gamma.bounds(net, box)
    assert 3 * far < box_distance(out.lower, out.upper, point)


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha"])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
def test_proved_cosines_hold(method: str, guarantee: str) -> None:
    rng = np.random.default_rng(3)
    net = dense(rng, (5, 8, 6))
    x = rng.standard_normal(5)
    box = gamma.Box.linf(x, 0.01)
    found = gamma.cosine(net, box, 0.9, method=method, guarantee=guarantee)
    assert found.verdict == "verified" and found.cosine is not None
    lower = found.cosine["lower"]
    assert lower is not None and 0.9 < lower < 1
    u = output(net, x)
    for _ in range(30):
        v = output(net, x + 0.01 * rng.choice((-1.0, 1.0), 5))
        dot = sum((a * b for a, b in zip(u, v, strict=True)), start=Fraction(0))
        assert dot > 0 and Fraction(lower) ** 2 * square(u) * square(v) <= dot**2
    assert gamma.cosine(net, box, lower, method=method, guarantee=guarantee).verdict == "verified"
    more = math.nextafter(lower, 2.0)
    assert gamma.cosine(
        net, box, more, method=method, guarantee=guarantee, attack=False
    ).verdict == ("unknown")


@pytest.mark.parametrize("kind", ["inf", "some", "2", "1"])
def test_witnesses_have_a_lower_cosine(kind: str) -> None:
    rng = np.random.default_rng(4)
    net = dense(rng, (5, 8, 6))
    x = rng.standard_normal(5)
    box = boxes(x, 1.5)[kind]
    found = gamma.cosine(net, box, 0.999)
    assert found.verdict == "violated" and found.counterexample is not None
    y = found.counterexample.x.astype(np.float64)
    assert gamma.robustness(box, 0, 6).regions_of(y)
    u, v = output(net, x), output(net, y)
    dot = sum((a * b for a, b in zip(u, v, strict=True)), start=Fraction(0))
    assert dot <= 0 or dot**2 < Fraction(0.999) ** 2 * square(u) * square(v)


def test_what_keeps_the_direction_is_left_out() -> None:
    rng = np.random.default_rng(5)
    net = dense(rng, (4, 6))
    builder = Builder(Input(), (4,))
    y = builder.add(net.nodes[1].op, 0)
    scaled = builder.add(Normalize(-1, 0.0, False), builder.add(Scale(np.array([3.0])), y))
    assert directed(builder.build(builder.add(Scale(np.array([0.5])), scaled))).output == y
    for other in (
        Scale(np.array([-1.0])),
        Scale(np.arange(1.0, 7.0)),
        Scale(np.array([1.0]), np.ones(6)),
        Normalize(-1, 1e-5, False),
        Normalize(-1, 0.0, True),
    ):
        fresh = Builder(Input(), (4,))
        last = fresh.add(other, fresh.add(net.nodes[1].op, 0))
        assert directed(fresh.build(last)).output == last


def test_a_clipped_set_has_the_centre_that_is_given() -> None:
    net = dense(np.random.default_rng(6), (3, 5, 4))
    x = np.array([0.95, 0.5, 0.0])
    box = gamma.Box.linf(x, 0.1, clip=(0, 1))
    given = gamma.cosine(net, box, 0.5, centre=x)
    middle = gamma.cosine(net, box, 0.5)
    assert given.cosine is not None and middle.cosine is not None
    assert given.cosine["norm"] != middle.cosine["norm"]
    with pytest.raises(gamma.UsageError, match="no input of the set"):
        gamma.cosine(net, box, 0.5, centre=x + 1)


@pytest.mark.parametrize("least", [0, -0.5, 1.01, math.nan, "x"])
def test_refused_cosines(least: float) -> None:
    net = dense(np.random.default_rng(6), (3, 4))
    with pytest.raises(gamma.UsageError):
        gamma.cosine(net, gamma.Box.linf(np.zeros(3), 0.1), least)


def test_refused_sets() -> None:
    net = dense(np.random.default_rng(6), (3, 4))
    two = gamma.Box(np.zeros((2, 3)), np.ones((2, 3)))
    for box in (two, gamma.Box.linf(np.zeros(4), 0.1)):
        with pytest.raises(gamma.PropertyError, match="the network takes 3"):
            gamma.cosine(net, box, 0.5)
    regions = gamma.robustness(gamma.Box.linf(np.zeros(3), 0.1), 0).regions * 2
    with pytest.raises(gamma.UsageError, match="one input set, found 2"):
        gamma.cosine(net, gamma.Property(regions, 3, 0), 0.5)
