"""Interval pass through a whole network of convolutions, sums and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import F64, check, refuse
from gamma.tensor.kernels.elementwise import Curve
from gamma.tensor.kernels.images import PANEL, Frame

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Pair = tuple[int, int]
Shape3 = tuple[int, int, int]

MOST_NODES = 256
# Terms of products in float32 that are summed one after the other, and of groups of such sums; the
# groups' sums go two by two.
BLOCK, GROUP = 8, 64
# A share of a layer's radii that does not show.
SHOWS = 2.0**-15
# Boxes of one radius that share products of their reaches.
ALIKE = 16
_POINT = Frame((1, 1, 1, 1, 1, 1), 0, 0)


class PassNode(Frozen):
    """A node and how its values are made; a dense layer is a kernel as large as the image.

    Attributes:
        shape: channels, height, width. sources: earlier nodes that it reads: none (the input, which
            is the first), one (a convolution) or two (a sum, ``signs`` times them).
        hinge: a ReLU follows. curve: or this function, finite in float32 where its argument is.
        planar: of the input, whose channels are kept one after the other: the step from pixel to
            pixel is 1 and no sum reads it.
        weight: float64 (groups, panels, kh, kw, C/groups, PANEL): output channels in panels, 0
            beyond. bias: float64 (groups, panels, PANEL) or None.
        pairs: float32 (*weight.shape, 2), a weight and its size, where float32 holds all weights
            and products may be taken in it; or None. shift: float32 (groups, panels, PANEL, 2), the
            bias rounded, and what the rounding and underflow lose. tilt: what rounding it adds to
            the sum of the source's radii (`docs/numerics.md`). shows: a charge for centres up to
            this share of the radii does not show.
        lines: int64, of weights that are mostly 0 the lines (kh, kw, C/groups) of a panel that are
            not 0, panel after panel, which sums of pairs pass over others for; or None. ends: int64
            (groups, panels, blocks + 1), how many of them come before the first block of a panel
            and up to the end of each.
        charge: float32 (width, channels, 2), or (channels, width, 2) where planar: what such sums
            of the node's readers charge per |centre| and per radius, or None where none has pairs;
            rate: per |centre| on average, 0 where no node of the network has pairs.
        row_sum: at least |L|·1, float64 (groups, panels, height, width, PANEL); of a sum (height,
            width, channels). factors: γ of float64 sums, relative uncertainty of L.
    """

    shape: Shape3
    sources: tuple[int, ...] = ()
    hinge: bool = False
    curve: Curve | None = None
    planar: bool = False
    frame: Frame = _POINT
    weight: Float64 | None = None
    pairs: Float32 | None = None
    shift: Float32 | None = None
    tilt: float = 0.0
    shows: float = SHOWS
    lines: Index | None = None
    ends: Index | None = None
    charge: Float32 | None = None
    rate: float = 0.0
    bias: Float64 | None = None
    row_sum: Float64 | None = None
    factors: tuple[float, float] = (0.0, 0.0)
    signs: Pair = (1, 1)


class NetworkPass(Protocol):
    """Interval bounds of a network's output, box by box of a few at once."""

    def run(
        self,
        lower: Float64,
        upper: Float64,
        ends: Float64,
        span: Pair,
        most: tuple[int, int, bool],
        threads: int = 1,
    ) -> int:
        """Bound boxes span[0]..span[1] of B; returns how many ends contradict each other.

        Args:
            lower, upper: of the input, float64 (B, ...). ends: float64 (2, B, *shape of the last
                node): lower and upper, written for the boxes of ``span``.
            most: boxes that go together through nodes of one pixel at the end, and before these;
                and whether `ALIKE` boxes of one radius, of which these are multiples then, may
                share products of an input of one pixel.
            threads: that share the boxes, most[0] each.
        """


