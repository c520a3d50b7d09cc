"""Interval steps of dense layers over many boxes: the sums behind them are enclosed exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import gamma
from gamma import tuning
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu
from gamma.propagate.interval import input_bounds, interval_step
from gamma.runtime import choices
from gamma.tensor import kernels
from gamma.tensor.box import Box

COMPILED = [name for name in kernels.available() if name != "numpy"]
GATES = ((), ("fused_boxes",), ("fused_boxes", "compress"), ("fused_boxes", "fused_layers"))


def layer(seed: int, m: int, n: int, before: tuple[int, ...] = ()) -> Network:
    rng = np.random.default_rng(seed)
    build = Builder(Input(), (*before, n))
    weight = (64 * rng.standard_normal((m, n))).astype(np.float32)
    return build.build(build.add(Gemm(weight, rng.standard_normal(m).astype(np.float32)), 0))


def regions(seed: int, count: int, n: int, kind: str) -> Box:
    """Boxes around points with few bits, so that centre and radius are what they look like."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-64, 64, (count, n)) / 64
    radius = {
        "float32": rng.integers(1, 1 << 20, (count, n)) * 2.0**-24,
        "double": rng.random((count, n)),
        "subnormal": rng.integers(1, 9, (count, n)) * 2.0**-151,
        "point": np.zeros((count, n)),
    }[kind]
    x = np.zeros_like(x) if kind == "subnormal" else x
    x[:, rng.random(n) < 0.4], radius[:, rng.random(n) < 0.3] = 0, 0
    return Box(x - radius, x + radius)


@pytest.mark.parametrize("name", kernels.available())
@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("kind", ("float32", "double", "subnormal", "point"))
@pytest.mark.parametrize(
    "before, count, m, n", (((), 5, 9, 200), ((), 35, 3, 129), ((2,), 6, 3, 9))
)
def test_every_sum_is_enclosed(
    name: str,
    gates: tuple[str, ...],
    kind: str,
    dtype: type,
    before: tuple[int, ...],
    count: int,
    m: int,
    n: int,
) -> None:
    net, box = layer(n, m, n, before), regions(m, count * (*before, 1)[0], n, kind)
    op = net.nodes[1].op
    assert isinstance(op, Gemm) and op.bias is not None
    shaped = Box(*(end.reshape(count, *before, n) for end in (box.lower, box.upper)))
    with kernels.pinned(name), tuning.disabled(*gates):
        known = interval_step(net.nodes[1], [input_bounds(shaped)], "real", dtype)
    assert known.spread is not None and known.noise is not None
    parts = (known.lower, known.upper, known.centre, known.spread, known.noise)
    found = np.stack([part.reshape(-1, m) for part in parts], axis=2)
    weight = [[Fraction(float(w)) for w in row] for row in op.weight]
    for b in range(0, len(found), 7):
        ends = [(Fraction(v), Fraction(u)) for v, u in zip(box.lower[b], box.upper[b], strict=True)]
        for i, row in enumerate(weight):
            lower, upper, centre, spread, noise = map(Fraction, found[b, i].tolist())
            bias = Fraction(float(op.bias[i]))
            terms = list(zip(row, ends, strict=True))
            least = bias + sum(w * (low if w > 0 else high) for w, (low, high) in terms)
            most = bias + sum(w * (high if w > 0 else low) for w, (low, high) in terms)
            assert lower <= least and most <= upper
            # Rows use the parts alone: the spread bounds |W|·r, the noise the centre's error.
            assert (most - least) / 2 <= spread
            assert abs((most + least) / 2 - centre) <= noise


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_boxes_do_not_touch_each_other(name: str, dtype: str) -> None:
    """The same bits for any number of boxes at once, and for inputs left out or multiplied by 0."""
    rng = np.random.default_rng(3)
    build = Builder(Input(), (140,))
    node = build.add(Gemm(rng.standard_normal((150, 140)).astype(np.float32)), 0)
    node = build.add(Relu(), node)
    net = build.build(build.add(Gemm(rng.standard_normal((11, 150)).astype(np.float32)), node))
    box = regions(5, 70, 140, "double")
    with kernels.pinned(name):
        whole = gamma.bounds(net, box, method="ibp", dtype=dtype)
        for start in (0, 1, 32, 37):
            part = slice(start, start + 6)
            some = Box(box.lower[part], box.upper[part])
            found = gamma.bounds(net, some, method="ibp", dtype=dtype)
            assert (found.lower == whole.lower[part]).all()
            assert (found.upper == whole.upper[part]).all()
        with tuning.disabled("compress"):
            all_of_them = gamma.bounds(net, box, method="ibp", dtype=dtype)
    assert (all_of_them.lower == whole.lower).all() and (all_of_them.upper == whole.upper).all()


@pytest.mark.parametrize("name", kernels.available())
def test_what_overflows_stays_unknown(name: str) -> None:
    net = layer(1, 8, 40)
    for size in (1e38, 1e39, 1e300, 1.7e308):
        with kernels.pinned(name):
            box = Box(np.full((6, 40), -size), np.full((6, 40), size))
            out = gamma.bounds(net, box, method="ibp", dtype="float32")
        weight = abs(net.nodes[1].op.weight.astype(np.float64)).sum(axis=1)  # type: ignore[attr-defined]
        reach = weight * (size if size < 1e300 else 1e39)
        assert (out.upper > reach / 2).all() and (out.lower < -reach / 2).all()


def test_large_layers_are_left_to_the_blas() -> None:
    if kernels.isa == "numpy":
        pytest.skip("no compiled library")
    net, box = layer(2, 60, 50), regions(1, 9, 50, "double")
    with choices.using({("interval.boxes", ""): 1e9}):
        tiled = gamma.bounds(net, box, method="ibp", dtype="float64")
    with choices.using({("interval.boxes", ""): 0.0}):
        blas = gamma.bounds(net, box, method="ibp", dtype="float64")
    slack = 1e-12 * (1 + abs(blas.upper) + abs(blas.lower))
    assert (abs(tiled.lower - blas.lower) <= slack).all()
    assert (abs(tiled.upper - blas.upper) <= slack).all()
