"""``gamma ranges``, ``gamma verify --ranges`` and the table of blocks, on small model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.errors import UsageError
from gamma.formats.model import open_model
from gamma.propagate.caps import norm_caps
from gamma.propagate.memory.streaming import StreamingConfig
from gamma.tensor.box import Box
from gamma.verification.bounding import bound_outputs
from gamma.verification.ranges import caps_of
from tests.architectures import small_models
from tests.architectures.small_models import BERT, GPT2, LLAMA, QWEN3, WHISPER

TEXT = {"bert": BERT, "gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranges")
    for name, config in (*TEXT.items(), ("whisper", WHISPER)):
        small_models.folder(path / name, config, scale=0.25)
    small_models.folder(path / "large", LLAMA, scale=2e4)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("name", TEXT)
def test_no_prompt_of_any_length_leaves_the_ranges(name: str, folder: Path) -> None:
    model = open_model(folder / name)
    found = gamma.ranges(model)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 40, n) for n in (1, 2, 3, 7, 12) for _ in range(12)]
    for ids in prompts:
        net = model.network(len(ids))
        values = net.values(model.embed(ids)[None].astype(np.float64))
        for node, r, value in zip(net.nodes, found.tensors, values, strict=True):
            assert node.name == r.name
            assert r.lower * (1 + 1e-12) <= value.min() and value.max() <= r.upper * (1 + 1e-12)
    assert all(np.isfinite(r.largest) for r in found.tensors)


def test_ranges_of_a_prompt_are_inside_those_of_every_prompt(folder: Path) -> None:
    model = open_model(folder / "qwen3")
    every = gamma.ranges(model, storage="real")
    x = model.embed([3, 1, 4])
    one = gamma.ranges(model.network(3), Box.linf(x, 1e-4), storage="real")
    for a, b in zip(one.tensors, every.tensors, strict=True):
        assert a.lower >= b.lower - 1e-9 and a.upper <= b.upper + 1e-9, a.name
    narrow = one["blk.0.attn_q"]
    assert (narrow.upper - narrow.lower).max() < 0.05
    assert one["blk.0.attn_q"].lower.shape == (3, 24)


def test_a_model_in_text_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "ranges", folder / "qwen3", "--ids", "1,2,3")
    assert status == 0 and "proved impossible" in out and "every prompt of 1 to 12 tokens" in out
    assert "blk.*.ffn_down" in out and "observed" in out
    status, out, _ = run(capsys, "ranges", folder / "bert", "--json", "--ids", "5,6")
    found = json.loads(out)
    assert status == 0 and found["overflow"]["verdict"] == "impossible"
    for tensor in found["tensors"]:
        low, high = tensor["observed"]
        assert tensor["lower"] <= low + 1e-5 and high <= tensor["upper"] + 1e-5


def test_the_picture(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "ranges.svg"
    words = ("ranges", folder / "qwen3", "--ids", "1,2", "--picture", file)
    assert run(capsys, *words)[0] == 0
    assert b"<svg" in file.read_bytes()[:400]
    from gamma.cli.ranges_picture import draw

    found = gamma.ranges(open_model(folder / "qwen3"))
    assert draw(found, "png").startswith(b"\x89PNG")


def test_no_spectrogram_of_a_set_leaves_the_ranges(folder: Path) -> None:
    """States are joined behind the convolutions: what they leave holds at every position."""
    model = open_model(folder / "whisper")
    rng, middle = np.random.default_rng(1), np.random.default_rng(2).normal(size=(5, 6))
    box = gamma.Box(middle - 0.5, middle + 0.5)
    found, net = gamma.ranges(model, box), model.network(3)
    assert all(np.isfinite(r.largest) for r in found.tensors)
    for _ in range(40):
        x = np.where(rng.random((5, 6)) < 0.5, box.lower, box.upper)
        for node, value in zip(net.nodes, net.values(x[None]), strict=True):
            ends = found[node.name]
            assert (ends.lower <= value[0]).all() and (value[0] <= ends.upper).all(), node.name


def test_verdicts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, status, word in (
        ((folder / "bert", "--ranges", "f16"), 0, "VERIFIED"),
        ((folder / "llama", "--ranges", "bf16"), 0, "VERIFIED"),
        ((folder / "llama", "--ranges", "int8", "--scale", "100"), 0, "VERIFIED"),
        ((folder / "llama", "--ranges", "int8", "--scale", "1e-3"), 4, "UNKNOWN"),
        ((folder / "large", "--ranges", "f16"), 4, "UNKNOWN"),
        ((folder / "whisper", "--ranges", "f16"), 4, "UNKNOWN"),  # any spectrogram
    ):
        found, out, _ = run(capsys, "verify", *words)
        assert (found, out.split()[0]) == (status, word)
    status, out, _ = run(capsys, "verify", folder / "large", "--ranges", "f16", "--json")
    assert json.loads(out)["verdict"] == "unknown" and status == 4


def test_a_set_of_inputs_can_be_asked_about(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "mel.npy", np.zeros((5, 6)))
    words = ("--input", tmp_path / "mel.npy", "--epsilon", "2")
    status, out, _ = run(capsys, "verify", folder / "whisper", "--ranges", "f16", *words)
    assert status == 0 and "the input set" in out
    status, out, _ = run(capsys, "ranges", folder / "whisper", "--json", *words)
    box = gamma.Box.linf(np.zeros((5, 6)), 2.0)
    found = gamma.ranges(open_model(folder / "whisper"), box)  # positions are not told apart
    assert status == 0 and json.loads(out)["tensors"] == found.to_dict()["tensors"]


def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("ranges", folder / "bert", "--picture", "ranges.pdf"), ".svg or .png"),
        (("ranges", folder / "bert", "--block", "1"), "--epsilon"),
        (("verify", folder / "bert", "--ranges", "f16", "--label", "1"), "one question at a time"),
        (("verify", folder / "bert", "--ranges", "f16", "--format", "vnncomp"), "vnncomp"),
        (("verify", folder / "bert", "--ranges", "int8", "--scale", "0"), "more than zero"),
    ):
        try:
            status, _, err = run(capsys, *words)
        except SystemExit as error:  # argparse
            status, err = int(error.code or 0), capsys.readouterr().err
        assert status == 2 and message in err, err
    with pytest.raises(UsageError, match="storage"):
        gamma.ranges(open_model(folder / "bert"), storage="f8")


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_bounds_say_where_they_are_vacuous(
    method: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("bounds", folder / "bert", "--ids", "1,2,3", "--method", method, "--json")
    wide = json.loads(run(capsys, *words, "--epsilon", "10")[1])["blocks"]
    assert [b["vacuous"] for b in wide] == [True, True] and wide[1]["share"] >= 0.99
    narrow = json.loads(run(capsys, *words, "--epsilon", "1e-12")[1])["blocks"]
    assert not any(b["vacuous"] for b in narrow) and narrow[1]["share"] < 0.1
    assert narrow[0]["node"] == "blk.0.layer_output_norm"
    status, out, _ = run(capsys, *words[:-1], "--epsilon", "10")
    assert status == 0 and out.count("vacuous") == 2


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("streaming", [None, StreamingConfig(), StreamingConfig(3)])
def test_caps_are_met_and_only_tighten(
    guarantee: str, streaming: StreamingConfig | None, folder: Path
) -> None:
    """Wide sets: with caps a bound is inside the cap and inside the bound without."""
    model = open_model(folder / "llama")
    net, x = model.network(3), model.embed([1, 2, 3])
    box = Box.linf(x, 0.3)
    how: Any = {"method": "ibp", "guarantee": guarantee, "dtype": "float64"}
    with gamma.tuning.disabled("norm_caps"):
        plain = gamma.bounds(net, box, **how)
    capped = gamma.bounds(net, box, streaming=streaming, **how)
    assert (capped.lower >= plain.lower).all() and (capped.upper <= plain.upper).all()
    assert (capped.upper < plain.upper).all()
    same = gamma.bounds(net, box, **how)
    assert np.array_equal(same.lower, capped.lower) and np.array_equal(same.upper, capped.upper)
    caps = norm_caps(net, box.batched(net.input_shape), guarantee, False)
    low, high = caps[net.output]
    values = net.values(x[None] + np.random.default_rng(0).uniform(-0.3, 0.3, (2000, *x.shape)))
    for index, (a, b) in caps.items():
        assert (values[index] >= a - 1e-9).all() and (values[index] <= b + 1e-9).all()
    assert (capped.upper <= high[0] + 1e-6).all() and (capped.lower >= low[0] - 1e-6).all()
    assert caps.keys() == norm_caps(net, box.batched(net.input_shape), "real", False).keys()


def test_a_streamed_pass_says_which_blocks_are_vacuous(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(folder / "llama")
    net, box = model.network(3), Box.linf(model.embed([1, 2, 3]), 0.3)
    monkeypatch.setattr("gamma.propagate.choosing._MANY", 0)
    found = [
        bound_outputs(net, box, method="ibp", streaming=streaming)
        for streaming in (None, StreamingConfig())
    ]
    assert found[0].blocks == found[1].blocks and found[0].blocks[-1]["vacuous"]


def test_streaming_in_a_file_has_the_bounds_that_memory_has(folder: Path) -> None:
    """CROWN's bounds inside, packed: caps meet derived nodes each time they are derived."""
    model = open_model(folder / "llama")
    net = model.network(2)
    box = Box.linf(model.embed([1, 2]), 0.1)
    with gamma.tuning.disabled("ellipsotopes"):  # rows alone
        for config in (StreamingConfig(spill=True), StreamingConfig(use_f16_checkpoints=True)):
            found = gamma.bounds(net, box, method="crown", streaming=config)
            caps = norm_caps(net, box.batched(net.input_shape), "real", True)
            low, high = caps[net.output]
            assert (found.upper <= high[0] + 1e-5).all() and (found.lower >= low[0] - 1e-5).all()


@pytest.mark.parametrize("name", TEXT)
def test_ranges_beside_a_set_are_caps_of_its_network(name: str, folder: Path) -> None:
    """A set far outside of the vocabulary: no value leaves the ranges, nor a bound its cap."""
    model = open_model(folder / name)
    box = Box.linf(model.embed([1, 2, 3]).astype(np.float64) + 40, 1.0)
    net = model.network(3)
    found = gamma.ranges(model, box, storage="real")
    assert found.about.endswith("and the input set")
    assert found["input"].upper.max() >= box.upper.max()
    caps = caps_of(found, net)
    own = norm_caps(net, box.batched(net.input_shape), "real", True)
    assert {*own} <= {*caps}
    rng = np.random.default_rng(0)
    values = net.values(rng.uniform(box.lower, box.upper, (200, *net.input_shape)))
    for index, (low, high) in caps.items():
        slack = 1e-9 * (1 + abs(values[index]))
        assert (values[index] >= low - slack).all() and (values[index] <= high + slack).all()
    capped = gamma.bounds(net, box, method="ibp", caps=caps, dtype="float64")
    assert (capped.upper <= caps[net.output][1][0] + 1e-6).all()