def network_pass(nodes: Sequence[PassNode], steps: Pair) -> NetworkPass | None:
    """The nodes ready for interval passes; None without the compiled library.

    Args:
        steps: entries from channel to channel and from pixel to pixel of a box's input.
    """
    if not backend.compiled:
        return None
    if not 1 < len(nodes) <= MOST_NODES:
        raise refuse("nodes", f"{len(nodes)} nodes", f"2 to {MOST_NODES}")
    shape = nodes[0].shape
    size, (across, along) = int(np.prod(shape)), steps
    last = (shape[0] - 1) * across + (shape[1] * shape[2] - 1) * along
    if min(shape) < 1 or min(steps) < 0 or last >= size:
        raise refuse("steps", steps, f"places inside the {size} entries of {shape}")
    summed = [node for node in nodes if len(node.sources) == 2 and 0 in node.sources]
    if any(n.planar for n in nodes[1:]) or (nodes[0].planar and (along != 1 or summed)):
        raise refuse("planar", steps, "an input with pixels side by side that no sum reads")
    for index, node in enumerate(nodes[1:], start=1):
        if not 1 <= len(node.sources) <= 2 or not all(0 <= s < index for s in node.sources):
            raise refuse("sources", node.sources, f"one or two nodes before node {index}")
        _check(node, [nodes[s].shape for s in node.sources])
    if any(node.pairs is not None for node in nodes):
        for index, node in enumerate(nodes):
            channels, _, width = node.shape
            readers = [n for n in nodes if index in n.sources]
            taken = index == 0 or any(n.pairs is not None or len(n.sources) == 2 for n in readers)
            if (node.charge is None and taken) or (node.pairs is not None and node.shift is None):
                raise refuse("pairs", None, "charges of their sources, and offsets beside weights")
            line = (channels, width) if node.planar else (width, channels)
            if node.charge is not None:
                check("charge", node.charge, np.dtype(np.float32), (*line, 2))
    from gamma.tensor.native import passes  # few questions need it

    made: NetworkPass = passes.NetworkPass(nodes, steps)
    return made


def _check(node: PassNode, sources: Sequence[Shape3]) -> None:
    """Arrays of the sizes that the library reads."""
    channels, height, width = node.shape
    if node.row_sum is None or min(*node.shape, *node.frame.spans) < 1 or min(node.frame[1:]) < 0:
        raise refuse("node", node.shape, "positive sizes, and the sums of its rows")
    if len(sources) == 2:
        if set(sources) != {node.shape}:
            raise refuse("sources", sources, f"two of shape {node.shape}")
        check("row_sum", node.row_sum, F64, (height, width, channels))
        return
    if node.weight is None or node.weight.ndim != 6:
        raise refuse("weight", None if node.weight is None else node.weight.shape, "six axes")
    groups, panels = node.weight.shape[:2]
    own, before = channels // max(groups, 1), sources[0][0] // max(groups, 1)
    if own * groups != channels or before * groups != sources[0][0] or panels != -(-own // PANEL):
        raise refuse("weight", node.weight.shape, f"{sources[0][0]} channels to {channels}")
    check("weight", node.weight, F64, (groups, panels, *node.frame.spans[:2], before, PANEL))
    check("row_sum", node.row_sum, F64, (groups, panels, height, width, PANEL))
    if node.pairs is not None and node.shift is not None:
        check("pairs", node.pairs, np.dtype(np.float32), (*node.weight.shape, 2))
        check("shift", node.shift, np.dtype(np.float32), (groups, panels, PANEL, 2))
    if node.lines is not None and node.ends is not None:
        _check_lines(node.lines, node.ends, node.weight.shape)
    if node.bias is not None:
        check("bias", node.bias, F64, (groups, panels, PANEL))


def _check_lines(lines: Index, ends: Index, shape: tuple[int, ...]) -> None:
    """Lines of every panel, block by block."""
    depth = int(np.prod(shape[2:5]))
    blocks = -(-depth // BLOCK)
    check("ends", ends, np.dtype(np.int64), (*shape[:2], blocks + 1))
    check("lines", lines, np.dtype(np.int64), (int(ends[-1, -1, -1]),))
    flat, counts = ends.reshape(-1, blocks + 1), np.diff(ends.reshape(-1, blocks + 1))
    follows = flat[0, 0] == 0 and (flat[1:, 0] == flat[:-1, -1]).all() and (counts >= 0).all()
    block = np.repeat(np.tile(np.arange(blocks), len(flat)), np.maximum(counts, 0).ravel())
    if not follows or (lines // BLOCK != block).any() or (lines >= depth).any():
        raise refuse("lines", lines, f"lines of a panel's {depth}, block by block")
