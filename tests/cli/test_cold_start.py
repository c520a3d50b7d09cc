"""What a verdict does not import: a cold start is most of the time of a small question."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits"
# The slow ones first: numpy.ma takes longer than the rest of NumPy, onnx longer than the verdict.
HEAVY = """onnx ml_dtypes numpy.ma importlib.metadata email logging concurrent.futures tempfile
    vnnlib gguf safetensors tokenizers rich joblib matplotlib shtab onnxruntime torch difflib
    gamma.architectures gamma.formats.gguf gamma.propagate.ranges"""
PROGRAM = """
import sys
from gamma.cli.main import main
status = main(sys.argv[2:])
print(status, *sorted(set(sys.argv[1].split()) & set(sys.modules)), file=sys.stderr)
"""


def test_a_verdict_about_a_small_onnx_file_imports_what_it_needs() -> None:
    command = [
        *("verify", str(DIGITS / "mlp.onnx"), "--property"),
        str(DIGITS / "properties/digit3_eps0.05.vnnlib"),
    ]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, HEAVY, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.startswith("VERIFIED"), result.stderr
    assert result.stderr.split() == ["0"]  # the status, and none of them
