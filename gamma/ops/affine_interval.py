"""Interval propagation through linear operators (IBP: Gowal et al. 2018), in centred form.

The product with the centre and the product of |L| with the radius, both in float64, and one error
term each: docs/numerics.md has the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gamma import tuning
from gamma.ops.bounds import NodeBounds, check_order, clean
from gamma.ops.execution import FLOAT32_MAX
from gamma.tensor import kernels, rounding

if TYPE_CHECKING:
    from gamma.ops.affine import Linear, Weighted
    from gamma.ops.tables import Precision

Float64 = npt.NDArray[np.float64]
_TINY = 2.0**-1000
KEPT = 1 << 18
"""Entries up to which constants of an output's shape stay with an operator: of more they take the
memory of another node's bounds."""


def linear_bounds(op: Linear, inputs: Sequence[NodeBounds], how: Precision) -> NodeBounds:
    """The rule of every linear operator."""
    if op.moves:
        return op.moved(inputs)
    if how.guarantee == "real" and tuning.enabled("fused_layers"):
        done = op.fused_interval(inputs, how.dtype) or _finished(op, inputs, how.dtype)
        if done is not None:
            return done
    return _linear(op, inputs, how.guarantee, how.dtype)


def float32_range(lower: Float64, upper: Float64) -> tuple[Float64, Float64]:
    """Where an end is beyond half the largest float32 an execution may overflow: both are lost."""
    lower, upper = rounding.down(lower), rounding.up(upper)
    lost = ~(np.maximum(-lower, upper) <= FLOAT32_MAX / 2)
    return np.where(lost, -np.inf, lower), np.where(lost, np.inf, upper)


def centred(lower: Float64, upper: Float64) -> NodeBounds:
    return NodeBounds(lower, upper, rounding.midpoint(lower, upper))


def moved(op: Linear, inputs: Sequence[NodeBounds]) -> NodeBounds:
    """Entries that are copied or filled in: exact."""
    centre = op.forward(*(b.centre for b in inputs))
    low = op.forward(*(b.lower for b in inputs))
    high = op.forward(*(b.upper for b in inputs))
    spread = op.linear([b.radius for b in inputs], absolute=True)
    return NodeBounds(low, high, centre, spread, np.zeros_like(centre))


def _linear(
    op: Linear, inputs: Sequence[NodeBounds], guarantee: str, dtype: npt.DTypeLike
) -> NodeBounds:
    """z = L c + b, spread = |L| r; [z - R, z + R] with R covering every rounding."""
    n = op.terms_for(inputs[0].lower.shape[1:])
    centres = [b.centre for b in inputs]
    product, spread = op.interval_products(centres, [b.radius for b in inputs], dtype)
    offset = op.offset()
    centre = product if offset is None else product + offset.astype(np.float64)
    size = _magnitude(op, centres)
    g = rounding.gamma_factor(n + 4, np.float64)
    offset_size = 0.0 if offset is None else abs(offset.astype(np.float64))
    noise = g * (size + offset_size) + op.uncertainty * size + op.offset_uncertainty + _TINY
    spread = spread * ((1 + g) * (1 + op.uncertainty) * (1 + 2.0**-50)) + _TINY
    if guarantee == "float32":
        noise = noise + op.float32_noise(_reach(inputs))
    strayed = op.strayed(_reach(inputs), guarantee == "float32")
    noise = noise if strayed is None else noise + strayed
    noise = noise * (1 + 2.0**-50)
    reach = spread + noise
    lower, upper = (
        rounding.down(centre - reach * (1 + 2.0**-50)),
        rounding.up(centre + reach * (1 + 2.0**-50)),
    )
    if guarantee == "float32":
        lower, upper = float32_range(lower, upper)
    lower, upper = clean(lower, upper, op.name)
    centre = np.where(np.isfinite(centre), centre, 0.0)
    return NodeBounds(lower, upper, centre, spread, np.broadcast_to(noise, centre.shape))


def _finished(op: Linear, inputs: Sequence[NodeBounds], dtype: npt.DTypeLike) -> NodeBounds | None:
    """`_linear` with all that follows its products in one call of the C library."""
    if kernels.isa == "numpy":
        return None
    if op.inexact or np.any(op.offset_uncertainty):
        return None  # an entry's coefficients have an error of their own
    centres, radii = [b.centre for b in inputs], [b.radius for b in inputs]
    # First, since a weight in a file learns the sums of its rows on the way.
    centre, spread = (np.ascontiguousarray(p) for p in op.interval_products(centres, radii, dtype))
    make, key = partial(_constants, op, centres), f"finish.{centres[0].shape[1:]}"
    total, bias, factors = op.cached(key, make) if centre[0].size <= KEPT else make()
    done = kernels.interval_finish(centre, spread, bias, total, centres, factors)
    if done is None:
        return None
    (noise, lower, upper), crossed = done
    if crossed:
        check_order(lower, upper, op.name)
    return NodeBounds(lower, upper, centre, spread, noise)


def stepped(parts: Float64, crossed: int, where: str) -> NodeBounds:
    """Bounds of centre, spread, noise, lower and upper as the C library returns them."""
    centre, spread, noise, lower, upper = parts
    if crossed:
        check_order(lower, upper, where)
    return NodeBounds(lower, upper, centre, spread, noise)


def _constants(
    op: Linear, centres: Sequence[Float64]
) -> tuple[Float64, Float64 | None, tuple[float, float]]:
    """`_row_sum`, the offset of every entry in float64 and the factors of `kernels.interval_finish`
    for inputs of these shapes."""
    total, offset = np.ascontiguousarray(_row_sum(op, centres)[0]), op.offset()
    g = rounding.gamma_factor(op.terms_for(centres[0].shape[1:]) + 4, np.float64)
    if offset is not None:
        offset = np.array(np.broadcast_to(offset, total.shape), np.float64, order="C")
    return total, offset, (g, op.uncertainty)


def finish_bytes(op: Weighted, how: Precision, shape: tuple[int, ...]) -> dict[Hashable, int]:
    """`Operator.copies` of what follows the products of an input of ``shape``."""
    entries = 8 * math.prod(op.shape(shape))
    found: dict[Hashable, int] = {f"absolute.sum.{(1, *shape)}": entries}
    if math.prod(shape) <= KEPT and how.guarantee == "real" and not op.inexact:
        found[f"finish.{shape}"] = entries * (1 if op.bias is None else 2)
    return found


def products(
    op: Linear, centres: Sequence[Float64], radii: Sequence[Float64], dtype: npt.DTypeLike
) -> tuple[Float64, Float64]:
    """L·centre with error at most γ_n of its absolute sum; |L|·radius, low by γ_n of it at most."""
    return op.linear(centres), op.linear(radii, absolute=True)


def _magnitude(op: Linear, centres: Sequence[Float64]) -> Float64:
    """At least |L||c|, entry by entry: |L|·1 times the largest |c| of each input's box.

    It is only ever multiplied by 2^-53-sized factors, so one cached product serves every call.
    """
    total = _row_sum(op, centres)
    largest = np.max([kernels.largest(c) for c in centres], axis=0)
    result: Float64 = total * largest.reshape(-1, *(1,) * (total.ndim - 1))
    return result


def _row_sum(op: Linear, centres: Sequence[Float64]) -> Float64:
    """At least |L|·1 for inputs of these shapes: (1, *output shape)."""
    return op.row_sums([c.shape[1:] for c in centres])


def _reach(inputs: Sequence[NodeBounds]) -> list[Float64]:
    """The largest size of every entry of the inputs."""
    return [np.maximum(abs(b.lower), abs(b.upper)) for b in inputs]
