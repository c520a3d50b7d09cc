"""The bench measures what it says: floors, plans, checks of results, tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from benches import macro, report
from benches.cases import Case, case, names
from benches.floors import least_work
from gamma.cli.bench import dense_network
from gamma.cli.measuring import Machine, timed
from gamma.network.graph import Builder, Network
from gamma.ops import Conv, Gemm, Input, Relu
from gamma.propagate import bounds
from gamma.tensor.box import Box

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = ROOT / "absent"
MACHINE = Machine(copy=1e9, gemm32=1e9, gemm64=5e8, call=1e-6)


def made(*operators: Any, shape: tuple[int, ...]) -> Network:
    builder = Builder(Input(), shape)
    node = 0
    for op in operators:
        node = builder.add(op, node)
    return builder.build(node)


def dense(*rows: list[float], bias: float = 0.0) -> Gemm:
    weight = np.array(rows, np.float32)
    return Gemm(weight, np.full(len(weight), bias, np.float32))


def test_interval_floor_is_two_products_of_what_is_not_fixed() -> None:
    # 2 of 4 inputs can change, 1 is fixed at zero; no neuron is dead, one weight is zero.
    net = made(dense([1, 1, 1, 1], [1, 0, 1, 1], bias=9), Relu(), dense([1, 1]), shape=(4,))
    box = Box(np.array([[0.0, 1, 1, 0]]), np.array([[1.0, 2, 1, 0]]))
    work = least_work(net, box, "ibp")
    assert work.operations == 2 * ((3 + 2) + (2 + 1) + 2 * 2)
    assert work.fixed == 4 * (net.parameters - 1 - 2)
    dead = made(dense([1, 1, 1, 1], [0, 0, 0, 0], bias=-9), Relu(), dense([1, 1]), shape=(4,))
    assert least_work(dead, box, "ibp").operations == 2 * (3 + 2)


def test_windows_over_the_padding_are_cut() -> None:
    # Windows of 3 with one column of padding on either side of 4 columns: 2, 3, 3 and 2 terms.
    conv = Conv(np.ones((5, 2, 1, 3), np.float32), pads=(0, 1, 0, 1))
    net = made(conv, shape=(2, 1, 4))
    box = Box.linf(np.zeros((1, 2, 1, 4)), 0.1)
    assert least_work(net, box, "ibp").operations == 2 * 2 * (5 * 2 * 10)


def test_crown_floor_counts_the_rows_of_the_walk() -> None:
    box = Box.linf(np.zeros((1, 4)), 1.0)
    ones = [1.0, 1, 1, 1]
    # Of three unstable neurons one has a sloped lower line (bias > 0); a fourth is dead, a fifth
    # is stable: it is carried once for an output's row and its negative.
    first = Gemm(np.array([ones] * 5, np.float32), np.array([1, -1, -1, -9, 9], np.float32))
    net = made(first, Relu(), dense([1] * 5, [1] * 5), shape=(4,))
    interval = 2 * 5 * 4 + 2 * 4
    assert least_work(net, box, "crown-ibp").operations == 2 * (interval + 2 * (2 + 1 + 1 + 1) * 4)
    # Below the second layer the two rows differ everywhere; CROWN also bounds its four neurons.
    wide = made(first, Relu(), dense(*[[1] * 5] * 4, bias=-15), Relu(), dense([1] * 4), shape=(4,))
    interval = 2 * 5 * 4 + 2 * 4 * 4 + 4
    output = 4 * 4 + 2 * 4 * 4
    assert least_work(wide, box, "crown-ibp").operations == 2 * (interval + output)
    refined = interval + output + 4 * (2 + 1 + 1 + 1) * 4
    assert least_work(wide, box, "crown").operations == 2 * refined


def test_crown_floor_follows_the_window_of_each_neuron() -> None:
    def conv(bias: float) -> Conv:
        weight = np.ones((1, 1, 1, 3), np.float32)
        return Conv(weight, np.array([bias], np.float32), pads=(0, 1, 0, 1))

    net = made(conv(-0.5), Relu(), conv(-3.9), Relu(), conv(0), shape=(1, 1, 5))
    box = Box.linf(np.zeros((1, 1, 1, 5)), 1.0)
    # Every neuron is unstable with a flat lower line (upper < -lower). Terms of a window by place:
    fan = np.array([2, 3, 3, 3, 2])
    near = np.array([fan[max(0, i - 1) : i + 2].sum() for i in range(5)])
    far = np.array([fan[max(0, i - 2) : i + 3].sum() for i in range(5)])
    interval = 2 * fan.sum() + 2 * fan.sum() + fan.sum()
    # Second layer: one product of the pair. Output: one of the pair, then two of two rows.
    refined = near.sum()
    output = near.sum() + 2 * far.sum()
    found = least_work(net, box, "crown").operations
    assert found == 2 * (interval + refined + output)


def test_floor_seconds_are_the_slower_of_memory_and_arithmetic() -> None:
    network = dense_network((4, 8, 3))
    work = least_work(network, Box.linf(np.zeros((1, 4)), 0.1), "ibp")
    slow = replace(MACHINE, copy=1.0)
    assert work.seconds(slow, "float32") == work.fixed + work.bytes
    fast = replace(MACHINE, copy=1e12)
    assert work.seconds(fast, "float64", 3) == 3 * work.operations / 5e8


def arguments(**given: Any) -> argparse.Namespace:
    usual = {"data": NOWHERE, "cases": None, "methods": "ibp,crown", "batches": [1, 16]}
    usual |= {"dtypes": "auto,float64", "threads": [1, 2], "full": False}
    return argparse.Namespace(**(usual | given))


def test_plan_without_the_benchmark_data() -> None:
    tasks = list(macro.plan(arguments()))
    assert {task.case for task in tasks} == set(names(NOWHERE))
    assert all(task.batch == 1 for task in tasks)
    full = list(macro.plan(arguments(full=True)))
    assert len(full) == len(names(NOWHERE)) * 2 * 2 * 2 * 2 > len(tasks)
    chosen = list(macro.plan(arguments(cases="made_0", batches=[16])))
    assert {(task.case, task.batch) for task in chosen} == {("made_0", 16)}


def test_boxes_are_shifted_but_for_the_first() -> None:
    chosen = case("made_0", NOWHERE)
    boxes = chosen.boxes(3)
    assert (boxes.lower[0].ravel() == chosen.lower).all()
    assert (boxes.lower[1] != boxes.lower[0]).any()
    width = chosen.upper - chosen.lower
    assert np.allclose((boxes.upper - boxes.lower)[2].ravel(), width, rtol=1e-9)


def failures(chosen: Case, out: Any) -> list[str]:
    return list(macro._failures(chosen, out, 1))


def test_wrong_bounds_are_noticed() -> None:
    chosen = case("made_0", NOWHERE)
    out = bounds(chosen.network, chosen.boxes(1), method="crown")
    assert failures(chosen, out) == []
    high = SimpleNamespace(lower=out.upper, upper=out.upper + 1)
    assert any("centre" in line for line in failures(chosen, high))
    crossed = SimpleNamespace(lower=out.upper, upper=out.lower)
    assert any("cross" in line for line in failures(chosen, crossed))
    reached = dataclasses.replace(chosen, reached=(out.lower[0] - 1, out.upper[0]))
    assert any("attack" in line for line in failures(reached, out))


def test_wider_bounds_than_the_peers_are_noticed() -> None:
    assert not [*macro._wider(3.0, macro.WIDER, 3.0, ""), *macro._wider(3.0, macro.WIDER, None, "")]
    assert "mean width 3, the peer's is 2.99" in [*macro._wider(3.0, macro.WIDER, 2.99, "")]
    assert [*macro._wider(float("nan"), macro.CHARGED, 3.0, "")]


def test_peers_are_the_smaller_recorded_time(shared: Path) -> None:
    chosen = case("mnist_fc_256x4_p0_0.05", shared)
    record = json.loads((shared / "reference" / f"{chosen.name}.json").read_text())
    crown = next(r for r in record["records"] if (r["method"], r["dtype"]) == ("CROWN", "f32"))
    assert chosen.peers["crown", 1].seconds == min(crown["t_min"], crown["t1_cpu_min"])
    assert chosen.peers["crown", 128].seconds is not None
    assert chosen.reached is not None
    assert len(names(shared)) > 15


def test_a_whole_run_writes_its_document(tmp_path: Path) -> None:
    out = tmp_path / "macro.json"
    given = ["--data", NOWHERE, "--cases", "made_0", "--methods", "ibp", "--batches", "1", "2"]
    given += ["--dtypes", "auto", "--threads", "1", "--seconds", "0.01", "--out", out]
    command = [sys.executable, "-m", "benches.macro", *map(str, given)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert [r["batch"] for r in document["records"]] == [1, 2]
    assert all(0 < r["floor"] and 0 < r["best"] <= r["median"] for r in document["records"])
    assert "controller" not in done.stderr and "of floor" in done.stdout
    assert report.text(document) in done.stdout


def record(name: str, best: float, **given: Any) -> dict[str, Any]:
    usual = {"case": name, "method": "crown", "batch": 1, "dtype": "auto", "threads": 1}
    usual |= {"family": "dense", "neurons": 10, "parameters": 20, "peak": 1000, "floor": 1e-3}
    return usual | {"best": best, "median": best, "cpu": best, "peer": 1.0} | given


def document(*records: dict[str, Any]) -> dict[str, Any]:
    limits = {"copy": 1e9, "gemm32": 1e9, "gemm64": 1e9, "call": 1e-6, "load": 0.5}
    about = {"processor": "P", "isa": "scalar", "blas": "B", "numpy": "2"}
    cold = {"case": "made_0", "seconds": 0.4}
    return {
        "when": "2026-01-01T00:00:00Z",
        "commit": "abc",
        "environment": about,
        "machine": {"1": limits},
        "cold": cold,
        "records": list(records),
    }


def test_a_target_is_judged_by_its_worst_case_at_its_best_settings() -> None:
    records = [
        record("reach_gcas", 1 / 40),
        record("acasxu_1_1_p1", 1 / 5),
        record("acasxu_1_1_p1", 1 / 12, threads=2),
        record("mnist_fc_256x2_p0_0.03", 1 / 3),
        record("oval21_base", 1.0, method="ibp"),
    ]
    found = {row[0]: row[3:] for row in report.targets(document(*records))}
    assert found["CROWN, acasxu, reach, rl"] == ("12×", "acasxu_1_1_p1", "met")
    assert found["CROWN, mnist_fc, batch 1"][2] == "not met"
    assert found["first bound, cold process"] == ("0.40 s", "made_0", "met")
    unmeasured = [name for name, row in found.items() if row[2] == "not measured"]
    assert len(found) - len(unmeasured) == 3 and "IBP, batch 128" in unmeasured


def test_documentation_blocks_are_replaced(tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "performance.md"
    blocks = ("machine", "families", "macro")
    marks = [f"<!-- generated: {b} -->\nstale\n<!-- end: {b} -->" for b in blocks]
    page.write_text("\n\n".join(["# Title", *marks, "kept"]))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated: measured -->\nstale\n<!-- end: measured -->")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "README", readme)
    aims = tmp_path / "targets.md"
    aims.write_text("<!-- generated: targets -->\nstale\n<!-- end: targets -->")
    monkeypatch.setattr(report, "TARGETS_PAGE", aims)
    monkeypatch.setattr(report, "STORED", tmp_path / "macro.json")
    for _ in range(2):
        fast = [record("oval21_base", 0.1, method=m) for m in ("ibp", "crown")]
        report.write_docs(document(record("reach_gcas", 0.1), *fast))
        text = page.read_text()
        assert (
            "stale" not in text + aims.read_text()
            and text.startswith("# Title")
            and text.endswith("kept")
        )
        assert text.count("| reach_gcas | crown |") == 1
        assert "| oval21_base | 10 | 20 | 100 | 10 | 100 | 10 |" in readme.read_text()
    with pytest.raises(ValueError, match="no block"):
        report.replace_block(page, "absent", "")


def test_the_page_has_the_blocks() -> None:
    text = report.PAGE.read_text()
    for name in ("machine", "families", "macro"):
        assert f"<!-- generated: {name} -->" in text and f"<!-- end: {name} -->" in text
    assert "<!-- generated: targets -->" in report.TARGETS_PAGE.read_text()
    assert "<!-- generated: measured -->" in report.README.read_text()


def test_timing_counts_calls() -> None:
    calls: list[None] = []
    timing = timed(lambda: calls.append(None), 0.0, least=4)
    assert timing.calls + 1 == len(calls) and 0 <= timing.best <= timing.median
