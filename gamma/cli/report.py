"""A verification result as text: verdict first, one screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gamma.cli import picture
from gamma.cli.options import in_options
from gamma.tensor.rounding import fraction_up
from gamma.verification.describe import overrun, timeline
from gamma.verification.result import Branched, Counterexample, Margin, Result

ROWS = 14
"""Margins and outputs listed at most; the rest is counted."""

HEADLINES = {
    "verified": "VERIFIED  the unsafe set cannot be reached",
    "violated": "VIOLATED  an input reaches the unsafe set",
    "unknown": "UNKNOWN   neither proved nor refuted",
    "timeout": "TIMEOUT   the time ran out before an answer",
}
COSINES = {
    "verified": "VERIFIED  every output has a cosine of at least {} with the centre's",
    "violated": "VIOLATED  an output has a cosine below {} with the centre's",
}
INTERRUPTED = "INTERRUPTED  before an answer"
BRANCHED = {"input": ("boxes", "input volume"), "relu": ("cases", "tree of cases")}


def text(
    result: Result,
    explain: bool = False,
    headline: str = "",
    changed: Sequence[str] = (),
    verbose: bool = True,
) -> str:
    """The whole report; ``headline`` answers the very question, ``changed`` is what a witness did.

    Without ``verbose`` three lines of facts, and the numbers of a small witness alone.
    """
    cut = result.interrupted or result.verdict == "timeout"
    lines = [headline if headline and not cut else _headline(result)]
    if result.counterexample is not None:
        lines += ["", *witness(result.counterexample, changed, verbose)]
    if result.cosine is not None:
        lines += ["", *cosine(result.cosine)]
    elif result.margins and result.counterexample is None:
        lines += ["", *margins(result)]
    lines += [*blocks(result), "", *facts(result, verbose)]
    if explain and result.explain:
        lines += ["", *explanation(result.explain)]
    return "\n".join(lines)


def _headline(result: Result) -> str:
    """The verdict; of one that was cut short what is proved so far."""
    if not result.interrupted and result.verdict != "timeout":
        if result.cosine is not None and result.verdict in COSINES:
            return COSINES[result.verdict].format(f"{result.cosine['asked']:.9g}")
        return HEADLINES[result.verdict]
    if result.branched is not None and result.branched.open:
        how = "INTERRUPTED  " if result.interrupted else "TIMEOUT   "
        return how + _share(result.branched)
    return INTERRUPTED if result.interrupted else HEADLINES["timeout"]


def cosine(found: dict[str, Any]) -> list[str]:
    """What is proved of the cosine, and the least that was seen."""
    lower, distance, seen = found["lower"], found["distance"], found["least_found"]
    apart = picture.above(fraction_up(1 - Fraction(lower)))
    proved = f"at least {picture.below(lower)} for every input (1 - cosine at most {apart})"
    lines = [f"  cosine     {proved if lower > -1 else 'nothing proved'}"]
    if math.isfinite(distance):
        length = picture.number(found["norm"])
        away = f"at most {picture.above(distance)} from the centre's, whose length is {length}"
        lines.append(f"  outputs    {away}")
    return lines if seen is None else [*lines, f"  seen       {seen:.9g}, of the points tried"]


def margins(result: Result) -> list[str]:
    """Lower bounds of what keeps the network safe, least first, as bars."""
    unicode = picture.unicode_output()
    ordered = sorted(result.margins, key=lambda m: (m.proved, m.lower))
    shown = ordered[:ROWS]
    finite = [m.lower for m in shown if math.isfinite(m.lower)]
    axis = min([0.0, *finite]), max([0.0, *finite])
    label = max(len(_short(m.label)) for m in shown)
    values = picture.aligned([_margin(m) for m in shown])
    cells = max(picture.width() - label - len(values[0]) - 9, 8)
    count = f"{result.proved} of {result.conjunctions} unsafe sets excluded"
    lines = [f"{count}; lower bound of each margin:"]
    for margin, value in zip(shown, values, strict=True):
        mark = ("✓" if unicode else "+") if margin.proved else ("✗" if unicode else "-")
        drawn = picture.signed(margin.lower, axis, cells, unicode)
        lines.append(f"  {mark} {_short(margin.label):<{label}}  {value}  {drawn}".rstrip())
    if len(ordered) > len(shown) or result.conjunctions > len(ordered):
        lines.append(f"  ... and {result.conjunctions - len(shown)} more (--json lists them)")
    return lines


def _margin(margin: Margin) -> str:
    if margin.proved and not math.isfinite(margin.lower):
        return "cannot be met"
    return picture.below(margin.lower)


def _short(label: str) -> str:
    return label if len(label) <= 44 else label[:43] + "…"


def witness(found: Counterexample, changed: Sequence[str], verbose: bool) -> list[str]:
    """The counterexample: what it changed, and its numbers where they are few or asked for."""
    lines = [f"witness replayed by {found.replayed_by}:", *(f"  {line}" for line in changed)]
    for name, values in (("X", found.x.ravel()), ("Y", found.y.ravel())):
        if changed and not verbose and len(values) > 12:
            continue
        shown = [f"{name}_{i} = {float(v)!r}" for i, v in enumerate(values[:12])]
        lines += [f"  {entry}" for entry in shown]
        if len(values) > 12:
            lines.append(f"  ... {len(values)} values (--json, --witness-out FILE give all)")
    return lines


def outputs(lower: Any, upper: Any) -> list[str]:
    """Output bounds drawn on one axis, per box."""
    low, high = lower.reshape(len(lower), -1), upper.reshape(len(upper), -1)
    unicode = picture.unicode_output()
    span = _span(low, high)
    lines: list[str] = []
    left = ROWS
    for b in range(len(low)):
        prefix = f"box {b}: " if len(low) > 1 else ""
        for i in range(low.shape[1]):
            if left == 0:
                return [*lines, f"  ... {low.size} outputs in all (--json lists them)"]
            left -= 1
            a, z = float(low[b, i]), float(high[b, i])
            ends = f"[{picture.below(a)}, {picture.above(z)}]"
            cells = max(picture.width() - 44, 8)
            lines.append(
                f"  {prefix}Y_{i:<3} {ends:<30} {picture.interval(a, z, span, cells, unicode)}"
            )
    return lines


def _span(low: Any, high: Any) -> tuple[float, float]:
    """Least and greatest finite end, in one pass over each: outputs may be millions."""
    finite = [(ends, np.isfinite(ends)) for ends in (low, high)]
    if not any(known.any() for _, known in finite):
        return 0.0, 1.0
    least = min(np.min(ends, where=known, initial=math.inf) for ends, known in finite)
    greatest = max(np.max(ends, where=known, initial=-math.inf) for ends, known in finite)
    return float(least), float(greatest)


def reached(lower: Any, upper: Any, found: dict[str, Any]) -> list[str]:
    """Proved and reached ends side by side, and whether they are within the gap."""
    low, high = lower.reshape(len(lower), -1), upper.reshape(len(upper), -1)
    inner = [np.array(found[end], float).reshape(low.shape) for end in ("lower", "upper")]
    rows = []
    for b, i in list(np.ndindex(*low.shape))[:ROWS]:
        # Rounded inward: nothing is claimed to be reached that was not.
        near, far = (float(end[b, i]) for end in inner)
        most = max(near - float(low[b, i]), float(high[b, i]) - far)
        proved = f"[{picture.below(float(low[b, i]))}, {picture.above(float(high[b, i]))}]"
        ends = f"[{picture.above(near)}, {picture.below(far)}]"
        name = f"box {b}: Y_{i}" if len(low) > 1 else f"Y_{i}"
        rows.append((name, proved, ends, picture.above(most)))
    lines = picture.table(rows, ("output", "proved", "reached", "gap"), (False,) * 4)
    lines += [f"... {low.size} outputs in all (--json lists them)"] if low.size > ROWS else []
    state = "met" if found["met"] else "not met everywhere"
    return [*lines, f"gap of {found['gap']:g}: {state}"]


def blocks(result: Result) -> list[str]:
    """Of a language model, block by block: mean width, its share of the norm cap, vacuous."""
    rows = [
        (
            str(b["block"]),
            b["node"][:40],
            picture.number(b["width"]),
            "" if b["share"] is None else f"{b['share']:.4f}",
            "" if b["ratio"] is None else f"{b['ratio']:.4g}",
            "vacuous" if b["vacuous"] else "",
        )
        for b in result.blocks
    ]
    head = ("block", "node", "mean width", "of norm cap", "of first order", "")
    return ["", *picture.table(rows, head, (True, False, True, True, True, False))] if rows else []


def facts(result: Result, verbose: bool = True) -> list[str]:
    """Model, property, method, time and memory, one line each; notes are never left out.

    Without ``verbose`` what was asked of what, the guarantee, and the time.
    """
    model = result.model
    lines = [f"model      {model.get('path') or 'in memory'}, {model['parameters']:,} parameters"]
    if result.property.get("path"):
        lines.append(f"property   {result.property['path']}")
    used = ", ".join(result.used) or "none needed"
    dtype = f", {result.dtype}" if result.dtype else ""
    lines.append(f"method     {result.asked} asked, used: {used}{dtype}")
    lines += [f"branching  {branching(result.branched)}"] if result.branched else []
    lines.append(f"guarantee  {_guarantee(result.guarantee)}")
    parts = [
        f"{name} {picture.seconds(value)}"
        for name, value in timeline(result.seconds).items()
        if name != "total" and "." not in name
    ]
    total = picture.seconds(result.seconds.get("total", 0.0))
    total += f" of {result.limit:g} s" if result.limit is not None else ""
    lines.append(f"time       {total} ({', '.join(parts)})")
    peak = result.memory.get("peak_bytes")
    if peak:
        lines.append(f"memory     {picture.size(peak)} at the peak")
    if not verbose:
        lines = [line for line in lines if line.startswith(("model ", "guarantee ", "time "))]
    notes = (*result.notes, *overrun(result.seconds, result.limit))
    lines += [f"note       {note}" for note in notes]
    return lines


def branching(found: Branched) -> str:
    """How far branch and bound came, in one line."""
    what, share = BRANCHED[found.on][0], ""
    if found.open:
        share = f"; {_share(found)}, {found.open:,} open, worst margin {picture.below(found.worst)}"
    full = "; the memory was full: the deepest came first" if found.full else ""
    return f"{found.domains:,} {what}, {found.depth} splits deep{share}{full}"


def _share(found: Branched) -> str:
    # Rounded down: nothing is claimed that is not proved.
    shown = math.floor(found.proved_share * 1000) / 10
    return f"proved on {shown:.1f} % of the {BRANCHED[found.on][1]}"


def _guarantee(name: str) -> str:
    if name == "real":
        return "real: the network in real arithmetic, on every real input of the set"
    return "float32: real arithmetic and every float32 execution"


def explanation(explain: dict[str, Any]) -> list[str]:
    """Node by node: neurons that got rows of their own, mean width of bounds, what the relaxation
    cost the worst undecided bound, seconds."""
    rows = [_explained(node) for node in explain["nodes"]]
    head = ("node", "operator", "shape", "bounded", "mean width", "lost", "seconds")
    lines = picture.table(rows, head, (False, False, False, True, True, True, True))
    if not rows:
        lines = []
    lines += [f"rows: {explain['path']}"] if explain.get("path") else []
    lines += [in_options(explain["advice"])] if explain.get("advice") else []
    points = explain.get("attack_points")
    lines += [f"attack: {points:,} points tried"] if points else []
    return lines + (_memory(explain["memory"]) if "memory" in explain else [])


def _memory(plan: dict[str, Any]) -> list[str]:
    """The plan of a streamed walk."""
    limit = plan["limit_bytes"]
    predicted = picture.size(plan["predicted_bytes"])
    head = f"memory plan: {predicted}" + (f" of {picture.size(limit)}" if limit else "")
    parts = ", ".join(f"{name} {picture.size(n)}" for name, n in plan["parts"].items() if n)
    form = "float16" if plan["f16_checkpoints"] else "exact"
    where = "in a file" if plan["spilled"] else "in memory"
    every = plan["checkpoint_interval"]
    how = f"checkpoints every {every} layers, {form}, {where}"
    if every is None:
        how = "one pass, bounds dropped once no other node needs them"
    return [head, f"  {parts}", f"  {how}; {plan['boxes_at_once']} boxes at once"]


def _explained(node: dict[str, Any]) -> list[str]:
    shape = "×".join(str(n) for n in node.get("shape", ()))
    bounded, mean = node.get("bounded"), node.get("width")
    spent = node.get("seconds")
    return [
        str(node.get("name", ""))[:32],
        str(node.get("op", "")),
        shape,
        f"{bounded:,}" if bounded else "",
        "" if mean is None else picture.number(float(mean)),
        picture.number(float(node["lost"])) if "lost" in node else "",
        "" if spent is None else f"{float(spent):.4f}",
    ]
