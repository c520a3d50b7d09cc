"""What executions of a network in few bits form: values, partial sums, and how far from exact.

An execution rounds the input, weights and biases to the format; dense layers, convolutions, sums
and products round after every multiplication and every addition, in any order, with or without FMA
(one that sums in more bits rounds less and forms no larger numbers); every other operator is
computed in float32 and its result rounded, as kernels of PyTorch and ONNX Runtime do. With u half a
unit in the last place and η half the least number of the format, a sum s = Σ w_i x_i + b of n
products has in every order (Higham 2002, section 3.1)

    |fl(t)| <= (1 + u)^(n+4) (Σ |w_i||x_i| + |b|) + lost     for every partial sum t of it,
    |fl(s) - s| <= ((1 + u)^(n+4) - 1) (Σ |w_i||x_i| + |b|) + lost,
    lost = 4 (n + 2) (1 + u)^(n+4) η (1 + max |x| + max |w|),

where the four more factors are for the rounding of w, b and the input and for the float64 here.

Beside these values x̃ the exact network has x at the same input, and |x̃ - x| <= a ("apart"): the
input's rounding; |L| a and |fl(s) - s| behind a linear map; a behind ReLU and |x|; elsewhere what
both enclosures allow. So tighter bounds [l, u] of the exact network give [l - a, u + a].
docs/numerics.md names the terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma.frozen import Frozen
from gamma.network.graph import Node
from gamma.ops.affine import Linear, Weighted
from gamma.ops.bounds import NodeBounds
from gamma.ops.linear import Scale
from gamma.ops.piecewise import Abs, Relu
from gamma.ops.products import Product
from gamma.propagate.interval import interval_step
from gamma.propagate.ranges import Storage
from gamma.tensor import rounding

Float64 = npt.NDArray[np.float64]

FUSED = "stands for several operators of the file, whose numbers in between are not known"
_SLACK = 1 + 2.0**-40


class Executed(Frozen):
    """One node in every execution, as long as nothing before it overflows.

    Attributes:
        values: bounds of its entries. apart: float64 like them, how far an entry may be from the
            exact network's. partial: size of its partial sums in any order, None where there are
            none. terms: of the longest sum. why: nothing is proved of it, and why; else empty.
    """

    values: NodeBounds
    apart: Float64
    partial: Float64 | None = None
    terms: int = 0
    why: str = ""


def executed_input(values: NodeBounds, kept: Storage) -> Executed:
    """The input, rounded to the format."""
    size = np.maximum(abs(values.lower), abs(values.upper))
    return Executed(_rounded(values, kept), size * kept.unit * _SLACK + 2 * kept.quantum)


def executed(
    node: Node, inputs: Sequence[Executed], exact: NodeBounds | None, kept: Storage
) -> Executed:
    """The node in every execution; ``exact``: bounds of the exact network's values."""
    found = _step(node, inputs, kept)
    return found if exact is None else _meet(found, exact)


def _step(node: Node, inputs: Sequence[Executed], kept: Storage) -> Executed:
    op, known = node.op, [i.values for i in inputs]
    if not isinstance(op, Linear | Product):
        made = interval_step(node, known, "float32")
        # Of a number of the format these give one: nothing is rounded.
        plain = isinstance(op, Relu | Abs)
        apart = inputs[0].apart if plain else np.full_like(made.lower, np.inf)
        return Executed(_rounded(made, kept), apart)
    made = interval_step(node, known, "real")
    apart = _carried(node, inputs) if isinstance(op, Linear) else np.full_like(made.lower, np.inf)
    if op.moves:
        return Executed(made, apart)
    reach = [np.maximum(abs(b.lower), abs(b.upper)) for b in known]
    size, terms, largest = _size(op, reach)
    noise, partial = _charges(size, terms, largest, reach, kept)
    if isinstance(op, Linear):
        partial = np.maximum(partial * op.peak, largest)
    lower, upper = rounding.down(made.lower - noise), rounding.up(made.upper + noise)
    wide = NodeBounds(lower, upper, rounding.midpoint(lower, upper)).frozen()
    return Executed(wide, (apart + noise) * _SLACK, partial, terms, FUSED if _fused(op) else "")


def _meet(found: Executed, exact: NodeBounds) -> Executed:
    """Values no further from the exact ones than they may be; and no further than both allow."""
    between = np.maximum(found.values.upper - exact.lower, exact.upper - found.values.lower)
    apart = np.fmin(found.apart, rounding.up(between))  # NaN is as good as nothing
    lower = np.fmax(found.values.lower, rounding.down(exact.lower - apart))
    upper = np.fmin(found.values.upper, rounding.up(exact.upper + apart))
    values = NodeBounds(lower, upper, rounding.midpoint(lower, upper)).frozen()
    return replace(found, values=values, apart=apart)


def _carried(node: Node, inputs: Sequence[Executed]) -> Float64:
    """|L| a: half the width of the map's image of [-a, a]."""
    around = [NodeBounds(-i.apart, i.apart, np.zeros_like(i.apart)).frozen() for i in inputs]
    image = interval_step(node, around, "real")
    return rounding.up((image.upper - image.lower) / 2)


def _fused(op: Linear | Product) -> bool:
    """Whether it stands for several operators of the file."""
    if isinstance(op, Scale):
        return op.execution is not None
    return isinstance(op, Weighted) and op.weight_noise is not None


def _size(op: Linear | Product, reach: Sequence[Float64]) -> tuple[Float64, int, float]:
    """At least Σ |w||x| + |b| of every entry, the products in it, and the largest constant."""
    shapes = [r.shape[1:] for r in reach]
    if isinstance(op, Product):
        return op.forward(*reach) * (1 + 2.0**-20), op.summed(*shapes), 0.0
    offset, weights = op.offset(), op.stored()
    size = op.linear(reach, absolute=True) * (1 + 2.0**-20)
    largest = 1.0 if weights is None else float(np.max(abs(weights), initial=0.0))
    if offset is not None:
        size = size + abs(offset.astype(np.float64))
        largest = max(largest, float(np.max(abs(offset), initial=0.0)))
    return size, op.terms_for(shapes[0]), largest


def _charges(
    size: Float64, terms: int, largest: float, reach: Sequence[Float64], kept: Storage
) -> tuple[Float64, Float64]:
    """How far an execution strays from the real sum, and the size of its partial sums."""
    growth = float(np.float64(1 + kept.unit) ** (terms + 4)) * _SLACK
    far = 1 + largest + sum(float(np.max(r, initial=0.0)) for r in reach)
    lost = 4 * (terms + 2) * growth * kept.quantum * far
    noise = ((growth - 1 + 2.0**-40) * size + lost) * _SLACK
    return np.where(np.isnan(noise), np.inf, noise), (growth * size + lost) * _SLACK


def _rounded(known: NodeBounds, kept: Storage) -> NodeBounds:
    """Values rounded to the format."""
    low, high = (
        end + sign * (abs(end) * kept.unit * _SLACK + 2 * kept.quantum)
        for end, sign in ((known.lower, -1), (known.upper, 1))
    )
    low, high = rounding.down(low), rounding.up(high)
    return NodeBounds(low, high, rounding.midpoint(low, high)).frozen()
