"""Bounds of one node over a batch of boxes: what operators take and return.

All arrays are float64 (batch, *node shape); a walk owns them, nodes hold nothing. Bounds that a
walk made are read-only: to tighten them makes new arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from gamma.errors import InternalError
from gamma.frozen import Frozen
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

# By position, which NumPy's stubs do not know: a keyword takes four times as long, and every node
# of a small network pays it.
_set_writable: Callable[[Any, bool], None] = np.ndarray.setflags  # type: ignore[assignment]


class Forms(Frozen, eq=True):
    """Bounds of linear forms Σ w·x in a node's input, K for each of G groups of n entries.

    Attributes:
        weights: float32 (B, G, K, n). lower, upper: float64 (B, G, K).
    """

    weights: Array
    lower: Float64
    upper: Float64

    def take(self, box: Indices) -> Forms:
        """One entry of the batch for each of ``box``."""
        return Forms(self.weights[box], self.lower[box], self.upper[box])


class NodeBounds(Struct):
    """What is known of one node.

    Attributes:
        lower, upper: proved bounds.
        centre: the point the backward rows are centred on; any value is valid.
        spread: |L| r for a linear node (r about the inputs' centres, rounded up), else None; None
            too for a change of shape, which costs nothing.
        noise: what the node's value may differ from L·inputs + centre's products by: evaluation
            error of the centre, uncertain coefficients, and float32 executions.
        forms: in the node's input, where its relaxation asks for them and rows bounded them.
        lines: of a function of each entry on [lower, upper], kept: the operator, the dtype that its
            slopes are numbers of, and the lines (`gamma.ops.parallel`).
    """

    lower: Float64
    upper: Float64
    centre: Float64
    spread: Float64 | None = None
    noise: Float64 | None = None
    forms: Forms | None = None
    lines: tuple[Any, np.dtype[Any], Any] | None = None
    _radius: Float64 | None = None
    _mass: Float64 | None = None

    @property
    def radius(self) -> Float64:
        """At least |value - centre| for every value of the node."""
        if self._radius is None:
            self._radius = rounding.radius_about(self.lower, self.upper, self.centre)
        return self._radius

    @property
    def mass(self) -> Float64:
        """Sum of the radii of each box (batch,), an ordinary float64 sum."""
        if self._mass is None:
            self._mass = np.add.reduce(self.radius.reshape(len(self.lower), -1), axis=1)
        return self._mass

    def take(self, box: Indices) -> NodeBounds:
        """The same bounds with one entry of the batch for each of ``box``."""

        def chosen(array: Float64 | None) -> Float64 | None:
            return None if array is None else array[box]

        lower, upper, centre = self.lower[box], self.upper[box], self.centre[box]
        forms = None if self.forms is None else self.forms.take(box)
        return NodeBounds(lower, upper, centre, chosen(self.spread), chosen(self.noise), forms)

    @property
    def unbounded(self) -> bool:
        """Whether some end is infinite."""
        return not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    def frozen(self) -> NodeBounds:
        """Itself, its arrays read-only from here on: what a walk proved stays what it proved."""
        _set_writable(self.lower, False)
        _set_writable(self.upper, False)
        _set_writable(self.centre, False)
        if self.spread is not None:
            _set_writable(self.spread, False)
        if self.noise is not None:
            _set_writable(self.noise, False)
        return self

    def reset(self) -> None:
        """The bounds were changed: forget what was computed from them."""
        self._radius = self._mass = self.lines = None

    def intersect(self, lower: Float64, upper: Float64, where: str) -> None:
        """Tighten with other proved bounds. Raises InternalError when they contradict."""
        low, high = np.maximum(self.lower, lower), np.minimum(self.upper, upper)
        check_order(low, high, where)
        self.lower, self.upper = low, high
        self.frozen().reset()

    def tighten(
        self, boxes: Indices, neurons: Indices, lower: Float64, upper: Float64, where: str
    ) -> None:
        """`intersect` at the entries (boxes[k], neurons[k]) alone; ends are (rows,)."""
        shape, at = self.lower.shape, (boxes, neurons)
        low, high = (e.reshape(shape[0], -1).copy() for e in (self.lower, self.upper))
        low[at] = lower = np.maximum(low[at], lower)
        high[at] = upper = np.minimum(high[at], upper)
        check_order(lower, upper, where)
        self.lower, self.upper = low.reshape(shape), high.reshape(shape)
        self.frozen().reset()


def clean(lower: Float64, upper: Float64, where: str) -> tuple[Float64, Float64]:
    """NaN ends become infinite; crossed or impossible bounds raise InternalError."""
    lower = np.where(np.isnan(lower), -np.inf, lower)
    upper = np.where(np.isnan(upper), np.inf, upper)
    check_order(lower, upper, where)
    return lower, upper


def check_order(lower: Float64, upper: Float64, where: str) -> None:
    """Raise InternalError when bounds cross or an end is infinite on the impossible side."""
    # Of a small array a count takes a tenth of the time of `any`.
    bad = np.count_nonzero(lower > upper) or np.count_nonzero(lower == np.inf)
    if bad or np.count_nonzero(upper == -np.inf):
        raise InternalError(f"node {where}: bounds contradict each other; please report this")
