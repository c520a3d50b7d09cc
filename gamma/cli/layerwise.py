"""``gamma verify MODEL --layer-by-layer``: every block by itself, at the state that it truly gets.

Each block's set lies around the state that the prompt has before that block. What is found is about
that block alone: blocks do not add up to a statement about the model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from msgspec.structs import replace

from gamma.architectures.model import Model
from gamma.cli import prompts
from gamma.cli.output import Progress, deliver
from gamma.cli.question import SIGNS, decimal
from gamma.cli.sets import around
from gamma.cli.unasked import RESERVE, TIMEOUT, bounded, listed, vacuous
from gamma.errors import UsageError
from gamma.network.property import Property
from gamma.propagate.blocks import may_end
from gamma.runtime.interrupts import patient
from gamma.verification.choices import AUTO_SECONDS
from gamma.verification.describe import model_record
from gamma.verification.environment import peak_bytes
from gamma.verification.result import Result

INTERVALS = 0.25
"""Share of a block's time that is kept for interval bounds."""
OTHER = (
    *("label", "labels", "cosine", "property", "block", "to_word", "box", "output_name"),
    *("mean", "std", "junit", "sarif"),
)
"""Options that ask something else."""


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict --layer-by-layer."""
    for name in OTHER:
        if getattr(args, name) is not None:
            option = "--to" if name == "to_word" else "--" + name.replace("_", "-")
            raise UsageError(f"--layer-by-layer and {option} exclude each other")
    if not prompts.asked(args):
        raise UsageError(
            f"{args.model}: --layer-by-layer needs the blocks of a language or speech model"
        )


def run(args: argparse.Namespace, form: str) -> int:
    """Bound every block, deliver the table, return 0; 5 where the time did not suffice for all."""
    start = time.monotonic()
    limit = AUTO_SECONDS if args.timeout is None else args.timeout
    method = "crown" if args.method == "auto" else args.method
    progress, found = Progress(), list[Result]()
    try:
        with patient():
            model = prompts.opened(args)
            assert model is not None
            end = start + limit * (1 - RESERVE)
            for block, prop in enumerate(_sets(args, model)):
                progress(f"{method}: block {block} of {model.config.layers}")
                each = (end - time.monotonic()) / (model.config.layers - block)
                if each <= 0:
                    break
                made = _block(args, model, block, prop, method, each)
                found += [] if made is None else [made]
    finally:
        progress.clear()
    result = _together(args, model, method, found)
    spent = time.monotonic() - start
    result = replace(result, seconds={"blocks": spent, "total": spent}, limit=limit)
    deliver(result.to_json() if form == "json" else _text(args, result, model), args.output)
    return 0 if len(found) == model.config.layers else TIMEOUT


def _sets(args: argparse.Namespace, model: Model) -> Iterator[Property]:
    """The set around the state before each block, in order."""
    for state in model.all_states(prompts.centre(args, model)):
        moves = prompts.moved(args, state)
        yield around(state, args.epsilon, args.norm, args.clip, moves)


def _block(
    args: argparse.Namespace, model: Model, block: int, prop: Property, method: str, limit: float
) -> Result | None:
    """What a block puts out, by intervals where the method cannot end; None where these did not."""
    end, most = time.monotonic() + limit, limit * (1 - INTERVALS)
    net = model.network(prop.inputs // model.config.hidden, block=block, until=block + 1)
    if method != "ibp" and may_end(net, method, prop.inputs, most):
        found = bounded(args, method, net, prop, most)
        if found.bounds is not None:
            return found
    found = bounded(args, "ibp", net, prop, max(end - time.monotonic(), 1e-3))
    return None if found.bounds is None else found


def _together(args: argparse.Namespace, model: Model, method: str, found: list[Result]) -> Result:
    """One result of all: their tables under each other, and which block was bounded how."""
    rows = tuple({**row, "method": part.used[0]} for part in found for row in part.blocks)
    weaker = [row["block"] for row in rows if row["method"] != method]
    notes = tuple(dict.fromkeys(note for part in found for note in part.notes))
    notes += ("each block by itself: nothing is said of several together",)
    if weaker:
        notes += (f"{method} needs more time: bounds of {listed(weaker)} are by intervals",)
    if late := sorted(set(range(model.config.layers)) - {row["block"] for row in rows}):
        notes += (f"not even interval bounds of {listed(late)} ended in time",)
    net = model.network(1)
    return Result(
        verdict="none",
        guarantee=args.guarantee,
        asked=args.method,
        used=tuple(dict.fromkeys(part.used[0] for part in found)),
        memory={"peak_bytes": peak_bytes(), "planned_bytes": None},
        model=model_record(net),
        blocks=rows,
        dtype=found[0].dtype if found else "",
        notes=notes,
    )


def _text(args: argparse.Namespace, result: Result, model: Model) -> str:
    from gamma.cli.report import blocks, facts

    near = f"within {decimal(args.epsilon)} ({SIGNS[args.norm]}) of its true state"
    said = f"; {vacuous(result.blocks)}" if result.blocks else ""
    head = f"BLOCKS  {len(result.blocks)} of {model.config.layers}, each by itself {near}{said}"
    return "\n".join([head, *blocks(result), "", *facts(result)])
