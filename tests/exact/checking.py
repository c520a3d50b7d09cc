"""Bounds of a network against the truth, for every way gamma can be asked for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import flint
import numpy as np

from gamma import ops
from gamma.network.graph import Network
from gamma.ops.evaluate import gradient
from gamma.propagate.analysis import lower_bounds
from gamma.propagate.options import Options
from gamma.propagate.specification import Specification
from gamma.propagate.walks import Walk, walk
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.exact.execution import ORDERS, Execution
from tests.exact.oracle import BITS, Truth, above, exact, violations

Array = Any


@dataclass
class Count:
    """Bounds and single comparisons (a bound at one point) made, and those that were wrong."""

    bounds: int = 0
    comparisons: int = 0
    wrong: list[str] = field(default_factory=list)

    def compare(self, lower: Array, upper: Array, truth: Array, what: str, first: bool) -> None:
        """One array of bounds against exact values; ``first``: these bounds are new."""
        self.bounds += 2 * truth.size * first
        self.comparisons += 2 * truth.size
        bad = violations(lower, upper, truth)
        if bad:
            self.wrong.append(f"{what}: {bad} of {truth.size}")


def points(network: Network, box: Box, b: int, rng: np.random.Generator, count: int) -> list[Array]:
    """Points of box ``b``: the midpoint, corners (random and down the gradient), inner ones."""
    low, high = box.lower[b], box.upper[b]
    middle = np.clip(0.5 * low + 0.5 * high, low, high)
    found = [middle, low, high]
    with np.errstate(all="ignore"):
        size = int(np.prod(network.output_shape))
        for k in range(min(size, 3)):
            seed = np.zeros((1, size))
            seed[0, k] = 1
            _, slope = gradient(network, middle[None], seed.reshape(1, *network.output_shape))
            found += [np.where(slope[0] > 0, low, high), np.where(slope[0] > 0, high, low)]
            found += _farthest(box, b, slope[0])
    for _ in range(count):
        found.append(np.where(rng.random(low.shape) < 0.5, low, high))
        found.append(np.clip(low + rng.random(low.shape) * (high - low), low, high))
    return found if box.radius is None else _in_ball(box, b, found)


def _farthest(box: Box, b: int, slope: Array) -> list[Array]:
    """The points of a ball where a linear form is greatest and least."""
    if box.center is None or box.radius is None or not slope.any():
        return []
    step = slope / abs(slope).max()
    if box.norm == "1":
        step = np.where(np.arange(step.size).reshape(step.shape) == abs(step).argmax(), step, 0)
    step *= box.radius / np.sqrt((step * step).sum())
    return [box.center[b] + step, box.center[b] - step]


def _in_ball(box: Box, b: int, found: list[Array]) -> list[Array]:
    """The points, those outside pulled in just as far as they must be."""
    one, kept = box.slice(b, b + 1), []
    assert one.center is not None and one.radius is not None
    low, high, centre = one.lower[0], one.upper[0], one.center[0]
    for point in found:
        step = point - centre
        size = abs(step).sum() if box.norm == "1" else np.sqrt((step * step).sum())
        share = min(1.0, one.radius / size) if size > 0 else 1.0
        for less in (0.0, 2.0**-52, 2.0**-50, 2.0**-40, 2.0**-20, 0.5):
            moved = np.clip(centre + step * (share * (1 - less)), low, high)
            if moved[None] in one:
                kept.append(moved)
                break
    return kept


@dataclass(frozen=True)
class Config:
    """One way of asking."""

    method: str = "crown"
    guarantee: str = "real"
    dtype: str = "float32"
    isa: str = "numpy"
    row_bytes: int = 48 << 20


def configs(rng: np.random.Generator, count: int) -> Iterator[Config]:
    """Random ways of asking."""
    for _ in range(count):
        yield Config(
            str(rng.choice(["ibp", "crown-ibp", "crown", "crown"])),
            str(rng.choice(["real", "float32"])),
            str(rng.choice(["float32", "float64"])),
            str(rng.choice(kernels.available())),
            int(rng.choice([1, 48 << 20])),
        )


def check(
    network: Network,
    box: Box,
    config: Config,
    rng: np.random.Generator,
    count: Count,
    *,
    inner: int = 2,
    wobble: float = 0.0,
    truths: list[list[Any]] | None = None,
    executions: bool = False,
) -> None:
    """Compare every node's bounds, raw backward bounds and specification rows of all boxes."""
    if truths is None:
        truths = exact_values(network, box, rng, inner, wobble)
    with kernels.pinned(config.isa):
        options = Options(config.method, config.guarantee, np.dtype(config.dtype), config.row_bytes)
        made = walk(network, box, options)
        made.output()
        name = f"{config}"
        for b, values in enumerate(truths):
            for which, (_, truth) in enumerate(values):
                for i, value in enumerate(truth):
                    known = made.bounds[i]
                    what = f"{name} node {i} {network.nodes[i].op.name} box {b}"
                    count.compare(known.lower[b], known.upper[b], value, what, which == 0)
        if config.method != "ibp":
            _raw(made, truths, count, name)
        if executions and config.guarantee == "float32":
            _executions(made, truths, count, name, rng)
    _rows(network, box, config, rng, truths, count)


