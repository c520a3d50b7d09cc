"""Random hard networks, boxes and ways of asking, for as long as one likes."""

from __future__ import annotations

import time

import numpy as np

from tests.exact.checking import Count, check, configs, exact_values
from tests.exact.families import BOXES, SHAPES, WEIGHTS, Draw, box

# Exact convolutions are slow: their float32 executions are left to small networks.
_NO_EXECUTIONS = ("scaled", "pictures", "convolution", "transposed")


def run(seed: int, seconds: float, least: int) -> Count:
    """Draw until ``seconds`` have passed and at least ``least`` bounds were compared."""
    rng = np.random.default_rng(seed)
    count, started = Count(), time.monotonic()
    while time.monotonic() - started < seconds or count.bounds < least:
        shape, family = str(rng.choice(list(SHAPES))), str(rng.choice(WEIGHTS))
        kind, batch = str(rng.choice(BOXES)), int(rng.integers(1, 4))
        net = SHAPES[shape](Draw(family, rng))
        boxes = box(kind, net.input_shape, rng, batch)
        wobble = float(rng.choice([-1.0, 0.0, 1.0]))
        truths = exact_values(net, boxes, rng, 1, wobble)
        known = len(count.wrong)
        for config in configs(rng, 4):
            executions = family != "float64" and shape not in _NO_EXECUTIONS
            check(net, boxes, config, rng, count, truths=truths, executions=executions)
        count.wrong[known:] = [f"{shape} {family} {kind}: {w}" for w in count.wrong[known:]]
    return count
