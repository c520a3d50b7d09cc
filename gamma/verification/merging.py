"""The records of several runs over parts of one list, put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma.errors import UsageError
from gamma.runtime.files import open_regular
from gamma.verification.instances import Instance, Key, content_hash
from gamma.verification.records import Record, read_lines

SOLVED = ("verified", "violated")
Shard = tuple[int, int]


def shard(instances: Sequence[Instance], part: Shard) -> list[Instance]:
    """Part I of N (from 1): every N-th instance, so that like ones are spread evenly."""
    number, count = part
    return list(instances[number - 1 :: count])


def merged(
    instances: Sequence[Instance], files: Sequence[Path]
) -> tuple[list[Record], list[Instance]]:
    """The records of all files in list order, and the instances that none of them answers.

    Of several records of an instance a solved one counts. A record about other content than a
    model or a property has by now is none.

    Raises:
        UsageError: records were made with different options, or contradict each other.
        FormatError: a file cannot be read.
    """
    wanted = {instance.key: instance for instance in instances}
    kept: dict[Key, tuple[Record, Path]] = {}
    options: tuple[dict[str, Any], Path] | None = None
    hashes: dict[Path, str | None] = {}
    for path in files:
        for record in _records(path):
            key: Any = (record.get("model"), record.get("property"), record.get("number"))
            instance = wanted.get(key) if all(isinstance(k, str | int) for k in key) else None
            if instance is None or not _fits(record, instance, hashes):
                continue
            asked = {k: v for k, v in record["options"].items() if k != "timeout"}
            options = options or (asked, path)
            if asked != options[0]:
                raise UsageError(
                    f"{path}: made with {_differs(asked, options[0])}, unlike {options[1]}: "
                    "run the parts with the same options"
                )
            if key in kept:
                record, path = _better((record, path), kept[key])
            kept[key] = record, path
    missing = [instance for instance in instances if instance.key not in kept]
    return [kept[i.key][0] for i in instances if i.key in kept], missing


def _records(path: Path) -> list[Record]:
    with open_regular(path, "give the records of a shard") as stream:
        found, damaged, _ = read_lines(stream)
    if damaged and not found:
        raise UsageError(f"{path}: has no records, give files that gamma suite wrote")
    return found


def _fits(record: Record, instance: Instance, hashes: dict[Path, str | None]) -> bool:
    """Whether the record is about the files as they are; of missing ones nothing is known."""
    for name, key in ((instance.model, "model_sha256"), (instance.prop, "property_sha256")):
        path = instance.folder / name
        if path not in hashes:
            hashes[path] = content_hash(path)
        if hashes[path] is not None and record.get(key) != hashes[path]:
            return False
    return isinstance(record.get("options"), dict)


def _differs(a: dict[str, Any], b: dict[str, Any]) -> str:
    return ", ".join(f"{k} {a.get(k)!r}" for k in sorted({*a, *b}) if a.get(k) != b.get(k))


def _better(new: tuple[Record, Path], old: tuple[Record, Path]) -> tuple[Record, Path]:
    """The one that has an answer; the later one of two alike."""
    said = new[0]["verdict"], old[0]["verdict"]
    if set(said) == set(SOLVED):
        raise UsageError(
            f"{new[1]}: {new[0]['model']} {new[0]['property']} is {said[0]}, in {old[1]} "
            f"{said[1]}: one of them is wrong, please report it"
        )
    return old if said[1] in SOLVED and said[0] not in SOLVED else new
