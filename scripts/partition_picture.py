"""Draws docs/pictures/partition.svg: a network of two inputs, stopped after a few rounds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

import gamma
from gamma.cli.partition_picture import draw
from gamma.network.graph import Builder, Network
from gamma.network.property import LinearConstraint, Property, Region
from gamma.ops import Gemm, Relu
from gamma.ops.base import Input
from gamma.runtime import interrupts

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "partition.svg"
BOUND = Fraction(17, 16)
"""The least output is a little above 1.11."""


def network() -> Network:
    rng = np.random.default_rng(3)
    build, last = Builder(Input(), (2,)), 0
    for n, m in ((2, 24), (24, 24), (24, 1)):
        last = build.add(Relu(), last) if n > 2 else last
        weight = rng.normal(size=(m, n)) * 2 / np.sqrt(n)
        last = build.add(Gemm(weight.astype(np.float32), rng.normal(size=m).astype("f4")), last)
    return build.build(last)


def stopped(rounds: int) -> gamma.Result:
    """Whether the output stays above the bound, after so many rounds and Ctrl-C."""
    low, high = (Fraction(-2),) * 2, (Fraction(2),) * 2
    unsafe = ((LinearConstraint(((0, Fraction(1)),), (), BOUND),),)
    left = rounds

    def told(message: str) -> None:
        nonlocal left
        left -= message.startswith("branching")
        interrupts._asked = left < 0

    try:
        prop = Property((Region(low, high, unsafe),), 2, 1)
        return gamma.verify(network(), prop, attack=False, partition=True, progress=told)
    except interrupts.Interrupted as stop:
        found: gamma.Result = stop.partial
        return found
    finally:
        interrupts._asked = False


if __name__ == "__main__":
    PICTURE.write_bytes(draw(stopped(6), "svg"))
