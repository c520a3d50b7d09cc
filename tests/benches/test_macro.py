"""The bench measures what it says: floors, plans, checks of results, tables."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benches import macro, report
from benches.cases import Case, case, names
from benches.floors import least_work
from gamma.cli.bench import dense_network, image_network
from gamma.cli.measuring import Machine, timed
from gamma.propagate import bounds
from gamma.tensor.box import Box

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = ROOT / "absent"
MACHINE = Machine(copy=1e9, gemm32=1e9, gemm64=5e8, call=1e-6)


def test_interval_floor_is_two_products() -> None:
    network = dense_network((4, 8, 3))
    work = least_work(network, Box.linf(np.zeros((1, 4)), 0.1), "ibp")
    assert work.operations == 2 * 2 * (4 * 8 + 8 * 3)
    assert work.fixed == 4 * network.parameters
    image = image_network(8, (2, 5))
    found = least_work(image, Box.linf(np.zeros((1, 2, 8, 8)), 0.1), "ibp")
    assert found.operations == 4 * (16 * 5 * 2 * 16 + 10 * 80)


def test_crown_floor_counts_the_rows_of_the_walk() -> None:
    network = dense_network((4, 8, 3))
    wide = least_work(network, Box.linf(np.zeros((1, 4)), 10.0), "crown-ibp")
    # All eight neurons are unstable: six rows (two per output) through the first weight.
    assert wide.operations == 2 * 2 * (4 * 8 + 8 * 3) + 6 * 2 * 4 * 8
    point = least_work(network, Box.linf(np.zeros((1, 4)), 0.0), "crown")
    assert point.operations < wide.operations


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


def failures(chosen: Case, out: Any, peer_width: float | None = None) -> list[str]:
    width = float(np.mean(out.upper[0] - out.lower[0]))
    return list(macro._failures(chosen, out, 1, width, peer_width))


def test_wrong_bounds_are_noticed() -> None:
    chosen = case("made_0", NOWHERE)
    out = bounds(chosen.network, chosen.boxes(1), method="crown")
    assert failures(chosen, out) == []
    high = SimpleNamespace(lower=out.upper, upper=out.upper + 1)
    assert any("centre" in line for line in failures(chosen, high))
    crossed = SimpleNamespace(lower=out.upper, upper=out.lower)
    assert any("cross" in line for line in failures(chosen, crossed))
    reached = replace(chosen, reached=(out.lower[0] - 1, out.upper[0]))
    assert any("attack" in line for line in failures(reached, out))
    width = float(np.mean(out.upper - out.lower))
    assert failures(chosen, out, peer_width=width) == []
    assert any("mean width" in line for line in failures(chosen, out, peer_width=0.99 * width))


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
    assert found["CROWN, mnist_fc, batch 1"][2] == "MISSED"
    assert found["first bound, cold process"] == ("0.40 s", "made_0", "met")
    unmeasured = [name for name, row in found.items() if row[2] == "not measured"]
    assert len(found) - len(unmeasured) == 3 and "IBP, batch 128" in unmeasured


def test_documentation_blocks_are_replaced(tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "performance.md"
    blocks = ("machine", "families", "targets", "macro")
    marks = [f"<!-- generated: {b} -->\nstale\n<!-- end: {b} -->" for b in blocks]
    page.write_text("\n\n".join(["# Title", *marks, "kept"]))
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "STORED", tmp_path / "macro.json")
    for _ in range(2):
        report.write_docs(document(record("reach_gcas", 0.1)))
        text = page.read_text()
        assert "stale" not in text and text.startswith("# Title") and text.endswith("kept")
        assert text.count("| reach_gcas | crown |") == 1
    with pytest.raises(ValueError, match="no block"):
        report.replace_block(page, "absent", "")


def test_the_page_has_the_blocks() -> None:
    text = report.PAGE.read_text()
    for name in ("machine", "families", "targets", "macro"):
        assert f"<!-- generated: {name} -->" in text and f"<!-- end: {name} -->" in text


def test_timing_counts_calls() -> None:
    calls: list[None] = []
    timing = timed(lambda: calls.append(None), 0.0, least=4)
    assert timing.calls + 1 == len(calls) and 0 <= timing.best <= timing.median
