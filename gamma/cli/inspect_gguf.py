"""``gamma inspect`` of a GGUF file: its metadata with the key of each value, and its tensors."""

from __future__ import annotations

import math
from typing import Any

from gamma.cli import picture
from gamma.formats.gguf import ArrayValue, GgufFile, Value
from gamma.formats.gguf.types import NO_WEIGHTS

MOST = 60
"""Tensors listed in text; the JSON form has all."""
LONGEST = 60


def record(file: GgufFile) -> dict[str, Any]:
    """The JSON object, schema ``gamma.inspect-gguf/1``; arrays are described, not listed."""
    return {
        "schema": "gamma.inspect-gguf/1",
        "path": str(file.path),
        "sha256": file.sha256(),
        "format": "gguf",
        "version": file.header.version,
        "alignment": file.header.alignment,
        "metadata": {key: _described(value) for key, value in file.metadata.items()},
        "parameters": _parameters(file),
        "tensors": [
            {
                "name": info.name,
                "kind": info.kind,
                "shape": list(info.shape),
                "bytes": info.end - info.begin,
                "offset": info.begin,
            }
            for info in file.tensors.values()
        ],
    }


def _described(value: Value) -> dict[str, Any]:
    if isinstance(value.value, ArrayValue):
        return {"type": value.type, "count": len(value.value)}
    number = value.value
    finite = not isinstance(number, float) or math.isfinite(number)
    return {"type": value.type, "value": number if finite else repr(number)}


def _parameters(file: GgufFile) -> int:
    weights = (info for info in file.tensors.values() if info.kind not in NO_WEIGHTS)
    return sum(math.prod(info.shape) for info in weights)


def text(file: GgufFile) -> str:
    """One screen about the file."""
    stored = {(info.begin, info.end) for info in file.tensors.values()}
    lines = [
        f"model      {file.path} (GGUF version {file.header.version})",
        f"parameters {_parameters(file):,}",
        f"tensors    {len(file)}, stored in {sum(e - b for b, e in stored):,} bytes",
        "",
    ]
    settings = [(key, value.type, _shown(value)) for key, value in file.metadata.items()]
    lines += picture.table(settings, ("key", "type", "value"), (False, False, False))
    lines += ["", *_kinds(file), ""]
    rows = [
        (info.name, info.kind, "×".join(map(str, info.shape)), f"{info.end - info.begin:,}")
        for info in list(file.tensors.values())[:MOST]
    ]
    lines += picture.table(rows, ("tensor", "kind", "shape", "bytes"), (False, False, False, True))
    if len(file) > MOST:
        lines.append(f"... {len(file)} tensors in all (--json lists them)")
    return "\n".join(lines)


def _shown(value: Value) -> str:
    if isinstance(value.value, ArrayValue):
        return f"{len(value.value):,} entries"
    if isinstance(value.value, str):
        plain = "".join(c if c.isprintable() else " " for c in value.value)
        return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."
    return str(value.value)


def _kinds(file: GgufFile) -> list[str]:
    totals: dict[str, list[int]] = {}
    for info in file.tensors.values():
        total = totals.setdefault(info.kind, [0, 0, 0])
        for at, count in enumerate((1, math.prod(info.shape), info.end - info.begin)):
            total[at] += count
    rows = [(kind, *(f"{n:,}" for n in total)) for kind, total in totals.items()]
    return picture.table(rows, ("kind", "tensors", "weights", "bytes"), (False, True, True, True))
