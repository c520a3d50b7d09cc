"""How values behave in a session: one line each, exact membership, comparisons that are certain."""

from __future__ import annotations

import importlib.util
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.errors import ResourceError, UsageError
from gamma.methods import method_name
from gamma.tensor.bounded import BoundedTensor

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
IMAGES = np.stack([np.load(DIGITS / f"images/digit{k}.npy") for k in (1, 2, 3)])


@pytest.fixture(scope="module")
def net() -> gamma.Network:
    return gamma.load(DIGITS / "mlp.onnx")


def test_one_line_says_what_a_value_is(net: gamma.Network) -> None:
    box = gamma.Box.l2(IMAGES[0], 0.5, clip=(0, 1))
    out = gamma.bounds(net, box)
    result = gamma.verify(net, gamma.robustness(box, 1), timeout=10)
    assert repr(net).startswith("Network(mlp.onnx: (") and "6,570 parameters" in repr(net)
    assert "L2 radius 0.5" in repr(box) and "64 of 64 entries vary" in repr(box)
    assert repr(out).startswith("BoundedTensor(shape=(10,), float") and "mean width" in repr(out)
    assert repr(result).startswith(f"Result({result.verdict}, ")
    for value in (net, box, out, result, gamma.linear_bounds(net, box)):
        assert "\n" not in repr(value) and len(repr(value)) < 160
    for shown in (net, out, result):
        assert "<table" in shown._repr_html_()


def test_what_an_image_or_a_name_holds_is_escaped_in_html() -> None:
    from gamma import markup

    assert "<b>" not in markup.table(("<b>",), [["<b>x</b>"]], "<b>").replace("&lt;b&gt;", "")
    assert markup.bar(-np.inf, np.inf, (0.0, 1.0)).count("nan") == 0


def test_ends_that_are_printed_enclose() -> None:
    third = BoundedTensor(np.array([1 / 3]), np.array([2 / 3]))
    ends = repr(third).split("[")[1].split("]")[0].split(", ")
    assert Fraction(ends[0]) <= Fraction(1 / 3) and Fraction(2 / 3) <= Fraction(ends[1])


def test_comparisons_are_certain_or_false() -> None:
    tensor = BoundedTensor(np.array([-1.0, 0.5, 2.0], np.float32), np.array([1, 1, 3], np.float32))
    assert (tensor > 0).tolist() == [False, True, True]
    assert (tensor <= 0).tolist() == [False, False, False]
    assert (tensor >= 0.5).tolist() == [False, True, True]
    assert (tensor < np.array([2, 2, 2])).tolist() == [True, True, False]
    assert (np.array([2.0, 2, 2]) > tensor).tolist() == [True, True, False]
    # 0.1 lies between two float32 numbers: the nearest one below it is not at least 0.1.
    near = np.float32(0.1) if float(np.float32(0.1)) < 0.1 else np.nextafter(np.float32(0.1), 0)
    assert not (BoundedTensor(np.array([near]), np.array([near], np.float32)) >= 0.1).any()
    with pytest.raises(TypeError, match="compare"):
        bool(tensor)
    with pytest.raises(TypeError, match=r"bounds\.lower"):
        np.asarray(tensor)
    assert len(tensor) == 3
    with pytest.raises(TypeError, match="no axis"):
        len(tensor[0])


@pytest.mark.parametrize("make", (gamma.Box.linf, gamma.Box.l2, gamma.Box.l1))
@pytest.mark.parametrize("clip", (None, (0, 1)))
def test_samples_lie_in_the_set(make: type, clip: tuple[int, int] | None) -> None:
    x = np.array([[0.1, 0.999], [1.05, 0.5]])
    for radius in (0.25, 1e-13, 0.0) if clip is None else (0.25, 0.06):
        box = make(x, radius, clip=clip)
        points = box.sample(50, seed=3)
        assert points.shape == (50, 2, 2) and (points == box.sample(50, seed=3)).all()
        assert all(point in box for point in points)
        if radius == 0.25:
            assert len(np.unique(points.round(6), axis=0)) == 50
            assert (points != box.sample(50, seed=4)).any()


def test_membership_is_exact() -> None:
    ball = gamma.Box.l2([0.0, 0.0], 0.5)
    assert np.array([0.3, 0.4]) not in ball  # 0.3² + 0.4² of these floats is above 0.25
    assert np.array([0.3, np.nextafter(0.4, 0)]) in ball
    assert np.array([0.5, 0.0], np.float32) in ball
    assert np.array([np.nan, 0.0]) not in ball
    with pytest.raises(UsageError, match="shape"):
        assert np.zeros(3) in ball


def test_halves_cover_the_box() -> None:
    box = gamma.Box(np.array([[0.0, -1.0]]), np.array([[1.0, 3.0]]))
    for axis in (1, (0, 1)):
        low, high = box.split(axis)
        assert low.upper[0, 1] == high.lower[0, 1] == 1.0
        assert (low.lower == box.lower).all() and (high.upper == box.upper).all()
        assert low.upper[0, 0] == 1.0 and high.lower[0, 0] == 0.0
    ball = gamma.Box.l2([0.0, 0.0], 1.0).split(0)[1]
    assert ball.norm == "2" and ball.radius == 1.0 and np.array([0.9, 0.9]) not in ball
    for wrong in (2, (0, 5), 1.5):
        with pytest.raises(UsageError, match="axis"):
            box.split(wrong)  # type: ignore[arg-type]


def test_a_network_is_a_function(net: gamma.Network) -> None:
    assert (net(IMAGES) == net.forward(IMAGES)).all()


