"""What rows are multiplied by on their way down: one walk's tables, each made when first needed.

Charges of linear nodes, relaxations of the others (`gamma.ops.tables`), weights without the columns
of dead neurons. A table is never changed once made; `forget` drops those of a node whose bounds
were tightened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.network.graph import Network
from gamma.ops.affine import cast_weight
from gamma.ops.bounds import Forms, NodeBounds
from gamma.ops.charges import UNIT, LinearCharge, inflated, linear_charge
from gamma.ops.hinges import Hinge, HingeRows, hinge
from gamma.ops.tables import Diagonal, NodeSlopes, Precision, Relaxation
from gamma.propagate.facts import facts_of
from gamma.propagate.rows.block import Images
from gamma.propagate.rows.opposite import strips
from gamma.tensor import kernels
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Bounds(Protocol):
    """Bounds of the nodes up to some node: a list, or a store (`gamma.propagate.memory.store`)."""

    def __getitem__(self, index: int, /) -> NodeBounds: ...

    def __len__(self) -> int: ...


# A fused ReLU drops dead columns when at least this share of them is dead in every box.
_COMPRESS_FROM = 0.1
# What copying an entry of a weight costs, in multiplications of it with a row.
_COPY_PRICE = 64.0


class Tables:
    """Tables of one walk over one batch of boxes.

    Attributes:
        slopes: node -> slopes (one table per box) that replace the operators' own.
        split: nodes whose rows get multipliers of split assumptions: nothing of them is dropped.
        linear_only: rows stop at the first nonlinear node, whose interval concretises them.
        forms: node -> what rows proved of the forms that its relaxation asks for.
        whole: activations of which nothing is dropped, for one call takes rows all the way there.
    """

    fuses_starts = True

    def __init__(
        self,
        network: Network,
        box: Box,
        bounds: Bounds,
        how: Precision,
        slopes: Mapping[int, NodeSlopes] | None = None,
        split: frozenset[int] = frozenset(),
        linear_only: bool = False,
        forms: Mapping[int, Forms] | None = None,
    ) -> None:
        self.network, self.box, self.bounds, self.how = network, box, bounds, how
        self.slopes, self.split, self.linear_only = slopes or {}, split, linear_only
        self.whole: frozenset[int] = frozenset()
        self.forms = {} if forms is None else forms
        self._relaxations: dict[int, Relaxation] = {}
        self._hinges: dict[int, Hinge] = {}
        self._charges: dict[int, LinearCharge] = {}
        self._columns: dict[int, Array | None] = {}
        self._weights: dict[int, Array] = {}
        self._radii: dict[int, Float64] = {}
        self._strips: dict[int, Float64] = {}
        self._images: dict[tuple[str, int], tuple[Array, ...]] = {}
        self._facts = facts_of(network)
        # The nonlinear node nearest to the input, 0 where there is none.
        self.first = next((i for i, n in enumerate(network.nodes) if i and n.op.affine is None), 0)
        self._compress = tuning.enabled("compress") and not linear_only
        # Rows start over images in one call: see `gamma.propagate.rows.pixels`.
        starts = tuning.enabled("fused_starts") and tuning.enabled("windows")
        starts = starts and self.fuses_starts and any(self._facts.image)
        self.windowed = starts and kernels.isa != "numpy"
        self._carry = tuning.enabled("fused_charge") and not linear_only

    def carried(self, index: int) -> bool:
        """Node ``index`` is linear and read by one diagonal node, which carries its charge."""
        return self._carry and self._facts.carried[index]

    def free(self, index: int) -> bool:
        """Passing linear node ``index`` costs nothing: a change of shape."""
        return self.bounds[index].spread is None

    def charge(self, index: int) -> LinearCharge:
        """Charge of passing linear node ``index``."""
        if index not in self._charges:
            node = self.network.nodes[index]
            op = node.op.affine
            assert op is not None
            inputs = [self.bounds[i] for i in node.inputs]
            self._charges[index] = linear_charge(op, self.bounds[index], inputs, self.how.dtype)
        return self._charges[index]

    def relaxation(self, index: int) -> Relaxation:
        """Tables of nonlinear node ``index``, dead columns already dropped."""
        if index not in self._relaxations:
            table = self._relax(index, self.slopes.get(index))
            keep = self.columns(index)
            self._relaxations[index] = table if keep is None else table.columns(keep)  # type: ignore[attr-defined]
        return self._relaxations[index]

    def _relax(
        self, index: int, slopes: NodeSlopes | None, box: Indices | None = None
    ) -> Relaxation:
        node = self.network.nodes[index]
        inputs = [self.bounds[i] for i in node.inputs]
        after = self.bounds[index]
        if index in self.forms:
            after = replace(after, forms=self.forms[index])
        carried = None
        if node.op.diagonal and self.carried(node.inputs[0]):
            carried = self.charge(node.inputs[0])
        if box is not None:
            inputs, after = [x.take(box) for x in inputs], after.take(box)
            carried = None if carried is None else carried.take(box)
        made: Relaxation = node.op.relax(inputs, after, self.how, carried, slopes)
        return made

    def relaxation_of_rows(
        self, index: int, slopes: NodeSlopes | HingeRows, box: Indices
    ) -> tuple[Relaxation, Indices]:
        """Tables with slopes for each row (of the neurons in `columns`), and each row's table."""
        if isinstance(slopes, HingeRows):
            return slopes, box
        if self.hinged(index) and slopes.upper is None and slopes.lower is not None:
            return self.hinge(index).rows(slopes.lower, box), box
        table, keep = self._relax(index, self._spread(index, slopes), box), self.columns(index)
        table = table if keep is None else table.columns(keep)  # type: ignore[attr-defined]
        return table, np.arange(len(box))

    def _spread(self, index: int, slopes: NodeSlopes) -> NodeSlopes:
        """Slopes of the neurons that `columns` keeps as slopes of all: any serve the dead ones."""
        keep = self.columns(index)
        if keep is None:
            return slopes

        def spread(part: Float64 | None) -> Float64 | None:
            if part is None:
                return None
            whole = np.zeros((len(part), self.network.nodes[index].size))
            whole[:, keep] = part
            return whole

        return NodeSlopes(spread(slopes.lower), spread(slopes.upper))

    def hinged(self, index: int) -> bool:
        """Whether node ``index`` has a `hinge`."""
        return self.network.nodes[index].op.hinge

    def hinge(self, index: int) -> Hinge:
        """Tables of a ReLU whose lower slopes belong to rows, dead columns dropped."""
        if index not in self._hinges:
            node = self.network.nodes[index]
            (before,), op = node.inputs, node.op.activation
            assert op is not None
            self._hinges[index] = hinge(
                op,
                self.bounds[index],
                self.bounds[before],
                self.how,
                self.charge(before) if self.carried(before) else None,
                self.columns(index),
            )
        return self._hinges[index]

    def columns(self, index: int) -> Array | None:
        """Neurons of a ReLU that are not dead in every box, when dropping the others pays.

        Only between dense layers: the columns and rows of their weights are dropped with them.
        """
        if index not in self._columns:
            self._columns[index] = self._live(index)
        return self._columns[index]

    def _live(self, index: int) -> Array | None:
        nodes, node = self.network.nodes, self.network.nodes[index]
        readers = self.network.consumers[index]
        if not node.op.hinge or len(node.shape) != 1 or len(readers) != 1 or index in self.whole:
            return None
        before = node.inputs[0]
        if index == self.network.output or {index, before} & self.split:
            return None
        dense = nodes[before].op.dense is not None and self.carried(before)
        if not self._compress or not dense or nodes[readers[0]].op.dense is None:
            return None
        live = np.flatnonzero((self.bounds[before].upper > 0).any(axis=0))
        dead = node.size - len(live)
        earned = self.passing(before) * dead > _COPY_PRICE * len(live)
        return live if dead >= _COMPRESS_FROM * node.size and earned else None

    def passing(self, index: int) -> float:
        """Rows that will pass dense node ``index``, roughly: later layers', and the output's."""
        return self.later_rows(index) + 2 * self._facts.sizes[self.network.output]

    def later_rows(self, index: int) -> float:
        """Rows of hidden layers behind node ``index``: they have as many unstable neurons as it."""
        bounds = self.bounds[index]
        unstable = np.count_nonzero((bounds.lower < 0) & (bounds.upper > 0)) / len(bounds.lower)
        return 2 * unstable * self._facts.hidden_after[index]

    def kept(self, index: int) -> tuple[Array | None, Array | None]:
        """Rows and columns of dense node ``index``'s weight that are not dead (None: all)."""
        node = self.network.nodes[index]
        readers = self.network.consumers[index]
        rows = self.columns(readers[0]) if self.carried(index) else None
        return rows, self.columns(node.inputs[0])

    def weight(self, index: int) -> Array:
        """Weight of dense node ``index`` without the rows and columns of dead neurons."""
        if index not in self._weights:
            op = self.network.nodes[index].op.dense
            assert op is not None
            rows, columns = self.kept(index)  # first: a store may compute bounds again for it
            weight = cast_weight(op, op.weight, "weight", self.how.dtype, False)
            self._weights[index] = chosen(weight, rows, columns)
        return self._weights[index]

    def radius(self, index: int) -> Float64:
        """Radius of a node about its centre, flat (batch, size), `inflated`."""
        if index not in self._radii:
            radius = self.bounds[index].radius
            self._radii[index] = inflated(radius.reshape(len(radius), -1))
        return self._radii[index]

    def strips(self, index: int) -> Float64:
        """Of the relaxation of diagonal node ``index``, see `gamma.propagate.rows.opposite`."""
        if index not in self._strips:
            table, keep = self.relaxation(index), self.columns(index)
            assert isinstance(table, Diagonal)
            (before,) = self.network.nodes[index].inputs
            radius = self.bounds[before].radius.reshape(len(table.loss), -1)
            weight = self.charge(before).weight if self.carried(before) else np.zeros_like(radius)
            weight = weight.reshape(radius.shape)
            if keep is not None:
                radius, weight = radius[:, keep], weight[:, keep]
            self._strips[index] = strips(table, radius, weight, UNIT[self.how.dtype])
        return self._strips[index]

    def rounded(self, index: int) -> Float64:
        """What one more rounding of rows over a node costs, like `radius`."""
        return self.radius(index) * (1.01 * UNIT[self.how.dtype])

    def images(self, what: str, index: int, parts: tuple[Array, ...]) -> Images:
        """Tables (batch, size) of node ``index`` as (batch, height, width, channels), made once.

        ``what`` names the tables.
        """

        def made() -> tuple[Array, ...]:
            key = what, index
            if key not in self._images:
                shape = self.network.nodes[index].shape
                shape = shape if len(shape) == 3 else (-1, 1, 1)
                turned = (t.reshape(len(t), *shape).transpose(0, 2, 3, 1) for t in parts)
                self._images[key] = tuple(np.ascontiguousarray(t) for t in turned)
            return self._images[key]

        return made

    def adopt(self, index: int, table: Relaxation) -> None:
        """Take over tables of node ``index`` made elsewhere, no neuron left out."""
        self._relaxations[index] = table
        self._columns[index] = None

    def forget(self, index: int) -> None:
        """Bounds of ``index`` were tightened: drop what was computed from the old ones."""
        changed = {index, *self.network.consumers[index]}
        if self._images:
            self._images = {key: one for key, one in self._images.items() if key[1] not in changed}
        for store in (
            self._relaxations,
            self._hinges,
            self._charges,
            self._columns,
            self._weights,
            self._radii,
            self._strips,
        ):
            for node in changed:
                store.pop(node, None)


def chosen(weight: Array, rows: Array | None, columns: Array | None) -> Array:
    """The entries of a matrix at ``rows`` and ``columns`` (None: all); no copy in between."""
    if rows is None or columns is None:
        weight = weight if rows is None else weight.take(rows, axis=0)
        return weight if columns is None else weight.take(columns, axis=1)
    found = np.empty((len(rows), len(columns)), weight.dtype)
    step = max(1, (1 << 20) // max(1, weight[:1].nbytes))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # The indices are right: "clip" only keeps NumPy from buffering the result.
        weight.take(rows[part], axis=0).take(columns, axis=1, out=found[part], mode="clip")
    return found
