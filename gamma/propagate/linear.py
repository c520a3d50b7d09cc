"""Linear bounds of the outputs in terms of the inputs, or of an inner node that all paths pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from gamma.errors import UsageError
from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.tables import NodeSlopes
from gamma.propagate.alpha import AlphaWalk, alpha_walk
from gamma.propagate.asked import deadline_of, memory_bytes
from gamma.propagate.caps import block_table, joined, norm_caps
from gamma.propagate.choosing import batched, own_threads, walks_of
from gamma.propagate.domain import Domain
from gamma.propagate.options import DType, Options, options_of
from gamma.propagate.rows.own import Tape
from gamma.propagate.walks import Walk, walk
from gamma.tensor import rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class LinearBounds(Frozen):
    """lower_coefficients·v + lower_constant <= f(v) <= upper_coefficients·v + upper_constant.

    Holds for every v that the node ``at`` takes on the input set (for every input of the set when
    ``at`` is the input), in exact arithmetic with the numbers stored here.

    Its arrays are read-only.

    Attributes:
        lower_coefficients, upper_coefficients: float64 (batch, outputs, size of the node), the
            batch axis left out for a single box.
        lower_constant, upper_constant: float64 (batch, outputs).
        at: the node's name. used: the method.
    """

    lower_coefficients: Float64
    lower_constant: Float64
    upper_coefficients: Float64
    upper_constant: Float64
    at: str
    used: str

    def __post_init__(self) -> None:
        for name in (
            "lower_coefficients",
            "lower_constant",
            "upper_coefficients",
            "upper_constant",
        ):
            view = getattr(self, name).view()
            view.flags.writeable = False
            force_setattr(self, name, view)

    def __repr__(self) -> str:
        """Shape of the coefficients, node and method, in one line."""
        shape = self.lower_coefficients.shape
        return f"LinearBounds(coefficients {shape}, at {self.at!r}, {self.used})"


def linear_bounds(
    net: Network,
    box: Box,
    *,
    at: str = "input",
    method: str = "crown",
    guarantee: str = "real",
    dtype: DType = "auto",
    slopes: Mapping[str, NodeSlopes] | None = None,
    timeout: float | None = None,
    memory: int | str | None = None,
    deadline: float | None = None,
    blocks: list[dict[str, Any]] | None = None,
) -> LinearBounds:
    """Certified linear bounds of every output (CROWN's rows with all their rounding charged).

    Args:
        at: "input", or the name of a node that every path to the output passes.
        method: "crown-ibp", "crown" or "alpha" (how the bounds of inner nodes are found).
        slopes: node name -> slopes of its lines, one table per box; any finite numbers are valid.
        memory: a limit, as in `gamma.bounds`, for all but the result; not with slopes of one's own.
        blocks: filled with the table of a language model's blocks. Other arguments as in
            `gamma.bounds`.

    Raises:
        UsageError: a method without rows, a name that is no such node.
    """
    options = options_of(net, method, guarantee, dtype, deadline_of(timeout, deadline))
    method = options.method
    if not options.relaxes:
        raise UsageError(f"method {method!r}: its bounds are intervals; take crown or crown-ibp")
    many = batched(net, box)
    stop = _node(net, at)
    size, count = net.nodes[net.output].size, len(many.lower)
    make, step = _walks(net, many, options, slopes, memory_bytes(memory))
    parts = []
    with np.errstate(all="ignore"), own_threads(net, method):
        for first in range(0, count, step):
            made = make(many.slice(first, first + step))
            for one in (made, made.plain) if isinstance(made, AlphaWalk) else (made,):
                one.adopt()
            boxes, neurons = np.divmod(np.arange(len(made.box.lower) * size), size)
            rows = partial(_rows, made, boxes, neurons, stop)
            parts += made.in_blocks(net.output, len(boxes), rows, 2)
            if blocks is not None:
                blocks[:] = joined(blocks if first else [], block_table(made))
    low, below, high, above = (np.concatenate(each) for each in zip(*parts, strict=True))
    single = many.shape != box.shape and len(many.lower) == 1
    shape = (size,) if single else (len(many.lower), size)
    return LinearBounds(
        low.reshape(*shape, -1),
        below.reshape(shape),
        high.reshape(*shape, -1),
        above.reshape(shape),
        net.nodes[stop].name,
        method,
    )


def _walks(
    net: Network,
    many: Box,
    options: Options,
    slopes: Mapping[str, NodeSlopes] | None,
    limit: int,
) -> tuple[Callable[[Box], Walk], int]:
    """What makes a walk over some boxes, and how many it takes at once."""
    if not limit:
        start = alpha_walk if options.method == "alpha" else walk
        caps = norm_caps(net, many, options.guarantee, False, options.deadline)
        given = slopes_by_index(net, slopes)
        return lambda part: start(net, Domain(part, caps), options, slopes=given), len(many.lower)
    if slopes is not None:
        raise UsageError("slopes= keeps all bounds in memory: leave out memory=")
    make, step, _ = walks_of(net, options, many, 2 * net.nodes[net.output].size, None, limit)
    return make, step


def _rows(
    made: Walk, boxes: Array, neurons: Array, stop: int, block: slice
) -> tuple[Float64, Float64, Float64, Float64]:
    """Coefficients and constants of lower and upper bounds of some neurons."""
    count = len(boxes[block])
    rows, constant, least = _descended(made, boxes[block], neurons[block], stop)
    if isinstance(made, AlphaWalk):
        # Tighter inner bounds may choose other lines, and these be worse for some row.
        others = _descended(made.plain, boxes[block], neurons[block], stop)
        worse = ~(least > others[2])
        rows[worse], constant[worse] = others[0][worse], others[1][worse]
    return rows[:count], constant[:count], -rows[count:], -constant[count:]


def _descended(
    made: Walk, boxes: Array, neurons: Array, stop: int
) -> tuple[Float64, Float64, Float64]:
    """Coefficients and constants of rows of both signs, and what they prove by themselves."""
    frontier, d, box = made.both_signs(made.network.output, boxes, neurons)
    tape = Tape()
    least = made.descent.run(frontier, d, box, made.options.check, tape=tape, stop=stop)
    assert tape.input is not None and tape.constant is not None
    known = made.bounds[stop]
    centre = known.centre.reshape(len(known.centre), -1)
    keep = made.descent.tables.columns(stop)
    rows = np.zeros((len(box), centre.shape[1]))
    rows[:, slice(None) if keep is None else keep] = tape.input
    terms = rows * centre[box]
    g = rounding.gamma_factor(terms.shape[1] + 8, np.float64)
    constant = tape.constant - terms.sum(axis=1)
    constant -= (abs(terms).sum(axis=1) * g + abs(tape.constant) * 2.0**-50) * (1 + 2.0**-40)
    return rows, rounding.down(constant - abs(constant) * 2.0**-50), least


def _node(net: Network, at: str) -> int:
    if at == "input":
        return 0
    for index, node in enumerate(net.nodes[: net.output]):
        if node.name == at:
            return index
    raise UsageError(f"at={at!r}: expected input or the name of a node before the output")


def slopes_by_index(net: Network, slopes: Mapping[str, NodeSlopes] | None) -> dict[int, NodeSlopes]:
    """Slopes by the index of their node. Raises UsageError for a name that no node has."""
    names = {node.name: index for index, node in enumerate(net.nodes)}
    if unknown := sorted(set(slopes or {}) - set(names)):
        raise UsageError(f"slopes: the network has no node {unknown[0]!r}")
    return {names[name]: given for name, given in (slopes or {}).items()}
