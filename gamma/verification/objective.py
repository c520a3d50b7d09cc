"""What the attack minimises: how far a point is from an unsafe conjunction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.network.graph import Network
from gamma.ops.evaluate import evaluate, gradient
from gamma.verification.targets import Int64, Targets

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class Objective(Frozen):
    """The constraints of some targets, padded to the longest conjunction.

    A conjunction's value is the largest of its constraints' values c·y + c·x − bound: the point
    is unsafe where it is <= 0. Padding is −inf and never the largest.

    Attributes:
        targets: int64 (targets,), indices into ``Targets``.
        rows_y: float64 (targets, constraints, outputs).
        rows_x: float64 (targets, constraints, inputs), None without input terms.
        constant: float64 (targets, constraints).
        check: called between the layers of an evaluation; it may raise, to end it.
    """

    net: Network
    targets: Int64
    rows_y: Float64
    rows_x: Float64 | None
    constant: Float64
    check: Callable[[], None] = lambda: None

    @classmethod
    def of(
        cls,
        net: Network,
        targets: Targets,
        which: Int64,
        check: Callable[[], None] = lambda: None,
    ) -> Objective:
        """Gather the constraints of the targets ``which``."""
        ends = np.searchsorted(targets.owner, np.stack([which, which + 1]))
        members = [np.arange(a, b) for a, b in ends.T]  # owner is sorted
        longest = max((len(m) for m in members), default=0) or 1
        rows = targets.rows(np.concatenate(members)) if members else targets.rows(())
        rows_y = np.zeros((len(which), longest, targets.outputs))
        rows_x = None
        if rows.rows_x is not None:
            rows_x = np.zeros((len(which), longest, targets.inputs))
        constant = np.full((len(which), longest), -np.inf)
        start = 0
        for i, member in enumerate(members):
            part = slice(start, start + len(member))
            rows_y[i, : len(member)] = rows.rows_y[part]
            constant[i, : len(member)] = rows.constant[part]
            if rows_x is not None and rows.rows_x is not None:
                rows_x[i, : len(member)] = rows.rows_x[part]
            start += len(member)
        return cls(net, which, rows_y, rows_x, constant, check)

    def constraints(self, which: Int64, x: Float32, y: Array) -> Float64:
        """Values (points, constraints) of the targets at positions ``which``, one per point."""
        values = np.einsum("pko,po->pk", self.rows_y[which], y.astype(np.float64))
        values += self.constant[which]
        if self.rows_x is not None:
            values += np.einsum("pki,pi->pk", self.rows_x[which], x.astype(np.float64))
        return np.asarray(values)

    def value(self, which: Int64, x: Float32, y: Array) -> Float64:
        """Value (points,) of each point's own target; NaN outputs count as +inf."""
        worst: Float64 = self.constraints(which, x, y).max(axis=1)
        return np.where(np.isnan(worst), np.inf, worst)

    def outputs(self, x: Float32) -> Array:
        """Outputs (points, outputs), flat, for flat inputs."""
        y = evaluate(self.net, x.reshape(-1, *self.net.input_shape), self.check)
        return y.reshape(len(x), -1)

    def pull(self, x: Float32, direction: Float32) -> Array:
        """Gradient (points, inputs) of direction·y, one direction (outputs,) per point."""
        seed = direction.reshape(-1, *self.net.output_shape)
        _, slope = gradient(self.net, x.reshape(-1, *self.net.input_shape), seed, self.check)
        result: Array = np.asarray(slope).reshape(len(x), -1)
        return result

    def descend(self, which: Int64, x: Float32, soft: bool) -> tuple[Float64, Float64, Float64]:
        """Values (points,), their gradients (points, inputs) and outputs (points, outputs).

        ``soft`` mixes the constraints near the largest, which keeps thin conjunctions from
        zigzagging between two of them.
        """
        state: dict[str, Array] = {}

        def seed(y: Array) -> Array:
            flat = y.reshape(len(x), -1)
            values = self.constraints(which, x, flat)
            weight = _weights(values, soft)
            state["values"], state["weight"], state["y"] = values, weight, flat
            rows: Array = np.einsum("pk,pko->po", weight, self.rows_y[which])
            return rows.astype(y.dtype).reshape(y.shape)

        _, slope = gradient(self.net, x.reshape(-1, *self.net.input_shape), seed, self.check)
        slope = slope.reshape(len(x), -1).astype(np.float64)
        if self.rows_x is not None:
            slope += np.einsum("pk,pki->pi", state["weight"], self.rows_x[which])
        worst = state["values"].max(axis=1)
        return np.where(np.isnan(worst), np.inf, worst), slope, state["y"]


def _weights(values: Float64, soft: bool) -> Float64:
    """Weights (points, constraints) of the constraints in the gradient; each row sums to 1."""
    worst = values.max(axis=1, keepdims=True)
    if not soft or values.shape[1] == 1:
        first = np.zeros(values.shape)
        first[np.arange(len(values)), values.argmax(axis=1)] = 1.0
        return first
    finite = np.isfinite(values)
    low = np.where(finite, values, worst).min(axis=1, keepdims=True)
    scale = np.maximum(0.1 * (worst - low), 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):
        weight = np.where(finite, np.exp((values - worst) / scale), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    result: Float64 = weight / np.where(total > 0, total, 1.0)
    return result
