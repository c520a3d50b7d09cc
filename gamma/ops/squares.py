"""Ellipsotopes through smooth functions to second order, and what a linear layer reads of that.

    f(m + δ) = f(m) + f'(m)·δ + c·δ² + ρ,    c = ½f''(m),    |ρ| <= ⅙·max|f'''|·|δ|³

An interval for every δ² knows nothing of the others, yet W(c∘δ²) is a quadratic form in what moves
all of them. With δ = R·η and |η|₂ <= 1, an ellipsoid around the set of a vector, Q = R·Rᵀ,

    a·W(c∘δ²) = <Σ_j (aᵀW)_j c_j r_j r_jᵀ, ηηᵀ> <= ‖·‖_F = √(aᵀ·W D (Q∘Q) D Wᵀ·a),    D = diag(c)

for every a: these vectors lie in an ellipsoid of that shape, where terms of both signs cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamma.frozen import Frozen
from gamma.ops.bounds import NodeBounds
from gamma.ops.charges import TINY
from gamma.ops.ellipsoid import Ellipsoids
from gamma.ops.ellipsotope import Ellipsotope
from gamma.ops.enclose import vectors_of
from gamma.ops.relaxation import SLOPE_ERROR, VALUE_ERROR
from gamma.runtime import workers
from gamma.tensor import rounding

if TYPE_CHECKING:
    from gamma.ops.elementwise import Elementwise

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_SLACK = 1 + 2.0**-40
_NEGLIGIBLE = 2.0**-10
"""Share of the linear term up to which squares are not worth it."""


class Curved(Frozen):
    """Values ``base`` + weight∘δ∘δ, each vector along the last axis with δ in an ellipsoid.

    Attributes:
        weight: (n,). around: of δ, one for each vector.
    """

    base: Ellipsotope
    weight: Float64
    around: Ellipsoids


def curved(op: Elementwise, x: Ellipsotope, inside: NodeBounds) -> Curved | None:
    """f of a set; None for functions whose third derivative is not known to be bounded."""
    if not op.third < np.inf:
        return None
    m, far = x.middle, x.radius(inside)
    value, steep, weight = op.function(m), op.derivative(m), 0.5 * op.second(m)
    square = abs(weight) * far * far
    if not np.isfinite(square).all() or square.sum() <= _NEGLIGIBLE * (abs(steep) * far).sum():
        return None
    rest = op.third / 6 * far**3 + 2.0**-40 * far * far  # the second derivative is rounded
    rest += (SLOPE_ERROR * abs(steep) + op.slope_error) * far
    rest += VALUE_ERROR * abs(value) + op.absolute_error
    rest += abs(steep) * x.rest + 2.0**-49 * (abs(steep) * x.swing + abs(value))
    parts = {key: part.moved(part.columns * steep) for key, part in x.parts.items()}
    around = vectors_of(x, x.shape[-1])
    return Curved(Ellipsotope(x.shape, value, rest * _SLACK + TINY, parts), weight, around)


def read(times: Callable[[Float64], Float64], x: Curved) -> Ellipsoids:
    """Around what a linear layer makes of the squares; ``times`` scales its columns.

    ``times`` takes factors (V, d) of the entries and returns (d, V, m), one product each.
    """
    scale, matrix, d = x.around.scale, x.around.matrix.copy(), x.weight.size // len(x.around.scale)
    diagonal = np.arange(d)
    matrix[:, diagonal, diagonal] += x.around.error[:, None]
    matrix[:, diagonal, diagonal] *= _SLACK
    made = times(x.weight.reshape(scale.shape) * scale * scale)
    reach = np.einsum("jvi,vj->vi", abs(made), matrix[:, diagonal, diagonal])
    power = np.ldexp(1.0, np.clip(np.frexp(reach)[1], -1000, 1000))
    tasks = [partial(_shape, made[:, v] / power[v], matrix[v]) for v in range(len(scale))]
    operations = 2.0 * made.size * (d + made.shape[-1])
    shapes = np.stack(workers.run(tasks, operations=operations))
    # |fl - exact| <= γ|B|K|B|ᵀ, whose norm is at most its trace, and K_jk <= Q_jj·Q_kk.
    g = rounding.gamma_factor(2 * d + 32, np.float64)
    error = g * np.square(reach / power).sum(axis=1) * _SLACK + 2.0**-1000
    return Ellipsoids(0.5 * (shapes + np.swapaxes(shapes, -1, -2)), error, power)


def _shape(factor: Float64, matrix: Float64) -> Float64:
    row = np.ascontiguousarray(factor.T)
    made: Float64 = row @ (matrix * matrix) @ row.T
    return made
