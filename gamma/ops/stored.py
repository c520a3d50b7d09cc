"""Dense layers whose weight stays in its file: decoded panel by panel, never as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from gamma.errors import UsageError
from gamma.ops.affine import Linear, nonzero, reached
from gamma.ops.base import Array, Float64, Shape
from gamma.runtime import resident, workers
from gamma.tensor.rounding import gamma_factor, up
from gamma.tensor.weights import Weight


class StoredGemm(Linear):
    """y = x Wᵀ + b on the last axis; W (out, in) is stored so, or as (in, out) when ``turned``.

    W is every weight source that float32 holds exactly. Raises UsageError for float64.
    """

    reads_rows = True

    weight: Weight
    bias: Array | None = None
    turned: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight.kind == "f64" or len(self.weight.shape) != 2:
            raise UsageError(
                f"StoredGemm: weight {self.weight.name} is {self.weight.kind} of shape "
                f"{self.weight.shape}, expected a matrix that float32 holds"
            )

    @property
    def sizes(self) -> tuple[int, int]:
        """Outputs and inputs."""
        rows, columns = self.weight.shape
        return (columns, rows) if self.turned else (rows, columns)

    @property
    def parameters(self) -> int:
        return math.prod(self.weight.shape) + (0 if self.bias is None else self.bias.size)

    @property
    def terms(self) -> int:
        return self.sizes[1]

    @property
    def matrix_terms(self) -> int:
        return self.terms

    @property
    def adjoint_terms(self) -> int:
        return self.sizes[0]

    def shape(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        m, n = self.sizes
        if not shape or shape[-1] != n or (self.bias is not None and self.bias.shape != (m,)):
            bias = None if self.bias is None else self.bias.shape
            raise UsageError(
                f"StoredGemm: weight of {m} outputs and {n} inputs, bias {bias}, does not fit an "
                f"input of shape {shape}"
            )
        return (*shape[:-1], m)

    def mixes(self, rank: int) -> tuple[int, ...]:
        return (rank - 1,)

    def offset(self) -> Array | None:
        return self.bias

    def linear(self, inputs: Sequence[Array], absolute: bool = False) -> Array:
        x, n = inputs[0], self.sizes[1]
        flat = x.reshape(-1, n)
        return self._times(flat, absolute, along_rows=self.turned).reshape(*x.shape[:-1], -1)

    def adjoint(self, rows: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
        flat = rows.reshape(-1, self.sizes[0])
        return (self._times(flat, False, along_rows=not self.turned).reshape(-1, *shapes[0]),)

    def start_rows(self, neurons: Array, shapes: Sequence[Shape], dtype: npt.DTypeLike) -> Array:
        (shape,), (m, n) = shapes, self.sizes
        if self.turned:
            return super().start_rows(neurons, shapes, dtype)
        rows = np.zeros((len(neurons), math.prod(shape) // n, n), dtype)
        places, outputs = np.divmod(neurons, m)
        for output in np.unique(outputs).tolist():
            at = np.flatnonzero(outputs == output)
            rows[at, places[at]] = self.weight.panel(output, output + 1, dtype)[0]
        return rows.reshape(-1, *shape)

    def _times(self, x: Array, absolute: bool, along_rows: bool) -> Array:
        """x W, summed over the rows of the stored matrix, or x Wᵀ."""
        columns = self.weight.columns if along_rows else self.weight.rows
        if (some := nonzero(x)) is not None:
            result = np.zeros((len(x), columns), x.dtype)
            result[some] = self._times(x[some], absolute, along_rows)
            return result
        if along_rows:
            return self._summed(x, absolute)
        result = np.empty((len(x), columns), x.dtype)
        for start, panel in self._panels(x, absolute, slice(0, self.weight.rows)):
            np.matmul(x, panel.T, out=result[:, start : start + len(panel)])
        return result

    def _summed(self, x: Array, absolute: bool) -> Array:
        """x W, by the rows of W that x has anything for."""
        some = reached(x) or slice(0, self.weight.rows)
        result = np.zeros((len(x), self.weight.columns), x.dtype)
        for start, panel in self._panels(x, absolute, some):
            part = x[:, start : start + len(panel)]
            if start > some.start:
                result += part @ panel
            else:
                np.matmul(part, panel, out=result)
        return result

    def _panels(self, x: Array, absolute: bool, rows: slice) -> Iterator[tuple[int, Array]]:
        for start, panel in self.weight.panels(x.dtype, x.nbytes, rows.start, rows.stop):
            yield start, np.abs(panel, out=panel) if absolute else panel

    def row_sums(self, shapes: Sequence[Shape]) -> Float64:
        """As `Linear.row_sums`, from what `interval_products` found on its way where it ran."""
        known = self.__dict__.get("_sums")
        sums = self._absolute_sums() if known is None else known
        return np.broadcast_to(sums, (1, *self.shape(*shapes)))

    def _absolute_sums(self) -> Float64:
        ones = np.ones((1, self.sizes[1]))
        sums: Float64 = self.linear([ones], absolute=True)[0] * (1 + 2.0**-20)
        self.__dict__["_sums"] = sums
        return sums

    def interval_products(
        self, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
    ) -> tuple[Float64, Float64]:
        """Each piece of the weight is read once, by whichever thread; |L|·1 is learned with it."""
        shape = (*centres[0].shape[:-1], self.sizes[0])
        c, r = (np.ascontiguousarray(x[0].reshape(-1, self.terms)) for x in (centres, radii))
        if self.turned:
            z, spread = self._turned(c, r)
            return z.reshape(shape), spread.reshape(shape)
        known = "_sums" in self.__dict__
        if not known:  # one more radius, of 1, costs less than another pass
            r = np.concatenate([r, np.ones((1, self.terms))])
        tasks = [partial(self.weight.interval, c, r, p.start, p.stop) for p in self._pieces()]
        z, spread = (
            np.concatenate(parts, axis=1) for parts in zip(*workers.run(tasks), strict=True)
        )
        if not known:
            self.__dict__["_sums"] = spread[-1]
            spread = spread[:-1]
        return z.reshape(shape), spread.reshape(shape)

    def _pieces(self) -> list[slice]:
        """Outputs that are multiplied apart, the same for any number of threads."""
        m, n = self.sizes
        step = max(64, PIECE // n)
        return [slice(start, min(start + step, m)) for start in range(0, m, step)]

    def _turned(self, centre: Float64, radius: Float64) -> tuple[Float64, Float64]:
        z = self._times(centre, False, along_rows=True)
        spread = self._times(radius, True, along_rows=True)
        return z, up(spread * (1 + 2 * gamma_factor(self.sizes[1], np.float64)) + 2.0**-1000)

    def release(self) -> None:
        super().release()
        resident.release(self.weight.raw)


PIECE = 1 << 19
"""Weights that one thread multiplies at a time."""
