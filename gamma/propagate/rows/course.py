"""The way of rows through a network of images as one call of the C library.

Convolutions, sums, and activations entry by entry, from some nodes down to the input or to a node
before it. An executor, not a second rule: it plans the steps that the descent would take, with the
tables that the descent would use, and C takes some rows at a time through all of them, in cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.propagate.blocks import row_cost
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Dense
from gamma.propagate.rows.met import MetTables
from gamma.propagate.rows.moves import Plan, Spot, Start, image_shape
from gamma.propagate.rows.tables import Tables
from gamma.propagate.rows.windows import Windows, as_windows, framed
from gamma.runtime import pool, workers
from gamma.tensor import kernels

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

UNCHECKED = 5e7
"""Nanoseconds of rows between two looks at the clock."""
# Rows that are taken together at least.
_LEAST_ROWS = 96

Needs = tuple[tuple[int, frozenset[str]], ...]
"""Nodes, and what of their tables moves read."""


class Way(Frozen):
    """A plan ready to run: its moves in C, the tables they read, those with the constants of the
    negated rows, where rows end."""

    course: kernels.Course
    met: Needs
    both: Needs
    end: Spot | None
    last: int


class ImageCourses:
    """Ways of one walk's rows; their tables are described to C as they are first needed."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        gates = ("fused_windows", "windows", "gathered_adjoint", "fused_adjoint", "added_adjoint")
        on = all(tuning.enabled(gate) for gate in gates)
        self.possible = on and kernels.isa != "numpy" and tables.box.norm == "inf"
        self.possible = self.possible and not tables.linear_only and not tables.split
        # Most networks without convolutions have no image: asked once, not at every step of rows.
        facts = facts_of(tables.network)
        self.possible = self.possible and (facts.convolves or any(facts.image))
        self._every = not tuning.enabled("live_channels")
        self._met: MetTables | None = None
        # Kinds of moves whose tables C knows, of each node.
        self._ready: list[frozenset[str]] = [frozenset()] * len(tables.network.nodes)
        # All that some way meets, where C knows it.
        self._met_all: set[Needs] = set()
        self._lock = threading.Lock()
        if self.possible:
            tables.whole = whole(tables.network, tables.how.dtype)

    def way(self, frontier: dict[int, Any], last: int, both: bool) -> Way | None:
        """How the rows go down past node ``last`` in one call; then its tables are set up.

        ``both``: also the constants of their negatives.
        """
        if not self.possible or not frontier or max(frontier) < max(last, 1):
            return None
        network, dtype = self.tables.network, self.tables.how.dtype
        starts = aligned(network, frontier)
        if starts is None:
            return None
        way = planned_way(network, dtype, starts, last)
        if way is None:
            return None
        met = way.both if both else way.met
        if met in self._met_all:
            return way
        ready = self._ready
        with self._lock:  # tables that are set twice would be freed while another thread reads
            for index, needed in met:
                if not (needed <= ready[index] or self._meet(index, needed)):
                    return None
        self._met_all.add(met)
        return way

    def shared(self, index: int) -> bool:
        """Whether most of what rows over node ``index`` take is one call that threads share."""
        if not self.possible:
            return False
        network, dtype = self.tables.network, self.tables.how.dtype
        key = "rows.course.shared", index, dtype.char, tuning.enabled("pixel_cells")
        found: bool = network.cached(key, partial(_passed, index=index, dtype=dtype))
        return found and workers.sharing() > 1  # a small network gets by without knowing

    def run(
        self,
        way: Way,
        frontier: dict[int, Any],
        d: Float64,
        box: Int64,
        opposite: Float64 | None,
        check: Callable[[], None] | None,
    ) -> None:
        """Take the rows of ``frontier`` all the way; what is left lies over the last node."""
        network, highest = self.tables.network, max(frontier)
        assert self._met is not None
        blocks: list[Windows] = []
        for index in sorted(frontier, reverse=True):
            rows = frontier.pop(index)
            if isinstance(rows, Dense):
                rows = as_windows(rows, image_shape(network, index), box)
            blocks.append(rows)
        base = next((block for block in blocks if not block.framed), blocks[0])
        arrays = [block.array for block in blocks]
        if (end := way.end) is not None:
            shape = (len(d), *end.size, end.channels)
            arrays.append(pool.empty(shape, self.tables.how.dtype))
        place = np.ascontiguousarray(base.place)
        step = max(_LEAST_ROWS, int(UNCHECKED / row_cost(network, highest)))
        for start in range(0, len(d), step):
            if check is not None:
                check()
            part = slice(start, start + step)
            way.course.run(
                self._met.known,
                [array[part] for array in arrays],
                d[part],
                None if opposite is None else opposite[part],
                box[part],
                place[part],
                base.where,
                self._every,
            )
        if end is not None:
            frontier[way.last] = self._left(end, arrays[-1], base, box)

    def _left(self, end: Spot, array: Array, base: Windows, box: Int64) -> Windows:
        """The rows over the node where a way ends."""
        if end.framed:
            return framed(array, box)
        y, x = base.y * end.scale[0] + end.shift[0], base.x * end.scale[1] + end.shift[1]
        return replace(base, array=array, y=y, x=x, image=end.image, clean=False)

    @property
    def met(self) -> MetTables:
        """The tables that C knows."""
        if self._met is None:
            self._met = MetTables(self.tables)
        return self._met

    def adopt(self, index: int, kinds: frozenset[str]) -> None:
        """Tables of a node of these ``kinds`` were made in C."""
        self._ready[index] = kinds

    def forget(self, index: int) -> None:
        """The tables of ``index`` and its readers were dropped."""
        self._met_all.clear()
        for node in (index, *self.tables.network.consumers[index]):
            self._ready[node] = frozenset()

    def _meet(self, index: int, needed: frozenset[str]) -> bool:
        """Have C know the tables of a node that moves of the kinds ``needed`` read."""
        known = self._ready[index]
        if not self.met.meet(index, needed, known):
            return False
        self._ready[index] = needed | known
        return True


