"""``gamma verify``: a property of a network, decided."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.cli import settings
from gamma.cli.combinations import check_combination, scheduler, streaming
from gamma.cli.inputs import Asked, Given, network_and_question, time_left
from gamma.cli.options import in_options
from gamma.cli.output import INTERRUPTED, Progress, check_writable, deliver, write_bytes
from gamma.errors import UsageError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.runtime.interrupts import Interrupted, patient
from gamma.verification.choices import limit_of
from gamma.verification.result import Result

if TYPE_CHECKING:
    from gamma.cli.question import Question

NOTHING = "nothing to prove"
FILES = ("output", "open", "witness_out", "picture", "junit", "sarif")
"""Options that name a file to write."""
RANK = (0, 5, 4, 3)
"""Exit statuses of several inputs, the one that counts most last."""
STATUS = {"verified": 0, "violated": 3, "unknown": 4, "timeout": 5}


def run(args: argparse.Namespace) -> int:
    """Verify, deliver the result, return the exit status."""
    form = _form(args)
    for name in FILES:
        check_writable(getattr(args, name))
    if args.picture:
        from gamma.cli.partition_picture import check_suffix

        check_suffix(args.picture)
    if scheduler(args) and (args.ranges or args.layer_by_layer or args.cosine is not None):
        raise UsageError(
            "--scheduler: a cluster shares the branch and bound of --property, --label"
        )
    if args.ranges is not None:
        result = _ranges(args, form)
        _report(args, result, f"no overflow in {args.ranges}")
        return _status(args, result)
    check_combination(args)
    if args.layer_by_layer:
        from gamma.cli import layerwise

        layerwise.check(args)
        return layerwise.run(args, form)
    start = time.perf_counter()
    if args.cosine is not None:
        from gamma.cli import cosine

        result = cosine.decide(args)
        spent = {**result.seconds, "total": time.perf_counter() - start}
        result = replace(result, seconds=spent, limit=limit_of(args.timeout, args.method))
        deliver(render(result, form, args), args.output)
        _report(args, result, f"cosine of at least {args.cosine}")
        return _status(args, result)
    if args.property is None and args.label is None and args.labels is None:
        from gamma.cli import prompts, unasked

        if form == "vnncomp" or args.junit or args.sarif or not prompts.asked(args):
            raise UsageError(
                f"{NOTHING}: give --label K, --labels FILE, --cosine C or --property FILE; "
                "gamma bounds prints the bounds"
            )
        return unasked.run(args, form)
    asked = network_and_question(args)
    if asked.given is not None and asked.given.several:
        return _several(args, form, asked.network, asked.given, start)
    return _one(args, form, asked, start)


def _several(args: argparse.Namespace, form: str, net: Network, given: Given, start: float) -> int:
    """A verdict for each input; the exit status is of a violated one, else of an unknown."""
    from gamma.cli import batch, cases
    from gamma.cli.question import within

    found, interrupted = batch.decided(args, form, net, given, decide)
    deliver(batch.render(args, form, found, time.perf_counter() - start), args.output)
    cases.write(args, cases.of_batch(args, found, f"every input {within(args)}"))
    if args.witness_out:
        write_bytes(Path(args.witness_out), batch.witnesses(found))
    if interrupted:
        return INTERRUPTED
    return max((_status(args, result) for result in found), key=RANK.index)


def _one(args: argparse.Namespace, form: str, asked: Asked, start: float) -> int:
    """The verdict of one question."""
    begun = time.perf_counter()
    prop = asked.property
    read = time.perf_counter() - begun
    try:
        result = decide(args, asked.network, prop, start)
    except Interrupted as stop:
        if stop.partial is None:
            raise
        result = stop.partial
    seconds = {"load": asked.seconds, "property": read, **result.seconds}
    seconds["total"] = time.perf_counter() - start
    notes = tuple(map(in_options, result.notes))
    limit = limit_of(args.timeout, args.method)
    result = replace(result, seconds=seconds, notes=notes, limit=limit)
    from gamma.cli.question import Question

    question = Question.of(args, asked.given)
    deliver(render(result, form, args, asked.network, question), args.output)
    name = f"class {args.label} of the prompt" if question is None else question.name
    _report(args, result, name)
    if args.picture and result.partition is not None:
        from gamma.cli.partition_picture import draw

        write_bytes(Path(args.picture), draw(result, Path(args.picture).suffix[1:]))
    if args.witness_out and result.counterexample is not None:
        write_bytes(Path(args.witness_out), npy(result.counterexample.x))
    return INTERRUPTED if result.interrupted else _status(args, result)


def _report(args: argparse.Namespace, result: Result, name: str) -> None:
    """Write the files of --junit and --sarif, where they are asked for."""
    if args.junit or args.sarif:
        from gamma.cli import cases

        cases.write(args, [cases.of_result(args, result, name)])


def _status(args: argparse.Namespace, result: Result) -> int:
    """The exit status of the verdict; 0 for one that --fail-on leaves out."""
    return STATUS[result.verdict] if result.status in (*args.fail_on, "verified") else 0


def npy(x: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, x, allow_pickle=False)
    return stream.getvalue()


def _ranges(args: argparse.Namespace, form: str) -> Result:
    """Whether no activation overflows in the format of --ranges."""
    from gamma.cli import ranges

    result: Result
    result, lines = ranges.verdict(args)
    if form == "vnncomp":
        raise UsageError("--format vnncomp needs --property or --label")
    deliver(result.to_json() if form == "json" else "\n".join(lines), args.output)
    return result


def _form(args: argparse.Namespace) -> str:
    form: str = args.format or ("json" if args.json else "text")
    if args.json and form != "json":
        raise UsageError(f"--json and --format {form} contradict each other")
    return form


def decide(
    args: argparse.Namespace,
    net: Network,
    prop: Property,
    start: float,
    told: Callable[[str], None] | None = None,
) -> Result:
    """Run the verification; ``told`` hears of its progress in place of the terminal."""
    from gamma.verification.verdict import verify  # first: importing it counts as reading does

    timeout = time_left(args, start)
    progress = Progress("verifying", limit_of(args.timeout, args.method)) if told is None else None
    try:
        with patient():
            return verify(
                net,
                prop,
                method=args.method,
                guarantee=args.guarantee,
                dtype=args.dtype,
                timeout=timeout,
                attack=not args.no_attack,
                explain=args.explain,
                threads=args.threads,
                seed=args.seed,
                progress=told or progress,
                streaming=streaming(args),
                branch=args.branch,
                save_open=args.open,
                resume=args.resume,
                partition=args.picture is not None,
                scheduler=scheduler(args),
            )
    finally:
        if progress is not None:
            progress.clear()


def render(
    result: Result,
    form: str,
    args: argparse.Namespace,
    net: Network | None = None,
    asked: Question | None = None,
) -> str:
    """The result in the form asked for."""
    if form == "json":
        return result.to_json()
    if form == "vnncomp":
        from gamma.cli.result_file import vnncomp

        return vnncomp(result)
    from gamma.cli.report import text

    headline, changed = "", []
    if net is not None and asked is not None and result.status != "none":
        found = result.counterexample
        headline = asked.headline(result.status)
        changed = [] if found is None else asked.changed(net, found)
    said = text(result, args.explain, headline, changed, args.verbose)
    return "\n".join([said, *settings.told(args)])
