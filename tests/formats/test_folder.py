"""Folders with config.json, whole or in shards; tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from gamma.errors import FormatError, UnsupportedError
from gamma.formats.folder import INDEX, open_folder
from gamma.formats.safetensors import open_tensors
from gamma.formats.tokens import encode

RNG = np.random.default_rng(0)
GIVEN = {
    "a.weight": RNG.standard_normal((4, 6)).astype(np.float32),
    "b.weight": RNG.standard_normal((3, 2, 5)).astype(np.float16),
    "c.weight": RNG.standard_normal((2, 3)),
    "d.bias": RNG.standard_normal(7).astype(ml_dtypes.bfloat16),
}


def folder(path: Path, places: dict[str, str] | None = None) -> Path:
    (path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 6}))
    if places is None:
        save_file(GIVEN, path / "model.safetensors")
        return path
    for file in set(places.values()):
        parts = {name: GIVEN[name] for name, where in places.items() if where == file}
        save_file(parts, path / file)
    write_index(path, places)
    return path


def write_index(path: Path, places: object) -> None:
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


SHARDS = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(GIVEN)}


@pytest.mark.parametrize("places", [None, SHARDS])
def test_a_folder_gives_config_and_weights(tmp_path: Path, places: dict[str, str] | None) -> None:
    found = open_folder(folder(tmp_path, places))
    assert found.model_type == "bert" and found.config["hidden_size"] == 6
    assert set(found) == set(GIVEN)
    for name, values in GIVEN.items():
        weight = found[name]
        assert weight.mapped and weight.shape == values.shape and weight.nbytes == values.nbytes
        assert np.array_equal(weight.array(), values.astype(weight.array().dtype))
    assert found["c.weight"].kind == "f64" and found["d.bias"].kind == "bf16"


def test_an_index_and_its_shards_must_agree(tmp_path: Path) -> None:
    folder(tmp_path, SHARDS)
    other = {**SHARDS, "a.weight": "model-1.safetensors"}
    for places, message in (
        (other, "says this tensor is in model-1"),
        ({k: v for k, v in SHARDS.items() if k != "a.weight"}, "says this tensor is in None"),
        ({**SHARDS, "e": "model-0.safetensors"}, "names this tensor, it is not there"),
        ({**SHARDS, "e": "model-9.safetensors"}, "no such file"),
        ({**SHARDS, "e": "../model-0.safetensors"}, "is no file of this folder"),
        ({**SHARDS, "e": "/etc/x.safetensors"}, "is no file of this folder"),
        ({**SHARDS, "e": "model.bin"}, "is no file of this folder"),
        ({**SHARDS, "e": 3}, "is no file of this folder"),
        ([], "expected an object"),
        ({}, "expected an object"),
    ):
        write_index(tmp_path, places)
        with pytest.raises(FormatError, match=message):
            open_folder(tmp_path)


def test_an_index_with_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, SHARDS)
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    with pytest.raises(FormatError, match="duplicate key 'a'"):
        open_folder(tmp_path)


def test_what_a_folder_misses_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"config\.json: no such file"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FormatError, match="expected a JSON object"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"holds no model\.safetensors"):
        open_folder(tmp_path)
    save_file(GIVEN, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="model_type: is None"):
        _ = open_folder(tmp_path).model_type
    (tmp_path / "config.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(FormatError, match="more than 1048576 bytes"):
        open_folder(tmp_path)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    save_file({"i": np.arange(3)}, tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedError, match="i: dtype I64 is not a weight"):
        open_tensors(tmp_path / "x.safetensors").weight("i")


def test_infinite_weights_are_found_when_they_are_read(tmp_path: Path) -> None:
    values = np.ones((3, 4), np.float16)
    values[2, 1] = np.inf
    save_file({"w": values}, tmp_path / "x.safetensors")
    weight = open_tensors(tmp_path / "x.safetensors").weight("w")
    weight.panel(0, 2)
    with pytest.raises(FormatError, match=r"x\.safetensors: w: weight at index \[2, 1\] is inf"):
        weight.panel(1, 3)


def test_text_becomes_ids(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"hello": 3, "world": 5, "?": 0}, "?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert encode(tmp_path, "hello world other") == [3, 5, 0]
    assert encode(tmp_path / "tokenizer.json", "") == []


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"model": 3}'])
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, raw: bytes) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_bytes(raw)
    with pytest.raises(FormatError, match=r"tokenizer\.json: ") as caught:
        encode(tmp_path, "x")
    assert str(caught.value).isprintable()
    with pytest.raises(FormatError, match="no such file"):
        encode(tmp_path / "none.json", "x")
