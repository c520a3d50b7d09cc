"""The backward walk of CROWN: rows over the output become rows over the input.

A row states  f(x) >= sum over frontier nodes v of A_v·(v(x) - c_v)  + d.  Each step replaces the
last frontier node by its inputs. Only lower bounds exist; an upper bound is a negated row. Rows
are flat (rows, size): each carries the index of its box, so boxes with different numbers of rows
share every product.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamma import telemetry, tuning
from gamma.errors import UnsupportedError
from gamma.network.graph import Network
from gamma.ops import Add, Conv, Elementwise, Gemm, Linear, ReduceMax, Relu, Reshape
from gamma.ops.base import cast_weight
from gamma.ops.convolution import channels_last
from gamma.propagate.constants import (
    UNIT,
    LinearCharge,
    MaxTables,
    Relaxation,
    inflated,
    linear_charge,
    max_tables,
    relaxation,
)
from gamma.propagate.dense import padded
from gamma.propagate.plan import plan_of
from gamma.propagate.state import NodeBounds
from gamma.propagate.windows import Windows, can_window, framed, through_conv
from gamma.tensor import choices, kernels, pool, rounding
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

Rows = Array | Windows


class Bounds(Protocol):
    """Bounds of the nodes up to some node: a list, or a store (`gamma.propagate.store`)."""

    def __getitem__(self, index: int, /) -> NodeBounds: ...

    def __len__(self) -> int: ...


_TINY = 2.0**-1000
# A fused ReLU drops dead columns when at least this share of them is dead in every box.
_COMPRESS_FROM = 0.1
# What copying an entry of a weight costs, in multiplications of it with a row.
_COPY_PRICE = 64.0
# Scratch memory of a block of rows on their way down: a share of the second-level cache.
_CHAIN_BYTES = 256 << 10


class Backward:
    """One walk's constants: built node by node as bounds become final, used by every block of rows.

    It belongs to one call of one walk; bounds come in, rows go out.
    """

    def __init__(
        self,
        network: Network,
        box: Box,
        bounds: Bounds,
        dtype: np.dtype[Any],
        guarantee: str,
        linear_only: bool = False,
    ) -> None:
        self.network, self.box, self.bounds = network, box, bounds
        self.dtype, self.guarantee, self.linear_only = dtype, guarantee, linear_only
        self._tables: dict[int, Relaxation | MaxTables] = {}
        self._charges: dict[int, LinearCharge] = {}
        self._columns: dict[int, Array | None] = {}
        self._weights: dict[int, Array] = {}
        self._radii: dict[int, Float64] = {}
        self._plan = plan_of(network)
        self._sequential = self._can_chain()
        self._chain: kernels.Chain | None = None
        self._ready: set[int] = set()
        self._lock = threading.Lock()
        self._last: dict[tuple[str, int], tuple[Array, ...]] = {}
        self._compress = tuning.enabled("compress") and not linear_only
        self._windowed = tuning.enabled("windows")
        self._fuse = tuning.enabled("fused_charge") and not linear_only

    # -- constants, computed when first needed -------------------------------------------------

    def fused(self, index: int) -> bool:
        """Node ``index`` is linear and read by one elementwise node, which carries its charge."""
        return self._fuse and self._plan.carried[index]

    def charge(self, index: int) -> LinearCharge:
        """Charge of passing linear node ``index``."""
        if index not in self._charges:
            node = self.network.nodes[index]
            assert isinstance(node.op, Linear)
            inputs = [self.bounds[i] for i in node.inputs]
            self._charges[index] = linear_charge(node.op, self.bounds[index], inputs, self.dtype)
        return self._charges[index]

    def tables(self, index: int) -> Relaxation | MaxTables:
        """Tables of nonlinear node ``index``, dead columns already dropped."""
        if index not in self._tables:
            node = self.network.nodes[index]
            inside = self.bounds[node.inputs[0]]
            if isinstance(node.op, Elementwise):
                fused = self.charge(node.inputs[0]) if self.fused(node.inputs[0]) else None
                table = relaxation(
                    node.op, self.bounds[index], inside, self.dtype, self.guarantee, fused
                )
                keep = self.columns(index)
                self._tables[index] = table if keep is None else table.columns(keep)
            elif isinstance(node.op, ReduceMax):
                self._tables[index] = max_tables(node.op, self.bounds[index], inside, self.dtype)
            else:
                raise UnsupportedError(f"node {node.name}: {node.op.name} has no linear relaxation")
        return self._tables[index]

    def columns(self, index: int) -> Array | None:
        """Neurons of a ReLU that are not dead in every box, when dropping the others pays.

        Only between dense layers: the columns and rows of their weights are dropped with them.
        """
        if index not in self._columns:
            self._columns[index] = self._live(index)
        return self._columns[index]

    def _live(self, index: int) -> Array | None:
        nodes, node = self.network.nodes, self.network.nodes[index]
        readers = self.network.consumers[index]
        if not isinstance(node.op, Relu) or len(node.shape) != 1 or len(readers) != 1:
            return None
        if index == self.network.output:
            return None
        before = node.inputs[0]
        dense = isinstance(nodes[before].op, Gemm) and self.fused(before)
        if not self._compress or not dense or not isinstance(nodes[readers[0]].op, Gemm):
            return None
        live = np.flatnonzero((self.bounds[before].upper > 0).any(axis=0))
        dead = node.size - len(live)
        earned = self._passing(before) * dead > _COPY_PRICE * len(live)
        return live if dead >= _COMPRESS_FROM * node.size and earned else None

    def _passing(self, index: int) -> float:
        """Rows that will pass dense node ``index``, roughly: later layers', and the output's."""
        return self._later_rows(index) + 2 * self._plan.sizes[self.network.output]

    def _later_rows(self, index: int) -> float:
        """Rows of hidden layers behind node ``index``: they have as many unstable neurons as it."""
        bounds = self.bounds[index]
        unstable = np.count_nonzero((bounds.lower < 0) & (bounds.upper > 0)) / len(bounds.lower)
        return 2 * unstable * self._plan.hidden_after[index]

    def weight(self, index: int) -> Array:
        """Weight of dense node ``index`` without the rows and columns of dead neurons."""
        if index not in self._weights:
            node = self.network.nodes[index]
            assert isinstance(node.op, Gemm)
            readers = self.network.consumers[index]
            rows = self.columns(readers[0]) if self.fused(index) else None
            columns = self.columns(node.inputs[0])
            weight = cast_weight(node.op, node.op.weight, "weight", self.dtype, False)
            self._weights[index] = _kept(weight, rows, columns)
        return self._weights[index]

    def radius(self, index: int) -> Float64:
        """Radius of a node about its centre, flat (batch, size), `inflated`."""
        if index not in self._radii:
            radius = self.bounds[index].radius
            self._radii[index] = inflated(radius.reshape(len(radius), -1))
        return self._radii[index]

    def adopt(self, index: int, table: Relaxation) -> None:
        """Take over tables of node ``index`` made elsewhere, no neuron left out."""
        self._tables[index] = table
        self._columns[index] = None

    def forget(self, index: int) -> None:
        """Bounds of ``index`` were tightened: drop what was computed from the old ones."""
        changed = {index, *self.network.consumers[index]}
        self._ready -= changed
        self._last = {key: kept for key, kept in self._last.items() if key[1] not in changed}
        for store in (self._tables, self._charges, self._columns, self._weights, self._radii):
            store.pop(index, None)
            for reader in self.network.consumers[index]:
                store.pop(reader, None)

    # -- the walk ------------------------------------------------------------------------------

    def run(
        self,
        frontier: dict[int, Rows],
        d: Float64,
        box: Int64,
        check: Callable[[], None] | None = None,
    ) -> Float64:
        """Sound lower bounds (rows,) of the rows in ``frontier`` (node -> (rows, size)).

        ``d`` is overwritten. ``check`` is called before each node and may raise to stop.
        """
        with np.errstate(all="ignore"):
            for index in range(max(frontier), -1, -1):
                rows = frontier.pop(index, None)
                if rows is None:
                    continue
                if check is not None:
                    check()
                started = time.perf_counter()
                chained = not frontier and not isinstance(rows, Windows) and self.chained(index)
                if chained:
                    assert self._chain is not None and isinstance(rows, np.ndarray)
                    self._chain.run(index, rows, d, box, _CHAIN_BYTES)
                elif index:
                    self._step(index, rows, d, box, frontier)
                else:
                    self._concretise_input(rows, d, box)
                if telemetry.recorder is not None:
                    node = "chain" if chained else self.network.nodes[index].op.name.lower()
                    size = (rows.array if isinstance(rows, Windows) else rows).nbytes
                    now = time.perf_counter()
                    name = f"crown.backward.{node}"
                    telemetry.record(name, started, now, rows=len(d), bytes=size)
        return np.where(np.isnan(d), -np.inf, d)

    # -- dense networks: the whole walk in one call ----------------------------------------------

    def _can_chain(self) -> bool:
        return tuning.enabled("fused_walk") and self.box.norm == "inf" and not self.linear_only

    def chained(self, last: int) -> bool:
        """Whether rows over node ``last`` go down to the input in one call; then it is set up."""
        if not (self._sequential and last and self._plan.sequential[last]):
            return False
        with self._lock:  # a step that is set twice would free tables another thread reads
            return self._set_up(last)

    def _set_up(self, last: int) -> bool:
        if self._chain is None:
            self._chain = kernels.chain(self.network.output + 1, len(self.box.lower), self.dtype)
            self._sequential = self._chain is not None
            if self._chain is None:
                return False
        for index in range(last + 1):
            if index not in self._ready:
                if not self._set_step(self._chain, index):
                    return False
                self._ready.add(index)
        return True

    def tiled(self, op: Gemm) -> bool:
        """Whether rows are multiplied by this weight in C, not by the BLAS."""
        return choices.choose("rows.product", self.dtype.char, op.weight.size) == "tiled"

    def _set_step(self, chain: kernels.Chain, index: int) -> bool:
        """Describe one node to the chain; False when its weight is better left to the BLAS."""
        node = self.network.nodes[index]
        if index == 0:
            chain.pay(0, node.size, self.radius(0), None)
        elif isinstance(node.op, Gemm):
            if not self.tiled(node.op):
                return False
            charge = None if self.fused(index) else self.charge(index)
            weight, width = self._padded(index)
            if charge is None:
                chain.pay(index, len(weight), None, None)
            else:
                chain.pay(index, len(weight), charge.weight, charge.loss)
            chain.product(index, weight, width)
        elif isinstance(node.op, Linear):  # a change of shape: nothing moves, nothing is charged
            chain.pay(index, node.size, None, None)
        else:
            table = self.tables(index)
            assert isinstance(table, Relaxation)
            slopes = table.lower_slope, table.upper_slope
            constants = table.lower_const, table.upper_const
            chain.relax(index, slopes[0].shape[1], slopes, constants, table.loss)
        return True

    def _padded(self, index: int) -> tuple[Array, int]:
        """`weight` with rows of whole 64 bytes (what pads them counts for nothing), its width."""
        node = self.network.nodes[index]
        op = node.op
        assert isinstance(op, Gemm)
        readers = self.network.consumers[index]
        rows = self.columns(readers[0]) if self.fused(index) else None
        columns = self.columns(node.inputs[0])
        if columns is None:
            width = int(op.weight.shape[1])
            weight: Array = op.cached(f"padded.{self.dtype.char}", lambda: padded(op, self.dtype))
        else:
            width = len(columns)
            spare = kernels.padded(width, self.dtype) - width
            columns = np.concatenate((columns, np.zeros(spare, columns.dtype)))
            weight = cast_weight(op, op.weight, "weight", self.dtype, False)
        return _kept(weight, rows, columns), width

    def pass_linear(self, index: int, frontier: dict[int, Rows], d: Float64, box: Int64) -> None:
        """Replace linear node ``index`` by its inputs; d -= what that costs."""
        with np.errstate(all="ignore"):
            self._through_linear(index, frontier.pop(index), d, box, frontier)

    def _step(
        self, index: int, rows: Rows, d: Float64, box: Int64, frontier: dict[int, Rows]
    ) -> None:
        node = self.network.nodes[index]
        if isinstance(node.op, Linear):
            self._through_linear(index, rows, d, box, frontier)
        elif self.linear_only:
            self._concretise(index, rows, d, box)
        elif isinstance(node.op, ReduceMax):
            tables = self.tables(index)
            assert isinstance(tables, MaxTables)
            frames = _frames(rows)
            part = _through_max(node.op, tables, frames, d, box, self.network, index)
            self._join(frontier, node.inputs[0], part, d, box)
        else:
            tables = self.tables(index)
            assert isinstance(tables, Relaxation)
            parts = (
                tables.lower_slope,
                tables.upper_slope,
                tables.lower_const,
                tables.upper_const,
            )
            if isinstance(rows, Windows):
                rows = rows.relax(d, self._images(("relax", index), node.shape, parts))
            else:
                kernels.relax_rows(rows, d, box, *parts)
            d -= tables.loss[box]
            _settle(d)
            self._join(frontier, node.inputs[0], rows, d, box)

    def _pay(
        self, index: int, what: str, rows: Rows, d: Float64, box: Int64, weight: Float64
    ) -> Rows:
        """d -= |rows|·weight for an `inflated` table (batch, size) of node ``index``.

        ``what`` names the table. Returns the same rows.
        """
        if isinstance(rows, Windows):
            shape = self.network.nodes[index].shape
            (images,) = self._images((what, index), shape, (weight,))
            return rows.pay(d, images)
        kernels.abs_dot_rows(rows, d, box, weight)
        return rows

    def _images(
        self, key: tuple[str, int], shape: tuple[int, ...], tables: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        """Tables (batch, size) of a node of ``shape`` as (batch, H, W, channels), made once."""
        if key not in self._last:
            images = (t.reshape(len(t), *shape).transpose(0, 2, 3, 1) for t in tables)
            self._last[key] = tuple(np.ascontiguousarray(t) for t in images)
        return self._last[key]

    def _through_linear(
        self, index: int, rows: Rows, d: Float64, box: Int64, frontier: dict[int, Rows]
    ) -> None:
        node = self.network.nodes[index]
        assert isinstance(node.op, Linear)
        if not self.fused(index) and not isinstance(node.op, Reshape):
            charge = self.charge(index)
            rows = self._pay(index, "charge", rows, d, box, charge.weight)
            d -= charge.loss[box]
            _settle(d)
        shapes = [self.network.nodes[i].shape for i in node.inputs]
        parts: tuple[Rows, ...]
        if (
            self._windowed
            and not isinstance(rows, Windows)
            and can_window(node.op, shapes[0])
            # Tables with channels last are made once; a few rows do not earn them back.
            and choices.choose("rows.start", "", rows.size) == "windows"
        ):
            image = rows.reshape(len(rows), *node.shape)
            rows = framed(channels_last(image, (node.shape[1], node.shape[2])), box)
        if isinstance(rows, Windows):
            parts = self._windows_through(node.op, rows, shapes)
        elif isinstance(node.op, Gemm) and len(node.shape) == 1:
            parts = (self._times_weight(index, rows),)
        else:
            parts = node.op.adjoint(rows.reshape(len(rows), *node.shape), shapes)
        for k, (i, part) in enumerate(zip(node.inputs, parts, strict=True)):
            if not isinstance(part, Windows):
                part = np.ascontiguousarray(part).reshape(len(d), -1)
            # Parts may share memory: all but the last are copied before somebody overwrites them.
            self._join(frontier, i, part, d, box, shared=k + 1 < len(parts))

    def _times_weight(self, index: int, rows: Array) -> Array:
        """Rows (rows, size) of dense node ``index`` times its `weight`."""
        weight = self.weight(index)
        out = pool.empty((len(rows), weight.shape[1]), self.dtype)
        return np.matmul(rows, weight, out=out)

    def _windows_through(
        self, op: Linear, rows: Windows, shapes: list[tuple[int, ...]]
    ) -> tuple[Rows, ...]:
        """Windows stay windows through convolutions and sums, and become frames elsewhere."""
        if isinstance(op, Add):
            rows = rows.masked()
            return tuple(
                rows if sign > 0 else replace(rows, array=-rows.array) for sign in op.signs
            )
        if isinstance(op, Conv) and can_window(op, shapes[0]):
            return (through_conv(op, rows.masked(), shapes[0]),)
        frames = rows.dense()
        channels = rows.array.shape[3]
        return op.adjoint(frames.reshape(len(frames), channels, *rows.image), shapes)

    def _join(
        self,
        frontier: dict[int, Rows],
        index: int,
        part: Rows,
        d: Float64,
        box: Int64,
        shared: bool = False,
    ) -> None:
        """Add coefficients to a node; a second contribution costs one more rounding."""
        if index not in frontier:
            if isinstance(part, Windows):
                frontier[index] = replace(part, array=part.array.copy()) if shared else part
            else:
                frontier[index] = part.copy() if shared else part
            return
        here = frontier[index]
        total: Rows
        if isinstance(here, Windows) and isinstance(part, Windows):
            if not here.aligned_with(part):  # one of them has grown to the whole image
                here, part = here.frames(), part.frames()
            total = here.plus(part)
        else:
            total = _frames(here)
            total += _frames(part)
        weight = self.radius(index) * (1.01 * UNIT[self.dtype])
        frontier[index] = self._pay(index, "join", total, d, box, weight)
        _settle(d)

    def _concretise(self, index: int, rows: Rows, d: Float64, box: Int64) -> None:
        """The least value of the rows over the node's interval."""
        self._pay(index, "radius", rows, d, box, self.radius(index))
        _settle(d)

    def _concretise_input(self, rows: Rows, d: Float64, box: Int64) -> None:
        """The least value over the input set: the dual norm of the rows, or the interval."""
        if self.box.norm == "inf":
            self._concretise(0, rows, d, box)
            return
        rows = _frames(rows)
        interval = d.copy()
        self._concretise(0, rows, interval, box)
        assert self.box.center is not None and self.box.radius is not None
        # The ball is centred on its own centre, the rows on the hull's: shift d exactly enough.
        centre = self.box.center.reshape(len(self.box.center), -1)
        shift = centre - self.bounds[0].centre.reshape(centre.shape)
        size = abs(centre) + abs(self.bounds[0].centre.reshape(centre.shape))
        kernels.dot_rows(rows, d, box, np.ascontiguousarray(shift))
        _settle(d)
        g = rounding.gamma_factor(rows.shape[1] + 8, np.float64)
        kernels.abs_dot_rows(rows, d, box, abs(shift) * g + size * 2.0**-52)
        wide = abs(rows.astype(np.float64))
        if self.box.norm == "2":
            peak = wide.max(axis=1, initial=0.0)
            scaled = wide / np.where(peak > 0, peak, 1.0)[:, None]
            norm = np.sqrt(np.square(scaled).sum(axis=1)) * peak
        else:
            norm = wide.max(axis=1, initial=0.0)
        d -= self.box.radius * norm * (1 + g) * (1 + 2.0**-48)
        _settle(d)
        np.maximum(d, interval, out=d)


