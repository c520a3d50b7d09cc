"""Margins of a classifier's last layer whose weight stays in its file: all scores less one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.ops.affine import Linear
from gamma.ops.base import Array, Float64, Shape
from gamma.ops.stored import PIECE, StoredGemm
from gamma.runtime import workers
from gamma.tensor.weights import Weight

Indices = npt.NDArray[np.int64]


class StoredMargins(Linear):
    """y_k = (W_k - W_label)·x for every row k of W (classes, inputs) but ``label``, in order.

    A bound of a difference of two scores is much closer than the difference of their bounds. The
    coefficients are differences rounded to float64.
    """

    weight: Weight
    label: int

    uncertainty = 2.0**-52

    @property
    def parameters(self) -> int:
        return self.weight.rows * self.weight.columns

    @property
    def terms(self) -> int:
        return self.weight.columns

    @property
    def adjoint_terms(self) -> int:
        return self.weight.rows - 1

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        rows, columns = self.weight.rows, self.weight.columns
        if shape != (columns,) or not 0 <= self.label < rows or rows < 2:
            raise UsageError(
                f"StoredMargins: label {self.label} of {rows} classes on {columns} inputs does "
                f"not fit an input of shape {shape}"
            )
        return (rows - 1,)

    def exact_in(self, dtype: npt.DTypeLike) -> bool:
        return np.dtype(dtype) == np.float64

    def float32_noise(self, reach: Sequence[Float64]) -> Float64:
        """Of both scores: an execution computes them, and compares."""
        each = StoredGemm(self.weight).float32_noise(reach)
        noise: Float64 = np.delete(each, self.label, axis=1) + each[:, [self.label]]
        return noise

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        (x,) = inputs
        result = np.empty((len(x), self.adjoint_terms), x.dtype)
        for part, panel in self._panels():
            panel = np.abs(panel, out=panel) if absolute else panel
            np.matmul(x, panel.T.astype(x.dtype, copy=False), out=result[:, part])
        return result

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        result = np.zeros((len(rows), self.terms), rows.dtype)
        for part, panel in self._panels(np.flatnonzero(rows.any(axis=0))):
            result += rows[:, part] @ panel.astype(rows.dtype, copy=False)
        return (result,)

    def forward(self, *inputs: Array) -> Array:
        """The scores less the label's: points, no bounds, so in the inputs' own type."""
        scores = StoredGemm(self.weight).linear(inputs)
        return np.delete(scores, self.label, axis=1) - scores[:, [self.label]]

    def start_rows(self, neurons: Array, shapes: Sequence[Shape], dtype: npt.DTypeLike) -> Array:
        rows, own = np.empty((len(neurons), self.terms)), self._own()
        for k, neuron in enumerate(neurons.tolist()):
            row = neuron + (neuron >= self.label)
            rows[k] = self.weight.panel(row, row + 1, np.float64)[0] - own
        return rows.astype(dtype)

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        """Both in one pass over the file, shared among threads, which also learns |L|·1."""
        (c,), (r,) = centres, radii
        step = max(64, PIECE // self.terms)
        starts = range(0, self.weight.rows, step)
        parts = workers.run([partial(self._products, c, r, s, s + step) for s in starts])
        z, spread = (np.concatenate([p[i] for p in parts], axis=1) for i in range(2))
        sums = np.concatenate([p[2] for p in parts])
        self.cached("sums", lambda: sums * (1 + 2.0**-20))
        return z, spread

    def _products(
        self, c: Float64, r: Float64, start: int, stop: int
    ) -> tuple[Float64, Float64, Float64]:
        """L·c, |L|·r and |L|·1 of the rows [start, stop) of W."""
        found: list[tuple[Float64, Float64, Float64]] = []
        for _, panel in self._panels(None, start, min(stop, self.weight.rows)):
            z = c @ panel.T
            size = np.abs(panel, out=panel)
            found.append((z, r @ size.T, size.sum(axis=1)))
        products = (np.concatenate([f[i] for f in found], axis=1) for i in range(2))
        return next(products), next(products), np.concatenate([f[2] for f in found])

    def row_sums(self, shapes: Sequence[Shape]) -> Float64:
        ones = np.ones((1, self.terms))
        made: Float64 = self.cached(
            "sums", lambda: self.linear([ones], absolute=True)[0] * (1 + 2.0**-20)
        )
        return made[None]

    def _own(self) -> Float64:
        own: Float64 = self.weight.panel(self.label, self.label + 1, np.float64)[0]
        return own

    def _panels(
        self, some: Indices | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Float64]]:
        """Outputs and their coefficients in float64, one panel of rows of W after another.

        ``some``: outputs in order; panels without any are left out.
        """
        own, step = self._own(), self.weight.panel_rows
        stop = self.weight.rows if stop is None else stop
        for first in range(start, stop, step):
            last = min(first + step, stop)
            part = slice(first - (first > self.label), last - (last > self.label))
            if some is not None and np.searchsorted(some, part.start) == np.searchsorted(
                some, part.stop
            ):
                continue
            panel = self.weight.panel(first, last, np.float64)
            panel -= own
            if first <= self.label < last:
                panel = np.delete(panel, self.label - first, axis=0)
            yield part, panel
