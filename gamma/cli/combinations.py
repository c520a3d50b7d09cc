"""Options that go together, contradict each other, or miss a partner."""

from __future__ import annotations

import argparse
from typing import Any

from gamma.errors import UsageError


def streaming(args: argparse.Namespace) -> Any:
    """The StreamingConfig that --stream and --memory ask for, or None."""
    if not args.stream and args.memory is None:
        return None
    from gamma.propagate import StreamingConfig

    return StreamingConfig(max_memory_bytes=args.memory or 0)


def scheduler(args: argparse.Namespace) -> str | None:
    """The dask scheduler's address; None where this machine works alone."""
    address: str | None = args.scheduler
    if (args.backend == "dask") != (address is not None):
        raise UsageError("--backend dask and --scheduler ADDRESS go together: give both or neither")
    return address


LABELS = ("label", "labels")
WAYS = (
    "--ids or --text (language models), --input X.npy or --input zeros with --epsilon E, "
    "--box LO.npy HI.npy, or --property FILE.vnnlib"
)


def check_combination(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other or miss a partner."""
    names = ("property", "input", "ids", "text", "box")
    ways = [f"--{name}" for name in names if getattr(args, name) is not None]
    if len(ways) > 1:
        hint = ": the property has its own box" if args.property else ""
        raise UsageError(f"{ways[0]} and {ways[1]} exclude each other{hint}")
    if not ways:
        raise UsageError(f"no input set: give {WAYS}")
    _check_units(args, ways[0])
    given = [f"--{n}" for n in ("epsilon", "clip") if getattr(args, n) is not None]
    given += ["--norm"] if args.norm != "inf" else []
    if args.property:
        given += [f"--{n}" for n in LABELS if getattr(args, n, None) is not None]
        if given:
            name = given[0]
            raise UsageError(f"{name} needs --input; a property file already says it")
    elif args.box or args.to_word is not None:
        if given:
            way = "--box" if args.box else "--to"
            raise UsageError(f"{given[0]} and {way} exclude each other: {way} is the whole set")
    elif args.epsilon is None:
        raise UsageError(
            f"{ways[0]} needs --epsilon: the radius of the input set (0 for one point)"
        )
    if args.from_word is not None and args.to_word is None:
        raise UsageError("--from needs --to: the other end of the line")
    if args.to_word is not None and (args.block is not None or not (args.ids or args.text)):
        raise UsageError("--to needs --ids or --text, and no --block: it moves one of their tokens")


def _check_units(args: argparse.Namespace, way: str) -> None:
    """--mean and --std are of an array; --labels of the inputs of --input."""
    labels = [f"--{n}" for n in LABELS if getattr(args, n, None) is not None]
    if len(labels) > 1:
        raise UsageError("--label and --labels exclude each other: one class for all, or one each")
    if labels == ["--labels"] and way != "--input":
        raise UsageError("--labels needs --input: the inputs that have these classes")
    for name in ("mean", "std"):
        if getattr(args, name) is not None and way not in ("--input", "--box"):
            raise UsageError(f"--{name} needs --input or --box: it is about their entries")


def check_axis(args: argparse.Namespace) -> int | None:
    """The axis that --positions of `gamma bounds` names for a network without a prompt."""
    if args.positions is None:
        return None
    if len(args.positions) != 1:
        raise UsageError("--positions: one axis of the input, or positions of a language model")
    return int(args.positions[0])
