"""``--profile`` and ``--trace``: where the time of a command went."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gamma import telemetry
from gamma.cli.output import check_writable, note, write_text


@contextmanager
def profiled(args: argparse.Namespace) -> Iterator[None]:
    """Record the block when the command line asks for it: a tree on stderr, a trace in a file."""
    if not (getattr(args, "profile", False) or getattr(args, "trace", None)):
        yield
        return
    check_writable(args.trace)
    # Heavy imports first, so that they are no part of what is measured.
    if args.profile:
        telemetry.renderer()
    from gamma.tensor.traced import kernel_spans

    with telemetry.recording() as recorder, kernel_spans():
        try:
            with telemetry.measure(f"gamma.{args.command}"):
                yield
        finally:
            if args.trace:
                write_text(Path(args.trace), json.dumps(recorder.trace()) + "\n")
            if args.profile:
                note(telemetry.render(recorder), end="")
