"""GGUF files and folders of models: hostile headers, hyper-parameters, shards and tokenizers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from gamma.formats.folder import INDEX
from tests.architectures import small_models
from tests.formats.gguf import test_gguf, test_tokenizer
from tests.hostile.running import Case

SHARDS = {f"w{i}.weight": f"model-{i}.safetensors" for i in range(2)}
LAYERS = ("num_hidden_layers", "n_layer", "encoder_layers")
DEEP = '{"a":' * 100_000


def models(folder: Path) -> list[bytes]:
    """Small GGUF models, with a tokenizer and without."""
    kinds = ("llama", "qwen3", "gpt2", "bert")
    files = [small_models.gguf(folder / "m.gguf", small_models.CONFIGS[k]).path.read_bytes()
             for k in kinds]  # fmt: skip
    made = test_tokenizer.trained("gpt-2")
    return [*files, test_tokenizer.written(folder / "t.gguf", made, "gpt-2").read_bytes()]


def configs(_: Path) -> list[bytes]:
    """config.json of every kind of small model."""
    return [json.dumps(config).encode() for config in small_models.CONFIGS.values()]


def sharded() -> dict[str, bytes]:
    """The files of a folder with two shards."""
    found = {name: save({w: np.ones((2, 3), np.float32)}) for w, name in SHARDS.items()}
    found["config.json"] = b'{"model_type": "bert"}'
    return {**found, INDEX: json.dumps({"metadata": {}, "weight_map": SHARDS}).encode()}


def tokenizers() -> list[bytes]:
    """tokenizer.json of a byte-level and of a word tokenizer."""
    import tokenizers as library

    words = library.Tokenizer(library.models.WordLevel({"ab": 3, "c": 5, "?": 0}, "?"))
    words.pre_tokenizer = library.pre_tokenizers.Whitespace()
    return [test_tokenizer.trained("gpt-2").to_str().encode(), words.to_str().encode()]


def folder_case(
    name: str, change: Callable[[Path], object], answer: str = "refused", text: str | None = None
) -> Case:
    """A small model's folder, changed; its ranges with ``text`` where there is one."""

    def write(path: Path) -> list[list[str]]:
        small_models.folder(path / "m", small_models.LLAMA)
        change(path / "m")
        asked = ["inspect", str(path / "m")]
        if text is not None:
            asked = ["bounds", str(path / "m"), "--text", text, "--epsilon", "0.1"]
        return [asked]

    return Case(f"folder_{name}", write, answer)


def _config(**more: Any) -> Callable[[Path], object]:
    return lambda path: (path / "config.json").write_text(
        json.dumps({**small_models.LLAMA, **more})
    )


def _file(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: (path / name).write_bytes(data)


def _indexed(places: object) -> Callable[[Path], object]:
    return _file(INDEX, json.dumps({"weight_map": places}))


def _made(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        make(path / name)

    return change


def folders() -> Iterator[Case]:
    """config.json, shards and tokenizer.json."""
    yield folder_case("good", lambda _: None, "answered")
    for name, more in {
        "layers_huge": {"num_hidden_layers": 1 << 40}, "layers_none": {"num_hidden_layers": 0},
        "layers_minus": {"num_hidden_layers": -1}, "layers_float": {"num_hidden_layers": 2.0},
        "layers_true": {"num_hidden_layers": True}, "layers_text": {"num_hidden_layers": "2"},
        "hidden_huge": {"hidden_size": 1 << 62}, "hidden_list": {"hidden_size": [16]},
        "heads_none": {"num_attention_heads": 0}, "heads_3": {"num_attention_heads": 3},
        "words_huge": {"vocab_size": 1 << 50}, "eps_nan": {"rms_norm_eps": float("nan")},
        "eps_minus": {"rms_norm_eps": -1.0}, "theta_infinite": {"rope_theta": float("inf")},
        "theta_none": {"rope_theta": 0}, "keys_3": {"num_key_value_heads": 3},
        "type": {"model_type": "x\n" * 3000},
        "type_list": {"model_type": ["llama"]}, "act": {"hidden_act": "__import__"},
        "scaling": {"rope_scaling": {"type": "x" * 5000}}, "extra": {"no_such_key": 7},
    }.items():  # fmt: skip
        yield folder_case(f"config_{name}", _config(**more))
    for where in ("config.json", INDEX):
        kind = where.split(".")[-2]
        for name, text in {"deep": DEEP, "list": "[]", "empty": "", "nul": "\0", "twice": "{}{}",
                           "digits": '{"a": ' + "9" * 10_000 + "}"}.items():  # fmt: skip
            yield folder_case(f"{kind}_{name}", _file(where, text))
        yield folder_case(f"{kind}_pipe", _made(where, os.mkfifo))
        yield folder_case(f"{kind}_device", _made(where, lambda p: p.symlink_to("/dev/zero")))
        yield folder_case(f"{kind}_folder", _made(where, Path.mkdir))
        yield folder_case(f"{kind}_large", _file(where, b" " * (17 << 20)))
    for name, place in {"parent": "../a.safetensors", "absolute": "/etc/passwd", "none": "a.bin",
                        "number": 7, "long": "n" * 5000 + ".safetensors"}.items():  # fmt: skip
        yield folder_case(f"index_{name}", _indexed({"w": place}))
    yield folder_case("index_many", _indexed({f"w{i}": f"{i}.safetensors" for i in range(50_000)}))
    yield folder_case("weights_pipe", _made("model.safetensors", os.mkfifo))
    words = "tokenizer.json"
    panic = json.loads(tokenizers()[0])
    panic["model"]["continuing_subword_prefix"] = "x" * 40  # the package panics
    grown, repeated = (json.loads(tokenizers()[1]) for _ in range(2))
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}
    grown["normalizer"] = {"type": "Sequence", "normalizers": [rule] * 8}  # 10^18 characters
    piece = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [piece] * 100_000, "pair": []}
    repeated["post_processor"] = {**template, "special_tokens": {}}
    for name, text in {"deep": DEEP, "empty": "", "object": "{}", "nul": "\0",
                       "panic": json.dumps(panic), "grown": json.dumps(grown),
                       "repeated": json.dumps(repeated)}.items():  # fmt: skip
        yield folder_case(f"tokenizer_{name}", _file(words, text), text="ab c")
    yield folder_case("tokenizer_pipe", _made(words, os.mkfifo), text="ab c")
    yield folder_case(
        "tokenizer_device", _made(words, lambda p: p.symlink_to("/dev/zero")), text="a"
    )
    yield folder_case("tokenizer_long_text", lambda p: _file(words, tokenizers()[1])(p),
                      text="ab " * 40_000)  # fmt: skip


def cases() -> Iterator[Case]:
    """All of them; a GGUF file that is no model may still be listed."""
    for name, (data, _) in test_gguf.HOSTILE.items():

        def write(folder: Path, data: bytes = data) -> list[list[str]]:
            (folder / "x.gguf").write_bytes(data)
            return [["inspect", str(folder / "x.gguf")]]

        yield Case("gguf_" + name.replace(" ", "_"), write)
    yield from folders()
