"""Optimised slopes of all layers of a dense network in one C call, against layer by layer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import ResourceError, UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu, Tanh
from gamma.propagate import alpha, bounds, dense_form
from gamma.propagate.alpha import AlphaWalk, alpha_walk
from gamma.propagate.options import options_of
from gamma.propagate.rows import chain
from gamma.runtime import workers
from gamma.tensor import kernels
from gamma.tensor.box import Box
from tests.propagate.test_dense_walk import check_points, close, exact_ends
from tests.propagate.test_plain_layers import boxes, far_from_zero, network, zeros

__all__ = ["zeros"]  # a fixture
pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")
ISAS = [name for name in kernels.available() if name != "numpy"]


def walked(net: Network, box: Box, dtype: str = "auto", **how: Any) -> AlphaWalk:
    return alpha_walk(net, box, options_of(net, "alpha", "real", dtype, None, **how))


def wide(seed: int) -> Network:
    """Weights so large, and with so few entries that are not 0, that rows meet these alone."""
    rng, sizes = np.random.default_rng(seed), (6, 132, 140, 130, 128, 5)
    builder, node = Builder(Input(), sizes[:1]), 0
    for k, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight = rng.standard_normal((m, n)).astype(np.float32) * (n < 10)
        for row in weight if n > 9 else ():
            row[rng.choice(n, 3, replace=False)] = rng.standard_normal(3)
        bias = (rng.standard_normal(m) * 0.2 - 0.3).astype(np.float32)
        node = builder.add(Gemm(weight, bias), node)
        if k in (0, 1, 3):
            node = builder.add(Relu(), node)
    return builder.build(node)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("count", (1, 3))
def test_one_call_is_layer_by_layer(zeros: bool, isa: str, dtype: str, count: int) -> None:
    """Of every node, also where dead neurons are not left out; and no row is made twice."""
    net, box = network(3, zeros), boxes(3, count)
    assert walked(net, box)._walked is not None
    with kernels.pinned(isa):
        with tuning.disabled("fused_alpha", "compress"):
            apart = bounds(net, box, method="alpha", dtype=dtype, intermediate=True)
        for gates in ((), ("compress",)):
            with tuning.disabled(*gates):
                one = bounds(net, box, method="alpha", dtype=dtype, intermediate=True)
            for name, known in apart.items():
                assert close(one[name], known, dtype), name


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_weights_of_mostly_zeros(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As whole ones, and as layer by layer; dead neurons are left out of all."""
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 0.0)
    net, box = wide(1), boxes(1, 1)
    form, kind = dense_form.form_of(net, np.dtype(dtype)), np.dtype(dtype)
    assert form is not None and form.sparse
    assert [chain.sparse(op, kind) is not None for op in form.layers] == [0, 1, 1, 1, 0]
    made = walked(net, box, dtype)
    found = [made.output()]
    for gate in ("fused_alpha", "sparse_weights"):
        with tuning.disabled(gate):
            found.append(walked(net, box, dtype).output())
    dead = made.bounds[2].upper <= 0
    assert made._walked is not None and sum(made.unstable.values()) > 50
    assert 0.2 * dead.size < np.count_nonzero(dead)
    for other in found[1:]:
        assert close(found[0], other, dtype)
    check_points(net, box, bounds(net, box, method="alpha", dtype=dtype, intermediate=True))


def test_neither_batch_nor_threads_change_a_bit(zeros: bool) -> None:
    net, box = network(4, zeros), boxes(4, 9)
    every = bounds(net, box, method="alpha", intermediate=True)
    for threads in (1, 2, 3):
        with workers.limited(threads):
            for part in (box, box.slice(0, 1), box.slice(5, 7)):
                start = 0 if part is box or len(part.lower) == 1 else 5
                other = bounds(net, part, method="alpha", intermediate=True)
                for name, known in every.items():
                    end = start + len(part.lower)
                    assert (other[name].lower == known.lower[start:end]).all()
                    assert (other[name].upper == known.upper[start:end]).all()


