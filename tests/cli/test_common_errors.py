"""The messages that docs/common-errors.md quotes are those that commands print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gamma.cli.main import main
from gamma.errors import missing
from tests.formats.onnx_models import model

ROOT = Path(__file__).resolve().parents[2]
MLP = str(ROOT / "examples/digits/mlp.onnx")
IMAGE = str(ROOT / "examples/digits/images/digit3.npy")
ASKED = ("--input", "zeros", "--epsilon", "0.1", "--label", "0")


def quoted() -> list[str]:
    """The messages in the first column of the table, in order."""
    page = (ROOT / "docs/common-errors.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    return [found[1] for row in rows if (found := re.match(r"\| `([^`]+)` \|", row))]


def unknown_operator() -> list[str]:
    nodes = [("NonsenseOperator", ["x"], ["y"], {})]
    Path("u.onnx").write_bytes(model(nodes, (1, 3)).SerializeToString())
    return ["verify", "u.onnx", *ASKED]


def two_outputs() -> list[str]:
    made = model([("Relu", ["x"], ["y"], {}), ("Abs", ["x"], ["z"], {})], (1, 3))
    second = made.graph.output.add()
    second.CopyFrom(made.graph.output[0])
    made.graph.output[0].name, second.name = "y", "z"
    Path("two.onnx").write_bytes(made.SerializeToString())
    return ["verify", "two.onnx", *ASKED]


def weights_alone() -> list[str]:
    layers = {f"{k}.weight": np.eye(2, dtype=np.float32) for k in (0, 2)}
    save_file(layers | {f"{k}.bias": np.zeros(2, np.float32) for k in (0, 2)}, "w.safetensors")
    return ["verify", "w.safetensors", *ASKED]


def another_shape() -> list[str]:
    np.save("x.npy", np.zeros(65))
    return ["verify", MLP, "--input", "x.npy", "--epsilon", "0.1", "--label", "0"]


def checkpoint() -> list[str]:
    Path("m.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    return ["verify", "m.pt", *ASKED]


COMMANDS: dict[str, Callable[[], list[str]]] = {
    "nothing to prove": lambda: ["verify", MLP, "--input", IMAGE, "--epsilon", "0.05"],
    "--input needs --epsilon": lambda: ["verify", MLP, "--input", IMAGE, "--label", "3"],
    "array of shape": another_shape,
    "holds a pickle": checkpoint,
    "is not supported": unknown_operator,
    "outputs: found": two_outputs,
    "the activation between": weights_alone,
    "label 12": lambda: ["verify", MLP, "--input", IMAGE, "--epsilon", "0.05", "--label", "12"],
    "memory limit": lambda: ["bounds", MLP, *ASKED[:4], "--memory", "2kB"],
}


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_printed(
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "needs the package" in message:
        said = str(missing("a", "b", "c"))
    else:
        (command,) = (make for key, make in COMMANDS.items() if key in message)
        assert main(command()) in (2, 5)
        said = capsys.readouterr().err
    names = {"a, b": "y, z", "--output-name a": "--output-name y"}  # of this file's outputs
    for old, new in names.items():
        message = message.replace(old, new)
    pieces = [re.escape(piece.strip()) for piece in message.split("...")]
    assert re.search(".*".join(pieces), said.replace("The activation", "the activation")), said


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("verify", "absent.safetensors"), "absent.safetensors"),
        (("verify", "absent.gguf", "--input", "zeros", "--epsilon", "0"), "absent.gguf"),
        (("bounds", "absent.onnx", "--norm", "2"), "absent.onnx"),
        (("verify", MLP, "--property", "absent.vnnlib", "--label", "1"), "absent.vnnlib"),
    ],
)
def test_a_file_that_is_not_there_is_the_first_thing_said(
    words: tuple[str, ...], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = main(words), capsys.readouterr().err
    assert status == 2 and said.startswith(f"gamma: {path}: does not exist")
