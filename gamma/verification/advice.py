"""Why nothing was decided, and what to try, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# What is worth trying after each method.
_NEXT = {
    "ibp": "method=auto",
    "forward": "method=auto",
    "crown-ibp": "method=auto",
    "forward+crown": "method=auto",
    "crown": "method=auto",
    "alpha": "method=auto",
}


def advice(layers: Sequence[dict[str, Any]], method: str) -> str:
    """Where the worst bound became loose (`gamma.propagate.looseness`), and what may help."""
    lost = {str(layer["name"]): float(layer.get("lost", 0.0)) for layer in layers}
    total = sum(lost.values())
    tried = f"{_NEXT[method]}, " if method in _NEXT else ""
    attempt = f"try {tried}a smaller input set, or more time"
    if not total > 0:
        return f"the bounds left it open: {attempt}"
    name = max(lost, key=lambda key: lost[key])
    operator = next(str(layer["op"]) for layer in layers if layer["name"] == name)
    share = round(100 * lost[name] / total)
    return (
        f"the worst bound lost most at node {name} ({operator}), {share} % of what all "
        f"relaxations cost it: {attempt}"
    )
