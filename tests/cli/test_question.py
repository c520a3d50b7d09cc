"""The first line answers the question, and a witness says what it changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gamma.cli import picture
from gamma.cli.question import decimal

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
ONE = str(DIGITS / "images/digit1.npy")


def verify(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gamma", "verify", str(DIGITS / "mlp.onnx"), *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
    )


def test_a_proof_and_what_is_left_open() -> None:
    words = ("--input", ONE, "--clip", "0", "1", "--label", "1", "--method", "ibp", "--no-attack")
    proved = verify(*words, "--epsilon", "0.003")
    assert proved.returncode == 0
    first = "VERIFIED  every input within 0.003 (L∞) of digit1.npy is class 1"
    assert proved.stdout.splitlines()[0] == first
    kept = [line.split()[0] for line in proved.stdout.splitlines()[-3:]]
    assert kept == ["model", "guarantee", "time"]
    left = verify(*words, "--epsilon", "8/255", "-v", "--fail-on", "violated")
    assert left.returncode == 0 and "within 8/255 (L∞)" in left.stdout.splitlines()[0]
    assert re.search(r"^method ", left.stdout, re.MULTILINE)


def test_a_witness_is_what_it_changed_and_a_file(tmp_path: Path) -> None:
    out = tmp_path / "w.npy"
    found = verify("--input", ONE, "--epsilon", "0.1", "--clip", "0", "1", "--label", "1",
                   "--witness-out", str(out))  # fmt: skip
    assert found.returncode == 3 and found.stdout.startswith("VIOLATED  an input within 0.1 (L∞)")
    assert re.search(r"of 64 entries changed\n  class      1 before, \d after", found.stdout)
    x = np.load(out)
    steps = zip(x.ravel().tolist(), np.load(ONE).ravel().tolist(), strict=True)
    farthest = max(abs(Fraction(a) - Fraction(b)) for a, b in steps)
    shown = re.search(r"distance +(\S+)", found.stdout)
    assert shown and farthest <= Fraction(shown[1]) and farthest <= Fraction("0.1")


def test_bars_have_one_zero_and_decimals_one_point() -> None:
    axis = (-1.0, 3.0)
    bars = [picture.signed(v, axis, 40, True) for v in (-1.0, -0.5, 0.0, 3.0)]
    assert [len(b) - len(b.lstrip()) for b in bars] == [0, 5, 10, 10] and len(bars[3]) == 40
    assert bars[2].strip() == "" and picture.signed(float("-inf"), axis, 40, True) == ""
    texts = picture.aligned(["-1.5", "10.25", "3", "cannot be met"])
    assert texts[0].index(".") == texts[1].index(".") and len({len(t) for t in texts}) == 1


@pytest.mark.parametrize("text", ("8/255", "0.1", "0.05", "1e-7"))
def test_radii_are_printed_as_they_are(text: str) -> None:
    assert Fraction(decimal(Fraction(text))) == Fraction(text)
