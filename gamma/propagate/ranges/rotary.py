"""Rotary positions: a∘x + b∘(x with the entries of each pair exchanged) rotates every pair.

It keeps norms, whatever the angle: what is known of x holds at every position (Su et al. 2021).
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from gamma.network.graph import Network, Node
from gamma.ops import Gather, Scale
from gamma.ops.execution import LOST, UNIT
from gamma.propagate.ranges import layout
from gamma.propagate.ranges.context import Context, Turn
from gamma.propagate.ranges.sets import SLACK, Known, Sphere

MOST = 1 + 2.0**-20
"""At least |cos|, |sin| and the norm of a rotation, as stored."""


def turns_of(network: Network) -> dict[str, Turn]:
    """Every sum of this form, by its name."""
    found = {}
    for node in network.nodes[1 : network.output + 1]:
        turn = _turn(network, node)
        if turn is not None:
            found[node.name] = turn
    return found


def _turn(network: Network, node: Node) -> Turn | None:
    if node.op.signs != (1, 1):
        return None
    first, second = (network.nodes[i] for i in node.inputs)
    a, b = first.op, second.op
    if not (isinstance(a, Scale) and isinstance(b, Scale)):
        return None
    if a.shift is not None or b.shift is not None:
        return None
    pair = network.nodes[second.inputs[0]]
    if not isinstance(pair.op, Gather) or pair.inputs != first.inputs:
        return None
    chosen = layout.selection(pair.op, network.nodes[first.inputs[0]].shape)
    if chosen is None or pair.shape != node.shape:
        return None
    *others, exchange = chosen
    places = np.arange(len(exchange))
    if any((c != np.arange(len(c))).any() for c in others) or (exchange[exchange] != places).any():
        return None
    names = (first.name, second.name)
    return _measured(a, b, first.inputs[0], names, exchange, node.shape)


def _measured(a: Scale, b: Scale, source: int, names: tuple[str, str], exchange: np.ndarray,
              shape: tuple[int, ...]) -> Turn:  # fmt: skip
    """The singular values of each pair's matrix B: ‖B‖² <= the largest row sum of |B Bᵀ|."""
    rank, size = len(shape), shape[-1]
    one, other = (
        np.broadcast_to(layout.lifted(op.scale.astype(np.float64), rank), shape) for op in (a, b)
    )
    error = (1 + a.scale_error) * (1 + b.scale_error) * (1 + 2.0**-30)
    square = one * one + other * other
    across = abs(one * other[..., exchange] + other * one[..., exchange])
    # Two products that cancel, each rounded once.
    across = across + (2.0**-50 + 4 * (a.scale_error + b.scale_error)) * square.max()
    reach = np.sqrt(square.reshape(-1, size).max(axis=0)) * error
    stretch = float(np.sqrt((square + across).max())) * error
    pure = float(square.min()) > 1 - 2.0**-30 and stretch < MOST
    stray, lost = (max(float(np.max(getattr(op.executed, name))) for op in (a, b))
                   for name in ("error", "offset_error"))  # fmt: skip
    largest = float(reach.max())
    return Turn(source, names, exchange, reach, stretch, largest, stray, lost, pure)


def turned(walk: Context, turn: Turn, made: Known) -> Known:
    """The sum, with what the norm of x says; ``made`` by intervals at this network's positions."""
    x, unit, quantum = walk.known[turn.source], walk.storage.unit, walk.storage.quantum
    stray = 0.0
    if walk.executed:  # the sum is rounded as the products are
        stray, unit, quantum = turn.stray, unit + 2 * UNIT, quantum + turn.lost + LOST
    squares = np.broadcast_to(x.reach, (*x.reach.shape[:-1], x.shape[-1]))
    pairs = np.hypot(squares, squares[..., turn.exchange]) * SLACK
    reach, stretch = turn.reach, turn.stretch
    if walk.everywhere and turn.pure:
        made = replace(
            made, lower=-np.inf * np.ones_like(pairs), upper=np.inf * np.ones_like(pairs)
        )
        # Of any position: executed factors are cosine and sine of some angle, within 2^-21.
        reach, stretch, stray = reach * MOST, stretch * MOST, 2.0**-20 if walk.executed else 0.0
    # Both products were rounded before they were added.
    reach = (reach * (1 + 4 * unit) + 4 * stray) * pairs * SLACK + 4 * quantum
    made = made.within(-reach, reach)
    if x.form is None:
        return made
    stretch = stretch + 4 * unit * turn.largest + 4 * stray
    radius = float(x.norm(-1).max()) * stretch + 4 * quantum * np.sqrt(x.shape[-1])
    rank = len(made.shape)
    return replace(made, form=Sphere.ball(rank, rank - 1, radius * SLACK))
