"""How a folder of sentence-transformers makes one vector of a sentence: modules.json and the
configuration of its pooling.

The modules come in a row: the transformer, a pooling, and a division by the Euclidean norm or
none. What else there is between or behind them gamma does not make, and says so when it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gamma.architectures.layers import Pooling
from gamma.errors import FormatError
from gamma.formats.folder import read_config, read_json
from gamma.formats.safetensors import shorten
from gamma.runtime.files import file_mode

MODULES = "modules.json"
LIMIT = 1 << 16
MODE = "pooling_mode_"
KINDS = {"mean_tokens": "mean", "cls_token": "first", "lasttoken": "last"}


def read_pooling(folder: Path) -> Pooling | None:
    """The pooling of a folder, None where it has no modules.json.

    Raises FormatError for a damaged file.
    """
    if file_mode(folder / MODULES) is None:
        return None
    modules = read_json(folder / MODULES, LIMIT, list)
    kinds = [_kind(folder / MODULES, module) for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return Pooling(problem=f"{MODULES} lists {shorten(', '.join(kinds))}: gamma makes poolings")
    path = modules[1].get("path")
    if not isinstance(path, str) or path in ("", "..") or "/" in path or "\\" in path:
        raise FormatError.at(folder / MODULES, "path", f"{shorten(path)} is no folder beside it")
    config = read_config(folder / path / "config.json")
    chosen = [key.removeprefix(MODE) for key, on in config.items() if key.startswith(MODE) and on]
    if len(chosen) != 1 or chosen[0] not in KINDS:
        return Pooling(problem=f"{path} asks for {shorten(', '.join(chosen) or 'no pooling')}")
    return Pooling(KINDS[chosen[0]], len(kinds) == 3)


def _kind(path: Path, module: Any) -> str:
    """The last part of a module's type."""
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(kind, str):
        raise FormatError.at(path, "type", f"is {shorten(kind)}, expected a name")
    return kind.rsplit(".", 1)[-1]
