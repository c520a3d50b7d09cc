"""Rows of linear questions about inputs and outputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.frozen import Frozen

Float64 = npt.NDArray[np.float64]


class Specification(Frozen):
    """value_r = output_rows[r]·y + input_rows[r]·x + constant[r], asked on box[r].

    Attributes:
        output_rows: float64 (rows, outputs). input_rows: float64 (rows, inputs) or None.
        constant: float64 (rows,), rounded down from the exact number.
        box: int64 (rows,), which box each row is about.
        exact: whether the coefficients are exact; otherwise each errs by at most 2^-53 relatively.
    """

    output_rows: Float64
    input_rows: Float64 | None
    constant: Float64
    box: npt.NDArray[np.int64]
    exact: bool = True

    def __post_init__(self) -> None:
        count = len(self.output_rows)
        if self.constant.shape != (count,) or self.box.shape != (count,):
            raise UsageError(
                f"specification: {count} rows need {count} constants and box indices, found "
                f"{self.constant.shape} and {self.box.shape}"
            )
        if self.input_rows is not None and len(self.input_rows) != count:
            raise UsageError(f"specification: {len(self.input_rows)} input rows for {count} rows")

    def take(self, rows: npt.NDArray[np.int64]) -> Specification:
        """The rows with these indices."""
        inputs = None if self.input_rows is None else self.input_rows[rows]
        return Specification(
            self.output_rows[rows], inputs, self.constant[rows], self.box[rows], self.exact
        )
