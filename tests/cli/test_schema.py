"""What every command prints with --json is as ``gamma schema`` says, and nothing else is."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.cli.options import build_parser
from tests.architectures import small_models
from tests.verify.known import dense

HEAD = "".join(f"(declare-const {n}_{i} Real)" for n in "XY" for i in range(2))
BOX = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))
NET, SET = "net.safetensors", ("--box", "low.npy", "high.npy")


@functools.cache
def validator() -> Any:
    """Of the schema that the package brings."""
    jsonschema = pytest.importorskip("jsonschema")
    text = (Path(gamma.__file__).parent / "schema.json").read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    return jsonschema.Draft202012Validator(json.loads(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instance k asks whether Y_0 >= k/2 on the unit square."""
    path = tmp_path_factory.mktemp("schema")
    gamma.save(dense((np.eye(2).tolist(), [0.0, 0.0])), path / NET)
    for k in (1, 2, 4):
        (path / f"p{k}.vnnlib").write_text(HEAD + BOX + f"(assert (>= Y_0 {k / 2}))")
    np.save(path / "low.npy", np.array([0.5, 0.0]))
    np.save(path / "high.npy", np.array([1.0, 0.25]))
    np.save(path / "many.npy", np.eye(2))
    small_models.folder(path / "model", small_models.LLAMA, scale=0.25)
    small_models.gguf(path / "model.gguf", small_models.LLAMA)
    return path


COMMANDS: dict[str, tuple[str, ...]] = {
    "verified": ("verify", NET, "--property", "p4.vnnlib"),
    "violated": ("verify", NET, "--property", "p1.vnnlib"),
    "unknown": ("verify", NET, "--property", "p2.vnnlib", "--method", "ibp", "--no-attack"),
    "explained": ("verify", NET, "--property", "p2.vnnlib", "--method", "ibp", "--explain"),
    "cosine": ("verify", NET, *SET, "--cosine", "0.5"),
    "bounds": ("bounds", NET, *SET, "--all-layers"),
    "range": ("bounds", NET, *SET, "--method", "branch"),
    "streamed": ("bounds", NET, *SET, "--memory", "1GB", "--explain"),
    "storage": ("verify", NET, "--ranges", "f16"),
    "batch": ("verify", NET, "--input", "many.npy", "--label", "0", "--epsilon", "0.1"),
    "ranges": ("ranges", NET, *SET),
    "ranges, real": ("ranges", NET, "--storage", "real"),
    "ranges of prompts": ("ranges", "model", "--ids", "1,2"),
    "overflow": ("overflow", NET, *SET, "--method", "crown"),
    "overflow, violated": ("overflow", NET, "--box", "high.npy", "far.npy", "--memory", "1GB"),
    "inspect": ("inspect", NET),
    "inspect, model": ("inspect", "model"),
    "inspect, gguf": ("inspect", "model.gguf"),
    "info": ("info",),
    "tune": ("tune", "--show"),
}
ELSEWHERE = {"suite", "merge", "bench", "schema", "completion"}
"""A suite's records are checked in test_shards.py, bench in test_telemetry.py; the last two print
no JSON object of their own."""


def test_every_command_is_tried() -> None:
    assert {words[0] for words in COMMANDS.values()} == set(build_parser().parsers()) - ELSEWHERE


@pytest.mark.parametrize("name", COMMANDS)
def test_outputs_are_as_the_schema_says(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    np.save("far.npy", np.full(2, 1e5))
    main([*COMMANDS[name], "--json"])
    found = json.loads(capsys.readouterr().out)
    validator().validate(found)
    assert not validator().is_valid(found | {"undocumented": 1})


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "gamma.result/1" in capsys.readouterr().out
