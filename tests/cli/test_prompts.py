"""Language and speech models on the command line: prompts, sets of inputs, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamma.cli import prompts, unasked
from gamma.cli.main import main
from gamma.cli.options import build_parser
from gamma.formats.model import open_model
from gamma.verification.bounding import bound_outputs
from tests.architectures import small_models
from tests.architectures.small_models import BERT, GPT2, QWEN3, WHISPER
from tests.architectures.test_sentences import sentence_folder

SET = ("--epsilon", "1e-6", "--method", "ibp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts")
    for config in (BERT, GPT2, WHISPER):
        small_models.folder(path / config["model_type"], config, scale=0.25)
    small_models.gguf(path / "qwen3.gguf", QWEN3, scale=0.25)
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: k for k, word in enumerate(("[UNK]", "hello", "world", "good", "day"))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.enable_padding(length=9)
    made.enable_truncation(2)
    made.save(str(path / "gpt2" / "tokenizer.json"))
    np.save(path / "mel.npy", np.ones((5, 6)))
    np.save(path / "odd.npy", np.ones((5, 7)))
    np.save(path / "state.npy", np.ones((3, 16)))
    np.save(path / "more.npy", np.ones((3, 16)) + 1e-6)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def bounds(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    status, out, err = run(capsys, "bounds", *words, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("form", ["gpt2", "qwen3.gguf"])
def test_ids(capsys: pytest.CaptureFixture[str], folder: Path, form: str, method: str) -> None:
    found = bounds(capsys, folder / form, "--ids", "3,7,1", "--epsilon", "1e-6", "--method", method)
    model = open_model(folder / form)
    y = model.network(3).forward(model.embed([3, 7, 1]), np.float64)
    low, high = (np.array(found["bounds"][end]) for end in ("lower", "upper"))
    assert (low <= y).all() and (y <= high).all() and found["verdict"] == "none"


def test_text_is_neither_padded_nor_cut(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    asked = ("--epsilon", "0", "--method", "ibp", "--output-name", "last_hidden_state")
    found = bounds(capsys, folder / "gpt2", "--text", "hello good world", *asked)
    known = bounds(capsys, folder / "gpt2", "--ids", "1,3,2", *asked)
    assert found["bounds"] == known["bounds"] and found["bounds"]["shape"] == [1, 3, 16]


def test_positions_and_norms_are_smaller_sets(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """Of one position, and of a ball over it: narrower than of all."""

    def width(*more: Any) -> float:
        asked = ("--epsilon", "1e-6", "--output-name", "blk.0.attn_qkv")
        found = bounds(capsys, folder / "gpt2", "--ids", "3,7,1", *asked, *more)["bounds"]
        return float((np.array(found["upper"]) - np.array(found["lower"])).sum())

    whole, one = width(), width("--positions", "1")
    ball = width("--positions", "1", "--norm", "2")
    assert ball < one < whole
    assert abs(width("--positions", "-2") - one) < 1e-12


def test_block_starts_at_the_prompts_state(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    found = bounds(capsys, folder / "bert", "--ids", "3,7", "--block", "1", *SET)["bounds"]
    model = open_model(folder / "bert")
    state = model.states(model.embed([3, 7]), 1)
    y = model.network(2, block=1).forward(state, np.float64).ravel()
    assert (np.array(found["lower"]) <= y).all() and (y <= np.array(found["upper"])).all()


def test_a_line_between_two_tokens(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = ("--text", "hello world", "--from", "world", "--to", "day", "--method", "ibp")
    found = bounds(capsys, folder / "gpt2", *line)["bounds"]
    model = open_model(folder / "gpt2")
    for ids in ([1, 2], [1, 4]):
        y = model.network(2).forward(model.embed(ids), np.float64)
        assert (np.array(found["lower"]) <= y).all() and (y <= np.array(found["upper"])).all()


def test_arrays(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    mel = bounds(capsys, folder / "whisper", "--input", folder / "mel.npy", *SET)
    assert mel["bounds"]["shape"] == [1, 3, 16]
    box = ("--box", folder / "state.npy", folder / "more.npy", "--method", "ibp")
    assert bounds(capsys, folder / "gpt2", *box)["bounds"]["shape"] == [1, 40]
    zeros = bounds(capsys, folder / "bert", "--input", "zeros", *SET)
    assert zeros["bounds"]["shape"] == [1, 1, 16]


def test_next_token(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """The network's own choice is proved at a point, another one refuted by it."""
    model = open_model(folder / "gpt2")
    y = model.network(2).forward(model.embed([1, 2]), np.float64)
    asked = (folder / "gpt2", "--text", "hello world", "--epsilon", "1e-9", "--method", "crown")
    assert run(capsys, "verify", *asked, "--label", int(y.argmax()))[0] == 0
    assert run(capsys, "verify", *asked, "--label", int(y.argmin()))[0] == 3
    assert run(capsys, "verify", *asked, "--label", "day", "--native")[0] in (0, 3)


