"""``gamma verify MODEL`` with a prompt and nothing asked of it: what can be certified in time.

The range of every activation for every prompt comes first, which takes seconds; then interval
bounds of the outputs, then the method's with the time that is left. The first line says what holds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gamma import tuning
from gamma.architectures.model import Model
from gamma.cli import bounds, picture, prompts, ranges
from gamma.cli.combinations import streaming
from gamma.cli.output import Progress, deliver
from gamma.errors import ResourceError
from gamma.network.graph import Network
from gamma.network.property import Property
from gamma.propagate.blocks import may_end
from gamma.propagate.domain import Facts
from gamma.runtime.interrupts import patient
from gamma.verification.choices import AUTO_SECONDS
from gamma.verification.result import Result

if TYPE_CHECKING:
    from gamma.verification.ranges import Ranges

STORAGE = "f16"
TIMEOUT = 5
RESERVE = 0.1
"""Share of the time limit for what does not look at the clock, and for the report."""


def run(args: argparse.Namespace, form: str) -> int:
    """Bound, deliver, return 0; 5 where not even interval bounds end in time, but ranges."""
    start = time.monotonic()
    limit = AUTO_SECONDS if args.timeout is None else args.timeout
    method = "crown" if args.method == "auto" else args.method
    progress = Progress("reading", limit)

    def left() -> float:
        return float(max(start + limit * (1 - RESERVE) - time.monotonic(), 1e-3))

    try:
        with patient():
            model = prompts.opened(args)
            assert model is not None
            net, prop = prompts.question(args, model)
            load = time.monotonic() - start
            found = _ranges(args, model, net, prop, left(), progress)
            caps = _caps(args, net, found)
            result = bounded(args, "ibp", net, prop, left(), caps)
            if result.bounds is not None and method != "ibp":
                progress(f"{method}: bounds of every output")
                result = _better(args, method, net, prop, left(), result, caps)
    finally:
        progress.clear()
    head = f"BOUNDS  {said(result, method)}; {_overflow(found)}"
    notes = (*result.notes, "nothing to prove: there is no --label and no --cosine")
    seconds = {"load": load, **result.seconds, "total": time.monotonic() - start}
    result = replace(result, asked=args.method, seconds=seconds, limit=limit, notes=notes)
    if form == "json":
        deliver(replace(result, notes=(head, *notes)).to_json(), args.output)
    elif result.bounds is not None:
        deliver(bounds.text(result, None, args.explain, head), args.output)
    else:
        listed = [] if found is None else ranges.text(found, args.explain)
        deliver("\n".join([head, "", *listed]), args.output)
    return 0 if result.bounds is not None else TIMEOUT


def bounded(
    args: argparse.Namespace,
    method: str,
    net: Network,
    prop: Property,
    timeout: float,
    caps: Facts | None = None,
) -> Result:
    """Output bounds as the command line asks for them; none where the time ran out."""
    from gamma.verification.bounding import bound_outputs

    return bound_outputs(
        net,
        prop.box(),
        method=method,
        guarantee=args.guarantee,
        dtype=args.dtype,
        timeout=timeout,
        threads=args.threads,
        prop=prop,
        explain=args.explain,
        streaming=streaming(args),
        caps=caps,
    )


def _better(
    args: argparse.Namespace,
    method: str,
    net: Network,
    prop: Property,
    timeout: float,
    intervals: Result,
    caps: Facts | None = None,
) -> Result:
    """The method's bounds where they end in time, else ``intervals``, with a note."""
    size, late = net.nodes[net.output].size, f"{method} was not tried, it takes far longer"
    if may_end(net, method, size, timeout):
        found = bounded(args, method, net, prop, timeout, caps)
        if found.bounds is not None:
            return found
        late = f"{method} did not end in {timeout:.3g} s"
    late += ": the bounds are by intervals"
    return replace(intervals, notes=(*intervals.notes, late))


def _ranges(
    args: argparse.Namespace,
    model: Model,
    net: Network,
    prop: Property,
    timeout: float,
    progress: Any,
) -> Ranges | None:
    """The range of every activation for every prompt and the set; None where the time ran out."""
    from gamma.verification.ranges import ranges as proved

    how = {"timeout": timeout, "threads": args.threads, "output": args.output_name}
    how["guarantee"] = args.guarantee
    box = prop.box().batched(net.input_shape) if _embeds(args) else None
    try:
        return proved(model, box, storage=STORAGE, progress=progress, **how)
    except ResourceError:
        return None


def _caps(args: argparse.Namespace, net: Network, found: Ranges | None) -> Facts | None:
    """The ranges as norm caps, where they are about the set."""
    from gamma.verification.ranges import caps_of

    if found is None or not _embeds(args):
        return None
    return caps_of(found, net) if tuning.enabled("norm_caps") else None


def _embeds(args: argparse.Namespace) -> bool:
    """Whether the set is of a model's inputs: not of a state within, nor of a line."""
    return args.block is None and args.to_word is None


def _overflow(found: Ranges | None) -> str:
    """Whether an activation may overflow float16, for any prompt."""
    if found is None:
        return f"whether an activation may overflow {STORAGE} was not decided in time"
    beyond = found.beyond(STORAGE)
    if not beyond:
        return f"no activation can overflow {STORAGE}, for {found.about}"
    count = f"{len(beyond)} of {len(found.tensors)} activations"
    return f"{count} may overflow {STORAGE} (gamma ranges lists them)"


def said(result: Result, method: str) -> str:
    """What the bounds say, in a few words: by which method, and of how many blocks nothing."""
    if result.bounds is None:
        return "nothing asked: not even interval bounds of the outputs ended in time"
    used = result.used[0]
    by = f"by {used}" if used == method else f"by {used}, {method} needs more time"
    text = f"nothing asked: every output of the set lies inside, {by}"
    return f"{text}; {vacuous(result.blocks)}" if result.blocks else text


def vacuous(blocks: Sequence[dict[str, Any]]) -> str:
    """Of how many blocks the bounds say nothing."""
    empty = [b["block"] for b in blocks if b["vacuous"]]
    if not empty:
        shares = [b["share"] for b in blocks if b["share"] is not None]
        if not shares:
            return "norms give no measure of how much any block's bounds say"
        most = picture.above(100 * max(shares))
        return f"no block's bounds are vacuous (at most {most} % of what norms allow)"
    if len(empty) == len(blocks):
        return "VACUOUS: in every block they say no more than its norms"
    last = "the end of the network included" if blocks[-1]["vacuous"] else "not the last"
    return f"VACUOUS in {len(empty)} of {len(blocks)}, {listed(empty)}, {last}"


def listed(blocks: Sequence[int]) -> str:
    """Numbers of blocks in words."""
    some = ", ".join(map(str, blocks[:8])) + (", ..." if len(blocks) > 8 else "")
    return f"block {some}" if len(blocks) == 1 else f"blocks {some}"
