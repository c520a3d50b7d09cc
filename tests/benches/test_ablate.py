"""The ablation covers every gate and tells a loss from noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benches import ablate
from benches.cases import case
from gamma import tuning


def test_every_gate_alone_and_removed() -> None:
    names = set(ablate.configurations())
    assert {"all on", "all on again", "all off"} <= names
    for gate in tuning.GATES:
        assert {f"only {gate}", f"without {gate}"} <= names
        with ablate.configurations()[f"only {gate}"]():
            assert [g for g in tuning.GATES if tuning.enabled(g)] == [gate]
        with ablate.configurations()[f"without {gate}"]():
            assert tuning.off() == {gate}


def figures(widths: dict[str, float] | None = None, **changed: float) -> ablate.Figures:
    seconds = {name: changed.get(name.replace(" ", "_"), 1.0) for name in ablate.configurations()}
    return ablate.Figures(seconds, widths or {})


def test_only_a_gain_beyond_the_noise_is_marked() -> None:
    assert ablate.faster_than_default(figures()) == []
    assert ablate.faster_than_default(figures(all_off=0.98)) == []
    assert ablate.faster_than_default(figures(all_off=0.9)) == ["all off"]
    assert ablate.faster_than_default(figures(all_off=0.9, all_on_again=1.05)) == []
    slower = {"without_norm_caps": 0.7, "only_pool": 0.7, "all_off": 0.6}
    assert ablate.faster_than_default(figures(**slower)) == ["all off"]
    widths = {"all on": 2.0, "all off": 3.0}
    assert ablate.faster_than_default(figures(widths, all_off=0.9)) == []
    widths["all off"] = 2.0
    assert ablate.faster_than_default(figures(widths, all_off=0.9)) == ["all off"]


def test_measure_and_page() -> None:
    chosen = case("digits_mlp", ablate.DATA)
    (workload,) = ablate.workloads(chosen, (1,), ("crown",))
    found = ablate.measure(workload, rounds=1, patience=10.0)
    assert set(found.seconds) == set(found.widths) == set(ablate.configurations())
    text = ablate.page({"Small networks": {workload.name: found}, "Large networks": {}})
    assert "## Small networks" in text and "## Large networks" not in text
    assert all(f"| `{gate}` |" in text for gate in tuning.GATES)


def test_bounds_that_contradict_each_other_end_the_run() -> None:
    def answer(value: float) -> Any:
        return SimpleNamespace(lower=np.array([value]), upper=np.array([value + 1]))

    seen = ablate._overlap("case", "all on", answer(0.0), None)
    seen = ablate._overlap("case", "all off", answer(0.5), seen)
    with pytest.raises(SystemExit, match="all off"):
        ablate._overlap("case", "all off", answer(1.5), seen)
