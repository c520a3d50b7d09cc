"""The competition's scripts, run as it runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gamma
from tests.verify.known import dense

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts/vnncomp"
PROPERTY = "".join(
    f"(declare-const {n}_{i} Real)" for n in "XY" for i in range(2)
) + "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, three properties, and an environment whose gamma is this one."""
    path = tmp_path_factory.mktemp("vnncomp")
    gamma.save(dense((np.eye(2).tolist(), [0.0, 0.0])), path / "net.safetensors")
    for name, text in (("unsat", "1.5"), ("sat", "0.5")):
        (path / f"{name}.vnnlib").write_text(PROPERTY + f"(assert (>= Y_0 {text}))")
    (path / "bin").mkdir()
    script = path / "bin/gamma"
    script.write_text(f'#!/bin/bash\nexec {sys.executable} -m gamma "$@"\n')
    script.chmod(0o755)
    return path


def call(folder: Path, name: str, *words: object) -> int:
    env = {"GAMMA_ENV": str(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    command = ["bash", str(SCRIPTS / name), *map(str, words)]
    done = subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    return done.returncode


def test_prepared_and_run(folder: Path) -> None:
    net, out = folder / "net.safetensors", folder / "out.txt"
    left = subprocess.Popen(["sleep", "100"], start_new_session=True)  # of an instance before
    (folder / f"gamma-vnncomp.{os.getuid()}.pid").write_text(str(left.pid))
    assert call(folder, "prepare_instance.sh", "v1", "toy", net, folder / "sat.vnnlib") == 0
    assert left.wait(10) == -9
    for name in ("unsat", "sat"):
        prop = folder / f"{name}.vnnlib"
        assert call(folder, "run_instance.sh", "v1", "toy", net, prop, out, 60) == 0
        lines = out.read_text().splitlines()
        assert lines[0] == name
    values = dict(part.strip("() ").split() for part in "".join(lines[1:]).split(")") if part)
    assert 0.5 <= float(values["X_0"]) <= 1 and values["Y_0"] == values["X_0"]


def test_what_cannot_be_read_is_an_error_and_no_old_answer(folder: Path) -> None:
    out = folder / "old.txt"
    out.write_text("unsat\n")
    words = ("v1", "toy", folder / "absent.onnx", folder / "sat.vnnlib")
    call(folder, "run_instance.sh", *words, out, 60)
    assert out.read_text() == "error\n"
    missing = ("v1", "toy", folder / "net.safetensors", folder / "absent.vnnlib")
    assert call(folder, "prepare_instance.sh", *missing) != 0
    assert call(folder, "run_instance.sh", "v2") == 1
