"""Ascents of rows with assumptions as calls of the C library, where the way down is dense.

Small convolutions go as the matrices that they are, at the price of longer sums. An executor, not a
second rule: it is given the tables that step-by-step descents would use, and a row takes the steps
of `gamma.propagate.climb`. Tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.charges import inflated
from gamma.propagate.rows.tables import Tables
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.propagate.cases import Cases

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Of each ReLU node: its neurons that cross 0, and the number of the first.
Numbered = Mapping[int, tuple[Indices, int]]

# Operations of a call, a tenth of a second or less: the clock is not looked at inside. A row's own
# ascent must fit in.
_CALL_OPERATIONS, _MOST_STEPS = 4e9, 64
# Entries of a convolution's matrix beyond which its zeros cost more than the one call gains.
_MATRIX = 1 << 18
_NOBODY = np.zeros(0, np.int64), 0


def in_one_call(network: Network, last: int) -> bool:
    """Whether rows from node ``last`` on pass nodes that the C library knows here."""
    enabled = tuning.enabled("fused_ascent") and tuning.enabled("fused_walk")
    return (
        enabled
        and kernels.isa != "numpy"
        and network.cached(("ascent", last), partial(_known, last=last))
    )


def _known(network: Network, last: int) -> bool:
    nodes = network.nodes
    for index in range(1, last + 1):
        node = nodes[index]
        known = node.op.keeps_order or _as_matrix(network, index)
        known = known or (node.op.hinge and _as_matrix(network, index - 1))
        if not known or node.inputs != (index - 1,):
            return False
    return last > 0


def _as_matrix(network: Network, index: int) -> bool:
    """Whether a node is a dense layer, or a convolution of few entries."""
    node = network.nodes[index]
    if not index or node.op.correlation is None:
        return node.op.dense is not None and len(node.shape) == 1
    return node.size * network.nodes[index - 1].size <= _MATRIX


class DenseAscent:
    """Rows over one node of a walk over one box, through dense layers and ReLUs to the input."""

    def __init__(self, stages: list[kernels.Stage], made: kernels.Ascent) -> None:
        self._made = made
        self._operations = 4.0 * sum(
            stage.weight.size for stage in stages if isinstance(stage, kernels.DenseStage)
        )

    @classmethod
    def of(
        cls, tables: Tables, last: int, numbered: Numbered, layer: Indices, place: Indices
    ) -> DenseAscent | None:
        """The way from node ``last``; None where it is not of the kind, or too long for one call.

        Args:
            layer: int64 (ReLUs,), the node of each ReLU that crosses 0. place: its column there.
        """
        plain = tables.box.norm == "inf" and len(tables.box.lower) == 1 and not tables.split
        if not plain or not in_one_call(tables.network, last):
            return None
        stages: list[kernels.Stage] = []
        number: dict[int, int] = {}  # node -> its stage
        for index in range(last + 1):
            stage = _stage(tables, index, numbered.get(index, _NOBODY), last)
            if stage is not None:
                number[index] = len(stages)
                stages.append(stage)
        before = np.array([number[index] - 1 for index in layer], np.int64)
        made = kernels.ascent(stages, before, place, tables.how.dtype)
        found = None if made is None else cls(stages, made)
        return found if found and found._together(_MOST_STEPS) else None

    def _together(self, steps: int) -> int:
        """How many rows one call may take."""
        return int(_CALL_OPERATIONS / (self._operations * steps + 1.0))

    def run(
        self,
        asked: tuple[Array, Float64],
        cases: Cases,
        factors: Float64,
        check: Callable[[], None] | None,
        *,
        owner: Indices | None = None,
        limit: Float64 | None = None,
        cost: Array | None = None,
        kept: Cases | None = None,
    ) -> Float64:
        """The best lower bounds (rows,) of ``len(factors)`` descents; see `kernels.Ascent`."""
        count = len(cases.question)
        best = np.full(count, -np.inf)
        step = max(1, self._together(len(factors)))
        for first in range(0, count, step):
            part = slice(first, first + step)
            if check is not None:
                check()
            own = owner is None
            self._made.run(
                asked,
                kernels.Climbers(
                    cases.question[part],
                    cases.slope[part] if own else cases.slope,
                    None if owner is None else owner[part],
                    np.ascontiguousarray(cases.relu[part]),
                    np.ascontiguousarray(cases.sign[part]),
                    cases.beta[part],
                ),
                factors,
                None if limit is None else limit[part],
                best[part],
                None if cost is None else cost[part],
                None if kept is None else (kept.slope[part], kept.beta[part]),
            )
        return best


def _stage(tables: Tables, index: int, own: tuple[Indices, int], last: int) -> kernels.Stage | None:
    """A node as the C library takes it; None for a change of shape."""
    node = tables.network.nodes[index]
    if index == 0:
        known = tables.bounds[0]
        return kernels.InputStage(known.radius.ravel(), tables.radius(0)[0])
    if node.op.correlation is not None:
        return _dense(tables, index, last, _matrix(tables, index), _longer_sums(tables, index))
    if node.op.dense is not None:
        return _dense(tables, index, last, tables.weight(index))
    return _relu(tables, index, *own) if node.op.hinge else None


def _matrix(tables: Tables, index: int) -> Array:
    """The weight of a convolution as the matrix (entries, entries of its input) that it is."""
    node, before = tables.network.nodes[index], tables.network.nodes[index - 1]
    assert node.op.affine is not None
    rows = np.eye(node.size, dtype=tables.how.dtype).reshape(node.size, *node.shape)
    (found,) = node.op.affine.adjoint(rows, [before.shape])
    matrix: Array = found.reshape(node.size, before.size)
    return matrix


def _longer_sums(tables: Tables, index: int) -> Float64:
    """What it costs besides that each product is a term of one sum: a convolution's own are sums of
    sums."""
    op, spread = tables.network.nodes[index].op.correlation, tables.bounds[index].spread
    assert op is not None and spread is not None
    factor = rounding.gamma_factor(op.adjoint_products + 1, tables.how.dtype)
    price: Float64 = inflated(factor * spread.reshape(1, -1))[0]
    return price


def _dense(
    tables: Tables, index: int, last: int, weight: Array, more: Float64 | None = None
) -> kernels.DenseStage:
    """A linear node as its matrix; ``more`` is paid beside its charge."""
    rows, carried = tables.kept(index)[0], tables.carried(index)
    charge = tables.charge(index)
    price, loss = charge.weight.ravel(), float(charge.loss[0])
    assumable = None
    if index < last and tables.network.nodes[index + 1].op.hinge:
        centre, rounded = tables.bounds[index].centre.ravel(), tables.rounded(index)[0]
        share = rounding.gamma_factor(len(centre) + 8, np.float64) + 2.0**-50
        paid = price if carried else None
        if rows is not None:  # of a layer that carries its charge alone
            centre, rounded, paid = centre[rows], rounded[rows], price[rows]
        assumable = kernels.Assumable(centre, rounded, paid, loss, share)
    own = None if carried else (price, loss)
    if more is not None:
        own = (more, 0.0) if own is None else (inflated((price + more)[None])[0], loss)
    return kernels.DenseStage(weight, own, assumable)


def _relu(tables: Tables, index: int, places: Indices, number: int) -> kernels.ReluStage:
    lines, keep = tables.hinge(index), tables.columns(index)
    (before,) = tables.network.nodes[index].inputs
    neurons = places if keep is None else keep[places]
    known = tables.bounds[before]
    return kernels.ReluStage(
        base=lines.base[0],
        gain=lines.gain[0],
        upper_slope=lines.upper_slope[0],
        upper_const=lines.upper_const[0],
        free=lines.free[0],
        fixed=lines.fixed[0],
        centre=lines.centre[0],
        sides=np.concatenate([part.ravel() for part in lines.sides]),
        loss=float(lines.loss[0]),
        places=places,
        number=number,
        low=known.lower.ravel()[neurons],
        high=known.upper.ravel()[neurons],
    )
