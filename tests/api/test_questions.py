"""Layers, radii, accuracy, attacks and gradients: what they claim is checked against truth."""

from __future__ import annotations

import math
import typing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.errors import UsageError
from gamma.formats import detect
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu
from gamma.ops.tables import NodeSlopes
from gamma.verification.radius import distance_above
from tests.verify.known import dense

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
IMAGES = np.stack([np.load(DIGITS / f"images/digit{k}.npy") for k in range(4)])


@pytest.fixture(scope="module")
def digits() -> Network:
    return gamma.load(DIGITS / "mlp.onnx")


@pytest.fixture
def plane() -> Network:
    """y0 = x0 + x1, y1 = relu(x0 - x1): whose difference is 2·x1 where x0 > x1."""
    build = Builder(Input(), (2,))
    hidden = build.add(Gemm(np.array([[1.0, 1], [-1, -1], [1, -1]])), 0, name="before")
    active = build.add(Relu(), hidden, name="after")
    return build.build(build.add(Gemm(np.array([[1.0, -1, 0], [0, 0, 1]])), active, name="out"))


def test_layers_are_a_mapping_and_a_table(plane: Network) -> None:
    box = gamma.Box([-1.0, -1], [1, 1])
    found = gamma.layer_bounds(plane, box, method="crown")
    assert list(found) == ["input", "before", "after", "out"] and len(found) == 4
    plain = gamma.bounds(plane, box, intermediate=True)
    assert all((found[k].lower == plain[k].lower).all() for k in found)
    rows = {layer.name: layer for layer in found.layers}
    assert rows["after"].unstable == 3 and rows["before"].unstable is None
    assert rows["after"].least == 0 and rows["before"].greatest >= 2
    assert "3 of 3" in found.table() and "3 unstable" in repr(found)


@pytest.mark.parametrize("norm", ("inf", 2, "1"))
def test_radii_enclose_the_distance(plane: Network, norm: str | int) -> None:
    """Where x0 > x1 the classes tie at 2·x1 = 0: 1 away from (2, 1), in every norm."""
    x, exact = np.array([2.0, 1.0]), 1.0
    found = gamma.certified_radius(plane, x, 0, norm, timeout=20, tolerance=0.02)
    assert found.proved is not None and found.proved <= exact <= found.refuted
    assert found.proved > 0.9 * exact and found.refuted < 1.1 * exact
    assert found.witness is not None and repr(found).startswith("Radius(proved ")
    y0, y1 = (Fraction(float(v)) for v in plane.forward(found.witness.x, np.float64))
    assert y0 <= y1


def test_a_radius_of_a_wrong_label_and_of_everything(plane: Network) -> None:
    wrong = gamma.certified_radius(plane, [2.0, 1.0], 1)
    assert wrong.proved is None and wrong.refuted == 0
    whole = gamma.certified_radius(plane, [2.0, 1.0], 0, clip=(0.5, 3))
    assert whole.proved == math.inf and math.isinf(whole.refuted)
    for bad in ({"norm": 3}, {"tolerance": 2}):
        with pytest.raises(UsageError):
            gamma.certified_radius(plane, [2.0, 1.0], 0, **bad)  # type: ignore[arg-type]


def test_distances_are_rounded_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(2, 5))
        steps = [
            abs(Fraction(p) - Fraction(q)) for p, q in zip(a.tolist(), b.tolist(), strict=True)
        ]
        assert Fraction(distance_above(a, b, "inf")) >= max(steps)
        assert Fraction(distance_above(a, b, "1")) >= sum(steps)
        found = distance_above(a, b, "2")
        assert Fraction(found) ** 2 >= sum(s * s for s in steps)
        assert Fraction(math.nextafter(found, 0)) ** 2 < sum(s * s for s in steps) * (1 + 2**-50)


def test_certified_accuracy_counts_verdicts(digits: Network) -> None:
    labels = [0, 1, 2, 4]  # the last one is wrong
    found = gamma.certified_accuracy(digits, IMAGES, labels, 0.02, clip=(0, 1), timeout=20)
    assert [r.status for r in found] == ["verified"] * 3 + ["violated"]
    assert found.certified == found.clean == found.at_most == 0.75
    assert found.correct.tolist() == [True, True, True, False] and len(found) == 4
    assert "certified 75.0%" in repr(found)
    with pytest.raises(UsageError, match="labels"):
        gamma.certified_accuracy(digits, IMAGES, labels[:2], 0.02)


