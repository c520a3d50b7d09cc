"""What was asked, in a sentence, and what a witness changed: the words of ``gamma verify``."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np

from gamma.cli import picture
from gamma.cli.inputs import Given
from gamma.cli.sets import Units
from gamma.frozen import Frozen
from gamma.network.exact import exact_fractions
from gamma.network.graph import Network
from gamma.verification.result import Counterexample

SIGNS = {"inf": "L∞", "2": "L2", "1": "L1"}


class Question(Frozen, eq=True):
    """What was asked.

    Attributes:
        where: the input set in words, as in "within 0.05 (L∞) of x.npy"; "" of a property file.
        what: of the property file, or the class.
        center: the middle of the set as the network takes it, where there is one.
        norm: of the distance from it, in the units of epsilon.
    """

    where: str
    what: str
    center: tuple[Fraction, ...] | None = None
    norm: str = "inf"
    units: Units | None = None

    @classmethod
    def of(cls, args: argparse.Namespace, given: Given | None) -> Question | None:
        """The question of the command line; None for a prompt, whose set has no short name."""
        if args.property:
            return cls("", Path(args.property).name)
        if args.label is None or args.ids or args.text:
            return None
        if args.box:
            low, high = (Path(name).name for name in args.box)
            return cls(f"between {low} and {high}", f"class {args.label}")
        assert given is not None
        center = given.units.applied(exact_fractions(given.values[0]))
        where = f"{within(args)} of {Path(args.input).name}"
        return cls(where, f"class {args.label}", center, args.norm, given.units)

    @property
    def name(self) -> str:
        """The question itself."""
        return f"every input {self.where} is {self.what}" if self.where else self.what

    def headline(self, verdict: str) -> str:
        """The first line: the verdict, as the answer to the question."""
        if not self.where:
            return {
                "verified": f"VERIFIED  {self.what} holds: no input reaches its unsafe set",
                "violated": f"VIOLATED  {self.what} does not hold: an input reaches its unsafe set",
                "unknown": f"UNKNOWN   {self.what} is neither proved nor refuted",
            }[verdict]
        return {
            "verified": f"VERIFIED  every input {self.where} is {self.what}",
            "violated": f"VIOLATED  an input {self.where} is not {self.what}",
            "unknown": f"UNKNOWN   whether every input {self.where} is {self.what}: neither proved "
            "nor refuted",
        }[verdict]

    def changed(self, net: Network, found: Counterexample) -> list[str]:
        """How far a witness is from the middle, what differs, and the class before and after."""
        if self.center is None:
            return []
        moved = [a - b for a, b in zip(exact_fractions(found.x), self.center, strict=True)]
        entries = sum(map(bool, moved))
        from gamma.verification.radius import length_above

        steps = (self.units or Units()).removed(list(map(abs, moved)))
        far = picture.above(length_above(steps, self.norm))
        center = np.array(list(map(float, self.center))).reshape(found.x.shape)
        before = int(net.forward(center).argmax())
        after = int(found.y.ravel().argmax())
        return [
            f"distance   {far} ({SIGNS[self.norm]}), {entries} of {found.x.size} entries changed",
            f"class      {before} before, {after} after (a tie counts as lost)",
        ]


def within(args: argparse.Namespace) -> str:
    """The radius and its norm."""
    return f"within {decimal(args.epsilon)} ({SIGNS[args.norm]})"


def decimal(value: Fraction) -> str:
    """The number as it is: a short decimal, or a fraction."""
    short = repr(float(value))
    return short if Fraction(short) == value else str(value)
