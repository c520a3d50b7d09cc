"""Networks, properties and constraints in the words of a report."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from gamma.network.graph import Network
from gamma.network.property import LinearConstraint, Property

GRACE = 0.3  # seconds after its limit in which every phase that can be cut short has ended
PHASES = {
    "load": "reading the model",
    "property": "reading the property",
    "rows": "making its linear questions",
    "alpha": "optimising slopes",
    "neurons": "bounds of hidden neurons",
    "attack": "the search for a witness",
    "branching": "branch and bound",
}


def model_record(net: Network) -> dict[str, Any]:
    """The JSON contract's ``model`` object."""
    source = net.source
    return {
        "path": str(source.path) if source else None,
        "sha256": source.sha256 if source else None,
        "parameters": net.parameters,
        "element_types": list(net.element_types),
    }


def element_notes(net: Network) -> tuple[str, ...]:
    """What every result about a network that computes in fewer bits than float32 has to say."""
    if not net.short_types:
        return ()
    kind = " and ".join(net.short_types)
    return (
        f"the file computes in {kind}: the bounds are about its real-arithmetic network, "
        f"executions in {kind} round further and are not covered",
    )


def reading_notes(net: Network) -> tuple[str, ...]:
    """What every result says about how the file was read: element types, and what was left out."""
    left_out: tuple[str, ...] = net.metadata.get("left_out", ())
    return (*element_notes(net), *left_out)


def property_record(prop: Property | None) -> dict[str, Any]:
    """The JSON contract's ``property`` object."""
    if prop is None:
        return {"path": None, "sha256": None}
    record: dict[str, Any] = {
        "path": str(prop.source) if prop.source else None,
        "sha256": prop.sha256,
        "regions": len(prop.regions),
    }
    if prop.label is not None:
        record["label"] = prop.label
    return record


def describe_safe(constraint: LinearConstraint) -> str:
    """The complement of a constraint in a few characters: what has to be true to be safe."""
    terms = [(f"Y_{i}", c) for i, c in constraint.y] + [(f"X_{i}", c) for i, c in constraint.x]
    flip = bool(terms) and all(c < 0 for _, c in terms)
    sign = ("<=" if constraint.strict else "<") if flip else (">=" if constraint.strict else ">")
    bound = -constraint.bound if flip else constraint.bound
    terms = [(name, -c if flip else c) for name, c in terms]
    positive = [(name, c) for name, c in terms if c > 0]
    negative = [(name, -c) for name, c in terms if c < 0]
    left = _sum(positive)
    if len(positive) == len(negative) == 1 and bound == 0:
        return f"{left} {sign} {_sum(negative)}"
    right = _decimal(bound)
    return f"{left} - {_sum(negative)} {sign} {right}" if negative else f"{left} {sign} {right}"


def _decimal(value: Fraction) -> str:
    """Six digits, also of numbers beyond float64."""
    try:
        near = float(value)
    except OverflowError:
        return "a huge number" if value > 0 else "a hugely negative number"
    if value and not near:
        return "a tiny number" if value > 0 else "a tiny negative number"
    return f"{near:.6g}"


def _sum(terms: list[tuple[str, Fraction]]) -> str:
    shown = [name if c == 1 else f"{_decimal(c)}·{name}" for name, c in terms[:4]]
    return " + ".join(shown) + (f" + {len(terms) - 4} more" if len(terms) > 4 else "")


def timeline(seconds: Mapping[str, float]) -> dict[str, float]:
    """Phases, ``other`` for what is none of them, and the total, to which these add up.

    ``phase.part`` is a part of a phase. Without a total: as it is.
    """
    if "total" not in seconds:
        return dict(seconds)
    phases = {name: spent for name, spent in seconds.items() if name != "total"}
    covered = sum(spent for name, spent in phases.items() if "." not in name)
    total = seconds["total"]
    return {**phases, "other": max(total - covered, 0.0), "total": max(total, covered)}


def overrun(seconds: Mapping[str, float], limit: float | None) -> tuple[str, ...]:
    """A note where an answer came later than its limit allows: what was not cut short."""
    total = seconds.get("total", 0.0)
    if limit is None or total <= limit + GRACE:
        return ()
    passed, late = 0.0, []
    for phase, spent in seconds.items():
        if phase == "total" or "." in phase:  # the time of a part counts in its whole
            continue
        passed += spent
        if passed > limit and spent > GRACE / 10:
            late.append(f"{PHASES.get(phase, phase)} ({spent:.2f} s)")
    what = " and ".join(late) or "the phases"
    return (f"{total - limit:.1f} s over the limit of {limit:g} s: {what} had to finish",)
