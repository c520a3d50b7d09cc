"""What rows meet at the nodes of a course, as the C library reads it, channels last.

The tables of `gamma.propagate.rows.tables`, made in one call each where the rule is the common one:
of a ReLU, of the charge of a convolution or a sum, of a radius. Not a second rule: C computes what
those do, term by term, and tests hold the two against each other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.charges import UNDERFLOW, UNIT, charge_factor
from gamma.ops.tables import Diagonal
from gamma.propagate.rows.moves import image_shape, turned
from gamma.propagate.rows.tables import Tables
from gamma.tensor import kernels, rounding

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Kinds = frozenset[str]
"""What moves of a node read: "relax", "strip" (with "relax" alone), "pay", "join"."""


class MetTables:
    """The tables of one walk's nodes, described to C as they are first needed."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        network, boxes = tables.network, len(tables.box.lower)
        self.known = kernels.met_tables(network.output + 1, boxes, tables.how.dtype)
        self._real = tables.how.guarantee == "real" and tuning.enabled("fused_layers")
        self._fused = tuning.enabled("fused_tables")

    def meet(self, index: int, needed: Kinds, ready: Kinds) -> bool:
        """Add the tables of kinds ``needed`` to those that are ``ready``; False where C cannot."""
        tables, more = self.tables, needed - ready
        if "strip" in more:  # of the lines, which a call makes too
            more |= {"relax"}
        if not ready:
            self.known.drop(index)
        if self._fused and more & {"relax", "strip"} and self._relu(index, "strip" in more):
            more -= {"relax", "strip"}
        if self._fused and index and "pay" in more:
            if not (tables.carried(index) or tables.free(index)):
                self._charge(index)
            more -= {"pay"}
        if self._fused and index == 0 and turned(tables.network) is None:
            self._reach(0, 1.0, False)
            more -= {"pay"}
        if self._fused and "join" in more:
            self._reach(index, 1.01 * UNIT[tables.how.dtype], True)
            more -= {"join"}
        if not more:
            return True
        met = self._met(index, more)
        if met is None:
            return False
        self.known.meet(index, tables.network.nodes[index].size, met)
        return True

    # -- in one call each --------------------------------------------------------------------------

    def _relu(self, index: int, strip: bool) -> bool:
        """The lines of a ReLU that the operator chooses; False for any others."""
        tables, node = self.tables, self.tables.network.nodes[index]
        if not (self._real and node.op.hinge and len(node.shape) in (1, 3)):
            return False
        if index in tables.slopes or tables.columns(index) is not None:
            return False
        (before,) = node.inputs
        inside, charge = tables.bounds[before], None
        if tables.carried(before) and not tables.free(before):
            charge = charge_parts(tables, before)
        ends = inside.lower, inside.upper, inside.centre, tables.bounds[index].centre
        shape = image_shape(tables.network, index)
        self.known.relu(index, shape, ends, charge, self._factors(index), strip)
        return True

    def _charge(self, index: int) -> None:
        shape = image_shape(self.tables.network, index)
        self.known.charge(index, shape, charge_parts(self.tables, index), self._factors(index))

    def _reach(self, index: int, unit: float, join: bool) -> None:
        bounds, node = self.tables.bounds[index], self.tables.network.nodes[index]
        factors = inflation(node.size), unit
        ends = [np.ascontiguousarray(end) for end in (bounds.lower, bounds.upper, bounds.centre)]
        shape = image_shape(self.tables.network, index)
        self.known.reach(index, shape, ends, factors, join)

    def _factors(self, index: int) -> tuple[float, ...]:
        dtype = self.tables.how.dtype
        key = "rows.met", index, dtype.char
        return self.tables.network.cached(key, partial(factors_of, index=index, dtype=dtype))

    # -- by the tables' own rules ------------------------------------------------------------------

    def _met(self, index: int, needed: Kinds) -> kernels.Met | None:
        tables = self.tables
        if index == 0:
            radius = tables.radius(0)
            lies = turned(tables.network) is not None
            return kernels.Met(pay=radius if lies else self._image("radius", 0, radius))
        met: dict[str, Any] = {}
        if "join" in needed:
            met["join"] = self._image("join", index, tables.rounded(index))
        if "strip" in needed:
            met["strip"] = self._image("strip", index, tables.strips(index))
        if "relax" in needed:
            table = tables.relaxation(index)
            if not isinstance(table, Diagonal) or tables.columns(index) is not None:
                return None
            low, high, below, above = tables.images("relax", index, table.parts)()
            met |= {"lower_slope": low, "upper_slope": high, "loss": table.loss}
            met |= {"lower_const": below, "upper_const": above}
        if "pay" in needed and not (tables.carried(index) or tables.free(index)):
            charge = tables.charge(index)
            met["pay"] = self._image("charge", index, charge.weight)
            met["pay_loss"] = charge.loss
        return kernels.Met(**met)

    def _image(self, what: str, index: int, table: Float64) -> Float64:
        (found,) = self.tables.images(what, index, (table,))()
        return found


def charge_parts(tables: Tables, index: int) -> tuple[Float64, Float64, Float64]:
    """Spread and noise of linear node ``index``, and the radii that it reads, summed (batch,)."""
    bounds = tables.bounds[index]
    assert bounds.spread is not None and bounds.noise is not None
    first, *others = tables.network.nodes[index].inputs
    mass = tables.bounds[first].mass
    for more in others:
        mass = mass + tables.bounds[more].mass
    return bounds.spread, bounds.noise, mass


def inflation(size: int) -> float:
    """What `gamma.ops.charges.inflated` multiplies by."""
    return (1 + rounding.gamma_factor(size + 4, np.float64)) * (1 + 2.0**-50)


def factors_of(
    network: Network, index: int, dtype: np.dtype[Any], start: bool = False
) -> tuple[float, ...]:
    """Of `gamma.ops.charges.linear_charge` of a linear node, or of the one that an activation reads
    and carries, and then of the activation itself, in the order of csrc/simd/meet.inc.

    ``start``: of unit rows alone, over which there is no sum.
    """
    node = network.nodes[index]
    op, size = node.op.affine, node.size
    if op is None:
        op = network.nodes[node.inputs[0]].op.affine
    charge = 0.0, 0.0, 1.0 if start else inflation(size), 0.0
    if op is not None:
        factor, steps, exact = charge_factor(op, dtype, start)
        sums = 4 * (op.adjoint_products + 1) * UNDERFLOW[dtype]
        loss = sums if steps or not exact else 0.0
        charge = factor, 0.0 if exact else 2 * UNDERFLOW[dtype], charge[2], loss
    dot = rounding.gamma_factor(size + 8, np.float64)
    return (*charge, dot, 1.01 * UNIT[dtype], 2 * UNDERFLOW[dtype])
