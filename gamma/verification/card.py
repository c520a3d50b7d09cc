"""A result as a notebook shows it: verdict, facts, margins, and the witness as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gamma import markup
from gamma.decimals import below

if TYPE_CHECKING:
    from gamma.verification.result import Counterexample, Result

COLORS = {"verified": "#2e8b57", "violated": "#c0392b", "unknown": "#8a8f98", "none": "#8a8f98"}


def card(result: Result) -> str:
    """The HTML of a result."""
    facts = [("guarantee", result.guarantee), ("method", ", ".join(result.used) or result.asked)]
    if result.conjunctions:
        facts.append(("proved", f"{result.proved} of {result.conjunctions}"))
    if result.reason:
        facts.append(("reason", result.reason))
    if "total" in result.seconds:
        facts.append(("time", f"{result.seconds['total']:.3g} s"))
    body = _margins(result) if result.counterexample is None else _witness(result.counterexample)
    return markup.card(result.verdict, facts, COLORS[result.status], body)


def _margins(result: Result) -> str:
    worst = sorted((m for m in result.margins if math.isfinite(m.lower)), key=lambda m: m.lower)
    if not worst:
        return ""
    span = min(0.0, worst[0].lower), max(0.0, worst[: markup.ROWS][-1].lower)
    rows = [
        (
            m.label,
            below(m.lower),
            markup.bar(
                min(0.0, m.lower),
                max(0.0, m.lower),
                span,
                markup.BLUE if m.proved else markup.ORANGE,
            ),
        )
        for m in worst[: markup.ROWS]
    ]
    return markup.table(("margin", "at least", ""), rows, "", len(worst))


def _witness(found: Counterexample) -> str:
    """Inputs and outputs; an image as a picture."""
    outputs = ", ".join(f"{v:.4g}" for v in found.y.ravel()[:12].tolist())
    text = f"<div>witness replayed by {found.replayed_by}; outputs {outputs}</div>"
    image = grey(found.x)
    if image is None:
        inputs = ", ".join(f"{v:.4g}" for v in found.x.ravel()[:12].tolist())
        return f"{text}<div>inputs {inputs}{' …' if found.x.size > 12 else ''}</div>"
    span = float(found.x.min()), float(found.x.max())
    return text + markup.pixels(image.tolist(), span, "the witness")


def grey(x: Any) -> Any:
    """The input as rows of grey values where it looks like an image of at most 64 x 64, or None."""
    shape = x.shape
    if len(shape) == 3 and shape[0] in (1, 3):
        image = np.asarray(x, np.float64).mean(axis=0)
    elif len(shape) >= 1 and math.isqrt(x.size) ** 2 == x.size and x.size >= 64:
        image = np.asarray(x, np.float64).reshape(math.isqrt(x.size), -1)
    else:
        return None
    return image if max(image.shape) <= 64 else None