@pytest.mark.parametrize("form", ["gpt2", "qwen3.gguf"])
def test_next_token_of_a_large_vocabulary(
    capsys: pytest.CaptureFixture[str], folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number, the best other token's margin, and the same verdicts."""
    monkeypatch.setattr("gamma.cli.prompts.MANY", 8)
    model = open_model(folder / form)
    y = model.network(2).forward(model.embed([1, 2]), np.float64)
    asked = (folder / form, "--ids", "1,2", "--json")
    for method in ("ibp", "crown"):
        label = ("--label", int(y.argmax()), "--method", method, "--epsilon", "1e-12")
        status, out, _ = run(capsys, "verify", *asked, *label)
        assert (status, json.loads(out)["verdict"]) == (0, "verified")
    second = int(np.argsort(y)[-2])
    label = ("--label", second, "--method", "ibp", "--epsilon", "1e-6")
    status, out, _ = run(capsys, "verify", *asked, *label)
    assert status == 3 and json.loads(out)["counterexample"]["y"][0] >= 0


def test_nothing_to_prove_says_in_one_line_what_is_certified(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """Bounds, whether they say anything, and overflow for every prompt; intervals where the method
    does not end in time, and the ranges alone where these do not."""
    asked = ("verify", folder / "qwen3.gguf", "--native", "--ids", "1,2")
    status, out, _ = run(capsys, *asked, "--epsilon", "1e-6", "--method", "crown")
    first = out.splitlines()[0]
    assert status == 0 and first.startswith("BOUNDS  nothing asked") and "by crown" in first
    assert "no block's bounds are vacuous" in first and "no activation can overflow f16" in first
    status, out, _ = run(capsys, *asked, "--epsilon", "10", "--method", "ibp", "--json")
    found = json.loads(out)
    assert status == 0 and found["verdict"] == "none" and all(b["vacuous"] for b in found["blocks"])
    assert "VACUOUS: in every block" in found["notes"][0]
    mel = ("--input", folder / "mel.npy", "--epsilon", "1e-6", "--method", "ibp")
    status, out, _ = run(capsys, "verify", folder / "whisper", *mel)
    first = out.splitlines()[0]
    assert status == 0 and "no block's bounds are vacuous (at most" in first
    assert "no activation can overflow f16, for all of the input set" in first
    status, out, _ = run(capsys, *asked, "--epsilon", "1e-6", "--timeout", "1e-3")
    assert status == 5 and "not even interval bounds of the outputs ended in time" in out


def test_intervals_where_the_method_is_late(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("verify", folder / "gpt2", "--ids", "1,2", "--epsilon", "1e-6", "--method", "crown")
    args = build_parser().parse_args([str(word) for word in words])
    net, prop = prompts.question(args, open_model(folder / "gpt2"))
    intervals = bound_outputs(net, prop.box(), method="ibp")
    early = unasked._better(args, "crown", net, prop, 1e-9, intervals)
    assert early.notes[-1].startswith("crown was not tried, it takes far longer")
    monkeypatch.setattr(unasked, "may_end", lambda *_: True)
    late = unasked._better(args, "crown", net, prop, 1e-9, intervals)
    assert late.bounds is intervals.bounds and late.notes[-1].startswith(
        "crown did not end in 1e-09"
    )
    assert "by ibp, crown needs more time" in unasked.said(late, "crown")
    assert unasked._better(args, "crown", net, prop, 60.0, intervals).used[0] == "crown"


def test_cosine_of_sentence_embeddings(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """Verified near the prompt, refuted by a witness far from it; JSON has the proved bound."""
    pooled = {"pooling_mode_mean_tokens": True}
    sentence_folder(tmp_path / "m", pooled, "Pooling", "Normalize")
    asked = (tmp_path / "m", "--ids", "3,7", "--cosine", "0.99", "--epsilon")
    status, out, err = run(capsys, "verify", *asked, "1e-5")
    assert status == 0 and out.startswith("VERIFIED  every output has a cosine of at least 0.99")
    status, out, err = run(capsys, "verify", *asked, "0.5", "--json")
    found = json.loads(out)
    assert status == 3 and found["verdict"] == "violated" and found["cosine"]["asked"] == 0.99
    x = np.array(found["counterexample"]["x"])
    model = open_model(tmp_path / "m")
    prompt = model.embed([3, 7])
    assert abs(x - prompt.ravel()).max() <= 0.5
    net = model.network(2, output="sentence_embedding")
    u, v = (net.forward(p.reshape(2, 16), np.float64) for p in (prompt, x))
    assert u @ v < 0.99
    status, out, err = run(capsys, "verify", *asked[:-1], "--to", "5", "--positions", "1", "--json")
    assert status in (0, 3, 4) and json.loads(out)["cosine"]["lower"] < 1
    gpt2 = (folder / "gpt2", "--ids", "1,2", "--epsilon", "1e-6", "--cosine", "0.9")
    status, out, err = run(capsys, "verify", *gpt2)
    assert status == 2 and "--output-name: logits, last_hidden_state" in err
    status, out, err = run(capsys, "verify", *gpt2, "--output-name", "last_hidden_state")
    assert status == 0
    for more, message in (
        (("--label", "3"), "--cosine and --label exclude"),
        (("--stream",), "--cosine and --stream exclude"),
        (("--format", "vnncomp"), "needs --property or --label"),
        (("--clip", "-9", "9", "--output-name", "last_hidden_state"), "of a prompt's embeddings"),
    ):
        status, out, err = run(capsys, "verify", *gpt2, *more)
        assert status == 2 and message in err
    status, out, err = run(capsys, "verify", folder / "bert", *gpt2[1:])
    assert status == 2 and "no modules.json" in err


IDS = ("--ids", "1,2")
REFUSED = [
    (("gpt2", *SET), "no input set: give --ids or --text"),
    (("gpt2", *IDS), "--ids needs --epsilon"),
    (("gpt2", *IDS, "--text", "a", *SET), "--ids and --text exclude each other"),
    (("gpt2", "--ids", "1,40", *SET), "token id 40, the vocabulary has 40"),
    (("gpt2", "--ids", "1,x", *SET), "expected a whole number"),
    (("gpt2", *IDS, *SET, "--positions", "2"), "positions 0 to 1"),
    (("gpt2", *IDS, *SET, "--block", "2"), "block 2, expected 0 to 1"),
    (("gpt2", *IDS, *SET, "--output-name", "x"), "'x' is none of logits"),
    (("gpt2", "--text", "a", "--to", "day"), "--to: the prompt has the token"),
    (("gpt2", *IDS, "--from", "day", *SET), "--from needs --to"),
    (("gpt2", *IDS, "--to", "hello day", "--positions", "0"), "is 2 tokens"),
    (("gpt2", *IDS, "--to", "day", "--positions", "0", "--epsilon", "1"), "exclude each other"),
    (("gpt2", *IDS, *SET, "--activation", "relu"), "this"),
    (("bert", "--text", "a", *SET), "no tokenizer.json beside it"),
    (("whisper", "--ids", "1", *SET), "is no text"),
    (("whisper", "--input", "odd.npy", *SET), "an even number"),
    (("whisper", "--input", "state.npy", *SET), "the model takes (5, frames)"),
    (("absent.gguf", *IDS, *SET), "absent.gguf"),
    (("bare.safetensors", *IDS, *SET), "config.json"),
    (("bare.safetensors", "--input", "state.npy", *SET), "give --config"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_refusals(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    shutil.copy("bert/model.safetensors", "bare.safetensors")
    try:
        status, out, err = run(capsys, "bounds", *words)
    except SystemExit as stopped:
        status, (out, err) = int(stopped.code or 0), capsys.readouterr()
    assert status == 2 and not out and message in err and len(err.strip().splitlines()) <= 3


def test_a_label_needs_scores(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, _, err = run(capsys, "verify", folder / "bert", *IDS, *SET, "--label", "3")
    assert status == 2 and "expected scores" in err


@pytest.mark.parametrize("form", ["gpt2", "qwen3.gguf"])
def test_inspect_says_where_it_was_read(
    capsys: pytest.CaptureFixture[str], folder: Path, form: str
) -> None:
    status, out, _ = run(capsys, "inspect", folder / form, "--ids", "1,2,3")
    key = "qwen3.attention.head_count" if form.endswith("gguf") else "n_head"
    assert status == 0 and key in out and "bytes of bounds" in out
    record = json.loads(run(capsys, "inspect", folder / form, "--json")[1])
    assert record["hyper_parameters"]["heads"] == {"value": 4, "read_from": key}
    assert record["supported"] and record["passes"][0]["positions"] == 4


def test_inspect_of_a_gguf_file_that_is_no_known_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.add_tensor("a.weight", np.ones((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    status, out, _ = run(capsys, "inspect", tmp_path / "m.gguf")
    assert status == 0 and "'mamba', gamma builds networks for" in out and "a.weight" in out
