"""The errors gamma raises. Each says what was found, what was expected and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class GammaError(Exception):
    """Base of every error gamma raises on purpose; the command line prints it as one line."""

    @classmethod
    def at(cls, path: str | Path | None, where: str, message: str) -> Self:
        """Build the standard line ``file: tensor or node: message`` (empty parts are left out)."""
        parts = [str(path) if path is not None else "", where, message]
        return cls(": ".join(part for part in parts if part))


class UsageError(GammaError):
    """An argument is missing, contradictory or out of range."""


def missing(what: str, package: str, extra: str) -> UsageError:
    """The error where ``what`` needs a package that is not installed, and how to install it."""
    return UsageError(f"{what} needs the package {package}: pip install 'gamma-verify[{extra}]'")


class FormatError(GammaError):
    """A file cannot be read: truncated, hostile, inconsistent, or not what its name says."""


class UnsupportedError(GammaError):
    """The file is well formed but uses something gamma cannot bound."""


class PropertyError(GammaError):
    """A property does not fit the network or contradicts itself."""


class ResourceError(GammaError):
    """A limit on time or memory would be, or was, exceeded."""


class InternalError(GammaError):
    """gamma contradicts itself (crossed bounds, +inf lower bound): a bug, never a verdict."""
