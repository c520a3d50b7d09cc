"""Folders of a model: config.json, and tensors in one safetensors file or in shards.

``model.safetensors.index.json`` names the shard of every tensor. Index and shards must agree: a
tensor that only one of them knows is an error, and so is one that two shards hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma.errors import FormatError
from gamma.formats.safetensors import (
    TensorFile,
    open_tensors,
    parse_json,
    plain_name,
    shorten,
)
from gamma.runtime.files import open_regular, refused
from gamma.tensor.weights import Weight

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
CONFIG_LIMIT = 1 << 20
INDEX_LIMIT = 16 << 20
MOST_SHARDS = 1024


@dataclass(frozen=True, eq=False)
class ModelFolder(Mapping[str, Weight]):
    """Tensor name -> `Weight` on the mapped files, beside what config.json says."""

    path: Path
    config: dict[str, Any]
    files: dict[str, TensorFile]

    @property
    def model_type(self) -> str:
        """``model_type`` of config.json; FormatError when it names none."""
        found = self.config.get("model_type")
        if not isinstance(found, str):
            raise FormatError.at(
                self.path / CONFIG, "model_type", f"is {shorten(found)}, expected a name"
            )
        return found

    def sha256(self) -> str:
        """Digest of the digests of config.json and of the files of tensors, in their order."""
        total = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for file in {id(f): f for f in self.files.values()}.values():
            total.update(file.sha256().encode())
        return total.hexdigest()

    def __getitem__(self, name: str) -> Weight:
        return self.files[name].weight(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder with a config.json."""
    return (path / CONFIG).is_file()


def open_folder(path: str | Path) -> ModelFolder:
    """Read config.json and the headers of all shards.

    Raises FormatError for a missing or damaged file, or an index that its shards contradict.
    """
    path = Path(path)
    config = read_config(path / CONFIG)
    if (path / INDEX).exists():
        return ModelFolder(path, config, _sharded(path))
    if not (path / SINGLE).exists():
        raise FormatError.at(path, "", f"holds no {SINGLE} and no {INDEX}")
    tensors = open_tensors(path / SINGLE)
    return ModelFolder(path, config, dict.fromkeys(tensors, tensors))


def read_config(path: Path) -> dict[str, Any]:
    """The object in a config.json. FormatError when there is none."""
    found: dict[str, Any] = read_json(path, CONFIG_LIMIT, dict)
    return found


def read_json(path: Path, limit: int, kind: type) -> Any:
    """The JSON object (``kind`` dict) or array (list) in a file of at most ``limit`` bytes."""
    try:
        with open_regular(path) as stream:
            text = stream.read(limit + 1)
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None
    if len(text) > limit:
        raise FormatError.at(path, "", f"has more than {limit} bytes")
    found = parse_json(path, "", text)
    if not isinstance(found, kind):
        raise FormatError.at(path, "", f"expected a JSON {'object' if kind is dict else 'array'}")
    return found


def _sharded(path: Path) -> dict[str, TensorFile]:
    where = path / INDEX
    places = read_json(where, INDEX_LIMIT, dict).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise FormatError.at(where, "weight_map", "expected an object of tensor names and files")
    for name, file in places.items():
        if not plain_name(name) or not _plain_file(file):
            raise FormatError.at(
                where, "weight_map", f"{shorten(name)}: {shorten(file)} is no file of this folder"
            )
    if len(set(places.values())) > MOST_SHARDS:
        raise FormatError.at(where, "weight_map", f"names more than {MOST_SHARDS} files")
    shards = {file: open_tensors(path / file) for file in sorted(set(places.values()))}
    for file, tensors in shards.items():
        for name in tensors:
            if places.get(name) != file:
                raise FormatError.at(
                    path / file, name, f"{INDEX} says this tensor is in {places.get(name)}"
                )
    for name, file in places.items():
        if name not in shards[file]:
            raise FormatError.at(path / file, name, f"{INDEX} names this tensor, it is not there")
    return {name: shards[file] for name, file in places.items()}


def _plain_file(name: object) -> bool:
    """Whether ``name`` is a safetensors file of the folder itself."""
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and plain_name(name)
        and not name.startswith(".")
        and "/" not in name
        and "\\" not in name
    )
