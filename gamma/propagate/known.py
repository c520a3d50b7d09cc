"""What a walk has found so far: bounds of nodes, and how rows over them are bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.bounds import Forms
from gamma.propagate.blocks import in_blocks
from gamma.propagate.caps import Ceilings
from gamma.propagate.dense import DenseNetwork, DenseWalk
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.ellipsotopes import Ellipsotopes
from gamma.propagate.facts import Facts, facts_of, several_places
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Frontier
from gamma.propagate.rows.descend import Descent
from gamma.propagate.rows.opposite import known
from gamma.propagate.rows.own import Own
from gamma.propagate.rows.start import both_signs, one_sign
from gamma.propagate.rows.tables import Tables

if TYPE_CHECKING:
    from gamma.propagate.images import ImageWalk
    from gamma.propagate.positions.apart import Apart
    from gamma.propagate.sides import Sides

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
T = TypeVar("T")

# Blocks of coefficients alive at the widest step: the rows, the product, one temporary.
BLOCKS = 3
STREAMED_BLOCKS = 5


class Known:
    """Bounds of the nodes of one network over one batch of boxes, and the tables of their rows.

    Attributes:
        empty: bool (batch,), the assumptions contradict
            each other: nothing is left to bound there.
        seconds, unstable: node -> time, and neurons that got rows.
    """

    blocks = BLOCKS
    # Descents that all which is done with a block at once takes as long as.
    work = 1
    # Whether neurons may get a row for one of their ends alone.
    one_sided = True

    def __init__(
        self,
        network: Network,
        domain: Domain,
        options: Options,
        bounds: Any,
        slopes: Slopes | None = None,
    ) -> None:
        self.network, self.domain, self.options = network, domain, options
        self.box, self._bounds, self.slopes = domain.box, bounds, slopes or {}
        self.empty = np.zeros(domain.batch, bool)
        self.seconds: dict[int, float] = {}
        self.unstable: dict[int, int] = {}
        self.forms: dict[int, Forms] = {}
        self._sets: Ellipsotopes | None = None
        # Nodes that sets bounded.
        self._enclosed: set[int] = set()
        self._facts: Facts = facts_of(network)
        # Nodes whose bounds rows cannot improve where a relaxation needs it, if it refines.
        self.tight: dict[int, bool] = {}
        # Neurons (batch, size) whose both ends got rows; every neuron where there is True.
        self.rowed: dict[int, npt.NDArray[np.bool_] | bool] = {}
        self._dense: DenseNetwork | None = None
        self._walked: DenseWalk | None = None
        # The same as long as `bounds` lacks what it found.
        self._unseen: DenseWalk | None = None
        self._descent: Descent | None = None
        # What bounded all nodes but for the output's rows, as long as nothing else was found.
        self.imaged: ImageWalk | None = None
        alone = domain.capped and options.method == "ibp"
        self._ceilings = Ceilings(network, domain.facts) if alone else None

    @cached_property
    def sides(self) -> Sides | None:
        """The signs of neurons, where one end of some may do."""
        plain = self.one_sided and self.box.norm == "inf" and not self.domain.split
        if not (plain and self._facts.convolves):
            return None
        from gamma.propagate.sides import Sides

        return Sides(self.network)

    @property
    def bounds(self) -> Any:
        """Of the nodes up to the output; those of a one-call walk are looked at when asked for."""
        if self._unseen is not None:
            self._bounds += self._unseen.bounds
            self._unseen = None
        return self._bounds

    @property
    def descent(self) -> Descent:
        """How rows go down from here, with tables made as they are needed."""
        if self._descent is None:
            self._descent = self._make_descent()
        return self._descent

    def _make_descent(self) -> Descent:
        made = Descent(self._make_tables(Tables))
        plain = self.options.relaxes and self.box.norm == "inf"
        plain = plain and not (self.slopes or self.domain.split)
        if plain and several_places(self.network) and tuning.enabled("apart_positions"):
            from gamma.propagate.positions.apart import Apart, position_of

            position = position_of(self.network)
            made.apart = None if position is None else Apart(position, made.tables)
        return made

    def _apart(self, index: int) -> Apart | None:
        """How rows that start at a node go down as rows over one position, where they may."""
        apart = self.descent.apart
        return apart if apart is not None and index <= apart.last else None

    def _make_tables(self, kind: type[Tables]) -> Tables:
        return kind(
            self.network,
            self.box,
            self.bounds,
            self.options.precision,
            self.slopes,
            frozenset(self.domain.split),
            linear_only=not self.options.relaxes,
            forms=self.forms,
        )

    def tighten(
        self, index: int, boxes: Array, neurons: Array, lower: Float64, upper: Float64
    ) -> None:
        """Meet bounds (rows,) of neurons of a node; what crosses under assumptions is empty."""
        known = self.bounds[index]
        if self.domain.split:
            at = boxes, neurons
            low, high = (e.reshape(len(e), -1)[at] for e in (known.lower, known.upper))
            crossed = np.maximum(low, lower) > np.minimum(high, upper)
            self.empty[boxes[crossed]] = True
            lower, upper = np.where(crossed, low, lower), np.where(crossed, high, upper)
        known.tighten(boxes, neurons, lower, upper, self.network.nodes[index].name)
        self._changed(index)

    def _changed(self, index: int) -> None:
        """Bounds of a node were tightened."""
        self.imaged = None
        if self._descent is not None:
            self._descent.forget(index)

    def _rows_at_once(self, index: int) -> int:
        row = self._facts.widest[index] * self.options.dtype.itemsize * self.blocks
        return max(2, self.options.row_bytes // row)

    def in_blocks(self, index: int, count: int, bound: Callable[[slice], T], each: int) -> list[T]:
        """``bound`` of every block of ``count`` items of ``each`` rows over node ``index``."""
        most = max(1, self._rows_at_once(index) // each)
        apart = self._apart(index)
        network = self.network if apart is None else apart.descent.tables.network
        inside = partial(self.descent.courses.shared, index)  # made here, not by several threads
        times = self.work * (2 if self.options.dtype == np.float64 else 1)
        return in_blocks(network, index, count, bound, each, most, times, inside)

    def neuron_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        """Lower and upper bounds (n,) of neurons ``neurons`` of the node on boxes ``boxes``."""
        node = self.network.nodes[index]
        dense = node.op.dense is not None and index not in self.domain.split
        dense = dense and self._apart(index) is None
        both = dense and self.one_sided and self.descent.two_sided(node.inputs[0])
        bound = self._both_ends if both else self._block_bounds
        parts = self.in_blocks(
            index,
            len(boxes),
            lambda block: bound(index, boxes[block], neurons[block]),
            1 if both else 2,
        )
        if len(parts) == 1:
            return parts[0]
        lower, upper = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        return lower, upper

    def _block_bounds(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        descent, frontier, d, box = self._started(index, boxes, neurons)
        result = descent.run(frontier, d, box, self.options.check)
        return result[: len(boxes)], -result[len(boxes) :]

    def _started(
        self, index: int, boxes: Array, neurons: Array
    ) -> tuple[Descent, Frontier, Float64, Array]:
        """`both_signs` where they go down soonest, and by what."""
        apart, descent = self._apart(index), self.descent
        if apart is not None:
            descent, (boxes, neurons) = apart.descent, apart.places(index, boxes, neurons)
        return descent, *both_signs(descent, index, boxes, neurons)

    def _both_ends(self, index: int, boxes: Array, neurons: Array) -> tuple[Float64, Float64]:
        """`_block_bounds` where rows and their negatives go down as one."""
        frontier, d, opposite = one_sign(self.descent, index, boxes, neurons, len(boxes))
        own = Own(opposite=opposite)
        self.descent.down(frontier, d, boxes, self.options.check, own)
        return known(d), -known(opposite)

    def both_signs(
        self, index: int, boxes: Array, neurons: Array
    ) -> tuple[Frontier, Float64, Array]:
        """Rows for lower bounds of neurons, then those of their negatives, ready to go down."""
        return both_signs(self.descent, index, boxes, neurons)
