"""First-order widths: what outputs span to first order around the centre of an input set.

The width of output i is 2·Σ_j |J_ij|·r_j with the Jacobian J at the centre (in a ball the dual norm
of its row times twice the radius). It is no bound: curvature is left out, and J is evaluated in
floating point. The ratio of a bound's width to it says what the relaxation cost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gamma.network.graph import Network
from gamma.ops.evaluate import gradient
from gamma.tensor import rounding
from gamma.tensor.box import Box

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SAMPLED = 16
"""Neurons of a node whose widths are taken: evenly spread, as each costs a backward pass."""
WORK = 2.0**35
"""Multiplications that one node's widths may take."""


def first_order(
    network: Network, index: int, box: Box, check: Callable[[], None] = lambda: None
) -> tuple[Indices, Float64] | None:
    """Some neurons of a node and their widths over a single box; None where that is much work."""
    nodes = network.nodes[: index + 1]
    part = Network(nodes, index)
    passes = 3.0 * sum(node.op.parameters * _positions(node.shape) for node in nodes)
    count = min(SAMPLED, nodes[index].size, int(WORK / max(passes, 1.0)))
    if not count:
        return None
    chosen = np.unique(np.linspace(0, nodes[index].size - 1, count).astype(np.int64))
    seed = np.zeros((len(chosen), nodes[index].size))
    seed[np.arange(len(chosen)), chosen] = 1.0
    centre = rounding.midpoint(box.lower[0], box.upper[0])
    if box.norm != "inf" and box.center is not None:
        centre = box.center[0]
    x = np.broadcast_to(centre, (len(chosen), *network.input_shape)).copy()
    with np.errstate(all="ignore"):
        _, slope = gradient(part, x, seed.reshape(-1, *nodes[index].shape), check)
    rows = abs(np.asarray(slope, np.float64).reshape(len(chosen), -1))
    return chosen, _widths(rows, box)


def _widths(rows: Float64, box: Box) -> Float64:
    """Twice the largest value of rows of sizes |J_i| over the set of δ."""
    reach = (box.upper[0] - box.lower[0]).ravel() / 2
    moving = rows * (reach > 0)
    found: Float64 = 2 * (rows @ reach)
    if box.norm != "inf" and box.radius is not None:
        length = np.linalg.norm(moving, axis=1) if box.norm == "2" else moving.max(axis=1)
        found = 2 * box.radius * length
    return found


def _positions(shape: tuple[int, ...]) -> int:
    """How often a layer's weights are used: once for each leading index."""
    return int(np.prod(shape[:-1])) if len(shape) > 1 else 1