def exact_values(
    network: Network, box: Box, rng: np.random.Generator, inner: int, wobble: float = 0.0
) -> list[list[Any]]:
    """For each box, pairs of a point and the exact values of all nodes there."""
    truth = Truth(network, wobble)
    return [
        [(p, truth(p)) for p in points(network, box, b, rng, inner)] for b in range(len(box.lower))
    ]


def _raw(walk: Walk, truths: list[list[Any]], count: Count, name: str) -> None:
    """Backward bounds of every linear node before they meet the interval bounds."""
    network = walk.network
    for i, node in enumerate(network.nodes[1 : network.output + 1], start=1):
        if not isinstance(node.op, ops.Linear) or walk.options.method == "ibp":
            continue
        batch = len(walk.bounds[0].lower)
        boxes, neurons = np.divmod(np.arange(batch * node.size), node.size)
        with np.errstate(all="ignore"):
            low, high = walk.neuron_bounds(i, boxes, neurons)
        for b, values in enumerate(truths):
            part = slice(b * node.size, (b + 1) * node.size)
            for which, (_, truth) in enumerate(values):
                what = f"{name} rows of node {i} box {b}"
                count.compare(low[part], high[part], truth[i], what, which == 0)


def _executions(
    walk: Walk, truths: list[list[Any]], count: Count, name: str, rng: np.random.Generator
) -> None:
    for order in rng.choice(ORDERS, 2, replace=False):
        run = Execution(walk.network, str(order), rng)
        for b, values in enumerate(truths):
            low, high = walk.box.lower[b], walk.box.upper[b]
            for point, _ in values:
                near = point.astype(np.float32)
                if not ((near >= low) & (near <= high)).all():
                    continue
                for i, value in enumerate(run(near)):
                    known = walk.bounds[i]
                    lower, upper = known.lower[b], known.upper[b]
                    count.comparisons += 2 * value.size
                    bad = ~((lower <= value) & (value <= upper)) & ~np.isnan(value)
                    bad |= np.isnan(value) & (np.isfinite(lower) | np.isfinite(upper))
                    if bad.any():
                        what = walk.network.nodes[i].op.name
                        count.wrong.append(f"{name} {order} execution, node {i} {what}")


def _rows(
    network: Network,
    box: Box,
    config: Config,
    rng: np.random.Generator,
    truths: list[list[Any]],
    count: Count,
) -> None:
    """Specification rows: outputs and inputs mixed, coefficients that float32 cannot hold."""
    outputs, inputs = int(np.prod(network.output_shape)), int(np.prod(network.input_shape))
    batch, each = len(box.lower), 3
    rows = batch * each
    y = rng.normal(size=(rows, outputs)) * 2.0 ** rng.integers(-20, 20, size=(rows, 1))
    x = rng.normal(size=(rows, inputs)) if rng.random() < 0.6 else None
    constant = rng.normal(size=rows)
    exactly = bool(rng.random() < 0.5)
    asked = Specification(y, x, constant, np.repeat(np.arange(batch), each), exactly)
    with kernels.pinned(config.isa):
        found = lower_bounds(
            network,
            box,
            asked,
            method=config.method,
            guarantee=config.guarantee,
            dtype=config.dtype,
            row_bytes=config.row_bytes,
        ).lower
    sway = exact(rng.choice([-1.0, 1.0], (rows, outputs)) * 2.0**-53 * (not exactly))
    previous = flint.ctx.prec
    flint.ctx.prec = BITS
    try:
        count.bounds += rows
        for r in range(rows):
            for point, truth in truths[r // each]:
                value = ((exact(y[r]) * (1 + sway[r])) * truth[network.output].reshape(-1)).sum()
                value = value + exact(constant[r : r + 1])[0]
                if x is not None:
                    value = value + (exact(x[r]) * exact(point).reshape(-1)).sum()
                count.comparisons += 1
                if above(float(found[r]), value):
                    count.wrong.append(f"{config} specification row {r}")
    finally:
        flint.ctx.prec = previous
