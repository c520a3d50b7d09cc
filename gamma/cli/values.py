"""From words of the command line to values; what is none is an argparse.ArgumentTypeError."""

from __future__ import annotations

import argparse
import math
from fractions import Fraction

from gamma.cli.parser import NUMBER, shown


def exact(text: str) -> Fraction:
    """A decimal, or a fraction of decimals like 8/255, as the number it is.

    The exponent is capped: 1e999999999 is refused.
    """
    if not NUMBER.fullmatch(text):
        known = text.lower().lstrip("+-") in ("inf", "infinity", "nan")
        raise argparse.ArgumentTypeError(
            f"{shown(text)!r} is not {'finite' if known else 'a number'}"
        )
    numerator, _, denominator = text.partition("/")
    value = _decimal(numerator)
    if denominator:
        divisor = _decimal(denominator)
        if not divisor:
            raise argparse.ArgumentTypeError(f"{shown(text)!r} divides by zero")
        value /= divisor
    if value and not 2**-1074 <= abs(value) < 2**1024:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is out of range")
    return value


def _decimal(text: str) -> Fraction:
    value = float(text)
    if math.isinf(value):
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is not finite")
    vanished = value == 0 and any(digit in text.lower().partition("e")[0] for digit in "123456789")
    if len(text) > 1000 or vanished:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is too small or too long")
    return Fraction(text) if value else Fraction(0)


def radius(text: str) -> Fraction:
    value = exact(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{shown(text)} is negative, expected zero or more")
    return value


def seconds(text: str) -> float:
    value = float(exact(text))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected more than zero seconds")
    return value


def gap(text: str) -> float:
    value = float(exact(text))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected a gap above zero")
    return value


def scale(text: str) -> float:
    value = float(exact(text))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected more than zero")
    return value


def ratio(text: str) -> float:
    value = float(exact(text))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected at least 1")
    return value


def cosine(text: str) -> Fraction:
    value = exact(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected above 0 and at most 1")
    return value


def numbers(text: str) -> tuple[Fraction, ...]:
    return tuple(exact(part.strip()) for part in text.split(","))


def deviations(text: str) -> tuple[Fraction, ...]:
    found = numbers(text)
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{shown(text)}: expected more than zero")
    return found


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: expected a whole number from 0")
    return int(text)


def positive(text: str) -> int:
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: expected at least 1")
    return value


def size(text: str) -> int:
    from gamma.propagate.memory.planning import parse_size

    try:
        return parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)!r}: expected a size such as 200MB, 1.5GiB or 300000"
        ) from None


def shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(positive(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)!r}: expected sizes such as 1,28,28"
        ) from None
    return shape


def ids(text: str) -> tuple[int, ...]:
    return tuple(whole(part.strip()) for part in text.split(","))


def positions(text: str) -> tuple[int, ...]:
    """Places, from the end where they are negative."""
    parts = [part.strip() for part in text.split(",")]
    return tuple(-whole(p[1:]) if p.startswith("-") else whole(p) for p in parts)


def shard(text: str) -> tuple[int, int]:
    """Part I of N, from 1."""
    number, _, count = text.partition("/")
    try:
        found = positive(number), positive(count)
    except argparse.ArgumentTypeError:
        found = 1, 0
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: expected I/N, such as 1/8 to 8/8")
    return found


def statuses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if found == ("none",):
        return ()
    if not set(found) <= {"violated", "unknown"}:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: expected violated, unknown or none")
    return found