def test_words_of_the_field_and_of_numpy(net: gamma.Network) -> None:
    box = gamma.Box.linf(IMAGES[0], 0.01)
    plain = gamma.bounds(net, box, method="crown", dtype="float32")
    spelled = gamma.bounds(net, box, method="CROWN", dtype=np.float32, timeout=60)
    assert (plain.lower == spelled.lower).all() and (plain.upper == spelled.upper).all()
    assert method_name("alpha-CROWN") == method_name("CROWN-Optimized") == "alpha"
    verdict = gamma.verify(net, gamma.robustness(box, 1), method="IBP", dtype=np.float32)
    assert verdict.asked == "ibp" and verdict.used == ("ibp",)


def test_limits_of_time_and_memory_in_seconds_and_sizes(net: gamma.Network) -> None:
    box = gamma.Box.linf(IMAGES[0], 0.01)
    with pytest.raises(ResourceError):
        gamma.bounds(net, box, timeout=1e-9)
    for wrong in (
        {"timeout": -1},
        {"memory": "lots"},
        {"memory": -5},
        {"timeout": 1, "deadline": 2},
    ):
        with pytest.raises(UsageError):
            gamma.bounds(net, box, **wrong)  # type: ignore[call-overload]
    with pytest.raises(ResourceError):
        gamma.verify(net, gamma.robustness(box, 1), method="crown-ibp", memory=1000)
    limited = gamma.bounds(net, box, method="CROWN-IBP", memory="500MB", dtype=np.dtype("float64"))
    free = gamma.bounds(net, box, method="crown-ibp", dtype="float64")
    assert (limited.lower == free.lower).all() and (limited.upper == free.upper).all()


def test_paths_lists_and_batches(net: gamma.Network) -> None:
    box = gamma.Box.linf(IMAGES, 0.01, clip=(0, 1))
    found = gamma.verify(DIGITS / "mlp.onnx", gamma.robustness(box, [1, 2, 4]), timeout=20)
    assert [r.verdict for r in found] == ["verified", "verified", "violated"]
    path = DIGITS / "properties/digit3_eps0.05.vnnlib"
    one = gamma.verify(str(DIGITS / "cnn.onnx"), str(path))
    assert one.verdict == one.status == "verified" and one.reason == ""
    with pytest.raises(UsageError, match="2 labels"):
        gamma.robustness(box, [1, 2])
    with pytest.raises(UsageError, match=r"gamma\.robustness"):
        gamma.verify(net, box)  # type: ignore[call-overload]


def test_a_timeout_is_unknown_with_a_reason(net: gamma.Network) -> None:
    prop = gamma.robustness(gamma.Box.linf(IMAGES[0], 0.06, clip=(0, 1)), 1)
    late = gamma.verify(net, prop, method="ibp", attack=False, timeout=1e-9)
    loose = gamma.verify(net, prop, method="ibp", attack=False)
    assert (late.verdict, late.status) == ("timeout", "unknown")
    assert (loose.verdict, loose.status) == ("unknown", "unknown")
    assert "time limit" in late.reason and "too loose" in loose.reason
    assert late.to_dict()["reason"] == late.reason and loose.worst_margin is not None


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_tables_for_pandas(net: gamma.Network) -> None:
    out = gamma.bounds(net, gamma.Box.linf(IMAGES[0], 0.01))
    assert out.to_pandas()["upper"].tolist() == out.upper.tolist()
    assert len(net.to_pandas()) == len(net.nodes)


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is installed")
def test_without_pandas_one_line_says_so(net: gamma.Network) -> None:
    with pytest.raises(UsageError, match="pip install pandas"):
        net.to_pandas()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, box: gamma.linear_bounds(net, None), "box is NoneType, expected a gamma.Box"),
        (lambda net, box: gamma.gradients(net, IMAGES[0]), "box is ndarray, expected a gamma.Box"),
        (lambda net, box: gamma.extremes(net, IMAGES[0]), "box is ndarray, expected a gamma.Box"),
        (lambda net, box: gamma.ranges(net, "box"), "box is str, expected a gamma.Box"),
        (lambda net, box: gamma.load(None), "path is NoneType, expected a string or a Path"),
        (lambda net, box: gamma.load(b"net.onnx"), "path is bytes, expected a string or a Path"),
        (lambda net, box: gamma.load(""), "path is empty: give a file or a folder"),
        (lambda net, box: gamma.open_model(""), "path is empty: give a file or a folder"),
        (lambda net, box: gamma.read_vnnlib(3), "path is int, expected a string or a Path"),
        (lambda net, box: gamma.save(None, "a.safetensors"), "net is NoneType, expected a Network"),
        (lambda net, box: gamma.save(net, None), "path is NoneType, expected a string or a Path"),
        (
            lambda net, box: gamma.load(DIGITS / "mlp.onnx", input_shape=(1.5, 8, 8)),
            "a length of input_shape: found 1.5, expected a whole number",
        ),
        (lambda net, box: gamma.load(DIGITS / "mlp.onnx", input_shape="1,8,8"), "expected lengths"),
        (lambda net, box: gamma.load(DIGITS / "mlp.onnx", input_shape=64), "expected lengths"),
        (lambda net, box: gamma.load(DIGITS / "mlp.onnx", output=3), "output=3, expected a name"),
        (
            lambda net, box: gamma.verify(net, gamma.robustness(box, 1), timeout="ten"),
            "timeout has dtype <U3, expected float32",
        ),
        (
            lambda net, box: gamma.plot(gamma.bounds(net, box)).save("/no such folder/a.svg"),
            "/no such folder/a.svg: cannot be written: No such file or directory",
        ),
    ],
)
def test_what_is_no_path_box_or_network_is_named(
    net: gamma.Network, call: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        call(net, gamma.Box.linf(IMAGES[0], 0.01))
