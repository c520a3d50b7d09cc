"""Where weights come from: an array, or bytes of a mapped file that are decoded panel by panel.

A `Weight` never holds a second copy of itself: `panel` decodes the rows that are asked for,
`interval` multiplies what is stored with centres and radii. Its values are the numbers that the
file's format defines, which float32 holds exactly for every kind but ``f64``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.errors import FormatError, UsageError
from gamma.frozen import Frozen
from gamma.runtime import resident
from gamma.tensor import kernels
from gamma.tensor.kernels.stored import BLOCKS, TILE
from gamma.tensor.rounding import gamma_factor, up

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Triple = tuple[Array, Array, Array]

PANEL_BYTES = 256 << 10  # decoded rows that stay in the second cache level
_SLACK = 1 + 2.0**-50  # of a few float64 operations on a charge
_KIND = {"float64": "f64", "float32": "f32", "float16": "f16"}


class Weight(Frozen):
    """One stored tensor, taken as a matrix: the last axis are its columns.

    Attributes:
        shape: of the tensor.
        kind: how it is stored: f64, f32, f16, bf16, or a block type of ggml (q6_k, ...).
        raw: uint8 (rows, bytes of a row), a view of the array or the mapped file.
        name, path: what errors name.
    """

    shape: tuple[int, ...]
    kind: str
    raw: npt.NDArray[np.uint8]
    name: str = ""
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.raw.dtype != np.uint8 or self.raw.ndim != 2 or len(self.raw) != self.rows:
            raise UsageError(f"weight {self.name}: found bytes {self.raw.shape} for {self.shape}")

    @classmethod
    def of(cls, array: Array, name: str = "") -> Weight:
        """An array of float64, float32 or float16 as it is (copied only when not contiguous)."""
        kind = _KIND.get(array.dtype.name)
        if kind is None or not array.size or not array.dtype.isnative:
            raise UsageError(
                f"weight {name}: found {array.dtype} {array.shape}, "
                "expected entries of float64, float32 or float16"
            )
        flat = np.ascontiguousarray(array).reshape(-1)
        columns = array.shape[-1] if array.ndim else 1
        return cls(array.shape, kind, flat.view(np.uint8).reshape(array.size // columns, -1), name)

    @property
    def rows(self) -> int:
        """Rows of the matrix: the product of all axes but the last."""
        return math.prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        """Columns of the matrix: the last axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return self.raw.nbytes

    @property
    def mapped(self) -> bool:
        """Whether the bytes are those of a mapped file."""
        return resident.mapping_of(self.raw) is not None

    @property
    def panel_rows(self) -> int:
        """Rows that make a panel of about `PANEL_BYTES`."""
        return max(1, PANEL_BYTES // (4 * self.columns))

    def panel(
        self,
        start: int,
        stop: int,
        dtype: npt.DTypeLike = np.float32,
        out: Array | None = None,
    ) -> Array:
        """Rows [start, stop), exact, in ``dtype``: (stop − start, columns); written to ``out``.

        Raises:
            FormatError: an infinite weight or a NaN among them.
            UsageError: rows that do not exist; float32 of a float64 weight.
        """
        if not 0 <= start <= stop <= self.rows:
            raise UsageError(f"weight {self.name}: rows {start}..{stop} of {self.rows}")
        if out is None:
            out = np.empty((stop - start, self.columns), dtype)
        if self.kind == "f64":
            if out.dtype != np.float64:
                raise UsageError(f"weight {self.name}: float64 is not exact in {out.dtype}")
            out[...] = self.raw[start:stop].view(np.float64)
            finite = bool(np.isfinite(out).all())
        elif out.dtype == np.float32 and out.flags.c_contiguous:
            finite = self._decode(start, stop, out)
        else:
            narrow = np.empty(out.shape, np.float32)
            finite = self._decode(start, stop, narrow)
            out[...] = narrow
        if not finite:
            raise self._not_finite(start, out)
        return out

    def panels(
        self,
        dtype: npt.DTypeLike = np.float32,
        beside: int = 0,
        first: int = 0,
        last: int | None = None,
    ) -> Iterator[tuple[int, Array]]:
        """First row and rows of one panel after another; the memory is used again for the next.

        ``beside``: bytes of what they are multiplied by: panels may be as large as that.
        ``first``, ``last``: the rows of W.
        """
        last = self.rows if last is None else last
        step = max(self.panel_rows, beside // (4 * self.columns))
        memory = np.empty((max(min(step, last - first), 0), self.columns), dtype)
        for start in range(first, last, step):
            stop = min(start + step, last)
            yield start, self.panel(start, stop, dtype, memory[: stop - start])

    def array(self) -> Array:
        """The whole tensor in float32 (float64 where it is stored so): for vectors and tests."""
        dtype = np.float64 if self.kind == "f64" else np.float32
        return self.panel(0, self.rows, dtype).reshape(self.shape)

    def row_sums(self) -> Float64:
        """At least Σ|W| of each row, float64 (rows,)."""
        sums = np.empty(self.rows)
        for start, panel in self.panels(np.float64):
            np.abs(panel, out=panel).sum(axis=1, out=sums[start : start + len(panel)])
        return up(sums * ((1 + gamma_factor(self.columns, np.float64)) * _SLACK))

    def interval(
        self, centre: Float64, radius: Float64, start: int = 0, stop: int | None = None
    ) -> tuple[Float64, Float64]:
        """W·centre within γ64_n |W||centre| (the caller's charge), and at least |W|·radius.

        Args:
            centre, radius: float64 (B, columns) and (R, columns), R >= B, radius >= 0; fastest for
                up to 16.
            start, stop: the rows of W.

        Returns:
            two float64 arrays (B, stop − start) and (R, stop - start).
        """
        stop = self.rows if stop is None else stop
        z, spread = (np.empty((len(rows), stop - start)) for rows in (centre, radius))
        n = self.columns
        if self.kind in BLOCKS:
            narrowed, none = kernels.narrow_up(radius), np.empty((0, n), np.float32)
            self.sums((centre, narrowed, none), start, (z, spread, np.empty((0, stop - start))))
            factor = (1 + gamma_factor(TILE)) * (1 + gamma_factor(n, np.float64)) * _SLACK
            lost = n * 2.0**-149
        else:
            self._wide_interval(centre, radius, start, stop, z, spread)
            factor, lost = (1 + gamma_factor(n, np.float64)) * _SLACK, n * 2.0**-1000
        with np.errstate(invalid="ignore"):
            return z, up(spread * factor + lost)

    def sums(self, rows: Triple, start: int, out: Triple) -> None:
        """Products of the rows of W from ``start`` on with ``rows``, as `kernels.stored_affine`
        states them: centres (float64), radii and squares (float32); written to ``out``.

        Raises FormatError for an infinite weight or a NaN; the kind must be one of `BLOCKS`.
        """
        stop = start + out[0].shape[1]
        raw = self.raw[start:stop]
        if not kernels.stored_affine(self.kind, raw, *rows[:2], *out[:2], rows[2], out[2]):
            self._search(start, stop)

    def release(self) -> None:
        """Let the system take back the pages of a mapped weight."""
        resident.release(self.raw)

    def _wide_interval(
        self, centre: Float64, radius: Float64, start: int, stop: int, z: Float64, spread: Float64
    ) -> None:
        boxes = np.zeros_like(radius)
        boxes[: len(centre)] = centre
        for first in range(start, stop, self.panel_rows):
            last = min(first + self.panel_rows, stop)
            dtype = np.float64 if self.kind == "f64" else np.float32
            W = self.panel(first, last, dtype)
            part = slice(first - start, last - start)
            found, spread[:, part] = kernels.interval_affine(W, boxes, radius)
            z[:, part] = found[: len(centre)]

    def _decode(self, start: int, stop: int, out: Array) -> bool:
        raw = self.raw[start:stop]
        if self.kind in BLOCKS:
            return kernels.decode_rows(self.kind, raw, out)
        out[...] = kernels.decode_rare(self.kind, raw, (stop - start, self.columns))
        return bool(np.isfinite(out).all())

    def _search(self, start: int, stop: int) -> None:
        """Raise the error for the first weight of these rows that is no finite number."""
        for first in range(start, stop, self.panel_rows):
            self.panel(first, min(first + self.panel_rows, stop))

    def _not_finite(self, start: int, rows: Array) -> FormatError:
        row, column = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        flat = (start + row) * self.columns + column
        index = [int(i) for i in np.unravel_index(flat, self.shape)] if self.shape else []
        return FormatError.at(
            self.path,
            self.name,
            f"weight at index {index} is {rows[row, column]}, expected finite",
        )
