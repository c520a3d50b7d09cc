"""What a verdict does not import: a cold start is most of the time of a small question."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits"
# The slow ones first: numpy.ma takes longer than the rest of NumPy, onnx longer than the verdict.
HEAVY = """onnx ml_dtypes numpy.ma numpy.random importlib.metadata email logging concurrent.futures
    tempfile zipfile random secrets subprocess threadpoolctl
    vnnlib gguf safetensors tokenizers rich joblib matplotlib shtab onnxruntime torch difflib"""
# All modules of gamma that a small network of dense layers and ReLUs needs, by package. One more is
# a millisecond more of every command: is it needed before something was asked that needs it?
NEEDED = {
    "": "cli decimals deferred errors formats frames frozen methods network ops propagate runtime "
    "telemetry tensor tuning verification",
    "cli": "combinations groups inputs main options output parser picture profile prompts question "
    "report sets settings values verify",
    "formats": "bulk compressed detect formula inputs limits linear npy onnx regions vnnlib "
    "vnnlib1",
    "formats.onnx": "affine arguments batch contract elementwise fold movement outputs read schema "
    "steps table tensors translation values wire",
    "network": "columns exact graph property simplify",
    "ops": "affine affine_interval base bounds charges convolution dense_interval elementwise "
    "ellipsoid ellipsotope enclose evaluate exact execution hinges image_interval linear movement "
    "piecewise relaxation spread sums tables window",
    "propagate": "analysis asked blocks caps choosing dense dense_form domain ellipsotopes facts "
    "forms interval known memory needs options questions remarks rows "
    "specification walks",
    "propagate.memory": "planning store streaming",
    "propagate.rows": "block chain course descend met moves opposite own pixels start tables "
    "windows",
    "runtime": "choices files heap interrupts pool resident threads workers",
    "tensor": "_simd bounded box codes compressed eigenvalues exactly fallback functions kernels "
    "native probe products rounding",
    "tensor._simd": "lib",
    "tensor.kernels": "arguments ascent backend course elementwise images interval met network "
    "normal planes rows sets starts stored",
    "tensor.native": "ascent course elementwise images interval memory network normal planes rows "
    "sets starts stored",
    "verification": "advice attack auto branching choices contradiction describe effort "
    "environment fitting moves objective regions replay result run targets "
    "tree_run verdict",
}
PROGRAM = """
import sys
from gamma.cli.main import main
print(main(sys.argv[1:]), *sys.modules, file=sys.stderr)
"""


# Question -> modules of `formats` that it alone does not need.
QUESTIONS = {
    f"--property {DIGITS}/properties/digit3_eps0.05.vnnlib": "inputs npy",
    f"--input {DIGITS}/images/digit3.npy --epsilon 0.01 --label 3": "vnnlib vnnlib1 formula bulk",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_verdict_about_a_small_onnx_file_imports_what_it_needs(question: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "verify", DIGITS / "mlp.onnx", *question.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.startswith("VERIFIED"), result.stderr
    status, *imported = result.stderr.split()
    assert status == "0"
    assert set(HEAVY.split()) & set(imported) == set()
    ours = {name for name in imported if name.startswith("gamma.")}
    needed = {f"gamma.{place}.{n}" for place, names in NEEDED.items() for n in names.split()}
    assert ours - {name.replace("..", ".") for name in needed} == set()
    assert {f"gamma.formats.{name}" for name in QUESTIONS[question].split()} & ours == set()
