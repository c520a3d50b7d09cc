"""Bounds of every node: by intervals (IBP: Gowal et al. 2018), or by rows over earlier nodes.

`walk` visits the nodes in order. Each gets its interval bounds; with method "crown" the neurons
that some relaxation needs tight also get rows of their own (CROWN: Zhang et al. 2018), see
`gamma.propagate.rows`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import telemetry
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.tables import Diagonal
from gamma.propagate import forms
from gamma.propagate.blocks import row_cost
from gamma.propagate.dense import DenseNetwork, DenseWalk, one_call, record
from gamma.propagate.domain import Domain, Slopes
from gamma.propagate.ellipsotopes import sets_of
from gamma.propagate.interval import input_bounds, node_bounds
from gamma.propagate.known import Known
from gamma.propagate.needs import in_turns, is_tight, wanted
from gamma.propagate.options import Options
from gamma.propagate.rows.block import Frontier, blocks_of
from gamma.propagate.rows.start import pixel_by_pixel
from gamma.runtime import heap
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
T = TypeVar("T")

# Nanoseconds of rows up to which they are made although sets are known: of all neurons of the
# widest node for inner ones, of questions.
ROWS_UP_TO = 1.5e8


def walk(
    network: Network,
    domain: Domain | Box,
    options: Options,
    *,
    slopes: Slopes | None = None,
    keep: frozenset[int] | None = None,
) -> Walk:
    """Bounds of all nodes over a batch of boxes.

    ``slopes`` (one table per box) replace the operators' own. ``keep``: the only nodes whose bounds
    anything but another node's will ask for; of method "ibp", where nothing is assumed.
    """
    domain = Domain(domain) if isinstance(domain, Box) else domain
    if not domain.plain:
        domain.check(network)
    heap.keep()
    made = Walk(network, domain, options, [], slopes)
    made.keep = keep
    made.run()
    return made


class Walk(Known):
    """The nodes of one network, bounded in order, and what is asked of them then.

    Attributes:
        keep: nodes whose bounds are kept when other nodes need them no more; None: all.
    """

    # Whether sets of all nodes may go forward with the walk.
    encloses = True
    keep: frozenset[int] | None = None

    def run(self) -> None:
        """Bound the nodes in order."""
        self.bounds.append(self.domain.meet(0, input_bounds(self.box), self.empty))
        self.tight[0] = self.box.norm == "inf"
        if self.options.forward:
            from gamma.propagate.forward import forms_of

            self._sets = forms_of(self.network, self.box, self.options, self.bounds)
        elif self.encloses and self.options.refines:
            self._sets = sets_of(self.network, self.box, self.options, self.bounds)
        self._dense = self._one_call()
        with np.errstate(all="ignore"):
            for index in range(self._begin(), self.network.output + 1):
                if self._dense is not None and index == self._dense.first:
                    self._walk_dense(self._dense)
                    break
                self._visit(index)

    def _begin(self) -> int:
        """The first node to visit: behind those that one call bounds."""
        if self.slopes or self._sets is not None or not self._facts.convolves:
            return 1
        from gamma.propagate.images import images_of, walk_images

        images = images_of(self.network, self.domain, self.options)
        return 1 if images is None else walk_images(self, images)

    def _visit(self, index: int) -> None:
        options = self.options
        options.check()
        started = time.perf_counter()
        node = self.network.nodes[index]
        if options.progress is not None:
            count = self.network.output
            options.progress(f"{options.method}: node {index} of {count}, {node.name}")
        if self.keep is None:
            self._append(index, self._interval(index))
        else:
            self._pass(index, self.keep)
        if options.refines:
            self.tight[index] = is_tight(self.network, index, self.tight)
            self._bound_forms(index)
        if self._sets is not None:
            self._enclose(index)
        if options.refines and not self.tight[index]:
            self.refine(index)
        ended = time.perf_counter()
        self.seconds[index] = ended - started
        if telemetry.recorder is not None:
            name = f"{options.method}.node.{node.op.name.lower()}"
            rows = 2 * self.unstable.get(index, 0)
            telemetry.record(name, started, ended, rows=rows, neurons=node.size)

    def _interval(self, index: int) -> NodeBounds:
        """The image of the inputs' bounds, or the node's cap where that says all there is."""
        found = None if self._ceilings is None else self._ceilings.of(index, self.domain.batch)
        if found is not None:
            return found
        node = self.network.nodes[index]
        return node_bounds(node, [self._bounds[i] for i in node.inputs], self.options.precision)

    def _append(self, index: int, found: NodeBounds) -> None:
        known = self.domain.meet(index, found, self.empty)
        if self._ceilings is not None:
            self._ceilings.learn(index, known)
        self._bounds.append(known)

    def _pass(self, index: int, keep: frozenset[int]) -> None:
        """Bound a node, and drop what no later node reads."""
        from gamma.propagate import strips

        bounds, network, domain = self._bounds, self.network, self.domain
        chains, how = strips.chains_of(network), self.options.precision
        if index in chains:
            found = strips.passed(network, chains[index], domain, bounds, how, self.options.check)
        elif index in strips.within(network):
            bounds.append(strips.GONE)
            return
        else:
            found = self._interval(index)
        self._append(index, found)
        for one in strips.read_last(network)[index]:
            if one not in keep:
                bounds[one] = strips.GONE

    # -- small dense networks: all in one call -------------------------------------------------

    def _one_call(self) -> DenseNetwork | None:
        """The network, where one call bounds it."""
        if self.slopes or self.options.forward:
            return None
        return one_call(self.network, self.domain, self.options)

    def _call(self, dense: DenseNetwork) -> DenseWalk:
        source, how = self.bounds[dense.first - 1], self.options
        return DenseWalk(dense, source, how.dtype, how.method, how.check, facts=self.domain.facts)

    def _walk_dense(self, dense: DenseNetwork) -> None:
        started = time.perf_counter()
        self._walked = self._unseen = walked = self._call(dense)
        self.seconds |= zip(dense.nodes, walked.seconds.tolist(), strict=True)
        refined = zip(dense.nodes, walked.rows.tolist(), strict=True)
        self.unstable |= {index: rows for index, rows in refined if rows}
        if telemetry.recorder is not None:
            record(walked, self.options.method, started, time.perf_counter())

    def adopt(self) -> None:
        """Give the tables of the one-call walk to the rows' descent."""
        for index, table in self.called().items():
            self.descent.tables.adopt(index, table)

    def called(self) -> dict[int, Diagonal]:
        """Tables of the one-call walk, by node; none where there was no such call."""
        if self._walked is None or self._dense is None:
            return {}
        return self._walked.relaxations()

    # -- intermediate bounds by rows ---------------------------------------------------------------

    def refine(self, index: int) -> None:
        """Bound the neurons that a relaxation needs tight by rows, and intersect."""
        mask = wanted(self.network, index, self.bounds[index])
        if mask is None or self._suffices(index):
            return
        sides = self.sides
        if sides is not None and sides.worth(index, int(np.count_nonzero(mask))):
            done, rowed = mask, sides.bound(self, index, mask)
        else:
            rowed = done = np.zeros_like(mask)
            for some in in_turns(self.network, index, mask, lambda: self.bounds[index]):
                self._bound(index, some)
                done |= some
        if sides is not None:
            sides.learn(self, index, done)
        self.unstable[index] = int(np.count_nonzero(done))
        self.rowed[index] = rowed
        self.tight[index] = self.tight[index] or self.unstable[index] > 0

    # -- sets that go forward ----------------------------------------------------------------------

    def _enclose(self, index: int) -> None:
        """Meet the node's bounds with the box around its set."""
        assert self._sets is not None
        found = self._sets.visit(index, self.bounds)
        if found is None:
            return
        known: NodeBounds = self.bounds[index]
        lower, upper = (end.reshape(known.lower.shape) for end in found)
        if self.domain.split:
            crossed = np.maximum(known.lower, lower) > np.minimum(known.upper, upper)
            self.empty |= crossed.reshape(len(crossed), -1).any(axis=1)
            lower, upper = (
                np.where(crossed, known.lower, lower),
                np.where(crossed, known.upper, upper),
            )
        known.intersect(lower, upper, self.network.nodes[index].name)
        self.imaged = None  # nothing else was computed from the bounds of a node just visited
        self._enclosed.add(index)

    def _suffices(self, index: int) -> bool:
        """Whether a node's set alone bounds it, rows of a network of this size costing too much."""
        if index not in self._enclosed or not self.options.refines:
            return False
        rows = 2 * self.domain.batch * self._facts.widest[self.network.output]
        return rows * row_cost(self.network, self.network.output) > ROWS_UP_TO

    def _bound_forms(self, index: int) -> None:
        """Bound, by rows, the linear forms that the node's relaxation asks for."""
        node = self.network.nodes[index]
        weights = node.op.forms([self.bounds[i] for i in node.inputs])
        if weights is not None:
            (source,) = node.inputs
            centre, dtype = self.bounds[source].centre, self.options.dtype

            def bound(block: slice) -> Float64:
                frontier, box = forms.both_signs(source, weights, block, dtype)
                d = np.zeros(len(box))
                if self._sets is not None and self._sets.knows(frontier):
                    rows = {i: part.dense() for i, part in frontier.items()}
                    return self._sets.least(rows, d, box, self.bounds)
                return self.descent.run(frontier, d, box, self.options.check)

            count = math.prod(weights.shape[:3])
            parts = self.in_blocks(source, count, bound, 2)
            self.forms[index] = forms.about_zero(weights, centre, parts)

    def _bound(self, index: int, mask: npt.NDArray[np.bool_]) -> None:
        """Meet bounds of the neurons in ``mask`` (batch, size) with rows'."""
        for boxes, neurons in pixel_by_pixel(mask, self.network.nodes[index].shape):
            lower, upper = self.neuron_bounds(index, boxes, neurons)
            self.tighten(index, boxes, neurons, lower, upper)

    def in_float64(self) -> Walk:
        """The same bounds with float64 rows; itself where rows are."""
        if self.options.dtype == np.float64:
            return self
        wide = self._with(replace(self.options, dtype=np.dtype(np.float64)))
        if self._walked is not None:
            wide._dense = wide._one_call()
            if wide._dense is not None:
                source, asked = self.bounds[wide._dense.first - 1], wide.options
                wide._walked = DenseWalk(
                    wide._dense, source, asked.dtype, asked.method, asked.check, known=self._walked
                )
        return wide

    def _with(self, options: Options) -> Walk:
        """A walk over the same bounds with other options."""
        other = type(self)(self.network, self.domain, options, self.bounds, self.slopes)
        other.empty = self.empty
        other.seconds, other.unstable = self.seconds, self.unstable
        other.forms |= self.forms
        other._sets, other._enclosed = self._sets, self._enclosed
        other.rowed = dict(self.rowed)
        if self.imaged is not None:
            from gamma.propagate.images import images_of

            images = images_of(self.network, self.domain, options)
            other.imaged = None if images is None else self.imaged.wide(images)
        return other

    @property
    def path(self) -> str:
        """How rows went down: for explanations."""
        if self._walked is not None:
            return "dense network, one call of the C library"
        chain = self.descent.chain
        if chain is not None and chain.used:
            return "chain of dense layers in the C library"
        return "windows of images, node by node" if self._facts.convolves else "node by node"

    # -- results -----------------------------------------------------------------------------------

    def rows(self, frontier: Mapping[int, Array], d: Float64, box: Array) -> Float64:
        """Sound lower bounds of rows (rows, size) over any nodes, block by block."""
        self.adopt()

        def bound(block: slice) -> Float64:
            return self._bound_rows(blocks_of(frontier, block), d[block].copy(), box[block])

        if not len(d):
            return np.zeros(0)
        found = np.full(len(d), -np.inf)
        if self._sets is not None and self._sets.knows(frontier):
            found = self._sets.least(frontier, d, box, self.bounds)
            dear = len(d) * row_cost(self.network, max(frontier)) > ROWS_UP_TO
            if dear if self.options.refines else not self.options.relaxes:
                return found
        results = self.in_blocks(max(frontier), len(d), bound, 1)
        best: Float64 = np.maximum(found, np.concatenate(results))
        return best

    def ask(self, index: int) -> NodeBounds:
        """The node's bounds with rows for every neuron that has none yet."""
        chain = [index]  # no recursion: a file may hold thousands, one after another
        while self._needs_rows(chain[-1]) and self._images(chain[-1]):
            chain.append(self.network.nodes[chain[-1]].inputs[0])
        for one in reversed(chain):
            self._ask_one(one)
        found: NodeBounds = self.bounds[index]
        return found

    def _needs_rows(self, index: int) -> bool:
        if not self.options.relaxes or self.rowed.get(index) is True:
            return False
        return not self._suffices(index)

    def _images(self, index: int) -> bool:
        """Whether the image of its input's bounds is as good as rows of its own."""
        return index > 0 and self.network.nodes[index].op.diagonal

    def _ask_one(self, index: int) -> None:
        """`ask` where the input of an activation was asked already."""
        self.options.check()
        if not self._needs_rows(index):
            return
        node, bounds = self.network.nodes[index], self.bounds[index]
        if self._images(index):
            inputs = [self.bounds[i] for i in node.inputs]
            with np.errstate(all="ignore"):
                image = node_bounds(node, inputs, self.options.precision)
            boxes, neurons = np.divmod(np.arange(bounds.lower.size), node.size)
            self.tighten(index, boxes, neurons, image.lower.ravel(), image.upper.ravel())
        elif index:
            done = self.rowed.get(index, False)
            varies = (bounds.lower < bounds.upper).reshape(len(bounds.lower), -1)
            if self.imaged is not None and index == self.network.output:
                found = self.imaged.ask(self.options.check)
                bounds.intersect(found.lower, found.upper, node.name)
                if self._descent is not None:
                    self._descent.forget(index)
                self.rowed[index] = True
                return
            with np.errstate(all="ignore"):
                self._bound(index, varies if done is False else varies & ~np.asarray(done))
        self.rowed[index] = True

    def _bound_rows(self, frontier: Frontier, d: Float64, box: Array) -> Float64:
        """Lower bounds of one block of rows."""
        return self.descent.run(frontier, d, box, self.options.check)

    def output(self) -> NodeBounds:
        """Bounds of the output, with rows for every neuron."""
        index, walked = self.network.output, self._walked
        if walked is not None and index not in self.rowed:
            if self.options.relaxes:
                walked.output()
                self.rowed[index] = True
            return walked.last
        found: NodeBounds = self.ask(index) if self.options.relaxes else self.bounds[index]
        return found
