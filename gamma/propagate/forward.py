"""Linear forms of all nodes in the inputs that vary, one forward pass for each box.

A node costs a product for each of these inputs (columns), however many neurons it has: where few
inputs vary, a fraction of what rows of all neurons do. What a relaxation leaves open is kept as an
interval, so that the forms of deep layers are wider than rows' bounds, never wider than intervals.
(Zhang et al. 2018 go backward; the forms are zonotopes as Singh et al. 2018 have them, cut after
the input's symbols.)
"""

from __future__ import annotations

from collections.abc import Sequence

from gamma.errors import ResourceError
from gamma.network.graph import Network
from gamma.ops.bounds import NodeBounds
from gamma.ops.ellipsotope import Ellipsotope, LinearForms
from gamma.propagate.ellipsotopes import COPIES, SET_BYTES, Ellipsotopes
from gamma.propagate.facts import facts_of
from gamma.propagate.options import Options
from gamma.tensor.box import Box

LEAST_BYTES = 1 << 20


class ForwardForms(Ellipsotopes):
    """Forms of the nodes up to the last one visited."""

    def _set(
        self, index: int, before: Sequence[NodeBounds], after: NodeBounds, b: int
    ) -> Ellipsotope | None:
        found = super()._set(index, before, after, b)
        middle = after.centre[b].reshape(-1)
        reach = after.radius[b].reshape(-1)
        if found is None or not found.known:  # a new beginning: the node's interval
            return LinearForms(after.lower.shape[1:], middle, reach, {})
        forms = LinearForms.of(found)
        # An entry whose interval is no wider than what its form leaves open is that interval.
        return forms.replaced(reach <= forms.rest, middle, reach)


def forms_of(
    network: Network, box: Box, options: Options, bounds: Sequence[NodeBounds]
) -> ForwardForms:
    """Forms that begin at the input. Raises ResourceError where they would not fit into memory."""
    varying = int((box.lower < box.upper).any(axis=0).sum())
    widest = max(facts_of(network).sizes[: network.output + 1])
    need = 8 * COPIES * (varying + 2) * widest
    limit = max(SET_BYTES * options.row_bytes, LEAST_BYTES)
    if need > limit:
        raise ResourceError(
            f"method {options.method}: forms in {varying} inputs of up to {widest} neurons would "
            f"take {need / 1e9:.1f} GB, more than {limit / 1e9:.1f} GB: take method crown"
        )
    made = ForwardForms(network, box, options.guarantee)
    made.visit(0, bounds)
    return made
