"""Ranges of outputs against exact ones: proved ends outside, reached ends inside."""

from __future__ import annotations

import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.network.property import LinearConstraint, Property, Region
from gamma.runtime import interrupts
from gamma.tensor.box import Box
from gamma.verification import extremes as module
from gamma.verification.bounding import bound_outputs
from gamma.verification.extremes import Extremes, extremes
from tests.exact.cells import Cell, cells, least
from tests.verify.branching.drawn import network, region
from tests.verify.known import dense, hat, vast

F = Fraction


def exact_range(found: list[Cell], output: int) -> tuple[F, F]:
    low, high = (LinearConstraint(((output, F(s)),), (), F(0)) for s in (1, -1))
    return least(found, low), -least(found, high)


@pytest.mark.parametrize("guarantee", ["real", "float32"])
def test_proved_and_reached_ends_enclose_the_exact_ones(guarantee: str) -> None:
    rng = np.random.default_rng(3)
    met = ends = 0
    for _ in range(3):
        net = network(rng)
        low, high = region(rng)
        found, outputs = cells(net, low, high), net.output_shape[0]
        prop = Property((Region(low, high, ()),), 2, outputs)
        made = extremes(net, prop, gap=2.0**-10, timeout=3, guarantee=guarantee)
        for i in range(outputs):
            least_value, greatest = exact_range(found, i)
            assert F(float(made.lower[0, i])) <= least_value <= F(float(made.reached_lower[0, i]))
            assert F(float(made.reached_upper[0, i])) <= greatest <= F(float(made.upper[0, i]))
            for end in (0, 1):
                x = made.points[0, i, end]
                assert all(a <= F(float(v)) <= b for a, v, b in zip(low, x, high, strict=True))
        ends += 1
        met += made.met
    assert met >= 2, (met, ends)


@pytest.mark.parametrize(("layers", "most"), [(10, 1.0), (10, 1.5e8), (11, 1.0)])
@pytest.mark.parametrize("guarantee", ["real", "float32"])
def test_outputs_near_and_beyond_the_largest_number(
    layers: int, most: float, guarantee: str
) -> None:
    net = vast(layers)
    made = extremes(
        net, Box(np.zeros((1, 1)), np.full((1, 1), most)), timeout=1, guarantee=guarantee
    )
    scale = F(float(np.float32(1e30))) ** layers
    assert made.lower[0, 0] <= 0 and not made.reached_lower[0, 0] < 0
    assert made.upper[0, 0] == np.inf or F(float(made.upper[0, 0])) >= F(most) * scale
    for reached in (made.reached_lower, made.reached_upper):
        assert np.isnan(reached).all() or 0 <= F(float(reached[0, 0])) <= F(most) * scale


def test_a_batch_of_boxes_and_arguments() -> None:
    box = Box(np.array([[-1.0], [0.5]]), np.array([[1.0], [0.75]]))
    found = gamma.extremes(hat(), box, gap=1e-3)
    assert found.met and found.lower.shape == (2, 1)
    assert found.lower[1, 0] <= 0.25 <= found.reached_lower[1, 0] <= 0.251
    assert 0.999 <= found.reached_upper[0, 0] <= 1.0 <= found.upper[0, 0] <= 1.001
    with pytest.raises(gamma.UsageError, match="gap"):
        extremes(hat(), box, gap=0.0)
    with pytest.raises(gamma.UsageError, match="branch"):
        bound_outputs(hat(), box, method="crown", gap=0.1)
    with pytest.raises(gamma.UsageError, match="branch"):
        bound_outputs(hat(), box, method="branch", layers={})


def test_a_witness_moves_the_reached_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a search before, questions alone lead from the first point to the peak."""
    monkeypatch.setattr(module._Search, "_attack", _one_point)
    found = extremes(hat(), Box(np.array([-1.0]), np.array([1.0])), gap=0.125)
    assert found.met and found.reached_upper[0, 0] >= 0.875 and found.upper[0, 0] >= 1


def _one_point(self: Any) -> None:
    x = np.array([-0.75], np.float32)
    for end in (0, 1):
        self._reach(self._asked(0, ()), 0, 0, end, x)


def test_ctrl_c_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first end is proved, then Ctrl-C is pressed."""
    asked: list[float] = []
    real = module.verify

    def pressed(*args: Any, **options: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 2:
            monkeypatch.setattr(interrupts, "_asked", True)
        return real(*args, **options)

    monkeypatch.setattr(module, "verify", pressed)
    net = dense(([[1.0], [1.0]], [0.0, -0.5]), ([[1.0, -2.0], [-1.0, 2.0]], [0.0, 0.0]))
    found: Extremes = extremes(net, Box(np.array([-1.0]), np.array([1.0])), gap=1e-3)
    assert found.interrupted and not found.met and len(asked) == 2
    assert np.isfinite(found.lower).all() and not math.isnan(found.reached_upper[0, 1])


def test_the_command_prints_both_ranges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gamma.save(hat(), tmp_path / "hat.safetensors")
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    asked = ["bounds", str(tmp_path / "hat.safetensors"), "--input", str(tmp_path / "x.npy")]
    asked += ["--epsilon", "1"]
    branch = [*asked, "--method", "branch", "--gap", "1/8"]
    assert main(branch) == 0
    assert "reached" in (text := capsys.readouterr().out) and "gap of 0.125: met" in text
    assert main([*branch, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    low, high = (record["bounds"][end][0] for end in ("lower", "upper"))
    near, far = (record["reached"][end][0] for end in ("lower", "upper"))
    assert low <= 0 <= near <= 0.125 and 0.875 <= far <= 1 <= high
    assert record["reached"]["met"] and record["reached"]["gap"] == 0.125
    for wrong in ([*asked, "--gap", "1"], [*branch[:-1], "0"], [*branch, "--all-layers"]):
        try:
            assert main(wrong) == 2
        except SystemExit as refused:
            assert refused.code == 2
        assert "gap" in (told := capsys.readouterr().err) or "branch" in told
