"""Shell completion scripts, generated from the parser by shtab."""

from __future__ import annotations

import argparse

from gamma.errors import UsageError


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of one shell. Raises UsageError when shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise UsageError("completion needs the package shtab: pip install shtab") from None
    return shtab.complete(parser, shell=shell)
