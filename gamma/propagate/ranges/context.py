"""What the rules share: the network, what is known so far, and how activations are kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.tables import Precision
from gamma.propagate.ranges.norms import LayerNorm
from gamma.propagate.ranges.sets import Known, Storage

Float64 = npt.NDArray[np.float64]


class Turn(Frozen):
    """y = a∘x + b∘x[exchange] along the last axis: pairs of entries turn by a position's angle.

    ``source``: the node x. ``factors``: the nodes a∘x and b∘x[exchange]. ``reach``: at least
    √(a² + b²) of every entry. ``stretch``: at least the norm of the map. ``pure``: rotations, up
    to rounding, so that the same holds at every position. ``stray``, ``lost``: products of a
    float32 execution are off by this share of |x|, and by this number.
    """

    source: int
    factors: tuple[str, str]
    exchange: npt.NDArray[np.int64]
    reach: Float64
    stretch: float
    largest: float
    stray: float
    lost: float
    pure: bool


class Context(Struct, eq=False):
    """One walk.

    Attributes:
        known: of the nodes so far. storage: how activations are kept.
        guarantee: "float32": values are those of any float32 execution.
        everywhere: what is said holds at every position, not at those of this network alone.
        positions: the most positions that are spoken of.
        norms_alone: a norm's output is taken to be any point of its sphere.
        thrifty: norms of whole layers, which cost as much as all else, are left out.
        layer_norms: of whole layers, by node, that are known beforehand.
        turns, factors: rotary positions, by the
            names of their sums, and of the products in them.
    """

    network: Network
    storage: Storage
    guarantee: str = "real"
    everywhere: bool = False
    positions: int = 0
    norms_alone: bool = False
    thrifty: bool = False
    known: list[Known] = field(default_factory=list)
    layer_norms: Mapping[int, LayerNorm] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    factors: frozenset[str] = frozenset()

    @property
    def executed(self) -> bool:
        """Whether values are those of float32 executions, with all that they may lose."""
        return self.guarantee == "float32"

    @property
    def how(self) -> Precision:
        """As an interval step takes it."""
        return Precision(self.guarantee, np.dtype(np.float64))
