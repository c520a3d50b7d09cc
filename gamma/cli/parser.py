"""The argument parser: errors in one line that say what was probably meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, NoReturn

DECIMAL = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
NUMBER = re.compile(rf"[-+]?{DECIMAL}(?:/{DECIMAL})?")


class Parser(argparse.ArgumentParser):
    """Errors are one line and know what was probably meant; -1e-3 and -1/8 are numbers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(rf"^-{DECIMAL}(?:/{DECIMAL})?$")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.parsers().get(found.command, self)
            hint = self._hint(unknown[0].partition("=")[0], parser)
            parser.error(f"unrecognized arguments: {shown(' '.join(unknown))}{hint}")
        return found

    def _hint(self, word: str, parser: argparse.ArgumentParser) -> str:
        """What an option that the command does not have may be."""
        others = [p.prog for p in self.parsers().values() if word in p._option_string_actions]
        if others:
            return f"; {word} is an option of {', '.join(others)}"
        return meant(word, parser._option_string_actions)

    def parsers(self) -> dict[str, Parser]:
        """The subcommands' parsers by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(
                action,
                f"{shown(str(value))!r}: expected {known}{meant(str(value), action.choices)}",
            )


def shown(text: str) -> str:
    """The text, cut to what fits a line."""
    return text if len(text) <= 60 else text[:59] + "…"


def meant(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for a word that is close to a known one, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
