"""Numbers and words of the command line: exact values, and messages that name its options."""

from __future__ import annotations

import argparse
import gzip
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gamma.cli.main import main
from gamma.cli.options import build_parser, in_options
from gamma.cli.values import exact, radius
from gamma.formats.save import save
from tests.formats.onnx_models import model
from tests.verify.known import ramp

GOOD = {
    "8/255": Fraction(8, 255),
    "-8/255": Fraction(-8, 255),
    "0.5/255": Fraction(1, 510),
    "1e-3": Fraction(1, 1000),
    "+.25": Fraction(1, 4),
    "3.": Fraction(3),
    "0/7": Fraction(0),
}
BAD = ("١", "1_0", "1/0", "1/0.0", "8//255", "1/2/3", "/3", "3/", "0x1", "", " 1", "1 / 2", "nan")
BAD += ("inf", "1e400", "1e-400", "1e300/1e-300", "1e-300/1e300", "2" * 2000, "½")


@pytest.mark.parametrize("text", GOOD)
def test_numbers_are_exact(text: str) -> None:
    assert exact(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_number_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        exact(text)
    assert len(str(caught.value)) < 120


def test_options_take_fractions() -> None:
    words = "verify m --input x --epsilon 8/255 --clip -1/3 1/3 --label 0"
    args = build_parser().parse_args(words.split())
    assert args.epsilon == Fraction(8, 255)
    assert args.clip == [Fraction(-1, 3), Fraction(1, 3)]
    with pytest.raises(argparse.ArgumentTypeError, match="negative"):
        radius("-8/255")


@pytest.mark.parametrize(
    ("python", "options"),
    [
        ("found p, q: name one with output=", "found p, q: name one with --output-name"),
        ("open in [n, 3]: give input_shape=", "open in [n, 3]: give --input-shape"),
        ("give input_shape=(channels, height, width)", "give --input-shape channels,height,width"),
        ("give input_shape=(3,)", "give --input-shape 3"),
        ("input_shape [3] does not fit", "--input-shape [3] does not fit"),
        ('give activation="relu"', 'give --activation "relu"'),
        ("ended after 5 s: timeout= allows more", "ended after 5 s: --timeout allows more"),
        ("/x/input_shape.onnx: output: late", "/x/input_shape.onnx: output: late"),
        ("a larger gzip_ratio=", "a larger --gzip-ratio"),
    ],
)  # fmt: skip
def test_messages_name_options(python: str, options: str) -> None:
    assert in_options(python) == options


@pytest.mark.parametrize("command", ["inspect", "bounds", "verify"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_notes_name_options(
    command: str, form: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors did, and the notes of verify: those of inspect and bounds spoke of Python."""
    path = tmp_path / "batch.onnx"
    path.write_bytes(model([("Relu", ["x"], ["y"], {})], (4, 3)).SerializeToString())
    asked = () if command == "inspect" else ("--input", "zeros", "--epsilon", "0.1")
    asked += ("--label", "0") if command == "verify" else ()
    main([command, str(path), *asked, *form])
    shown = " ".join(capsys.readouterr().out.split())
    assert "fixed at 4" in shown and "--input-shape 1,3 for one row" in shown
    assert "input_shape=" not in shown


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("verfy net.onnx", "verify"),
        ("verify net.onnx --epsilom 0.1", "--epsilon"),
        ("verify net.onnx --time-out=3", "--timeout"),
        ("bounds net.onnx --method crwon", "crown"),
        ("suite list.csv --job 2 --thread 3 --guarantee flot32", "float32"),
    ],
)
def test_what_was_meant(words: str, meant: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"did you mean {meant}?" in error and error.count("\n") == 1


def test_an_option_of_another_command(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main("inspect net.onnx --shard 1/2".split())
    assert "--shard is an option of gamma suite;" in capsys.readouterr().err


def test_long_words_are_cut(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "m", "--epsilon", "9" * 2000])
    assert len(capsys.readouterr().err) < 200


def test_an_index_of_weights_is_called_what_it_is(tmp_path: Path, capsys: Any) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"metadata": {"total_size": 5}, "weight_map": {"a": "b.safetensors"}}')
    assert main(["inspect", str(index)]) == 2
    assert "JSON" in capsys.readouterr().err


def test_the_gzip_ratio_can_be_lifted(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamma.formats.compressed.RATIO_FREE", 1000)
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    text = declared + "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 2))"
    path = tmp_path / "p.vnnlib"
    with gzip.open(f"{path}.gz", "wb") as stream:
        stream.write(text.encode() + b"\n" * (1 << 16))
    save(ramp(), tmp_path / "net.safetensors")
    words = ["verify", str(tmp_path / "net.safetensors"), "--property", str(path)]
    assert main(words) == 2
    assert "--gzip-ratio" in capsys.readouterr().err
    assert main([*words, "--gzip-ratio", "2000"]) == 0
