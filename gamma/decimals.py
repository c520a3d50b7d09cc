"""Short decimals that are rounded outward: what is printed of a bound is still one."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal


def below(value: float) -> str:
    """Six digits that are at most ``value``: a printed lower bound stays a lower bound."""
    return _rounded(value, ROUND_FLOOR)


def above(value: float) -> str:
    """Six digits that are at least ``value``."""
    return _rounded(value, ROUND_CEILING)


def _rounded(value: float, rounding: str) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    short = Context(prec=6, rounding=rounding).create_decimal(Decimal(value)).normalize()
    return f"{short:f}" if -5 <= short.adjusted() <= 6 else f"{short:e}"
