"""Options from ``[tool.gamma]`` of the nearest pyproject.toml; the command line wins.

Keys are long options; ``[tool.gamma.verify]`` (or another command) is for that command alone. A key
that its command does not have is passed over when another command has it, and refused otherwise.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma.cli.parser import Parser, meant
from gamma.errors import UsageError
from gamma.runtime.files import open_regular

NAME = "pyproject.toml"
LIMIT = 1 << 20
"""Bytes of a file that is read."""
WAYS = ("property", "input", "box", "ids", "text")
"""Input sets, of which there is one."""
OF_A_WAY = ("epsilon", "norm", "clip", "label", "labels", "mean", "std")
"""What an input set from the command line does not take from the settings of another."""
RIVALS = (("json", "format"), ("label", "labels"), ("resume", "force"))
"""Options that contradict each other: one on the command line silences the other's setting."""
NOT_SETTINGS = ("help", "version")


def apply(parser: Parser, words: Sequence[str]) -> tuple[str, ...]:
    """Make the settings defaults of the command in ``words``; what they are, for -v.

    Raises UsageError for a key or a value that does not exist.
    """
    commands = parser.parsers()
    command = next((word for word in words if not word.startswith("-")), None)
    if command not in commands or (found := nearest(Path.cwd())) is None:
        return ()
    path, table = found
    known = {name for each in commands.values() for name in _actions(each)}
    own = _actions(commands[command])
    given = _given(commands[command], words)
    said = []
    for name, value, key in _entries(path, table, command, known, commands):
        action = own.get(name)
        if action is None or _silenced(name, given):
            continue
        commands[command].set_defaults(**{action.dest: _value(path, key, action, value)})
        said.append(f"{key} = {_shown(value)}")
    return tuple(f"{path}: {text}" for text in said)


def told(args: argparse.Namespace) -> list[str]:
    """Where values came from, with -v."""
    return [f"setting    {text}" for text in args.settings] if args.verbose else []


def nearest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The file with a ``[tool.gamma]``, from ``folder`` upwards, and that table."""
    for place in (folder, *folder.parents):
        path = place / NAME
        if not path.is_file():
            continue
        with open_regular(path) as stream:
            content = stream.read(LIMIT)
        if b"gamma" not in content:
            continue
        import tomllib

        try:
            table = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            if b"tool.gamma" not in content:
                continue  # another tool's file, and another tool's error
            raise UsageError(f"{path}: is no TOML: {' '.join(str(error).split())[:120]}") from None
        tool = table.get("tool")
        found = tool.get("gamma") if isinstance(tool, dict) else None
        if isinstance(found, dict):
            return path, found
    return None


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Option without its dashes -> action."""
    named = ((option, action) for action in parser._actions for option in action.option_strings)
    return {o[2:]: a for o, a in named if o.startswith("--") and o[2:] not in NOT_SETTINGS}


def _entries(
    path: Path,
    table: Mapping[str, Any],
    command: str,
    known: set[str],
    commands: Mapping[str, argparse.ArgumentParser],
) -> Iterator[tuple[str, Any, str]]:
    """Option, value and key of each setting; those of the command alone come last and win."""
    own = table.get(command, {}) if command in commands else {}
    for key, value in table.items():
        if key in commands and isinstance(value, dict):
            _check_keys(path, key, value, set(_actions(commands[key])))
        else:
            _check_keys(path, "", {key: value}, known)
            yield key.replace("_", "-"), value, key
    if isinstance(own, dict):
        yield from ((k.replace("_", "-"), value, f"{command}.{k}") for k, value in own.items())


def _check_keys(path: Path, command: str, table: Mapping[str, Any], known: set[str]) -> None:
    for key in table:
        if key.replace("_", "-") not in known:
            where = ".".join(("tool.gamma", *([command] if command else [])))
            raise UsageError(f"{path}: [{where}] has no setting {key[:40]}{meant(key, known)}")


def _given(parser: argparse.ArgumentParser, words: Sequence[str]) -> set[str]:
    """The options on the command line, without their dashes; abbreviations written out."""
    names = _actions(parser)
    found = set()
    for word in words:
        stem = word.partition("=")[0][2:] if word.startswith("--") else ""
        matches = [name for name in names if stem and (name == stem or name.startswith(stem))]
        found |= {stem} if stem in matches else set(matches)
    return found


def _silenced(name: str, given: set[str]) -> bool:
    """Whether the command line asks for another input set, or for a rival."""
    ways = given & set(WAYS)
    if name in WAYS and ways:
        return True
    if name in OF_A_WAY and ways & {"property", "box"}:
        return True
    return any(name in pair and given & ({*pair} - {name}) for pair in RIVALS)


def _value(path: Path, key: str, action: argparse.Action, value: Any) -> Any:
    """The value as the command line would give it."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise _wrong(path, key, value, "true or false")
        return action.const if value else action.default
    several = isinstance(action.nargs, int)
    words = list(map(str, value)) if isinstance(value, list) else [str(value)]
    if isinstance(value, bool | dict) or (several and len(words) != action.nargs):
        raise _wrong(path, key, value, f"{action.nargs} values" if several else "one value")
    if not several and isinstance(value, list):
        words = [",".join(words)]
    if hasattr(action, "complete"):
        words = [w if w == "zeros" else os.path.join(path.parent, w) for w in words]
    try:
        made = [_converted(action, word) for word in words]
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise UsageError(f"{path}: {key}: {error}") from None
    return made if several else made[0]


def _converted(action: argparse.Action, word: str) -> Any:
    if action.choices is not None and word not in action.choices:
        known = ", ".join(map(str, action.choices))
        raise ValueError(f"{word[:40]!r}: expected {known}{meant(word, action.choices)}")
    return action.type(word) if callable(action.type) else word


def _wrong(path: Path, key: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{path}: {key} = {_shown(value)}: expected {expected}")


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