def test_boxes_of_several_calls(zeros: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit, and at last none: rows rise layer by layer then."""
    net, box = network(5, zeros), boxes(5, 7)
    most = walked(net, box, steps=20)._boxes_at_once
    found = bounds(net, box, method="alpha")
    monkeypatch.setattr(alpha, "_AT_ONCE", 2.5 * alpha._AT_ONCE / most)
    made = walked(net, box, steps=20)
    assert made._boxes_at_once == 2 and made._walked is not None
    parts = bounds(net, box, method="alpha")
    assert (parts.lower == found.lower).all() and (parts.upper == found.upper).all()
    monkeypatch.setattr(alpha, "_AT_ONCE", 1.0)
    assert walked(net, box)._walked is None
    assert close(bounds(net, box, method="alpha"), found, "float32")


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_bounds_hold_and_are_no_wider_than_crown_s(zeros: bool, dtype: str) -> None:
    for seed in range(4):
        net, box = network(seed, zeros), boxes(seed, 2)
        found = bounds(net, box, method="alpha", dtype=dtype, intermediate=True)
        check_points(net, box, found)
        for name, plain in bounds(net, box, dtype=dtype, intermediate=True).items():
            assert (found[name].lower >= plain.lower).all()
            assert (found[name].upper <= plain.upper).all()


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("active", (False, True))
def test_rows_pay_for_their_products(zeros: bool, dtype: type, active: bool) -> None:
    """A linear network's exact range lies inside, with ReLUs that are active or with none."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        builder, node = far_from_zero(rng, zeros, active)
        weight = rng.uniform(-1, 1, (9, 17)).astype(np.float32)
        net = builder.build(builder.add(Gemm(weight, np.zeros(9, np.float32)), node))
        centre = rng.uniform(-1, 1, (1, 4))
        box = Box(centre - 2.0**-30, centre + 2.0**-30)
        made = walked(net, box, np.dtype(dtype).name)
        found = made.output()
        assert made._walked is not None
        low, high = exact_ends(net, box)
        for k, (least, most) in enumerate(zip(low, high, strict=True)):
            assert Fraction(float(found.lower[0, k])) <= least
            assert most <= Fraction(float(found.upper[0, k]))


def test_rows_pay_for_what_products_lose_below_the_range(zeros: bool) -> None:
    """2⁻⁸⁰ · 2⁻⁸⁰ is 0 in float32, but not times an input of 2⁶⁰."""
    builder, node, small = Builder(Input(), (1,)), 0, np.full((1, 1), 2.0**-80, np.float32)
    for _ in range(2):
        node = builder.add(Gemm(small), node)
    net, box = builder.build(node), Box(np.full((1, 1), -(2.0**60)), np.full((1, 1), 2.0**60))
    made = walked(net, box, "float32")
    found = made.output()
    assert made._walked is not None
    assert found.lower[0, 0] <= -(2.0**-100) and found.upper[0, 0] >= 2.0**-100


def test_hidden_neurons_that_cross_get_rows(zeros: bool) -> None:
    net, box = network(8, zeros), boxes(8, 3)
    made = walked(net, box)
    assert made.unstable and made.path == "dense network, one call of the C library"
    for index, known in enumerate(made.bounds):
        rows = made.rowed.get(index)
        if isinstance(rows, np.ndarray):
            assert int(rows.sum()) == made.unstable.get(index, 0)
            if net.nodes[min(index + 1, net.output)].op.hinge:
                assert rows[(known.lower < 0) & (known.upper > 0)].all()


def test_which_walks_take_the_one_call(zeros: bool) -> None:
    net, box = network(2, zeros), boxes(2, 1)
    assert walked(net, box)._walked is not None
    for gate in ("fused_alpha", "fused_ascent", "fused_network"):
        with tuning.disabled(gate):
            assert walked(net, box)._walked is None
    assert walked(network(2, zeros, (Relu, Tanh)), box)._walked is None
    given = alpha_walk(net, box, options_of(net, "alpha", "real", "auto", None), slopes={})
    assert given._walked is not None
    again = alpha_walk(net, box, given.options, slopes=given.initial)
    assert again._walked is None and again.initial.keys() == given.initial.keys()
    with pytest.raises(ResourceError):
        bounds(net, box, method="alpha", deadline=0.0)


def test_what_does_not_fit_is_refused() -> None:
    net, box = network(2, False), boxes(2, 1)
    made = walked(net, box)._walked
    assert made is not None and made._rising is not None
    layers, rising = made._network.layers, made._rising
    good = kernels.Rise(rising.plain._values, rising.hidden, made._risen)
    counts, steps = (made.rows, made.seconds), (1.0, 2.0**-24, 0.9)

    def run(rise: kernels.Rise | None, network: kernels.DenseNetwork = layers) -> None:
        flags = True, False, False, False, False
        args = made._box, None, made._values, None, None, counts, steps, rise, (0, 1), flags, 1
        network.run(*args)

    run(good)
    short = good.known[1:], good.factors[:, 1:].copy(), good.risen[1:]
    for name, part in zip(("known", "factors", "risen"), short, strict=True):
        parts = {"known": good.known, "factors": good.factors, "risen": good.risen, name: part}
        with pytest.raises(UsageError, match="expected"):
            run(kernels.Rise(**parts))
    with pytest.raises(UsageError, match="tables"):
        run(None)
    smooth = walked(network(2, False, Tanh), box).plain._dense
    assert smooth is not None
    with pytest.raises(UsageError, match="ReLUs"):
        run(good, smooth.layers)