def test_an_attack_alone(digits: Network) -> None:
    box = gamma.Box.linf(IMAGES[1], 0.2, clip=(0, 1))
    found = gamma.attack(digits, gamma.robustness(box, 1), timeout=10)
    assert found is not None and found.x in box and digits(found.x).argmax() != 1
    near = gamma.robustness(gamma.Box.linf(IMAGES[1], 0.001, clip=(0, 1)), 1)
    assert gamma.attack(digits, near, timeout=0.5) is None


def test_gradients_are_the_slopes_of_the_bounds(plane: Network) -> None:
    """Central differences of the bound as a function, the inner bounds fixed by given slopes."""
    box = gamma.Box([-0.5, -1], [1, 0.75])
    slopes = {"after": NodeSlopes(np.array([[0.3, 0.6, 0.2]]))}
    found = gamma.gradients(plane, box, slopes=slopes)
    lines = gamma.linear_bounds(plane, box, slopes=slopes, dtype="float64")

    def least(center: np.ndarray, radius: np.ndarray) -> np.ndarray:
        a = lines.lower_coefficients
        return a @ center - abs(a) @ radius + lines.lower_constant

    center, radius, step = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2, 2.0**-10
    for k in range(2):
        move = np.eye(2)[k] * step
        slope = (least(center + move, radius) - least(center - move, radius)) / (2 * step)
        assert np.abs(found.lower.center[:, k] - slope).max() < 1e-9
        slope = (least(center, radius + move) - least(center, radius - move)) / (2 * step)
        assert np.abs(found.lower.radius[:, k] - slope).max() < 1e-9
    assert (found.upper.radius >= 0).all() and (found.lower.radius <= 0).all()
    for k in range(3):
        ends = []
        for sign in (-1, 1):
            moved = np.array([[0.3, 0.6, 0.2]])
            moved[0, k] += sign * step
            made = gamma.linear_bounds(plane, box, slopes={"after": NodeSlopes(moved)},
                                       dtype="float64")  # fmt: skip
            a = made.lower_coefficients
            ends.append(a @ center - abs(a) @ radius + made.lower_constant)
        slope = (ends[1] - ends[0]) / (2 * step)
        assert np.abs(found.lower.lower_slope["after"][:, k] - slope).max() < 1e-6
    with pytest.raises(UsageError, match="ball"):
        gamma.gradients(plane, gamma.Box.l2([0.0, 0.0], 1.0))


def test_every_function_has_a_time_limit_and_a_memory_limit() -> None:
    limited = ("attack", "bounds", "certified_accuracy", "certified_radius", "cosine", "extremes",
               "gradients", "layer_bounds", "linear_bounds", "verify")  # fmt: skip
    for name in limited:
        hints = typing.get_type_hints(getattr(gamma, name))
        names = set(hints)
        if "options" in hints:  # Unpack[SomeOptions]
            names |= set(typing.get_type_hints(typing.get_args(hints["options"])[0]))
        assert {"timeout", "memory"} <= names, name


def test_a_memory_limit_changes_no_bound_and_refuses_what_it_cannot_keep() -> None:
    box = gamma.Box([0, 0], [1, 1])
    net = dense(([[1.0, -2.0], [0.5, 1.0]], [0.1, 0.2]), ([[1.0, 1.0]], [0.0]))
    plain, kept = gamma.linear_bounds(net, box), gamma.linear_bounds(net, box, memory="100MB")
    assert (plain.lower_coefficients == kept.lower_coefficients).all()
    assert (plain.upper_constant == kept.upper_constant).all()
    with pytest.raises(gamma.ResourceError):
        gamma.linear_bounds(net, box, memory=64)
    assert gamma.gradients(net, box, memory="1MB").lower.center.shape == (1, 2)
    with pytest.raises(gamma.ResourceError, match="gradients of 2 rows"):
        gamma.gradients(net, box, memory=64)
    prop = gamma.robustness(gamma.Box([-1.0, -1.0], [1.0, 1.0]), 0)
    two = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    assert gamma.attack(two, prop, memory="1kB") is not None
    with pytest.raises(gamma.ResourceError):
        gamma.attack(two, prop, memory=8)
    assert gamma.extremes(net, box, memory="100MB", timeout=5).upper.shape == (1, 1)


def test_load_is_typed_to_the_last_option() -> None:
    hints = typing.get_type_hints(gamma.load)
    (options,) = typing.get_args(hints["options"])
    assert set(typing.get_type_hints(options)) == (
        detect.ONNX_OPTIONS | detect.STATE_DICT_OPTIONS | detect.MODEL_OPTIONS
    )
    assert typing.Any not in typing.get_type_hints(options).values()
