"""Interval passes that take a layer's norm cap where its weights would say no more."""

from __future__ import annotations

import numpy as np
import pytest

from benches import made as examples
from gamma.network.graph import Network
from gamma.propagate.caps import FULL, LAYERS, norm_caps
from gamma.propagate.domain import Domain
from gamma.propagate.options import options_of
from gamma.propagate.walks import Walk, walk
from gamma.tensor.box import Box
from tests.propagate.ranges.transformers import MAKERS


def passes(net: Network, radius: float, count: int = 2) -> tuple[Box, Walk, Walk]:
    """An interval pass that takes caps of layers, and one that only meets them."""
    centres = np.random.default_rng(3).standard_normal((count, *net.input_shape))
    box = Box(centres - radius, centres + radius)
    caps = norm_caps(net, box, "real", thrifty=False)
    options = options_of(net, "ibp", "real", "auto", None, 1 << 20)
    some, plain = (walk(net, Domain(box, caps, capped=c), options) for c in (True, False))
    return box, some, plain


def taken(net: Network, made: Walk) -> list[int]:
    """Layers whose weights were not read."""
    assert made._ceilings is not None
    return [i for i in range(len(net.nodes)) if made._ceilings.of(i, 1) is not None]


@pytest.mark.parametrize("name", MAKERS)
def test_layers_behind_full_caps_are_not_read_and_lose_a_hundredth(name: str) -> None:
    net = MAKERS[name](0)
    box, made, plain = passes(net, 30.0)
    assert len(taken(net, made)) >= 4
    for node, own, other in zip(net.nodes, made.bounds, plain.bounds, strict=True):
        width = other.upper - other.lower
        slack = (1 - FULL) * 2 if node.op.name in LAYERS else 0.1
        assert (own.upper - own.lower <= width * (1 + slack)).all(), node.name
    x = np.random.default_rng(1).uniform(box.lower, box.upper, (2000, *box.lower.shape))
    for k in range(2):
        for own, value in zip(made.bounds, net.values(x[:, k]), strict=True):
            assert (own.lower[k] <= value).all()
            assert (value <= own.upper[k]).all()


@pytest.mark.parametrize("name", MAKERS)
def test_bounds_that_say_more_than_caps_are_the_same_bits(name: str) -> None:
    net = MAKERS[name](0)
    _, made, plain = passes(net, 1e-7)
    assert not taken(net, made)
    for own, other in zip(made.bounds, plain.bounds, strict=True):
        assert np.array_equal(own.lower, other.lower)
        assert np.array_equal(own.upper, other.upper)


def test_a_relu_may_read_a_layer_behind_a_full_cap() -> None:
    """Its cap is one number for all positions, and its bounds lie in memory as any other's."""
    net = examples.encoder(blocks=2)
    box, caps, plain = passes(net, 30.0)
    layers = [i for i in taken(net, caps) if i < net.output and net.nodes[i + 1].op.hinge]
    assert layers
    for index in layers:
        known = caps.bounds[index]
        assert known.lower.flags.c_contiguous and known.upper.flags.c_contiguous
    x = np.random.default_rng(1).uniform(box.lower, box.upper, (500, *box.lower.shape))
    for k in range(2):
        values = net.values(x[:, k])[net.output]
        for bounds in (caps.bounds[net.output], plain.bounds[net.output]):
            assert (bounds.lower[k] <= values).all() and (values <= bounds.upper[k]).all()