def _frames(rows: Rows) -> Array:
    """Dense rows (rows, size)."""
    return rows.dense() if isinstance(rows, Windows) else rows


def _settle(d: Float64) -> None:
    """Pay for the float64 additions made to d since the last call, and for underflow in them."""
    d -= abs(d) * 2.0**-50 + _TINY


def _through_max(
    op: ReduceMax,
    tables: MaxTables,
    rows: Array,
    d: Float64,
    box: Int64,
    network: Network,
    index: int,
) -> Array:
    """Rows over a maximum become rows over its entries."""
    node = network.nodes[index]
    source = network.nodes[node.inputs[0]].shape
    k = tables.slope.shape[-1]
    up, down = np.maximum(rows, 0), np.minimum(rows, 0)
    kernels.dot_rows(up, d, box, tables.lower_const)
    _settle(d)
    kernels.dot_rows(down, d, box, tables.upper_const)
    d -= tables.loss[box]
    _settle(d)
    slope = tables.slope.reshape(len(tables.slope), -1, k)[box]
    spread = down[:, :, None] * slope
    pick = tables.pick.reshape(len(tables.pick), -1)[box]
    taken = np.take_along_axis(spread, pick[:, :, None], axis=2)
    # Where the row is positive the slopes' part is zero, so this sum is exact.
    np.put_along_axis(spread, pick[:, :, None], taken + up[:, :, None], axis=2)
    back = op._back(spread.reshape(len(rows), *node.shape, k), len(source) + 1)
    return back.reshape(len(rows), -1)


def _kept(weight: Array, rows: Array | None, columns: Array | None) -> Array:
    """The entries at ``rows`` and ``columns`` (None: all), without a copy in between."""
    if rows is None or columns is None:
        weight = weight if rows is None else weight.take(rows, axis=0)
        return weight if columns is None else weight.take(columns, axis=1)
    found = np.empty((len(rows), len(columns)), weight.dtype)
    step = max(1, (1 << 20) // max(1, weight[:1].nbytes))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # The indices are right: "clip" only keeps NumPy from buffering the result.
        weight.take(rows[part], axis=0).take(columns, axis=1, out=found[part], mode="clip")
    return found
