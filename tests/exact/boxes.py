"""Bounds of one box, and points of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gamma.ops.bounds import NodeBounds

Array = Any


def between(lower: Array, upper: Array, centre: Array | None = None) -> NodeBounds:
    """Bounds of one box."""
    low, high = np.float64(lower)[None], np.float64(upper)[None]
    middle = np.clip(0.5 * low + 0.5 * high, low, high)
    return NodeBounds(low, high, middle if centre is None else np.float64(centre)[None])


def inside(x: NodeBounds, r: np.random.Generator, count: int) -> list[Array]:
    """Corners, points on faces and within."""
    low, high = x.lower[0], x.upper[0]
    found = [low, high]
    for _ in range(count):
        where = r.choice([0.0, 1.0, r.uniform()], size=low.shape)
        found.append(np.clip(low + where * (high - low), low, high))
    return found
