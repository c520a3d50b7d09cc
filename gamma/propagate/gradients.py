"""Gradients of certified bounds in the input set and in the slopes of the relaxation.

The forward sweep of Xu et al. (2021), α-CROWN, without automatic differentiation: see
`gamma.propagate.rows.sweep`. A gradient is no bound; it says where a bound is likely to move.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import field

from gamma.errors import ResourceError, UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.tables import NodeSlopes
from gamma.propagate.asked import deadline_of, memory_bytes
from gamma.propagate.choosing import batched
from gamma.propagate.linear import slopes_by_index
from gamma.propagate.options import DType, options_of
from gamma.propagate.rows.own import Tape
from gamma.propagate.rows.sweep import Gradients, ascent
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box

Float64 = npt.NDArray[np.float64]

COPIES, BOUNDS = 6, 16
"""Arrays of every neuron, for each row (on its way, on the tape, swept, given out) and box."""


class EndGradients(Frozen):
    """Derivatives of one end of every output, float64 (batch, outputs, *shape); the batch axis is
    left out for a single box.

    Attributes:
        center, radius: in the middle and the half width of every input's interval.
        lower_slope, upper_slope: node name -> in the slopes of its lower and upper line, the
            intercepts following. Zero where a row does not use the line.
    """

    center: Float64
    radius: Float64
    lower_slope: dict[str, Float64] = field(default_factory=dict)
    upper_slope: dict[str, Float64] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Shapes and nodes in one line."""
        return f"EndGradients({self.center.shape}, slopes of {len(self.lower_slope)} nodes)"


class BoundGradients(Frozen):
    """Gradients of the lower and of the upper bounds, the bounds of inner nodes held fixed.

    Attributes:
        lower, upper: of each end, in the units of an output for one unit of an input.
    """

    lower: EndGradients
    upper: EndGradients

    def __repr__(self) -> str:
        """What there is, in one line."""
        return f"BoundGradients(lower={self.lower!r}, upper={self.upper!r})"


def gradients(
    net: Network,
    box: Box,
    *,
    method: str = "crown",
    guarantee: str = "real",
    dtype: DType = "float64",
    slopes: Mapping[str, NodeSlopes] | None = None,
    timeout: float | None = None,
    memory: int | str | None = None,
    deadline: float | None = None,
) -> BoundGradients:
    """How the bounds of every output change with the centre, the radius and the slopes.

    The bounds of inner nodes are held fixed (they move, too, where the set does). Where an input
    decides nothing, or a line is exact, derivatives are those of one side. Arguments as in
    `gamma.linear_bounds`; the result holds every node's gradients, so that a limit of ``memory`` is
    kept or refused.

    Raises:
        UsageError: a method without rows, or a ball, whose radius is one number.
        ResourceError: the time is out, or the memory would not do.
    """
    options = options_of(net, method, guarantee, dtype, deadline_of(timeout, deadline))
    if options.method not in ("crown", "crown-ibp"):
        raise UsageError(f"method {options.method!r}: gradients are of crown or crown-ibp")
    many = batched(net, box)
    if box.norm != "inf":
        raise UsageError(f"the set is an L{box.norm} ball: gradients are of intervals (Box.linf)")
    single = many.shape != box.shape and len(many.lower) == 1
    given = slopes_by_index(net, slopes)
    _check_memory(net, len(many.lower), memory_bytes(memory))
    made = walk(net, many, options, slopes=given)
    size, count = net.nodes[net.output].size, len(many.lower)
    boxes, neurons = np.divmod(np.arange(count * size), size)
    tape = Tape()
    frontier, d, owner = made.both_signs(net.output, boxes, neurons)
    with np.errstate(all="ignore"):
        made.descent.run(frontier, d, owner, options.check, tape=tape)
        found = ascent(made.descent.tables, tape, owner, slopes=given)
    lead = (size,) if single else (count, size)
    lower = _end(made, tape, found, slice(0, count * size), 1.0, lead)
    return BoundGradients(lower, _end(made, tape, found, slice(count * size, None), -1.0, lead))


def _check_memory(net: Network, count: int, limit: int) -> None:
    """Raise ResourceError where rows, their tape and the gradients exceed ``limit``."""
    neurons = sum(node.size for node in net.nodes[: net.output + 1])
    rows = 2 * count * net.nodes[net.output].size
    needed = 8 * neurons * (COPIES * rows + BOUNDS * count)
    if limit and needed > limit:
        raise ResourceError(
            f"memory: gradients of {rows} rows need about {needed / 1e6:.0f} MB, the limit is "
            f"{limit / 1e6:.0f} MB: ask about fewer boxes at a time"
        )


def _end(
    made: Walk, tape: Tape, found: Gradients, rows: slice, sign: float, lead: tuple[int, ...]
) -> EndGradients:
    """The rows of one end; an upper bound is the lower bound of the negated row, negated."""
    assert tape.input is not None
    nodes = made.network.nodes

    def full(index: int, values: npt.NDArray[np.floating]) -> Float64:
        keep = made.descent.tables.columns(index)
        part = np.asarray(values[rows], np.float64)
        if keep is not None:
            wide = np.zeros((len(part), nodes[index].size))
            wide[:, keep] = part
            part = wide
        return sign * part.reshape(*lead, *nodes[index].shape)

    center = full(0, tape.input)
    # The least value of a·x over an interval is a·c − |a|·r.
    radius = -sign * abs(center)
    below = {nodes[i].name: full(i, g) for i, g in found.lower_slope.items()}
    above = {nodes[i].name: full(i, g) for i, g in found.upper_slope.items()}
    return EndGradients(center, radius, below, above)
