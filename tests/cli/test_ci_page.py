"""The workflow of docs/ci.md: valid YAML, and its commands do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from gamma.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits"


def test_the_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    (job,) = yaml.safe_load(block)["jobs"].values()
    commands = [s["run"] for s in job["steps"] if s.get("run", "").startswith("gamma ")]
    for name in ("models", "data", "properties"):
        (tmp_path / name).mkdir()
    (tmp_path / "models/net.onnx").write_bytes((DIGITS / "mlp.onnx").read_bytes())
    images = [np.load(DIGITS / f"images/digit{k}.npy") for k in (0, 3)]
    np.save(tmp_path / "data/x.npy", np.stack(images))
    np.save(tmp_path / "data/y.npy", np.array([0, 3]))
    property_ = next(iter(sorted((DIGITS / "properties").iterdir())))
    (tmp_path / "properties/p.vnnlib").write_bytes(property_.read_bytes())
    (tmp_path / "properties/instances.csv").write_text("../models/net.onnx,p.vnnlib,30\n")
    monkeypatch.chdir(tmp_path)
    assert [main(shlex.split(command)[1:]) for command in commands] in ([0, 0], [0, 3])
    made = {path.name for path in tmp_path.iterdir()}
    assert {"accuracy.xml", "accuracy.sarif", "suite.xml", "suite.csv"} <= made
