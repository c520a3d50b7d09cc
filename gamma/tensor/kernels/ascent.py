"""Rows whose slopes and multipliers rise step by step, through stages, in one call."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import padded
from gamma.tensor.kernels.images import Cells, Frame, Scatter
from gamma.tensor.kernels.planes import Planes
from gamma.tensor.kernels.rows import Sparse

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class InputStage(Frozen):
    """The input, about its centre.

    Attributes:
        radius: f (boxes, n). pay: float64 (boxes, n), what an entry of a row costs: the radius,
            rounded up.
    """

    radius: Array
    pay: Float64


class Assumable(Frozen):
    """What assumptions about entries of a dense layer meet; see `Descent._assume`.

    Attributes:
        centre, rounded: float64 (n,). carried: (n,), the charge of rows that the layer's reader
            carries, with its loss; None where the layer is charged itself. share: of the terms, and
            of the constant that they are added to.
    """

    centre: Float64
    rounded: Float64
    carried: Float64 | None
    loss: float
    share: float


class Laid(NamedTuple):
    """A weight of ``shape`` (n, m) as products read it: f (n, m) and (m, n), lines filled up with
    zeros to whole 64 bytes."""

    shape: tuple[int, int]
    rows: Array
    turned: Array

    @classmethod
    def of(cls, weight: Array) -> Laid:
        """Copies of a weight."""
        (n, m), dtype = weight.shape, weight.dtype
        rows = np.zeros((n, padded(m, dtype)), dtype)
        turned = np.zeros((m, padded(n, dtype)), dtype)
        rows[:, :m], turned[:, :n] = weight, weight.T
        return cls((n, m), rows, turned)


class DenseStage(Frozen):
    """A dense layer.

    Attributes:
        weight: f (n, entries of the stage before), or what is not 0 in it. charge: float64
            (boxes, n) and the loss (boxes,), None where the layer's reader carries it. assumable:
            of one box; None where no ReLU reads the layer.
    """

    weight: Laid | Sparse
    charge: tuple[Float64, Float64] | None
    assumable: Assumable | None


class ImageStage(Frozen):
    """A convolution of one group on images (C, H, W), with channels first.

    Attributes:
        taps: f, as `gather` takes it, with ``cells``; or, with None for these, as `spread` does.
        weight: f (out, C·kh·kw), as `correlate` takes it, with ``frame``.
        image, result: shapes (C, H, W) and (out, h, w). every: as in `gather`.
        charge, assumable: as of a `DenseStage`.
    """

    taps: Array
    scatter: Scatter
    cells: Cells | None
    weight: Array
    frame: Frame
    image: tuple[int, int, int]
    result: tuple[int, int, int]
    every: bool
    charge: tuple[Float64, Float64] | None
    assumable: Assumable | None


class SumStage(Frozen):
    """Plus or minus one stage, plus or minus another.

    Attributes:
        signs: -1 or 1. charge, assumable: as of a `DenseStage`.
    """

    signs: tuple[int, int]
    charge: tuple[Float64, Float64] | None
    assumable: Assumable | None


class OrderStage(Frozen):
    """The entries of one stage in another order: int32 (n,), where each is there."""

    order: Int32


class ReluStage(Frozen):
    """A ReLU of the stage before it, with the tables of `relax_own_rows`.

    Attributes:
        base, gain, upper_slope, upper_const: as there, (boxes, n). free, fixed, centre:
            f (boxes, n), as in `gamma.ops.hinges.Hinge`, and loss (boxes,). sides: float64 (4, n),
            of one box, constants of neurons that are <= 0, then of those that are >= 0, for
            positive and for negative entries; None where nothing is assumed.
        places: int64, the neurons whose slopes move, numbered on from stage to stage; low, high:
            f (boxes, places), ends of their inputs.
    """

    base: Float64
    gain: Float64
    upper_slope: Array
    upper_const: Float64
    free: Array
    fixed: Array
    centre: Array
    sides: Float64 | None
    loss: Float64
    places: Int64
    low: Array
    high: Array


class PlaneStage(Frozen):
    """A normalisation: its planes, and loss (boxes,)."""

    planes: Planes
    loss: Float64


Stage = InputStage | DenseStage | ImageStage | SumStage | OrderStage | PlaneStage | ReluStage


class Place(Frozen):
    """Where a stage is among others.

    Attributes:
        inputs: the stages that it reads. slot: no other has it while rows or trajectories over both
            are there. joined: float64 (boxes, n), what one more rounding of its rows' entries
            costs; None where one stage reads it at most.
    """

    inputs: tuple[int, ...]
    slot: int
    joined: Float64 | None = None


class Climbers(Frozen):
    """Rows that start together: see `gamma.propagate.cases.Cases`.

    Attributes:
        question: int64 (rows,). slope: f (owners, ReLUs), overwritten. owner: int64 (rows,), whose
            slopes a row starts from; None: each its own. box: int64 (rows,), None: of one, as
            rows that assume something, or whose costs are asked, have to be.
        relu: int64 (rows, depth), -1 for none. sign: int8 (rows, depth). beta: float64
            (rows, depth), overwritten.
        paired: rows 2k and 2k + 1 need no more steps when one of them does not.
    """

    question: Int64
    slope: Array
    owner: Int64 | None
    box: Int64 | None
    relu: Int64
    sign: npt.NDArray[np.int8]
    beta: Float64
    paired: bool = False

    @classmethod
    def plain(
        cls, slope: Array, question: Int64, box: Int64 | None = None, paired: bool = False
    ) -> Climbers:
        """Rows that assume nothing and start from their boxes' slopes (boxes, ReLUs)."""
        count = len(question)
        none = np.zeros((count, 0))
        return cls(
            question,
            slope,
            np.zeros(count, np.int64) if box is None else box,
            box,
            none.astype(np.int64),
            none.astype(np.int8),
            none,
            paired,
        )

    def part(self, rows: slice) -> Climbers:
        """Some of the rows: views."""
        return Climbers(
            self.question[rows],
            self.slope[rows] if self.owner is None else self.slope,
            None if self.owner is None else self.owner[rows],
            None if self.box is None else self.box[rows],
            self.relu[rows],
            self.sign[rows],
            self.beta[rows],
            self.paired,
        )


