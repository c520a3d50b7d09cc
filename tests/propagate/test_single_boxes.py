"""Boxes that share threads or reaches in IBP of a whole network, some products in float32."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.propagate import passes
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.kernels.passes import BLOCK
from tests.propagate.single_pass import ISAS, about, carried, check, ends, layers, single
from tests.propagate.test_passes import MADE, exact

pytestmark = [
    pytest.mark.skipif(not ISAS, reason="no compiled library"),
    pytest.mark.usefixtures("none_is_narrow"),
]


@pytest.mark.parametrize("count", [8, 9, 37])
@pytest.mark.parametrize("make", MADE)
def test_threads_share_few_boxes(make: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 8 boxes on, with the bits that one thread finds."""
    monkeypatch.setattr(passes, "_SHARED_OPERATIONS", 0.0)
    rng = np.random.default_rng(9)
    network = make(rng)
    centre = rng.standard_normal((count, *network.input_shape))
    box = Box(centre - 1, centre + 1)
    with workers.limited(1):
        found = ends(network, box)
    for threads in (2, 3):
        with workers.limited(threads):
            shared = ends(network, box)
        assert all((a == b).all() for a, b in zip(found, shared, strict=True))


def alike(rng: Any, count: int, n: int) -> tuple[Any, Any]:
    """Boxes of one radius, so near to each other that charges for their centres hardly differ."""
    centre = rng.standard_normal(n) + 0.05 * rng.standard_normal((count, n))
    return centre, np.broadcast_to(rng.uniform(0.5, 1.5, n), centre.shape)


def test_boxes_of_one_radius_share_their_reaches() -> None:
    """As many as 128 do, by groups of 16: bounds enclose the exact ones, hardly wider, and do not
    depend on the threads; other boxes keep the bits that they have alone."""
    rng, count = np.random.default_rng(10), 150
    network = layers(rng.standard_normal((21, 90)), rng.standard_normal((3, 21)))
    centre, radius = alike(rng, count, 90)
    radius = radius.copy()
    radius[40:44] *= 1 + 2.0**-19  # of another radius
    radius[50] = 0.0  # in float64
    centre[100] += 1e3  # its charges are others
    box = about(centre, radius)
    some = [0, 7, 31, 41, 50, 65, 90, 100, 127, 144, 149]
    for isa in ISAS:
        with kernels.pinned(isa):
            found, few = ends(network, box), ends(network, box.slice(0, 127))
            with tuning.disabled("shared_reach"):
                plain = ends(network, box)
            for threads in (1, 3, 5, 16):
                with workers.limited(threads):
                    again = ends(network, box)
                assert all((a == b).all() for a, b in zip(found, again, strict=True))
        differ = (found[0] != plain[0]).any(axis=1)
        groups = differ[:144].reshape(-1, 16).any(axis=1)
        assert groups.tolist() == [True, True, False, False, True, True, False, True, True]
        assert not differ[144:].any()
        assert (found[1] - found[0] <= (plain[1] - plain[0]) * (1 + 2.0**-22)).all()
        for b in some:
            low, high = exact(network, box.lower[b], box.upper[b])
            assert all(Fraction(f) <= a for f, a in zip(found[0][b], low, strict=True))
            assert all(a <= Fraction(f) for f, a in zip(found[1][b], high, strict=True))
        assert all((a[:127] == b).all() for a, b in zip(plain, few, strict=True))


def test_a_box_that_needs_more_than_others_of_its_radius() -> None:
    """One whose sums lose every term, among those that are charged for nothing: in each place of a
    group, and at each end of the entries."""
    blocks, count = 8, 128
    terms = np.tile([1.0] + [2.0**-25 * 0.99] * (BLOCK - 1), blocks).astype(np.float32)
    for before in (0, 3):
        n = before + terms.size
        centre, radius = np.zeros((count, n)), np.zeros((count, n))
        for place in range(0, count, 17):
            centre[place, before:] = terms * (-1) ** place
        network = carried(
            np.concatenate([np.zeros((1, before)), np.ones((1, terms.size))], 1), [0.0]
        )
        wide = np.full((count, 1), 64.0)
        box = about(np.append(centre, 0 * wide, axis=1), np.append(radius, wide, axis=1))
        with tuning.disabled("shared_reach"):
            plain = ends(network, box)
        for isa in ISAS:
            with kernels.pinned(isa):
                found = ends(network, box)
            assert (found[1] - found[0]).min() > (plain[1] - plain[0]).min()  # of all boxes
            for b in range(0, count, 17):
                low, high = exact(network, box.lower[b], box.upper[b])
                assert Fraction(found[0][b, 0]) <= low[0]
                assert high[0] <= Fraction(found[1][b, 0])


@pytest.mark.parametrize("make", MADE)
def test_entries_that_are_0_in_some_boxes(make: Any) -> None:
    """Negative boxes leave other neurons dead than positive ones: no box loses a term for another,
    and each has the bits that it has alone, in turns of any length and on any number of threads."""
    rng = np.random.default_rng(8)
    network = make(rng)
    centre = 4 * rng.standard_normal((1, *network.input_shape))
    centre = centre * np.where(np.arange(70) % 7 < 5, 1, -1).reshape(-1, *[1] * centre[0].ndim)
    box = Box(centre - 1, centre + 1)
    assert single(network, box)
    check(network, box.slice(0, 7))
    for isa in ISAS:
        with kernels.pinned(isa):
            with workers.limited(1):
                found = ends(network, box)
            with workers.limited(3):
                shared = ends(network, box)
            for b in (0, 5, 66):
                alone = ends(network, box.slice(b, b + 1))
                assert (alone[0][0] == found[0][b]).all() and (alone[1][0] == found[1][b]).all()
        assert (shared[0] == found[0]).all() and (shared[1] == found[1]).all()
