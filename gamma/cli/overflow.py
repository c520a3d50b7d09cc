"""``gamma overflow``: whether a network that runs in few bits can overflow on a set of inputs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gamma.cli import picture
from gamma.cli.combinations import check_combination
from gamma.cli.inputs import network_and_question
from gamma.cli.output import Progress, check_writable, deliver

if TYPE_CHECKING:
    from gamma.verification.overflow import Overflow, Reach

STATUS = {"verified": 0, "violated": 3, "unknown": 4}
ROWS = 24
"""Nodes listed without -v, those with the least headroom."""


def run(args: argparse.Namespace) -> int:
    """Bound, deliver, return the verdict's exit status."""
    check_writable(args.output)
    check_combination(args)
    from gamma.verification.overflow import overflow

    asked = network_and_question(args)
    with Progress("overflow", args.timeout) as progress:
        found = overflow(
            asked.network,
            asked.property.box(),
            args.dtype,
            method=args.method,
            timeout=args.timeout,
            memory=args.memory,
            threads=args.threads,
            seed=args.seed,
            progress=progress,
        )
    made = found.to_json() if args.json else "\n".join(text(found, args.verbose))
    deliver(made, args.output)
    failing = (*args.fail_on, "verified")
    return STATUS[found.verdict] if found.verdict in failing else 0


def text(found: Overflow, every: bool) -> list[str]:
    """The verdict, then nodes with their headroom, the least first; all in order with ``every``."""
    ranked = sorted(found.nodes, key=lambda n: (not n.why, n.headroom(found.largest)))
    shown = found.nodes if every else ranked[:ROWS]
    head = ("node", "operator", "terms", "values", "partial sums", "headroom", "seen", "")
    right = (False, False, True, True, True, True, True, False)
    lines = [_headline(found), "", *picture.table([_row(found, n) for n in shown], head, right)]
    if len(found.nodes) > len(shown):
        lines.append(f"... {len(found.nodes)} nodes in all (-v)")
    path = found.model.get("path") or "in memory"
    return [
        *lines,
        "",
        f"model      {path}, {found.model['parameters']:,} parameters",
        f"meaning    sums round to {found.dtype} after every step, in any order; other operators",
        "           are computed in float32 and their results rounded",
        f"largest    {found.largest:g}",
        *([] if found.method == "ibp" else [f"method     {found.method} of the exact network"]),
        f"time       {picture.seconds(found.seconds)}",
    ]


def _headline(found: Overflow) -> str:
    least = min(found.nodes, key=lambda n: n.headroom(found.largest))
    if found.verdict == "verified":
        room = picture.below(least.headroom(found.largest))
        return (
            f"VERIFIED  no execution in {found.dtype} overflows on the set: every number could be "
            f"{room} times larger ({least.name})"
        )
    count = f"{len(found.beyond)} of {len(found.nodes)} nodes"
    if found.verdict == "violated":
        return f"VIOLATED  a value of the network is beyond {found.dtype} at an input of the set"
    return f"UNKNOWN   {count} may overflow in {found.dtype}"


def _row(found: Overflow, node: Reach) -> tuple[str, ...]:
    room = node.headroom(found.largest)
    mark = "" if room >= 1 else "may overflow"
    return (
        node.name[:32],
        node.operator,
        str(node.terms or ""),
        picture.above(node.activation),
        picture.above(node.partial),
        picture.below(room),
        picture.number(node.seen),
        node.why or mark,
    )