class Ascent(Protocol):
    """Stages from the input on; it keeps their tables alive."""

    count: int

    def add(self, stage: Stage, place: Place) -> None:
        """The stage behind those there are."""

    def keep(self, count: int) -> None:
        """Forget all stages but the first ones."""

    def run(
        self,
        last: int,
        asked: tuple[Array, Float64],
        rows: Climbers,
        read: tuple[Int64, Int64] | None,
        factors: Float64,
        limit: Float64 | None,
        best: Float64,
        cost: Array | None,
        kept: tuple[Array, Float64] | None,
        beside: tuple[int, Array] | None = None,
    ) -> None:
        """Take rows over stage ``last`` through ``len(factors)`` descents, slopes and multipliers
        rising in between.

        Args:
            asked: rows over the last stage f (questions, n), and constants float64 (questions,).
            read: int64 (ReLUs,) twice, the dense stage whose entry each ReLU reads, and the entry;
                None where rows assume nothing.
            factors: float64 (steps, 5), as in `ascend`; the last is not used.
            limit: float64 (rows,), bounds with which rows need no more steps.
            best: float64 (rows,), -infinity at first: gets the best of the bounds.
            cost: None, or f (rows, ReLUs), gets what each relaxation costs at last; without it
                slopes stay as they are.
            beside: None, or a stage before the last one, which no stage reads or whose rows are
                `Place.joined`, and what is asked over it, like ``asked``.
            kept: None, or slopes and multipliers like those of ``rows``, get those of ``best``.
        """


def ascent(dtype: np.dtype[Any], most: int) -> Ascent | None:
    """Room for so many stages, for rows of ``dtype``; None without the compiled library."""
    if not backend.compiled:
        return None
    made: Ascent = backend.current.Ascent(dtype, most)
    return made
