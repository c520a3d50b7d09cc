"""Model files of known architectures: GGUF files, Hugging Face folders, a weights file and config.

Which network it is, and every hyper-parameter, is what config.json or the GGUF metadata says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gamma.architectures.model import Model
from gamma.architectures.registry import FOLDER, GGUF, SENTENCE, find
from gamma.architectures.settings import HARMLESS_GGUF, Settings
from gamma.architectures.tensors import Tensors, match
from gamma.errors import FormatError, UnsupportedError, UsageError
from gamma.formats import tokens
from gamma.formats.detect import is_file, is_folder, is_gguf
from gamma.formats.folder import CONFIG, ModelFolder, open_folder, read_config
from gamma.formats.gguf import ArrayValue, GgufFile, open_gguf
from gamma.formats.gguf.pieces import TOKENS
from gamma.formats.gguf.tokenizer import encode as gguf_encode
from gamma.formats.safetensors import open_tensors
from gamma.formats.sentence import read_pooling
from gamma.formats.tokens import TOKENIZER
from gamma.network.graph import Source
from gamma.runtime.files import path_of
from gamma.telemetry import spanned


@spanned("load")
def open_model(path: str | Path, config: str | Path | None = None) -> Model:
    """Open a GGUF file, a folder with config.json, or a .safetensors file with its config.json.

    Args:
        path: the file or folder. config: the config.json of a .safetensors file, where it is not
            beside it.

    Raises:
        FormatError: damaged files, missing or misshaped tensors, tensors that nothing uses.
        UnsupportedError: an architecture, or a feature of one, that gamma does not build.
    """
    path = path_of(path)
    if is_gguf(path):
        return _from_gguf(open_gguf(path))
    if is_folder(path):
        return _from_folder(open_folder(path))
    tensors = open_tensors(path)
    beside = Path(config) if config is not None else path.parent / CONFIG
    return _from_folder(
        ModelFolder(path, read_config(beside), dict.fromkeys(tensors, tensors)), beside
    )


def encode(model: Model, text: str, special: bool = True) -> list[int]:
    """Token ids of ``text`` by the model's own tokenizer, with its ``special`` tokens or without.

    Raises UsageError where the file has none that gamma reads.
    """
    folder = model.path if is_folder(model.path) else model.path.parent
    if isinstance(model.tensors.source, GgufFile) and TOKENS in model.tensors.source.metadata:
        return gguf_encode(model.tensors.source, text, special)
    if not is_file(folder / TOKENIZER):
        raise UsageError(f"{model.path}: no {TOKENIZER} beside it to read text with: give --ids")
    return tokens.encode(folder, text, special)


def _from_gguf(file: GgufFile) -> Model:
    name = file.architecture
    record = find(file.path, GGUF, name)
    values: dict[str, Any] = {}
    for key, value in file.metadata.items():
        array = isinstance(value.value, ArrayValue)
        values[key] = _Listed(len(value.value)) if array else value.value  # type: ignore[arg-type]
    if values.get("split.count", 1) not in (0, 1):
        raise UnsupportedError.at(
            file.path, "split.count", "the model is in several files: join them (gguf-split)"
        )
    idle = {key for key in values if key.startswith("split.")}
    values = {key: value for key, value in values.items() if key not in idle}
    settings = Settings(file.path, values, f"{name}.", HARMLESS_GGUF)
    return _opened(file.path, GGUF, record, settings, file, "gguf")


class _Listed:
    """Stands for an array of a GGUF file, where a single value is expected."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return f"an array of {self.count} values"


def _from_folder(folder: ModelFolder, config: Path | None = None) -> Model:
    where = config or folder.path / CONFIG
    record = find(where, FOLDER, folder.config.get("model_type"))
    settings = Settings(where, folder.config)
    return _opened(folder.path, FOLDER, record, settings, folder, "safetensors")


def _opened(
    path: Path, form: str, record: Any, settings: Settings, source: Any, kind: str
) -> Model:
    config = record.read(settings, form)
    settings.finish()
    if form == FOLDER and SENTENCE in record.outputs:
        pooling = read_pooling(settings.path.parent)
        config = config if pooling is None else replace(config, pooling=pooling)
    if config.layers > len(source):  # before a list of their names is made
        where = settings.ready["layers"][1]
        raise FormatError.at(
            settings.path, where, f"is {config.layers}, the file has {len(source)} tensors"
        )
    tensors = match(path, source, record.needs(config), record.left_out, record.prefixes)
    if config.tied and "output.weight" in tensors:
        _check_tied(tensors)
    return Model(path, record, config, settings, tensors, Source(path, source.sha256, kind))


def _check_tied(tensors: Tensors) -> None:
    """FormatError where a tied output layer is stored as well, and is another one."""
    own, shared = (tensors.weight(f"{name}.weight") for name in ("output", "token_embd"))
    if own.kind != shared.kind or not np.array_equal(own.raw, shared.raw):
        raise FormatError.at(
            tensors.path,
            own.name,
            "differs from the token embeddings, to which config.json ties it",
        )
