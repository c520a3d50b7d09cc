"""Shortened bounds: outward in every number, and what they save and lose, on real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gamma
from benches.streaming import SHORTENED, loss_of
from gamma.ops import Relu
from gamma.ops.bounds import NodeBounds
from gamma.propagate import StreamingConfig
from gamma.propagate.interval import interval_pass
from gamma.propagate.memory.store import PackedBounds, pack, shortened
from gamma.tensor import rounding
from gamma.tensor.bounded import BoundedTensor
from tests.propagate.memory.test_streaming import boxes, deep


def random_bounds(seed: int, radius: float, count: int = 5000) -> NodeBounds:
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((2, count)) * 2.0 ** rng.integers(-8, 8, (2, count))
    lower, upper = (middle + s * radius * rng.random((2, count)) for s in (-1, 1))
    spread, noise = (scale * rng.random((2, count)) for scale in (1.0, 1e-12))
    return NodeBounds(lower, upper, middle, spread, noise)


@pytest.mark.parametrize("radius", (0.0, 1e-9, 1e-3, 1.0, 1e6))
@pytest.mark.parametrize("loss", (1e-9, 1e-5, 1e-2))
def test_every_number_goes_outward(radius: float, loss: float) -> None:
    bounds = random_bounds(0, radius)
    for part in (bounds.spread, bounds.noise):
        assert part is not None
        part[0, :3] = 0.0, np.inf, np.nan
    bounds.lower[0, 3], bounds.upper[0, 4] = -np.inf, np.inf
    bounds.centre[0, 5:7] = np.inf, 1e300
    packed = pack(bounds, loss)
    back = packed.unpack()
    assert (back.lower <= bounds.lower).all() and (bounds.upper <= back.upper).all()
    assert back.spread is not None and back.noise is not None
    assert bounds.spread is not None and bounds.noise is not None
    known = ~np.isnan(bounds.spread)
    assert (back.spread >= bounds.spread)[known].all() and (back.spread == np.inf)[~known].all()
    # The centre may lie elsewhere, if the noise knows: exact in float128, or nearly so.
    with np.errstate(invalid="ignore"):
        moved = abs(bounds.centre.astype(np.longdouble) - back.centre)
        least = bounds.noise.astype(np.longdouble) + moved
    assert (back.noise >= least)[~np.isnan(least)].all()
    assert (back.noise == np.inf)[np.isnan(least)].all()
    assert np.isfinite(back.centre).all()
    again = packed.unpack()
    assert (again.noise == back.noise).all() and (again.lower == back.lower).all()
    assert packed.nbytes <= 20 * bounds.lower.size  # all in float32 at worst


def test_the_moved_centre_is_charged() -> None:
    """Where noise is 0 the charge is the distance alone: nothing else would cover it."""
    middle = np.full((1, 4), 1 + 2.0**-30)
    zero = np.zeros((1, 4))
    back = pack(NodeBounds(middle - 1, middle + 1, middle, zero, zero), 1.0).unpack()
    assert back.noise is not None and (back.centre == 1).all()
    assert (back.noise >= 2.0**-30).all()


def test_as_few_bits_as_the_loss_allows() -> None:
    rng = np.random.default_rng(1)
    wide = BoundedTensor(-rng.random(4000), rng.random(4000))
    thin = wide * 1e-4 + 3.0
    for tensor, loss, code in (
        (wide, 2.0**-10, "f16"),
        (wide, 2.0**-14, "f24"),
        (wide, 2.0**-20, "f32"),
        (thin, 2.0**-10, "f32"),
        (thin, 2.0**-2, "f24"),
    ):
        kept = shortened(tensor, loss)
        assert kept.code == code
        assert kept.to_bounded_tensor().contains(tensor)
        assert code == "f32" or kept.stats(tensor).relative <= loss


def test_without_a_loss_it_is_exact_and_holds_nothing_else() -> None:
    block = np.random.default_rng(2).random((5, 1, 1000))
    block[1] += 1
    bounds = NodeBounds(*block)
    packed = pack(bounds)
    assert packed.nbytes == 5 * 8000 and all(a.base is None for a in packed.arrays)
    back = packed.unpack()
    for name in ("lower", "upper", "centre", "spread", "noise"):
        assert (getattr(back, name) == getattr(bounds, name)).all()
    relu = NodeBounds(block[0], block[1], rounding.midpoint(block[0], block[1]))
    assert pack(relu).nbytes == 16 * 1000


@pytest.mark.parametrize("f16", (False, True))
@pytest.mark.parametrize("spilled", (False, True))
def test_activations_are_computed_again(f16: bool, spilled: bool) -> None:
    network = deep(5, 30)
    known = interval_pass(network, boxes(network, 3))
    packed = PackedBounds(network, f16, spilled, "real", np.float64)
    for bounds in known:
        packed.append(bounds)
    packed.seal()
    for index in (*range(len(known)), *reversed(range(len(known)))):
        found = packed[index]
        assert (found.lower <= known[index].lower).all()
        assert (known[index].upper <= found.upper).all()
        if not f16:
            assert (found.lower == known[index].lower).all()
            assert (found.centre == known[index].centre).all()
        if isinstance(network.nodes[index].op, Relu):
            assert (found.upper == np.maximum(packed[index - 1].upper, 0)).all()
    assert packed.nbytes <= sum(n.size for n in network.nodes[1::2]) * 3 * (16 if f16 else 40) + 240


@pytest.mark.parametrize("method", ("crown-ibp", "crown"))
@pytest.mark.parametrize(("radius", "most"), ((1e-4, 1e-2), (1e-3, 1e-3), (0.03, 1e-3)))
@pytest.mark.parametrize("layers", (3, 20))
def test_the_loss_on_made_networks(method: str, radius: float, most: float, layers: int) -> None:
    """The thinnest boxes are where float32 ends: numbers of size 1 are kept to 1e-7 of them."""
    network = deep(layers, 64)
    x = np.random.default_rng(0).random((4, 5))
    region = gamma.Box(x - radius, x + radius)
    exact = gamma.bounds(network, region, method=method)
    config = StreamingConfig(checkpoint_interval=1, use_f16_checkpoints=True)
    found = gamma.bounds(network, region, method=method, streaming=config)
    wider = (found.upper - found.lower).mean() / (exact.upper - exact.lower).mean() - 1
    assert wider <= most


@pytest.mark.parametrize("name", SHORTENED)
@pytest.mark.parametrize("method", ("crown-ibp", "crown"))
@pytest.mark.parametrize("interval", (1, 10))
def test_the_loss_on_real_networks(shared: Path, name: str, method: str, interval: int) -> None:
    if method == "crown" and interval > 1:
        pytest.skip("CROWN's own bounds have no checkpoints")
    found = loss_of(shared, name, method, interval)
    assert found["wider"] <= 1e-3
    assert found["bytes"] <= (0.6 if method == "crown" else 1.0) * found["single"]
