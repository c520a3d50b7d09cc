"""`gamma verify MODEL --layer-by-layer`: each block by itself, at the state that it truly gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import gamma
from gamma.cli import layerwise
from gamma.cli.main import main
from gamma.formats.model import open_model
from tests.architectures import small_models
from tests.architectures.small_models import BERT, GPT2, QWEN3, WHISPER

RADIUS = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers")
    for config in (BERT, GPT2, WHISPER):
        small_models.folder(path / config["model_type"], config, scale=0.25)
    small_models.gguf(path / "qwen3.gguf", QWEN3, scale=0.25)
    np.save(path / "mel.npy", np.ones((5, 6)))
    return path


def asked(folder: Path, name: str) -> tuple[str, ...]:
    prompt = ("--input", str(folder / "mel.npy")) if name == "whisper" else ("--ids", "3,7,1")
    return "verify", str(folder / name), *prompt, "--layer-by-layer", "--epsilon", str(RADIUS)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("name", ["qwen3.gguf", "whisper"])
def test_every_block_has_the_width_of_its_own_network(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str
) -> None:
    status, out, err = run(capsys, *asked(folder, name), "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    model = open_model(folder / name)
    x = np.ones((5, 6)) if name == "whisper" else model.embed([3, 7, 1])
    states = list(model.all_states(x))
    assert found["verdict"] == "none" and found["bounds"] is None
    assert [b["block"] for b in found["blocks"]] == list(range(len(states)))
    for k, (row, state) in enumerate(zip(found["blocks"], states, strict=True)):
        assert (state == model.states(x, k)).all()
        net = model.network(3, block=k, until=k + 1)
        made = gamma.bounds(net, gamma.Box.linf(state, RADIUS), method="crown")
        width = np.subtract(made.upper, made.lower, dtype=np.float64).mean()
        assert row["method"] == "crown" and not row["vacuous"] and 1 <= row["ratio"] < 2
        # Ends of `bounds` are rounded to float32.
        assert 0 <= width - row["width"] <= 2.0**-22 * abs(np.asarray(made.upper)).max()
        y = net.forward(state, np.float64)
        assert (made.lower <= y).all() and (y <= made.upper).all()
        if k + 1 < len(states):  # the chain of blocks is the network
            assert abs(y - states[k + 1]).max() < 1e-5


def test_the_first_line_says_what_is_certified(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    status, out, _ = run(capsys, *asked(folder, "bert"))
    first = out.splitlines()[0]
    assert status == 0 and first.startswith(
        "BLOCKS  2 of 2, each by itself within 1e-05 (L∞) of its true state; no block's bounds are"
    )
    assert "of first order" in out and "nothing is said of several together" in out


def test_blocks_that_do_not_end_are_named(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By intervals where the method is known to take too long; status 5 without even these."""
    monkeypatch.setattr(layerwise, "may_end", lambda *_: False)
    status, out, _ = run(capsys, *asked(folder, "bert"))
    assert status == 0
    assert "crown needs more time: bounds of blocks 0, 1 are by intervals" in out
    status, out, _ = run(capsys, *asked(folder, "bert"), "--timeout", "1e-4")
    assert status == 5 and out.startswith("BLOCKS  0 of 2")
    assert "not even interval bounds of blocks 0, 1 ended in time" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--label", "3"), "--layer-by-layer and --label exclude each other"),
        (("--block", "1"), "--layer-by-layer and --block exclude each other"),
        (("--output-name", "logits"), "--layer-by-layer and --output-name exclude each other"),
    ],
)
def test_refusals(
    capsys: pytest.CaptureFixture[str], folder: Path, more: tuple[str, ...], message: str
) -> None:
    status, out, err = run(capsys, *asked(folder, "gpt2"), *more)
    assert status == 2 and not out and message in err


def test_needs_a_model_with_blocks(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    name = str(folder / "plain.safetensors")
    save_file({"weight": np.ones((2, 2), np.float32)}, name)
    words = ("verify", name, "--input", "zeros", "--epsilon", "0", "--layer-by-layer")
    status, _, err = run(capsys, *words)
    assert status == 2 and "needs the blocks of a language or speech model" in err
