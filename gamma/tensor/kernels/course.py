"""Rows through a network of convolutions, sums and activations on images in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.images import PIXELS, Cells, Pair, Scatter
from gamma.tensor.kernels.met import MetTables

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Shape3 = tuple[int, int, int]


class Product(Frozen):
    """The adjoint of one group of a convolution.

    Attributes:
        weight: as in `gather`, or as in `spread` (two axes).
        rows, images: (height, width, channels of all groups).
        add: to what the images hold.
    """

    weight: Array
    rows: Shape3
    images: Shape3
    scatter: Scatter
    offsets: Pair
    cells: Cells = PIXELS
    add: bool = False


class Move(Frozen):
    """What happens to the rows in a slot: gamma_move of csrc/simd/api_images.h has the kinds.

    Attributes:
        node: whose tables are met. source, to: slots.
        shape: (h, w, H, W, C): windows, their image, channels. framed: windows are whole images.
        grid: a place whose first pixel is (y, x) has its window at
            (y·grid[0] + grid[2], x·grid[1] + grid[3]).
        target: height and width of ``to``. corner: where windows are added there.
    """

    kind: str
    node: int = 0
    source: int = 0
    to: int = 0
    shape: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    framed: bool = False
    grid: tuple[int, int, int, int] = (1, 1, 0, 0)
    target: Pair = (0, 0)
    corner: Pair = (0, 0)
    product: Product | None = None


class Course(Protocol):
    """Moves for rows of some dtype, run in one call."""

    def run(
        self,
        tables: MetTables,
        blocks: Sequence[Array],
        d: Float64,
        opposite: Float64 | None,
        box: Int64,
        place: Int64,
        first: Int64,
        every: bool,
    ) -> None:
        """Take rows through all moves.

        Args:
            tables: of one walk, with all that the moves read.
            blocks: of the first slots, all rows of each; overwritten or written.
            d: float64 (N,). opposite: constants of the negated rows.
            box, place: (N,). first: (places, 3), box and first pixel.
            every: as in `gather`.
        """


def course(
    moves: Sequence[Move], rooms: Sequence[int], given: int, dtype: np.dtype[Any]
) -> Course | None:
    """The moves over slots of ``rooms`` entries a row, of which the caller has the first ``given``.

    None without the compiled library, or with more slots than it has.
    """
    if not backend.compiled:
        return None
    made: Course | None = backend.current.Course.of(moves, rooms, given, dtype)
    return made
