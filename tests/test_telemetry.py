"""Spans and counters: what is recorded, how it is shown, and that it is free when off."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gamma
from gamma import telemetry, tuning
from gamma.cli.bench import dense_network, table
from gamma.cli.measuring import Machine
from gamma.methods import METHODS
from gamma.tensor import kernels
from gamma.tensor.traced import NAMES, kernel_spans
from tests.cli.test_schema import validator

STEP_BY_STEP = ("fused_network", "fused_walk")
"""Gates that keep a walk over dense layers from being one call."""
ROOT = Path(__file__).resolve().parents[1]


def recorded(*spans: tuple[str, float, float], thread: int = 1) -> telemetry.Recorder:
    recorder = telemetry.Recorder()
    recorder.spans += [telemetry.Span(n, a, b, thread, {"rows": 2}) for n, a, b in spans]
    return recorder


def test_a_span_lies_in_the_span_that_covers_its_time() -> None:
    recorder = recorded(("inner", 1, 2), ("inner", 3, 5), ("outer", 1, 6), ("next", 6, 7))
    recorder.spans.append(telemetry.Span("elsewhere", 1, 2, 2, {}))
    root = recorder.tree()
    assert set(root.children) == {"outer", "next", "elsewhere"}
    inner = root.children["outer"].children["inner"]
    assert (inner.calls, inner.seconds, inner.counts) == (2, 3, {"rows": 4})
    assert root.children["outer"].own == 2
    assert root.seconds == 7


def test_measure_records_also_when_the_block_fails() -> None:
    with telemetry.recording() as recorder, pytest.raises(KeyError):
        with telemetry.measure("work", rows=3):
            raise KeyError
    assert [(s.name, s.counts) for s in recorder.spans] == [("work", {"rows": 3})]


def test_counters_sum_numbers_and_collect_words() -> None:
    with telemetry.recording() as recorder:
        for isa, rows in (("avx2", 1), ("scalar", 2), ("avx2", 4)):
            telemetry.count("isa", isa)
            telemetry.count("rows", rows)
    assert recorder.counters == {"isa": "avx2,scalar", "rows": 7}


def test_nothing_is_recorded_when_off() -> None:
    with telemetry.recording() as recorder:
        pass
    with telemetry.measure("late"):
        telemetry.count("late")
        telemetry.record("late", 0.0, 1.0)
    assert telemetry.recorder is None
    assert recorder.spans == [] and recorder.counters == {}


def test_threads_are_recorded_side_by_side() -> None:
    def work() -> None:
        with telemetry.measure("part"):
            time.sleep(0.001)

    with telemetry.recording() as recorder, telemetry.measure("whole"):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    root = recorder.tree()
    assert root.children["part"].calls == 4
    assert not root.children["whole"].children
    assert {event["tid"] for event in recorder.trace()["traceEvents"]} >= {1, 2}


def test_a_walk_and_its_kernels() -> None:
    network = dense_network((6, 12, 12, 3))
    box = gamma.Box.linf([0.5] * 6, 0.1)
    plain = gamma.bounds(network, box)
    before = [getattr(kernels, name) for name in NAMES]
    with telemetry.recording() as recorder, kernel_spans():
        seen = gamma.bounds(network, box)
    assert [getattr(kernels, name) for name in NAMES] == before
    assert (seen.lower == plain.lower).all() and (seen.upper == plain.upper).all()
    names = {span.name for span in recorder.spans}
    assert {"bounds", "crown.network", "crown.node.gemm"} <= names
    layers = [span for span in recorder.spans if span.name == "crown.node.gemm"]
    assert [span.counts["neurons"] for span in layers] == [12, 12, 3]
    assert "crown.network" in recorder.tree().children["bounds"].children


def test_a_walk_node_by_node() -> None:
    network = dense_network((6, 12, 12, 3))
    box = gamma.Box.linf([0.5] * 6, 0.1)
    with tuning.disabled(*STEP_BY_STEP), telemetry.recording() as recorder, kernel_spans():
        gamma.bounds(network, box)
    names = {span.name for span in recorder.spans}
    assert {"bounds", "crown.node.gemm", "crown.backward.gemm"} <= names
    kernel = next(s for s in recorder.spans if s.name.startswith("kernel."))
    assert kernel.counts["isa"] == kernels.isa and int(kernel.counts["bytes"]) > 0
    text = telemetry.render(recorder)
    assert text.startswith("total") and "crown.backward.gemm" in text and "rows" in text


def test_trace_is_chrome_json() -> None:
    trace = json.loads(json.dumps(recorded(("b", 2, 3), ("a", 1, 4)).trace()))
    first = trace["traceEvents"][0]
    assert (first["name"], first["ph"], first["dur"]) == ("a", "X", 3e6)
    assert [event["args"] for event in trace["traceEvents"]] == [{"rows": 2}] * 2


def best(call: Callable[[], object], repeat: int = 7) -> float:
    """Least processor seconds of ``call``."""
    found = []
    for _ in range(repeat):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def test_off_costs_under_one_percent() -> None:
    """Twice as many checks as a small network's walk makes, against the walk itself."""
    network = dense_network((5, 50, 50, 50, 50, 50, 50, 5))
    box = gamma.Box.linf([0.5] * 5, 0.02)
    with tuning.disabled(*STEP_BY_STEP), telemetry.recording() as recorder:
        gamma.bounds(network, box)
    count = 2 * len(recorder.spans)
    assert count > 50

    def checks() -> None:
        for _ in range(100 * count):
            if telemetry.recorder is not None:
                telemetry.record("never", 0.0, 0.0)

    def walks() -> None:
        with tuning.disabled(*STEP_BY_STEP):
            for _ in range(5):
                gamma.bounds(network, box)

    gc.collect()
    assert best(checks) / 100 < 0.01 * best(walks) / 5


def test_an_idle_span_is_cheap() -> None:
    def spans() -> None:
        for _ in range(10_000):
            with telemetry.measure("idle"):
                pass

    assert best(spans) / 10_000 < 5e-6


def gamma_command(*args: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "gamma", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def test_profile_and_trace_on_the_command_line(tmp_path: Path) -> None:
    digits = ROOT / "examples" / "digits"
    model = digits / "mlp.safetensors"
    given = ("--input", digits / "images" / "digit0.npy", "--epsilon", "0.02")
    file = tmp_path / "trace.json"
    done = gamma_command("bounds", model, *given, "--json", "--profile", "--trace", file)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "gamma.bounds" in done.stderr and "crown.node.gemm" in done.stderr
    names = {event["name"] for event in json.loads(file.read_text())["traceEvents"]}
    assert {"gamma.bounds", "bounds", "crown.network", "crown.node.gemm"} <= names
    refused = gamma_command("bounds", model, *given, "--trace", tmp_path / "absent" / "t.json")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1


def test_short_bench_on_the_command_line() -> None:
    done = gamma_command("bench", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "gamma.bench/1"
    validator().validate(found)
    assert found["machine"]["copy"] > 0 and found["environment"]["processor"]
    assert {r["method"] for r in found["records"]} == set(METHODS) - {"alpha"}
    assert all(0 < r["best"] <= r["median"] for r in found["records"])
    lines = table(found["environment"], Machine(**found["machine"]), found["records"])
    assert "GB/s" in lines[1] and lines[3].endswith("boxes/s")


def test_reading_and_searching_have_spans() -> None:
    digits = ROOT / "examples/digits"
    with telemetry.recording() as recorder:
        gamma.verify(digits / "mlp.onnx", digits / "properties/digit1_eps0.1.vnnlib")
    assert {"load", "property", "attack", "replay"} <= {span.name for span in recorder.spans}
