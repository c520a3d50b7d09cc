"""Options from [tool.gamma]: each key an option, the command line wins, mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.cli import settings
from gamma.cli.main import main
from gamma.cli.options import build_parser
from tests.verify.known import dense

PROPERTY = """(declare-const X_0 Real)(declare-const X_1 Real)
(declare-const Y_0 Real)(declare-const Y_1 Real)
(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 1))
(assert (>= Y_0 1.5))"""
SETTINGS = """
[tool.other]
unknown = 1
[tool.gamma]
epsilon = "1/4"
clip = [0, 1]
timeout = 20
no-attack = true
jobs = 2
[tool.gamma.verify]
input = "data/x.npy"
fail_on = "violated"
method = "ibp"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "below").mkdir()
    np.save(tmp_path / "data/x.npy", np.array([1.0, 0.0], np.float32))
    np.save(tmp_path / "low.npy", np.zeros(2))
    (tmp_path / "safe.vnnlib").write_text(PROPERTY)
    gamma.save(dense((np.eye(2).tolist(), [0.0, 0.0])), tmp_path / "net.safetensors")
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path / "below")
    return tmp_path


def asked(*words: str) -> dict[str, object]:
    parser = build_parser()
    settings.apply(parser, words)
    return vars(parser.parse_args(list(words)))


def test_settings_are_defaults_and_the_command_line_wins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "../net.safetensors", "--label", "0", "-v"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED  every input within 0.25 (L∞) of x.npy is class 0")
    told = [line for line in out.splitlines() if line.startswith("setting ")]
    assert len(told) == 7 and all("pyproject.toml: " in line for line in told)
    assert any(line.endswith("verify.fail_on = 'violated'") for line in told)
    assert not any("jobs" in line for line in told)  # of another command
    # Half a unit is a tie, which counts as unsafe: unknown without an attack.
    assert main(["verify", "../net.safetensors", "--label", "0", "--epsilon", "1/2"]) == 0
    assert capsys.readouterr().out.startswith("UNKNOWN")
    words = ["--label", "0", "--epsilon", "1/2", "--fail-on", "unknown", "--json"]
    assert main(["verify", "../net.safetensors", *words]) == 4
    assert json.loads(capsys.readouterr().out)["method"]["asked"] == "ibp"


def test_another_input_set_takes_nothing_of_the_settings_one(folder: Path) -> None:
    assert main(["verify", "../net.safetensors", "--property", "../safe.vnnlib"]) == 0
    ends = ["--box", "../low.npy", "../low.npy"]
    assert main(["bounds", "../net.safetensors", *ends]) == 0


def test_every_option_can_be_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = {"input": '"x.npy"', "norm": "2", "mean": "[0.5, 0.25]", "ids": "[1, 2]", "seed": "7"}
    value |= {"memory": '"300MB"', "json": "true", "no-branch": "true", "threads": "1"}
    lines = "".join(f"{name} = {text}\n" for name, text in value.items())
    (tmp_path / "pyproject.toml").write_text("[tool.gamma]\n" + lines)
    found = asked("verify", "m.onnx")
    assert found["input"] == str(tmp_path / "x.npy") and found["norm"] == "2"
    assert found["mean"] == (0.5, 0.25) and found["ids"] == (1, 2) and found["seed"] == 7
    assert found["memory"] == 300_000_000 and found["json"] is True and found["branch"] == "none"
    assert asked("verify", "m.onnx", "--format", "vnncomp")["json"] is False
    assert asked("verify", "m.onnx", "--mean", "1")["mean"] == (1,)


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("[tool.gamma]\nepsilom = 1", "has no setting epsilom; did you mean epsilon?"),
        ("[tool.gamma.verify]\njobs = 1", "[tool.gamma.verify] has no setting jobs"),
        ("[tool.gamma.verifi]\nlabel = 1", "no setting verifi"),
        ("[tool.gamma]\nmethod = 'crwn'", "did you mean crown?"),
        ("[tool.gamma]\nclip = 1", "clip = 1: expected 2 values"),
        ("[tool.gamma]\nno-attack = 1", "expected true or false"),
        ("[tool.gamma]\ntimeout = -1", "timeout: -1: expected more than zero seconds"),
        ("[tool.gamma]\ntimeout = true", "expected one value"),
        ("[tool.gamma]\nseed = {a = 1}", "expected one value"),
        ("[tool.gamma]\nseed = = 1", "is no TOML"),
    ),
)
def test_mistakes_name_file_and_key(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(text)
    assert main(["verify", "m.onnx", "--label", "0"]) == 2
    err = capsys.readouterr().err
    assert said in err and "pyproject.toml" in err and err.count("\n") == 1


def test_a_nearer_file_of_other_tools_is_passed_over(folder: Path) -> None:
    (folder / "below/pyproject.toml").write_text("[tool.ruff]\nname = 'gamma' = broken")
    found = settings.nearest(folder / "below")
    assert found is not None and found[0] == folder / "pyproject.toml"
    (folder / "below/pyproject.toml").write_text("[tool.gamma]\n")
    found = settings.nearest(folder / "below")
    assert found == (folder / "below/pyproject.toml", {})
