"""Sub-problems: assumptions about nodes, proved ends, slopes from outside, multipliers of rows.

All are drawn from the seed of an `Asking`, about points that the network reaches, so that most
sub-problems hold somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gamma import ops
from gamma.network.graph import Network
from gamma.propagate import NodeSlopes
from gamma.propagate.alpha import alpha_walk
from gamma.propagate.domain import Domain, Split
from gamma.propagate.interval import interval_pass
from gamma.propagate.options import options_of
from gamma.propagate.rows.own import Multipliers
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box
from tests.exact.oracle import q
from tests.exact.search.asking import Asking, slopes

Array = Any
Rng = np.random.Generator


@dataclass(frozen=True)
class SubProblem:
    """Bounds by name under assumptions; ``empty`` boxes claim that nothing meets them."""

    ends: dict[str, tuple[Array, Array]]
    split: Mapping[str, Split]
    empty: Array

    def holds(self, b: int, values: Mapping[str, Array]) -> bool | None:
        """Whether ``values`` certainly meet the assumptions about box ``b``; None: not all known.

        Values are exact, or those of a float32 execution.
        """
        for name, assumed in self.split.items():
            if name not in values:
                return None
            sign, point = (
                np.broadcast_to(part, assumed.sign.shape)[b].ravel().tolist()
                for part in (assumed.sign, assumed.point)
            )
            for s, p, value in zip(sign, point, np.ravel(values[name]).tolist(), strict=True):
                if s and not _beyond(value, p, s):
                    return False
        return True


def _beyond(value: Any, point: float, sign: int) -> bool:
    """Whether a float, rational or ball certainly lies on one side of a point, or at it."""
    if isinstance(value, float):
        return sign * value >= sign * point
    return bool(value >= q(point)) if sign > 0 else bool(value <= q(point))


def reached(net: Network, box: Box, rng: Rng) -> list[Array]:
    """Values of all nodes at one point of every box."""
    with np.errstate(all="ignore"):
        points = box.lower + rng.random(box.lower.shape) * (box.upper - box.lower)
        return net.values(np.clip(points, box.lower, box.upper))


def assumptions(net: Network, values: list[Array], rng: Rng) -> dict[int, Split]:
    """About some named nodes: a phase, or a side of another point; mostly as ``values`` have it."""
    found = {}
    for index, node in enumerate(net.nodes[: net.output + 1]):
        if node.inner or rng.random() < 0.6:
            continue
        value = np.nan_to_num(values[index], posinf=1e300, neginf=-1e300)
        point = rng.choice([0.0, 1.0, 0.25]) * value * (rng.random(value.shape) < 0.7)
        sign = np.where(value >= point, 1, -1) * rng.choice([0, 0, 1], value.shape)
        sign = np.where(rng.random(value.shape) < 0.03, -sign, sign)
        found[index] = Split(sign.astype(np.int8), point)
    return found


def facts(net: Network, box: Box, asking: Asking, rng: Rng) -> dict[int, tuple[Array, Array]]:
    """Interval bounds of some nodes."""
    known = interval_pass(net, box, asking.guarantee)
    return {i: (n.lower, n.upper) for i, n in enumerate(known) if rng.random() < 0.3}


def subproblem(net: Network, box: Box, asking: Asking) -> SubProblem:
    """Bounds of all named nodes of a sub-problem; those of the output by rows of their own, too."""
    rng = np.random.default_rng((asking.seed, 7))
    with asking.settings():
        split = assumptions(net, reached(net, box, rng), rng)
        known = facts(net, box, asking, rng) if rng.random() < 0.5 else {}
        given = slopes(net, len(box.lower), rng) if rng.random() < 0.5 else None
        options = options_of(net, asking.method, asking.guarantee, asking.dtype, None)
        start = alpha_walk if asking.method == "alpha" else walk
        made = start(net, Domain(box, known, split), options, slopes=given)
        if options.relaxes:
            _own_rows(made, split, rng)
        ends = {}
        for index, node in enumerate(net.nodes[: net.output + 1]):
            if not node.inner or index == net.output:
                found = made.output() if index == net.output else made.ask(index)
                ends[node.name] = (found.lower, found.upper)
    return SubProblem(ends, {net.nodes[i].name: s for i, s in split.items()}, made.empty)


def _own_rows(made: Walk, split: dict[int, Split], rng: Rng) -> None:
    """Meet the output's bounds with rows that have slopes and multipliers of their own."""
    index = made.network.output
    count = len(made.box.lower) * made.network.nodes[index].size
    boxes, neurons = np.divmod(np.arange(count), made.network.nodes[index].size)
    frontier, d, which = made.both_signs(index, boxes, neurons)
    before = range(max(frontier) + 1)
    own = {
        i: _kept(s, made.descent.tables.columns(i))
        for i, s in slopes(made.network, len(d), rng).items()
        if i in before and isinstance(made.network.nodes[i].op, ops.Elementwise)
    }
    lower = made.descent.run(
        frontier,
        d,
        which,
        slopes=own if rng.random() < 0.5 else None,
        multipliers={
            i: _multipliers(s, made.network.nodes[i].size, which, rng)
            for i, s in split.items()
            if i in before
        },
    )
    lower = np.where(np.isnan(lower), -np.inf, lower)
    made.tighten(index, boxes, neurons, lower[:count], -lower[count:])


def _kept(given: NodeSlopes, columns: Array | None) -> NodeSlopes:
    """Slopes of the neurons whose columns rows keep."""
    if columns is None:
        return given
    ends = (None if end is None else end[:, columns] for end in (given.lower, given.upper))
    return NodeSlopes(*ends)


def _multipliers(assumed: Split, size: int, which: Array, rng: Rng) -> Multipliers:
    shape = len(which), size
    beta = rng.exponential(size=shape) * (rng.random(shape) < 0.7) * rng.choice([1e-3, 1, 1e3])
    point = np.broadcast_to(assumed.point, assumed.sign.shape)
    sign, point = (part.reshape(len(part), -1)[which] for part in (assumed.sign, point))
    return Multipliers.of(beta, sign, np.array(point, np.float64))