def aligned(network: Network, frontier: dict[int, Any]) -> tuple[Start, ...] | None:
    """How the blocks lie to each other; None unless all lie on images, and over the same places."""
    facts, base = facts_of(network), None
    found: list[Start] = []
    for index in sorted(frontier, reverse=True):
        block, shift = frontier[index], (0, 0)
        flat = facts.convolves and len(network.nodes[index].shape) == 1
        if not (facts.image[index] or flat):
            return None
        if isinstance(block, Dense) or block.framed:
            channels, height, width = image_shape(network, index)
            if isinstance(block, Dense) and block.array.shape[1] != channels * height * width:
                return None  # columns were dropped
            found.append((index, (height, width), True, shift))
            continue
        base = block if base is None else base
        if block is not base and not block.aligned_with(base):
            return None
        shift = int(block.y[0] - base.y[0]), int(block.x[0] - base.x[0])
        found.append((index, block.size, False, shift))
    return tuple(found)


def _passed(network: Network, index: int, dtype: np.dtype[Any]) -> bool:
    """Whether rows go down from node ``index``, or from the last image before it."""
    facts = facts_of(network)
    if not facts.convolves:
        return False
    last = max((i for i in range(index + 1) if facts.image[i]), default=0)
    for start in dict.fromkeys((index, last)):
        _, *size = image_shape(network, start)
        over = ((start, (size[0], size[1]), True, (0, 0)),)
        if start and planned_way(network, dtype, over, 0) is not None:
            return True
    return False


def whole(network: Network, dtype: np.dtype[Any]) -> frozenset[int]:
    """Activations behind dense layers from which rows go all the way down in one call."""
    gate = tuning.enabled("pixel_cells")
    key = "rows.course.whole", dtype.char, gate
    return network.cached(key, partial(_whole, dtype=dtype))


def _whole(network: Network, dtype: np.dtype[Any]) -> frozenset[int]:
    dense = (
        i
        for i, node in enumerate(network.nodes)
        if node.op.hinge and len(node.shape) == 1 and facts_of(network).convolves
    )
    start = (1, 1), True, (0, 0)
    return frozenset(i for i in dense if planned_way(network, dtype, ((i, *start),), 0))


def planned_way(
    network: Network, dtype: np.dtype[Any], starts: tuple[Start, ...], last: int
) -> Way | None:
    """The way of rows that lie so down past node ``last``, made once."""
    key = "rows.course", starts, last, dtype.char, tuning.enabled("pixel_cells")
    make = partial(_planned, dtype=dtype, starts=starts, last=last)
    way: Way | None = network.cached(key, make)
    return way


def _planned(
    network: Network, dtype: np.dtype[Any], starts: tuple[Start, ...], last: int
) -> Way | None:
    plan = Plan(network, dtype, last)
    course = plan.make(starts)
    if course is None:
        return None
    met = tuple((index, frozenset(kinds)) for index, kinds in plan.met.items())
    both = tuple((i, kinds | {"strip"} if "relax" in kinds else kinds) for i, kinds in met)
    return Way(course, met, both, plan.end, last - 1)
