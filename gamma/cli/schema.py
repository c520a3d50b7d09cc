"""``gamma schema``: the JSON Schema of what the other commands print and write."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files


def run(args: argparse.Namespace) -> int:
    """Print the schema, return 0."""
    sys.stdout.write(files("gamma").joinpath("schema.json").read_text(encoding="utf-8"))
    return 0
