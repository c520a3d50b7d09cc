"""Readers and the writer of network files."""

from __future__ import annotations

from gamma.formats.detect import load
from gamma.formats.save import save

__all__ = ["load", "save"]
