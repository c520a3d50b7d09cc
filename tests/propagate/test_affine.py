"""Rows that end at affine forms: exact truth for every charge, and no point outside a bound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.formats.model import open_model
from gamma.ops import Gelu, Relu
from gamma.ops.bounds import NodeBounds
from gamma.propagate import bounds
from gamma.propagate.rows import shortcut
from gamma.propagate.rows.affine import AffineForms, affine_forms, largest_gaps
from gamma.tensor.box import Box
from tests.architectures import small_models
from tests.architectures.small_models import CONFIGS
from tests.architectures.test_soundness import points

Array = Any


def known(centre: Array, radius: Array) -> NodeBounds:
    return NodeBounds(centre - radius, centre + radius, centre)


def exact(values: Array) -> Array:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, np.float64))


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("apart", (0.0, 1e-3))
@pytest.mark.parametrize("scale", (1.0, 1e-25))
def test_a_row_is_below_every_value_that_the_forms_allow(
    scale: float, apart: float, dtype: Any
) -> None:
    """Corners of the inputs, values at the ends of their forms; equal sides leave only rounding."""
    n, m, r = 24, 8, np.random.default_rng(5)
    node, reach = r.normal(size=(1, n)), 2.0 ** r.integers(-2, 3, (1, m)) / scale
    source = known(np.zeros((1, m)), reach)
    below = (r.normal(size=(1, n, m)) * scale).astype(dtype)
    above = (-below * (1 + apart * r.normal(size=below.shape))).astype(dtype)
    low, high = node - 1e-9, -node - 1e-9
    columns = np.arange(m)
    made = affine_forms((below, low), (above, high), known(node, 1 + 0 * node), source, columns)
    rows = (r.normal(size=(24, n)) * scale).astype(dtype)
    d = np.zeros(len(rows))
    box = np.zeros(len(rows), np.int64)
    found = made.back(rows.copy(), d, box)
    signs = np.where(r.random((1, m)) < 0.5, -1, 1) * reach
    # And where the product's rounding is worst for the row.
    error = found.astype(np.float64) - rows.astype(np.float64) @ made.matrix[0].astype(np.float64)
    for k in range(len(rows)):
        for delta in exact(np.concatenate((signs[:1], np.sign(error[k : k + 1]) * reach))):
            least = exact(below[0]) @ delta + exact(low[0]) - exact(node[0])
            most = -(exact(above[0]) @ delta) - exact(high[0]) - exact(node[0])
            a = exact(rows[k])
            truth = (a * np.where(rows[k] >= 0, least, most)).sum()
            assert exact(found[k]) @ delta + Fraction(float(d[k])) <= truth


def test_columns_that_do_not_vary_are_left_out() -> None:
    columns = np.array([1, 3])
    matrix = np.ones((1, 2, 2), np.float32)
    zero = np.zeros((1, 2))
    made = AffineForms(matrix, columns, 5, zero, zero, np.zeros(1))
    rows = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    found = made.back(rows, np.zeros(2), np.zeros(2, np.int64))
    assert (found == [[0, 3, 0, 3, 0], [0, 0, 0, 0, 0]]).all()


def test_gaps_choose_neurons() -> None:
    """The one that crosses the bend; a straight piece has no gap; an unbounded one is chosen."""
    centre = np.array([[0.0, -30.0, 30.0]])
    assert largest_gaps(Gelu(), known(centre, np.full((1, 3), 0.5))).tolist() == [
        [True, False, False]
    ]
    assert largest_gaps(Relu(), known(centre, np.full((1, 3), np.inf))).all()
    assert not largest_gaps(object_without_lines(), known(centre, 0 * centre)).any()


def object_without_lines() -> Any:
    class Other:
        diagonal = False

    return Other()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Forms from the first normalisation on, however small the network; rows that ended there."""
    monkeypatch.setattr(shortcut, "FROM", 0.0)
    ended: list[int] = []
    back = AffineForms.back

    def counted(self: AffineForms, rows: Array, d: Array, box: Array) -> Array:
        ended.append(len(rows))
        return back(self, rows, d, box)

    monkeypatch.setattr(AffineForms, "back", counted)
    return ended


@pytest.mark.parametrize("norm", ("inf", "2"))
@pytest.mark.parametrize("epsilon", (1e-5, 1e-3))
def test_no_point_leaves_a_bound(
    always: list[int], epsilon: float, norm: str, tmp_path: Path
) -> None:
    model = open_model(small_models.folder(tmp_path / "m", CONFIGS["bert"], scale=0.25).path)
    net, x = model.network(3), model.embed([3, 7, 30])
    hull = Box.linf(x, epsilon)
    box = hull if norm == "inf" else Box.l2(x, epsilon)
    at = points(net, hull, 10_000)
    if norm == "2":
        step = at - x
        size = np.sqrt(np.square(step).sum(axis=(1, 2), keepdims=True))
        at = x + step * np.minimum(1.0, 0.999999 * epsilon / np.maximum(size, 1e-300))
    y = net.forward(at, np.float64)
    for guarantee in ("real", "float32"):
        for dtype in ("float32", "float64"):
            found = bounds(net, box, method="crown", guarantee=guarantee, dtype=dtype)
            assert (y >= found.lower - 1e-12).all() and (y <= found.upper + 1e-12).all()
    assert sum(always) > 0


def test_they_cost_little_and_a_batch_is_its_boxes(always: list[int], tmp_path: Path) -> None:
    model = open_model(small_models.folder(tmp_path / "m", CONFIGS["bert"], scale=0.25).path)
    net, x = model.network(3), model.embed([3, 7, 30])
    radius = np.zeros((2, 3, 1))
    radius[0, 1], radius[1, :] = 1e-5, 1e-6
    both = bounds(net, Box.linf(np.stack((x, x)), radius), method="crown")
    with tuning.disabled("affine_forms"):
        plain = bounds(net, Box.linf(np.stack((x, x)), radius), method="crown")
    assert sum(always) > 0
    for b in range(2):
        alone = bounds(net, Box.linf(x, radius[b]), method="crown")
        wide, whole = alone.upper - alone.lower, both.upper[b] - both.lower[b]
        assert (wide < 1.02 * (plain.upper[b] - plain.lower[b])).all()
        assert (abs(wide - whole) <= 0.02 * whole).all()
