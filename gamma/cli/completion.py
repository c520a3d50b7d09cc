"""Shell completion scripts, generated from the parser by shtab."""

from __future__ import annotations

import argparse

from gamma.errors import missing


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of one shell. Raises UsageError when shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise missing("completion", "shtab", "completion") from None
    return shtab.complete(parser, shell=shell)
