"""The runner of instance lists: verdicts, resuming, contradictions."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gamma
from tests.verify.known import ramp

SCRIPT = Path(__file__).resolve().parents[2] / "benches" / "vnncomp.py"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vnncomp_runner", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "ramps"
    folder.mkdir(parents=True)
    gamma.save(ramp(), folder / "net.safetensors")
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    head += "(assert (>= X_0 -1))(assert (<= X_0 1))"
    for name, bound in (("safe", "1.5"), ("unsafe", "0.5")):
        (folder / f"{name}.vnnlib").write_text(head + f"(assert (>= Y_0 {bound}))")
    names = ("safe", "unsafe", "absent")
    lines = [f"net.safetensors,{n}.vnnlib,20\n" for n in names]
    (folder / "instances.csv").write_text("".join(lines))
    write_expected(folder, "unsat", "sat")
    return folder.parent


def write_expected(folder: Path, safe: str, unsafe: str) -> None:
    text = f"onnx,vnnlib,expected\nnet.safetensors,safe.vnnlib,{safe}\n"
    (folder / "expected.csv").write_text(text + f"net.safetensors,unsafe.vnnlib,{unsafe}\n")


def test_run_resume_and_contradiction(
    runner: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.jsonl"
    arguments = ["--data", str(data), "--out", str(out), "--jobs", "2", "--timeout", "60"]
    assert runner.main(arguments) == 0
    records = {r["vnnlib"]: r for r in map(json.loads, out.read_text().splitlines())}
    verdicts = {name: r["verdict"] for name, r in records.items()}
    assert verdicts == {
        "safe.vnnlib": "verified",
        "unsafe.vnnlib": "violated",
        "absent.vnnlib": "error",
    }
    assert "absent.vnnlib" in records["absent.vnnlib"]["error"]
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()] == ["benchmark", "ramps", "total"]
    assert "1/1" in table

    # Resuming runs only what is missing; a torn last line counts as missing.
    kept = [line for line in out.read_text().splitlines() if '"safe.vnnlib"' in line]
    out.write_text(kept[0] + '\n{"benchmark": "ra')
    assert runner.main([*arguments, "--resume"]) == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(again) == 3
    assert again[0] == json.loads(kept[0])

    write_expected(data / "ramps", "sat", "sat")
    assert runner.main(arguments) == 1
    assert "CONTRADICTION" in capsys.readouterr().err


def test_readme_shows_the_stored_results(runner: ModuleType) -> None:
    """Text and table are both made from benches/vnncomp.json, whose rows add up to the totals."""
    stored = json.loads(runner.STORED.read_text())
    readme = (SCRIPT.parents[1] / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- generated: vnncomp -->")[2].partition("<!-- end: vnncomp -->")[0]
    assert block.strip() == runner.page(stored)
    shares = [[int(n) for n in c.split("/")] for c in re.findall(r"\d+/\d+", block)]
    *rows, refuted, proved = shares
    both = [a + b for a, b in zip(refuted, proved, strict=True)]
    assert [sum(share[i] for share in rows) for i in (0, 1)] == both
    assert "{} of {} known violations".format(*refuted) in block
    assert "{} of {} known-safe".format(*proved) in block


def test_counts_of_records(runner: ModuleType) -> None:
    args = runner.arguments(["--data", ".", "--out", "o", "--threads", "1"])
    line: dict[str, Any] = {"benchmark": "b", "onnx": "", "vnnlib": ""}
    verdicts = [
        ("sat", "violated"),
        ("sat", "timeout"),
        ("unsat", "verified"),
        ("unknown", "error"),
    ]
    line |= {"limit": 60.0, "wall": 10.0, "processor": 9.0}
    records = [line | {"expected": e, "verdict": v} for e, v in verdicts]
    stored = runner.counts(records, args)
    row = {"instances": 4, "refuted": 1, "sat": 2, "proved": 1, "unsat": 1}
    assert stored["benchmarks"] == {"b": row}
    assert stored["contradictions"] == 0
    assert "| b | 1/2 | 1/1 |" in runner.page(stored)
    text = " ".join(runner.page(stored).split())  # lines are wrapped
    assert "60 s each" in text and "busy" not in text
    records[0] |= {"limit": 30.0, "wall": 90.0}
    text = " ".join(runner.page(runner.counts(records, args)).split())
    assert "30 to 60 s each" in text and "had 30 % of a core" in text
    del records[0]["processor"]
    assert "busy" not in runner.page(runner.counts(records, args))
