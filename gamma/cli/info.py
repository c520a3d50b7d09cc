"""``gamma info``: versions and machine, the head of a bug report."""

from __future__ import annotations

import argparse
import json

from gamma.verification.environment import details


def run(args: argparse.Namespace) -> int:
    """Print the details, return 0."""
    found = details()
    if args.json:
        print(json.dumps({"schema": "gamma.info/1", **found}, indent=2))
        return 0
    optional = found.pop("optional")
    names = {"isa": "instructions", "isa_available": "available", "blas": "BLAS"}
    for key, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        print(f"{names.get(key, key):<13} {shown}")
    parts = [f"{name} {version or 'absent'}" for name, version in optional.items()]
    print(f"{'optional':<13} {', '.join(parts)}")
    return 0
