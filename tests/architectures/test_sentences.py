"""Sentence embeddings: what a model's folder says is made of the states of a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from gamma.errors import FormatError, UsageError
from gamma.formats.model import open_model
from tests.architectures import small_models
from tests.architectures.small_models import BERT

IDS = [3, 7, 1]
Array = np.ndarray


def sentence_folder(path: Path, pooling: dict[str, Any], *kinds: str) -> small_models.Small:
    """A BERT's folder with the files of sentence-transformers."""
    made = small_models.folder(path, BERT, scale=0.25)
    modules = [
        {"idx": k, "name": str(k), "path": f"{k}_{kind}" if k else "", "type": f"st.models.{kind}"}
        for k, kind in enumerate(("Transformer", *kinds))
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return made


POOLINGS = {
    "pooling_mode_mean_tokens": lambda h: h.mean(axis=0),
    "pooling_mode_cls_token": lambda h: h[0],
    "pooling_mode_lasttoken": lambda h: h[-1],
}


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("normalised", [False, True])
def test_embeddings_are_those_of_the_definition(
    mode: str, normalised: bool, tmp_path: Path
) -> None:
    kinds = ("Pooling", "Normalize") if normalised else ("Pooling",)
    others = dict.fromkeys(POOLINGS, False)
    pooling = {"word_embedding_dimension": 16, **others, mode: True, "include_prompt": True}
    small = sentence_folder(tmp_path / "m", pooling, *kinds)
    model = open_model(small.path)
    x = model.embed(IDS)
    expected: Array = POOLINGS[mode](small.reference(x))
    expected = expected / np.sqrt((expected**2).sum()) if normalised else expected
    net = model.network(3, output="sentence_embedding")
    assert abs(net.forward(x, np.float64) - expected).max() < 1e-12
    # and beside a weights file, too
    assert open_model(small.path / "model.safetensors").config.pooling == model.config.pooling


def test_bounds_of_a_normalised_embedding_enclose_it(tmp_path: Path) -> None:
    import gamma

    small = sentence_folder(
        tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Pooling", "Normalize"
    )
    model = open_model(small.path)
    x, rng = model.embed(IDS), np.random.default_rng(0)
    net = model.network(3, output="sentence_embedding")
    for guarantee, radius in (("real", 1e-3), ("float32", 1e-3)):
        out = gamma.bounds(net, gamma.Box.linf(x, radius), guarantee=guarantee)
        assert (out.upper - out.lower).max() < (0.5 if guarantee == "real" else 2.1)
        points = x + radius * rng.choice((-1.0, 1.0), (200, *x.shape))
        y = net.forward(points, np.float64)
        assert (out.lower <= y).all() and (y <= out.upper).all()


MEAN = {"pooling_mode_mean_tokens": True}
REFUSED = [
    (MEAN, ("Pooling", "Dense"), "lists"),
    (MEAN, ("Dense", "Normalize"), "lists"),
    ({"pooling_mode_max_tokens": True}, ("Pooling",), "asks for 'max_tokens'"),
    ({**MEAN, "pooling_mode_cls_token": True}, ("Pooling",), "asks for 'mean_tokens, cls_token'"),
    ({}, ("Pooling",), "asks for 'no pooling'"),
]


@pytest.mark.parametrize(("pooling", "kinds", "message"), REFUSED)
def test_what_is_not_made_is_said_when_asked(
    pooling: dict[str, Any], kinds: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model = open_model(sentence_folder(tmp_path / "m", pooling, *kinds).path)
    assert model.network(3).output_shape == (3, 16)
    with pytest.raises(UsageError, match=message):
        model.network(3, output="sentence_embedding")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a JSON array"),
        ("[1", "not valid JSON"),
        ("[1]", "expected a name"),
        ('[{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "../x"}]', "no folder beside"),
        ('[{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "gone"}]', "gone"),
        ("[" + '"x",' * 20000 + '"x"]', "more than"),
    ],
)
def test_damaged_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    small = small_models.folder(tmp_path / "m", BERT)
    (small.path / "modules.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        open_model(small.path)


def test_a_folder_without_modules_says_so(tmp_path: Path) -> None:
    model = open_model(small_models.folder(tmp_path / "m", BERT).path)
    with pytest.raises(UsageError, match=r"no modules\.json"):
        model.network(3, output="sentence_embedding")


@pytest.mark.parametrize(("stated", "pool"), [(1, "mean"), (2, "first"), (3, "last"), (4, "")])
def test_gguf_states_the_pooling(stated: int, pool: str, tmp_path: Path) -> None:
    small = small_models.gguf(tmp_path / "m.gguf", BERT, scale=0.25, pooling=stated)
    assert int(GGUFReader(small.path).fields["bert.pooling_type"].parts[-1][0]) == stated
    model = open_model(small.path)
    x = model.embed(IDS)
    if not pool:
        with pytest.raises(UsageError, match="pooling_type is 4"):
            model.network(3, output="sentence_embedding")
        return
    states = small.reference(x)
    expected = {"mean": states.mean(axis=0), "first": states[0], "last": states[-1]}[pool]
    net = model.network(3, output="sentence_embedding")
    assert abs(net.forward(x, np.float64) - expected).max() < 1e-12
