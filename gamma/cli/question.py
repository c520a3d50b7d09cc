"""What was asked, in a sentence, and what a witness changed: the words of ``gamma verify``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamma.cli import picture
from gamma.formats.npy import read_npy
from gamma.network.graph import Network
from gamma.verification.radius import distance_above
from gamma.verification.result import Counterexample

SIGNS = {"inf": "L∞", "2": "L2", "1": "L1"}


@dataclass(frozen=True)
class Question:
    """What was asked.

    Attributes:
        where: the input set in words, as in "within 0.05 (L∞) of x.npy"; "" of a property file.
        what: of the property file, or the class.
        center: the middle of the set, where there is one. norm: of the distance from it.
    """

    where: str
    what: str
    center: npt.NDArray[np.float64] | None = None
    norm: str = "inf"

    @classmethod
    def of(cls, args: argparse.Namespace, net: Network) -> Question | None:
        """The question of the command line; None for a prompt, whose set has no short name."""
        if args.property:
            return cls("", Path(args.property).name)
        if args.label is None or args.ids or args.text:
            return None
        if args.box:
            low, high = (Path(name).name for name in args.box)
            return cls(f"between {low} and {high}", f"class {args.label}")
        name = Path(args.input).name
        where = f"within {decimal(args.epsilon)} ({SIGNS[args.norm]}) of {name}"
        zeros = args.input == "zeros"
        center = np.zeros(net.input_shape) if zeros else read_npy(Path(args.input), net.input_shape)
        return cls(where, f"class {args.label}", center, args.norm)

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
        center = self.center.reshape(found.x.shape)
        entries = int((found.x.astype(np.float64) != center).sum())
        far = picture.above(distance_above(found.x, center, self.norm))
        before = int(net.forward(center).argmax())
        after = int(found.y.ravel().argmax())
        return [
            f"distance   {far} ({SIGNS[self.norm]}), {entries} of {found.x.size} entries changed",
            f"class      {before} before, {after} after (a tie counts as lost)",
        ]


def decimal(value: Fraction) -> str:
    """The number as it is: a short decimal, or a fraction."""
    short = repr(float(value))
    return short if Fraction(short) == value else str(value)
