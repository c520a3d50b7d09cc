"""Every store of bounds against exact values: chains of operators that move entries, unlike boxes.

A store that gives a value back in another form than it was used in (shortened ends, another
centre) is wrong by little and only where rows pass the node free of charge.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gamma
from gamma.network.graph import Builder, Network
from gamma.ops import Add, Concat, Gather, Gemm, Input, Relu, Reshape, Transpose
from gamma.propagate import StreamingConfig
from tests.exact.oracle import Truth, violations

CONFIGS = {
    "shortened": StreamingConfig(checkpoint_interval=1, use_f16_checkpoints=True),
    "shortened, in a file": StreamingConfig.min_memory(),
    "in a file": StreamingConfig(spill=True),
    "exact": StreamingConfig(checkpoint_interval=1),
}


# The first eight are chains whose bounds were wrong when a shortened Reshape had its own centre.
SEEDS = (10, 18, 27, 28, 38, 44, 46, 52, 0, 1)


def gemm(rng: np.random.Generator, n: int) -> Gemm:
    weight = rng.integers(-8, 9, (int(rng.integers(1, 5)), n)) * 2.0 ** rng.integers(-6, 3)
    return Gemm(weight.astype(np.float32), rng.standard_normal(len(weight)).astype(np.float32))


def chain(seed: int) -> Network:
    """Random operators on few neurons; the last one is dense."""
    rng = np.random.default_rng(seed)
    builder = Builder(Input(), (2, int(rng.integers(1, 3))))
    at = 0
    for _ in range(rng.integers(2, 8)):
        shape = builder.nodes[at].shape
        kind = rng.choice(["relu", "reshape", "transpose", "slice", "concat", "gemm", "pad"])
        if kind == "relu":
            at = builder.add(Relu(), at)
        elif kind == "reshape":
            flat = (int(np.prod(shape)),)
            at = builder.add(Reshape(flat if len(shape) == 2 else (1, *flat)), at)
        elif kind == "transpose":
            at = builder.add(Transpose(tuple(range(len(shape)))[::-1]), at)
        elif kind == "slice" and shape[-1] > 1:
            kept = np.arange(np.prod(shape)).reshape(shape)[..., 1:]
            at = builder.add(Gather(kept, kept.shape), at)
        elif kind == "concat" and np.prod(shape) < 9:
            at = builder.add(Concat(len(shape) - 1), builder.add(Relu(), at), at)
        elif kind == "pad":
            ends = [(0, 0)] * (len(shape) - 1) + [(0, 1)]
            index = np.pad(np.arange(np.prod(shape)).reshape(shape), ends, constant_values=-1)
            at = builder.add(Gather(index, index.shape, 0.75), at)
        elif kind == "gemm":
            at = builder.add(gemm(rng, shape[-1]), at)
    return builder.build(builder.add(gemm(rng, builder.nodes[at].shape[-1]), at))


def boxes(network: Network, seed: int) -> gamma.Box:
    """One to three boxes whose centres and radii differ by powers of two."""
    rng = np.random.default_rng([seed, 1])
    shape = (int(rng.integers(1, 4)), *network.input_shape)
    scale = 10.0 ** rng.uniform(-3, 3, (shape[0], *(1,) * len(network.input_shape)))
    x = rng.standard_normal(shape) * scale
    radius = scale * rng.random(shape) * 10.0 ** rng.uniform(-4, 0.5)
    return gamma.Box(x - radius, x + radius)


def wrong(network: Network, box: gamma.Box, method: str, dtype: str, name: str) -> int:
    """Exact values at corners and centres that lie outside the bounds."""
    truth, found = Truth(network), 0
    tensors = gamma.bounds(
        network, box, method=method, dtype=dtype, streaming=CONFIGS[name], intermediate=True
    )
    for index in range(len(box.lower)):
        ends = box.lower[index].ravel(), box.upper[index].ravel()
        corners = [
            np.where(c, *ends) for c in itertools.product((True, False), repeat=len(ends[0]))
        ]
        for point in (*corners, (ends[0] + ends[1]) / 2):
            values = truth(point)
            for node, exact in zip(network.nodes, values, strict=True):
                known = tensors[node.name]
                found += violations(known.lower[index], known.upper[index], exact)
    return found


@pytest.mark.parametrize("method", ("crown", "crown-ibp"))
@pytest.mark.parametrize("name", CONFIGS)
def test_stored_bounds_hold(name: str, method: str) -> None:
    for seed in SEEDS:
        network = chain(seed)
        dtype = ("float32", "float64")[seed % 2]
        assert not wrong(network, boxes(network, seed), method, dtype, name), (seed, dtype)


def test_a_change_of_shape_keeps_its_inputs_centre() -> None:
    """Rows pass it free of charge: nothing pays for another centre."""
    weight = np.array([[1.0, -1.0, 1.0, -1.0]], np.float32)
    builder = Builder(Input(), (2, 2))
    last = builder.add(Reshape((1, 2, 2)), builder.add(Relu(), 0))
    last = builder.add(Transpose((0, 2, 1)), last)
    network = builder.build(builder.add(Gemm(weight), builder.add(Reshape((4,)), last)))
    x = np.array([[[1000.3, 1.7], [0.2, 3.1]], [[0.001, 0.7], [0.3, 0.2]]])
    for name in CONFIGS:
        assert not wrong(network, gamma.Box(x, x * 1.01), "crown", "float64", name)


def test_what_is_asked_of_a_node_moves_no_centre_behind_it() -> None:
    """Rows tighten e once it is asked for itself; those of g are about f as it was before."""
    builder = Builder(Input(), (1,))

    def dense(rows: list[list[float]], bias: list[float], source: int) -> int:
        return builder.add(Gemm(np.float32(rows), np.float32(bias)), source)

    b = builder.add(Relu(), dense([[1], [1]], [0, -0.75], 0))
    e = builder.add(Add((1, -1)), dense([[1, 0]], [2], b), dense([[0, 4]], [0], b))
    g = dense([[3]], [0], builder.add(Relu(), e))
    network = builder.build(dense([[1]], [0], g))
    box = gamma.Box(np.array([[0.0], [0.5]]), np.array([[1.0], [1.0]]))
    for name in CONFIGS:
        assert not wrong(network, box, "crown", "float64", name), name
        assert not wrong(network, gamma.Box(box.lower, box.upper * 0.75), "crown", "auto", name)


def test_a_long_run_of_derived_nodes_is_not_computed_again_and_again() -> None:
    """Its depth is no Python recursion, its work not quadratic."""
    builder = Builder(Input(), (3,))
    last = 0
    for _ in range(600):
        last = builder.add(Relu(), last)
    network = builder.build(builder.add(gemm(np.random.default_rng(0), 3), last))
    config = CONFIGS["shortened"]
    found = gamma.bounds(network, gamma.Box(-np.ones(3), np.ones(3)), streaming=config)
    assert np.isfinite(found.lower).all()
