"""``gamma verify --cosine C``: whether outputs point where the centre's output does."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from gamma.architectures.registry import SENTENCE
from gamma.cli import prompts
from gamma.cli.inputs import given_inputs, network_and_question, time_left
from gamma.cli.output import Progress
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.runtime.interrupts import patient
from gamma.verification.result import Result


def decide(args: argparse.Namespace) -> Result:
    """The result of the question that the arguments ask."""
    from gamma.verification.cosine import cosine  # first: importing it counts as reading does

    start = time.perf_counter()
    _check(args)
    if prompts.asked(args) and args.output_name is None:
        args.output_name = _embedding(args)
    asked = network_and_question(args)
    if asked.given is not None and asked.given.several:
        raise UsageError(
            f"{args.input}: --cosine is of one input, it has {len(asked.given.values)}"
        )
    timeout = time_left(args, start)
    progress = Progress("bounds of the outputs", args.timeout)
    try:
        with patient():
            return cosine(
                asked.network,
                asked.property,
                args.cosine,
                centre=_centre(args, asked.network),
                method=args.method,
                guarantee=args.guarantee,
                dtype=args.dtype,
                timeout=timeout,
                attack=not args.no_attack,
                threads=args.threads,
                seed=args.seed,
                progress=progress,
            )
    finally:
        progress.clear()


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that --cosine does not go with."""
    for name in ("property", "label", "labels", "mean", "std", "memory"):
        if getattr(args, name) is not None:
            raise UsageError(f"--cosine and --{name} exclude each other")
    if args.stream:
        raise UsageError("--cosine and --stream exclude each other")
    if args.format == "vnncomp":
        raise UsageError("--format vnncomp needs --property or --label")


def _embedding(args: argparse.Namespace) -> str:
    model = prompts.opened(args)
    assert model is not None
    if SENTENCE not in model.outputs and len(model.outputs) > 1:
        raise UsageError(
            f"{args.model}: {model.architecture.title} make no sentence embedding; name the output "
            f"to compare with --output-name: {', '.join(model.outputs)}"
        )
    return SENTENCE if SENTENCE in model.outputs else model.outputs[0]


def _centre(args: argparse.Namespace, net: Network) -> Any:
    """What others are compared with: the prompt, not the middle of a line or of a cut set."""
    if args.to_word is not None:
        return np.zeros(1)
    if args.clip is None:
        return None
    if prompts.asked(args):
        raise UsageError("--cosine and --clip of a prompt's embeddings exclude each other")
    given = given_inputs(args, net)
    assert given is not None
    low, high = (float(end) for end in args.clip)
    return np.clip(given.values[0], low, high)
