"""``gamma ranges``: the range of every activation, for every prompt or for a set of inputs."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma.cli import picture, prompts
from gamma.cli.combinations import check_combination
from gamma.cli.inputs import given_inputs, load_network, read_question
from gamma.cli.output import Progress, check_writable, deliver, write_bytes
from gamma.errors import UsageError

if TYPE_CHECKING:
    from gamma.architectures.model import Model
    from gamma.verification.ranges import Range, Ranges

SETS = ("property", "input", "box", "to_word")
"""Options that name a set of inputs, as an epsilon does."""


def run(args: argparse.Namespace) -> int:
    """Compute the ranges, deliver them and the picture, return 0."""
    check_writable(args.output)
    check_writable(args.picture)
    if args.picture and Path(args.picture).suffix not in (".svg", ".png"):
        raise UsageError(f"--picture {args.picture}: expected a name that ends in .svg or .png")
    found = compute(args, args.storage)
    if args.picture:
        from gamma.cli.ranges_picture import draw

        write_bytes(Path(args.picture), draw(found, Path(args.picture).suffix[1:]))
    deliver(found.to_json() if args.json else "\n".join(text(found, args.all_layers)), args.output)
    return 0


def compute(args: argparse.Namespace, storage: str) -> Ranges:
    """The ranges that the arguments ask for."""
    from gamma.verification.ranges import ranges

    progress, given = (
        Progress("ranges", args.timeout),
        any(getattr(args, name) is not None for name in SETS),
    )
    prompted = args.ids is not None or args.text is not None
    if given or args.epsilon is not None:
        check_combination(args)
    options: dict[str, Any] = {
        "storage": storage,
        "guarantee": args.guarantee,
        "timeout": args.timeout,
        "memory": args.memory,
        "threads": args.threads,
        "progress": progress,
    }
    model = prompts.opened(args)
    try:
        if model is None:
            net = load_network(args)
            prop = read_question(args, net, given_inputs(args, net)) if given else None
            return ranges(net, None if prop is None else prop.box(), **options)
        if given or args.epsilon is not None:
            net, prop = prompts.question(args, model)
            if prompts.spectrograms(args, model):  # positions are alike, and many
                box = prop.box().batched(net.input_shape)
                return ranges(model, box, output=args.output_name, **options)
            return ranges(net, prop.box(), **options)
        if args.block is not None or args.positions is not None:
            raise UsageError("--block and --positions need --epsilon: they are of one prompt's set")
        seen = [_embeddings(args, model)] if prompted else []
        return ranges(model, observed=seen, output=args.output_name, **options)
    finally:
        progress.clear()


def _embeddings(args: argparse.Namespace, model: Model) -> Any:
    from gamma.formats.model import encode

    ids = list(args.ids) if args.ids is not None else encode(model, args.text)
    return model.embed(ids)


def text(found: Ranges, every: bool) -> list[str]:
    """Ranges of like layers together, or of every activation; then what is proved."""
    shown = [r for r in found.tensors if not r.inner] if not every else list(found.tensors)
    parts = _like(shown) if not every else [(r.name, [r]) for r in shown]
    seen = any(r.observed is not None for r in shown)
    rows = [_row(name, members, seen) for name, members in parts]
    head = ["activation", "nodes", "least", "greatest", "f16 headroom", "int8 scale"]
    head += ["observed"] if seen else []
    lines = [f"RANGES  of every activation, for {found.about}", f"        {_kept(found)}", ""]
    lines += picture.table(rows, head, (False, *(True,) * (len(head) - 1)))
    return [*lines, "", *summary(found)]


def _kept(found: Ranges) -> str:
    of = "in real arithmetic" if found.guarantee == "real" else "in every float32 execution"
    if found.storage == "real":
        return of
    return f"{of}, and with activations kept in {found.storage} between operators"


def _like(shown: Sequence[Range]) -> list[tuple[str, list[Range]]]:
    """Activations that differ by the number of their block."""
    groups: dict[str, list[Range]] = {}
    for r in shown:
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", r.name), []).append(r)
    return list(groups.items())


def _row(name: str, members: Sequence[Range], seen: bool) -> list[str]:
    lower, upper = min(r.lower for r in members), max(r.upper for r in members)
    largest = max(members, key=lambda r: r.largest)
    room = largest.headroom("f16")
    cells = [
        name[:40],
        str(len(members)),
        picture.below(lower),
        picture.above(upper),
        picture.below(room) if room >= 1 else "not proved",
        picture.above(largest.int8_scale),
    ]
    if seen:
        sizes = [max(abs(v) for v in r.observed) for r in members if r.observed]
        cells.append(f"{max(sizes):.4g}" if sizes else "")
    return cells


def summary(found: Ranges) -> list[str]:
    """Whether an overflow is proved impossible, and what it took."""
    from gamma.verification.environment import peak_bytes

    worst = max(found.tensors, key=lambda r: r.largest)
    lines = []
    if found.storage != "real":
        beyond = found.beyond(found.storage)
        said = f"not proved for {len(beyond)} of {len(found.tensors)} activations, the first: "
        said = "proved impossible" if not beyond else said + beyond[0].name
        lines.append(f"overflow   of {found.storage}: {said}")
    size = picture.above(worst.largest) if math.isfinite(worst.largest) else "any size"
    lines.append(f"largest    {worst.name}: at most {size}")
    path, count = found.model.get("path") or "in memory", found.model["parameters"]
    lines.append(f"model      {path}, {count:,} parameters")
    lines.append(f"time       {picture.seconds(found.seconds['total'])}")
    lines.append(f"memory     {picture.size(peak_bytes() or 0)} at the peak")
    return lines + [f"note       {note}" for note in found.notes]


def verdict(args: argparse.Namespace) -> tuple[Any, list[str]]:
    """The result of ``gamma verify MODEL --ranges FORMAT``, and its text."""
    from gamma.verification.ranges import prove_storage

    for name in ("property", "label"):
        if getattr(args, name, None) is not None:
            raise UsageError(f"--ranges and --{name} exclude each other: one question at a time")
    found = compute(args, "real" if args.ranges == "int8" else args.ranges)
    result = prove_storage(found, args.ranges, args.scale)
    word = "VERIFIED" if result.verdict == "verified" else "UNKNOWN"
    lines = [f"{word}  no activation overflows in {args.ranges}, for {found.about}"]
    if result.verdict != "verified":
        lines = [f"{word}  whether an activation overflows in {args.ranges}, for {found.about}"]
        lines += [f"  {r.name}: [{picture.below(r.lower)}, {picture.above(r.upper)}]"
                  for r in found.beyond(args.ranges, args.scale)[:12]]  # fmt: skip
    return result, [*lines, "", *summary(found), f"note       {result.notes[-1]}"]
