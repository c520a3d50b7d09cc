"""Bounds of hard networks against the truth: a seeded slice of what the nightly run draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gamma.methods import METHODS
from gamma.tensor import kernels
from tests.exact.checking import Config, Count, check, exact_values
from tests.exact.families import BOXES, SHAPES, WEIGHTS, Draw, box
from tests.exact.nightly import run

ISAS = kernels.available()


@pytest.mark.parametrize("shape", SHAPES)
def test_families(shape: str) -> None:
    """Every operator, family and box kind; methods, guarantees, dtypes and kernels in turn."""
    rng = np.random.default_rng(sum(map(ord, shape)))
    asked = itertools.product(METHODS[::-1], ("real", "float32"), ("float32", "float64"))
    count, turn = Count(), 0
    large = shape in ("pictures", "turned", "convolution", "transposed", "line")
    for family, kind in zip(WEIGHTS, (*BOXES, "wide"), strict=True):
        if large and family not in ("plain", "exponents"):
            continue
        net = SHAPES[shape](Draw(family, rng))
        boxes = box(kind, net.input_shape, rng, 2)
        wobble = float(rng.choice([-1.0, 1.0]))
        truths = exact_values(net, boxes, rng, 0, wobble)
        for method, guarantee, dtype in itertools.islice(itertools.cycle(asked), turn, turn + 2):
            config = Config(method, guarantee, dtype, ISAS[turn % len(ISAS)])
            run32 = not large and family != "float64" and shape != "scaled"
            check(net, boxes, config, rng, count, truths=truths, executions=run32)
            turn += 1
    assert not count.wrong, count.wrong[:3]
    assert count.bounds >= 100


def test_the_nightly_draw() -> None:
    """A few networks of the nightly run, any batch size, blocks of single rows."""
    count = run(seed=1, seconds=4.0, least=0)
    assert not count.wrong, count.wrong[:3]
    assert count.bounds > 0
