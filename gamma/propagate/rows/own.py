"""What belongs to the rows of one descent: slopes, terms of assumptions, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from gamma.frozen import Frozen
from gamma.ops.hinges import HingeRows
from gamma.ops.tables import NodeSlopes, Relaxation

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Multipliers(Frozen, eq=True):
    """Terms -β·S·(x - p) of split assumptions S·(x - p) >= 0 on one node, added to rows.

    Attributes:
        row, column: int64 (n,), the entries of the block of rows that get a term, none twice;
            columns as in `Tables.kept`. beta: (n,) >= 0. sign: (n,) of -1, +1. point: float64 (n,).
    """

    row: Indices
    column: Indices
    beta: Float64
    sign: npt.NDArray[np.int8]
    point: Float64

    @classmethod
    def of(cls, beta: Float64, sign: npt.NDArray[np.int8], point: Float64) -> Multipliers:
        """From tables (rows, size) with a sign 0 where nothing is assumed."""
        row, column = np.nonzero(sign)
        at = row, column
        return cls(row, column, beta[at], sign[at], point[at])


class Tape(Struct):
    """What a descent leaves behind for the forward sweep: see `gamma.propagate.rows.sweep`.

    Attributes:
        start: the nodes that the descent began at.
        passed: nonlinear node -> the rows that arrived (rows, size), their tables, and which of
            these each row has.
        input: rows over the input (rows, size), None when none arrived.
        constant: float64 (rows,), d before the rows were concretised.
        inputs_only: nothing else is wanted than what the rows are over the input.
    """

    start: frozenset[int] = frozenset()
    passed: dict[int, tuple[Array, Relaxation, Indices]] = field(default_factory=dict)
    input: Array | None = None
    constant: Float64 | None = None
    inputs_only: bool = False


class Own(Frozen, eq=True):
    """What belongs to the rows of one descent.

    Attributes:
        slopes, multipliers, tape: as in `Descent.run`. opposite: constants of the negated rows,
            which become lower bounds of these: see `gamma.propagate.rows.opposite`.
    """

    slopes: Mapping[int, NodeSlopes | HingeRows] = field(default_factory=dict)
    multipliers: Mapping[int, Multipliers] = field(default_factory=dict)
    tape: Tape | None = None
    opposite: Float64 | None = None

    @property
    def plain(self) -> bool:
        """Whether rows take the tables' lines and leave nothing but their bounds."""
        return self.tape is None and not self.slopes and not self.multipliers
