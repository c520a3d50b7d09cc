"""A dense layer's weight as ranges read it: panel by panel, in the type it is stored in.

Products here are bounds on products: what a float32 sum may be off by is part of what is returned,
so that a weight is decoded once and multiplied by a fast BLAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.errors import InternalError
from gamma.propagate.ranges import spectral
from gamma.runtime import workers
from gamma.tensor import rounding
from gamma.tensor.kernels.stored import BLOCKS, TILE
from gamma.tensor.weights import Triple, Weight

if TYPE_CHECKING:
    from gamma.propagate.ranges.norms import LayerNorm
    from gamma.propagate.ranges.sets import Sphere

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

PIECE = 1 << 19
"""Weights that one thread reads at a time."""
_UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
_SLACK = 1 + 2.0**-40


class Matrix:
    """The m × n matrix of a dense layer, an array or a `Weight` in its file.

    Attributes:
        m, n: outputs and inputs. dtype: of the panels. prepared: its norm, where that is known.
        stored: whether kernels multiply it as it is stored.
    """

    def __init__(
        self, weight: Weight | Array, turned: bool = False, prepared: LayerNorm | None = None
    ) -> None:
        self.prepared = prepared
        self.weight = weight if isinstance(weight, Weight) else Weight.of(weight)
        self.turned = turned  # stored as (inputs, outputs)
        self.m, self.n = self.weight.shape[::-1] if self.turned else self.weight.shape
        self.dtype = np.dtype(np.float64 if self.weight.kind == "f64" else np.float32)
        self.stored = not turned and self.weight.kind in BLOCKS
        self._known: dict[Any, Any] = {}

    # -- products with all rows --------------------------------------------------------------------

    def multiply(
        self, signed: Float64, doubt: Float64, squares: Float64
    ) -> tuple[Float64, Float64, Float64]:
        """Products with rows (k, n) of ``signed``, (s, n) of ``doubt`` >= 0, (q, n) of ``squares``.

        Returns:
            W·signed (k, m); at least |W|·doubt (s, m), and in its first k rows also what the first
            are off by; at least (W∘W)·squares (q, m). Infinite where a factor is.
        """
        unit, k = _UNIT[self.dtype], len(signed)
        if self.stored:  # kernels sum centres in float64, sizes in float32 over a tile
            own = rounding.gamma_factor(self.n + 2, np.float64)
            g = (1 + rounding.gamma_factor(TILE + 2)) * (1 + own) * _SLACK - 1
        else:
            g = rounding.gamma_factor(self.n + 2, self.dtype)
            own = g + 2 * unit
        signed, scale = _normal(signed)
        doubt = np.array(doubt)
        with np.errstate(invalid="ignore"):
            doubt[:k] += _known(abs(signed) * scale * (own * _SLACK))
        doubt, large = _normal(doubt)
        squares, great = _normal(squares)
        narrow = signed if self.stored else signed.astype(self.dtype)
        parts = narrow, _up(doubt, self.dtype), _up(squares, self.dtype)
        z, spread, power = self._shared(parts)
        lost = 4 * self.n * spectral.LEAST[self.dtype]
        factor = (1 + g) * _SLACK
        spread = (spread * factor + lost) * large
        spread[:k] += lost * scale
        # Squares of weights are rounded, and lost below the least number, on their own.
        power = (power * ((1 + g) * (1 + 4 * unit)) + 2 * lost) * (great * _SLACK)
        known = np.isfinite(scale)
        spread[:k] = np.where(known, spread[:k], np.inf)
        return z * np.where(known, scale, 0.0), _known(spread), _known(power)

    def _shared(self, parts: Triple) -> list[Float64]:
        """The three products, by threads: pieces are the same for any number of them.

        Rows of zeros, which centres often are, ask for no product.
        """
        live = [part.any(axis=1) for part in parts]
        asked = [np.ascontiguousarray(p[own]) for p, own in zip(parts, live, strict=True)]
        rows, columns = self.weight.rows, self.weight.columns
        step = max(32, PIECE // columns)
        piece = self._kernel if self.stored else self._piece
        tasks = [partial(piece, asked, s, min(s + step, rows)) for s in range(0, rows, step)]
        found = workers.run(tasks)
        made = [np.zeros((len(part), self.m)) for part in parts]
        for i, own in enumerate(live):
            pieces = [f[i] for f in found]
            made[i][own] = sum(pieces) if self.turned else np.concatenate(pieces, axis=1)
        return made

    def _kernel(self, parts: Sequence[Array], start: int, stop: int) -> list[Float64]:
        """Products of the rows [start, stop) of a weight as it is stored."""
        z, spread, power = (np.empty((len(part), stop - start)) for part in parts)
        signed, doubt, squares = parts
        self.weight.sums((signed, doubt, squares), start, (z, spread, power))
        return [z, spread, power]

    def _piece(self, parts: Sequence[Array], start: int, stop: int) -> list[Float64]:
        """The same of other weights, in panels that stay in the cache."""
        columns, found = self.weight.columns, []
        step = min(self.weight.panel_rows, stop - start)
        memory, second = np.empty((2, step, columns), self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(start, stop, step):
                last = min(first + step, stop)
                W = self.weight.panel(first, last, self.dtype, memory[: last - first])
                found.append(self._products(parts, W, second[: last - first], first))
        if self.turned:
            return [sum((f[i] for f in found[1:]), found[0][i]) for i in range(3)]
        return [np.concatenate([f[i] for f in found], axis=1) for i in range(3)]

    def _products(
        self, parts: Sequence[Array], W: Array, other: Array, first: int
    ) -> list[Float64]:
        if self.turned:
            parts = [part[:, first : first + len(W)] for part in parts]
        signed, doubt, squares = parts
        found = [_times(signed, W, self.turned)]
        size = np.abs(W, out=other) if len(doubt) else W
        found.append(_times(doubt, size, self.turned))
        power = np.multiply(W, W, out=other) if len(squares) else W
        return [*found, _times(squares, power, self.turned)]

    # -- rows --------------------------------------------------------------------------------------

    def rows(
        self, which: npt.NDArray[np.int64], dtype: npt.DTypeLike = np.float64
    ) -> npt.NDArray[Any]:
        """The rows ``which``, exact."""
        low, high = int(which.min()), int(which.max()) + 1
        if not self.turned:
            found = self.weight.panel(low, high, dtype)
            return found if len(which) == high - low else found[which - low]
        parts = [panel[:, which] for _, panel in self.weight.panels(dtype)]
        return np.ascontiguousarray(np.concatenate(parts).T)

    # -- norms -------------------------------------------------------------------------------------

    def gram(self, source: Sphere, which: npt.NDArray[np.int64]) -> spectral.Gram:
        """Of the rows ``which`` as they read ``source``; computed once for each set of rows."""
        key = "gram", id(source), which.tobytes()
        if key not in self._known:
            read = spectral.read(self.rows(which), self._gain(source), source.centred)
            self._known[key] = source, spectral.gram(read)
        found: spectral.Gram = self._known[key][1]
        return found

    def _gain(self, source: Sphere) -> Float64:
        vectors = source.vectors(self.n)
        if vectors is None:
            raise InternalError("a matrix reads a sphere that differs from place to place")
        return vectors[0]

    def norm(self, source: Sphere, which: npt.NDArray[np.int64]) -> float:
        """At least ‖(M x)[which]‖ for x of ``source`` about its bias; see `spectral`."""
        if len(which) == self.m > spectral.BLOCK and np.array_equal(which, np.arange(self.m)):
            gain, known = self._gain(source), self.prepared
            if known is not None and known.fits(gain, source):
                parts = known.find()
            else:
                parts = spectral.of_layer(self, gain, source.centred)
        else:
            gram = self.gram(source, which)
            parts = gram.norm(), gram.plain
        return float((source.radius * parts[0] + source.stray * parts[1]) * _SLACK)


def _times(rows: Array, W: Array, turned: bool) -> Float64:
    """rows·Wᵀ, or rows·W where W is ``turned``."""
    return (rows @ (W if turned else W.T)).astype(np.float64)


def _normal(rows: Float64) -> tuple[Float64, Float64]:
    """Rows divided by powers of two so that entries are at most 1, and the powers (rows, 1).

    The power of a row with an infinite entry is infinite, and its rest 0.
    """
    largest = abs(rows).max(axis=1, keepdims=True, initial=0.0)
    power = np.ldexp(1.0, np.clip(np.frexp(largest)[1], -1000, 1000))
    found = np.isfinite(largest)
    rest = np.where(found, rows, 0.0) / power
    return rest, np.where(found, power, np.inf)


def _up(rows: Float64, dtype: np.dtype[Any]) -> Array:
    return np.ascontiguousarray(rounding.to_up(rows, dtype))


def _known(bound: Float64) -> Float64:
    """NaN says nothing."""
    return np.where(np.isnan(bound), np.inf, bound)
