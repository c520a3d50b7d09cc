"""Dense layers in a file: the same map as the decoded weight, bounds that hold exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from gamma import bounds, ops
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.tensor import kernels
from gamma.tensor.box import Box
from gamma.tensor.weights import Weight

KINDS = ("f32", "f16", "q8_0", "q4_0")
M, N = 70, 64


def stored(kind: str, shape: tuple[int, int] = (M, N)) -> Weight:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if kind in ("f32", "f16"):
        return Weight.of(values.astype({"f32": np.float32, "f16": np.float16}[kind]))
    raw = quantize(values, GGMLQuantizationType[kind.upper()]).view(np.uint8)
    return Weight(shape, kind, raw.reshape(shape[0], -1))


def network(op: ops.Operator, shape: tuple[int, ...]) -> Network:
    b = Builder(ops.Input(), shape)
    return b.build(b.add(op, 0))


def pair(kind: str, turned: bool) -> tuple[Network, Network, np.ndarray]:
    """The layer on three positions, the same with a decoded weight, and that weight (out, in)."""
    weight = stored(kind)
    array = weight.array().T if turned else weight.array()
    bias = np.random.default_rng(1).normal(size=len(array)).astype(np.float32)
    shape = (3, array.shape[1])
    plain = network(ops.Gemm(np.ascontiguousarray(array), bias), shape)
    return network(ops.StoredGemm(weight, bias, turned), shape), plain, array


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_same_map_both_ways(kind: str, turned: bool) -> None:
    net, plain, _ = pair(kind, turned)
    assert net.parameters == plain.parameters
    x = np.random.default_rng(2).normal(size=(2, *net.input_shape))
    assert np.allclose(net.forward(x, np.float64), plain.forward(x, np.float64), rtol=1e-13)
    op, other = net.nodes[1].op, plain.nodes[1].op
    rows = np.random.default_rng(3).normal(size=(4, *net.output_shape))
    (found,), (expected,) = (o.adjoint(rows, [net.input_shape]) for o in (op, other))
    assert np.allclose(found, expected, rtol=1e-12)
    neurons = np.array([0, 5, 69, 130])
    found = op.start_rows(neurons, [net.input_shape], np.float32)
    assert np.array_equal(found, other.start_rows(neurons, [net.input_shape], np.float32))
    assert (op.row_sums([net.input_shape]) >= abs(other.weight).sum(axis=1)).all()


@pytest.mark.parametrize("guarantee", ["real", "float32"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_enclose_the_extremes(kind: str, turned: bool, guarantee: str) -> None:
    """Σ W·x at the corners in fractions; every method, which is as tight as with the array."""
    net, plain, array = pair(kind, turned)
    r = np.random.default_rng(4)
    lower = r.normal(size=net.input_shape)
    box = Box(lower, lower + r.uniform(size=net.input_shape) * 1e-6)
    bias = net.nodes[1].op.bias
    outputs = (0, 33, len(array) - 1)
    for method in ("ibp", "crown"):
        found = bounds(net, box, method=method, guarantee=guarantee, dtype="float64")
        known = bounds(plain, box, method=method, guarantee=guarantee, dtype="float64")
        assert np.allclose(found.upper - found.lower, known.upper - known.lower, rtol=1e-3)
        for place, k in ((p, k) for p in range(3) for k in outputs):
            low = high = Fraction(float(bias[k]))
            for w, a, b in zip(array[k], box.lower[place], box.upper[place], strict=True):
                ends = (
                    Fraction(float(w)) * Fraction(float(a)),
                    Fraction(float(w)) * Fraction(float(b)),
                )
                low, high = low + min(ends), high + max(ends)
            assert Fraction(float(found.lower[place, k])) <= low
            assert high <= Fraction(float(found.upper[place, k]))


def test_results_do_not_depend_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, _ = pair("q8_0", False)
    box = Box.linf(np.ones(net.input_shape), 0.01)
    whole = bounds(net, box, method="ibp")
    monkeypatch.setattr("gamma.ops.stored.PIECE", 64 * 7)
    net, _, _ = pair("q8_0", False)
    cut = bounds(net, box, method="ibp")
    assert np.array_equal(whole.lower, cut.lower) and np.array_equal(whole.upper, cut.upper)


def test_shapes_and_types_that_do_not_fit() -> None:
    op = ops.StoredGemm(stored("f32"))
    with pytest.raises(UsageError, match="70 outputs and 64 inputs"):
        op.shape((3, 70))
    with pytest.raises(UsageError, match="a matrix that float32 holds"):
        ops.StoredGemm(Weight.of(np.ones((2, 3))))


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_an_interval_pass_reads_the_weight_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, _ = pair(kind, False)
    read, decode, multiply = [], Weight._decode, kernels.stored_affine

    def decoded(self: Weight, start: int, stop: int, out: np.ndarray) -> bool:
        read.append(stop - start)
        return decode(self, start, stop, out)

    def multiplied(kind: str, raw: np.ndarray, *rest: np.ndarray) -> bool:
        read.append(len(raw))
        return multiply(kind, raw, *rest)

    monkeypatch.setattr(Weight, "_decode", decoded)
    monkeypatch.setattr(kernels, "stored_affine", multiplied)
    bounds(net, Box.linf(np.ones(net.input_shape), 0.1), method="ibp")
    assert sum(read) == M
