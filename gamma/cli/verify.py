"""``gamma verify``: a property of a network, decided."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from gamma.cli.inputs import Question, load_network, read_question
from gamma.cli.options import check_combination, streaming
from gamma.cli.output import Progress, check_writable, deliver
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Network
from gamma.verify.result import Result

STATUS = {"verified": 0, "none": 0, "violated": 3, "unknown": 4, "timeout": 5}


def run(args: argparse.Namespace) -> int:
    """Verify, deliver the result, return the exit status."""
    check_combination(args)
    check_writable(args.output)
    form = _form(args)
    start = time.perf_counter()
    net = load_network(args)
    loaded = time.perf_counter()
    question = read_question(args, net)
    if form == "vnncomp" and not question.proves:
        raise UsageError("--format vnncomp needs something to prove: give --property or --label")
    result = decide(args, net, question, start)
    read = time.perf_counter() - loaded - result.seconds["total"]
    seconds = {"load": loaded - start, "property": max(read, 0.0), **result.seconds}
    seconds["total"] = time.perf_counter() - start
    result = replace(result, seconds=seconds)
    deliver(render(result, form, args.explain), args.output)
    return STATUS[result.verdict]


def _form(args: argparse.Namespace) -> str:
    form: str = args.format or ("json" if args.json else "text")
    if args.json and form != "json":
        raise UsageError(f"--json and --format {form} contradict each other")
    return form


def decide(args: argparse.Namespace, net: Network, question: Question, start: float) -> Result:
    """Run the verification, or the bounds when there is nothing to prove."""
    timeout = args.timeout
    if timeout is not None:
        # Reading the files counts; what is left is at least a token, so that a verdict comes back.
        timeout = max(timeout - (time.perf_counter() - start), 1e-3)
    if not question.proves:
        return _bounds_only(args, net, question, timeout)
    from gamma.verify.verdict import verify

    progress = Progress()
    try:
        return verify(
            net,
            question.prop,
            method=args.method,
            guarantee=args.guarantee,
            dtype=args.dtype,
            timeout=timeout,
            attack=not args.no_attack,
            explain=args.explain,
            threads=args.threads,
            seed=args.seed,
            progress=progress,
            streaming=streaming(args),
        )
    finally:
        progress.clear()


def _bounds_only(
    args: argparse.Namespace, net: Network, question: Question, timeout: float | None
) -> Result:
    from gamma.verify.bounding import bound_outputs

    result = bound_outputs(
        net,
        question.box(),
        method=args.method,
        guarantee=args.guarantee,
        dtype=args.dtype,
        timeout=timeout,
        threads=args.threads,
        explain=args.explain,
        streaming=streaming(args),
    )
    if result.bounds is None:
        raise ResourceError("the time ran out before the bounds; give more with --timeout")
    return result


def render(result: Result, form: str, explain: bool) -> str:
    """The result in the form asked for."""
    if form == "json":
        return result.to_json()
    if form == "vnncomp":
        from gamma.cli.result_file import vnncomp

        return vnncomp(result)
    from gamma.cli.report import text

    return text(result, explain)
