"""Forward linear forms against exact truth: an input and its images are in the forms, node by node.

The input is middle + G·ξ in fractions, and so is what every node makes of it. A form says the node
is middle + G·ξ + [-rest, rest] for the same ξ.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import gamma
from gamma import ops
from gamma.errors import ResourceError
from gamma.network.graph import Builder, Network
from gamma.ops.ellipsotope import INPUT, Ellipsotope, LinearForms, Symbols, new_key
from gamma.propagate import forward
from gamma.propagate.options import Options
from gamma.propagate.walks import walk
from gamma.tensor import kernels
from gamma.tensor.box import Box

Array = Any


def exact(values: Array) -> Array:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, np.float64))


def images(seed: int, size: float) -> Network:
    """Dense, upsampling, a kernel, a maximum (which has no form), a sum, dense."""
    r = np.random.default_rng(seed)
    build = Builder(ops.Input(), (3,))
    weight = r.normal(size=(8, 3)) * size
    last = build.add(ops.Gemm(weight, r.normal(size=8) * size), 0)
    last = build.add(ops.Reshape((2, 2, 2)), build.add(ops.Relu(), last))
    up = ops.ConvTranspose(r.normal(size=(2, 2, 2, 2)), r.normal(size=2), (2, 2))
    last = build.add(ops.Relu(), build.add(up, last))
    one = build.add(ops.Conv(r.normal(size=(2, 2, 3, 3)), None, (1, 1), (1, 1, 1, 1)), last)
    both = build.add(ops.Add(), one, last)
    flat = build.add(ops.ReduceMax(-1), build.add(ops.Reshape((8, 4)), both))
    hidden = build.add(ops.Gemm(r.normal(size=(5, 8)), r.normal(size=5)), flat)
    hidden = build.add(ops.Relu(), hidden)
    return build.build(build.add(ops.Gemm(r.normal(size=(2, 5)), None), hidden))


def values(net: Network, x: Array) -> list[Array]:
    """Every node in fractions: the operators' own sums, of objects."""
    found = [x]
    for node in net.nodes[1:]:
        inputs = [found[i].reshape(net.nodes[i].shape) for i in node.inputs]
        found.append(image(node.op, inputs).reshape(-1))
    return found


def image(op: Any, inputs: list[Array]) -> Array:
    if isinstance(op, ops.Relu):
        return np.where(inputs[0] > 0, inputs[0], Fraction(0))
    if isinstance(op, ops.ReduceMax):
        return inputs[0].max(axis=-1)
    if isinstance(op, ops.Add):
        return inputs[0] + inputs[1]
    if isinstance(op, ops.Reshape):
        return inputs[0]
    # The matrix of a linear operator, of unit vectors, and its offset: both exact in float64.
    shape = inputs[0].shape
    n = int(np.prod(shape))
    matrix = op.linear([np.eye(n).reshape(n, *shape)]).reshape(n, -1)
    offset = op.offset()
    total = inputs[0].reshape(-1) @ exact(matrix)
    if offset is None:
        return total
    return total + exact(np.broadcast_to(offset, op.shape(shape)).reshape(-1))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], Ellipsotope]:
    """(node, box) -> its form, as the walk made it."""
    found: dict[tuple[int, int], Ellipsotope] = {}
    made = forward.ForwardForms._set

    def recorded(self: Any, index: int, before: Any, after: Any, b: int) -> Any:
        found[index, b] = result = made(self, index, before, after, b)
        return result

    monkeypatch.setattr(forward.ForwardForms, "_set", recorded)
    return found


@pytest.mark.parametrize(("size", "radius"), ((1.0, 0.3), (1.0, 1e-14), (2.0**30, 0.02)))
def test_inputs_and_their_images_are_in_the_forms(
    kept: dict[tuple[int, int], Ellipsotope], size: float, radius: float
) -> None:
    r = np.random.default_rng(3)
    for seed in range(2):
        net, x = images(seed, size), r.normal(size=(2, 3))
        box = Box(x - radius, x + radius)
        made = walk(net, box, Options("forward+crown", dtype=np.dtype(np.float64)))
        for b in range(2):
            own = kept[0, b]
            for _ in range(2):
                xi = exact(np.where(r.random(3) < 0.5, 1.0, -1.0) * r.random(3).round(3))
                point = exact(own.middle) + xi @ exact(own.parts[INPUT].columns)
                for index, value in enumerate(values(net, point)):
                    form, known = kept[index, b], made.bounds[index]
                    at = exact(form.middle)
                    if INPUT in form.parts:
                        at = at + xi @ exact(form.parts[INPUT].columns)
                    assert (abs(value - at) <= exact(form.rest)).all(), net.nodes[index].name
                    low, high = (exact(e[b].reshape(-1)) for e in (known.lower, known.upper))
                    assert (low <= value).all() and (value <= high).all()


def test_symbols_of_others_become_the_interval() -> None:
    r = np.random.default_rng(0)
    parts = {INPUT: Symbols(r.normal(size=(2, 5))), new_key(): Symbols(r.normal(size=(4, 5)), 2)}
    x = Ellipsotope((5,), r.normal(size=5), abs(r.normal(size=5)), parts)
    found = LinearForms.of(x)
    assert set(found.parts) == {INPUT} and found.spelled is found
    other = exact(list(parts.values())[1].columns)
    xi = exact([0.6, 0.8, -0.8, 0.6]) * (1 - Fraction(1, 2**40))
    assert (abs(xi @ other) + exact(x.rest) <= exact(found.rest)).all()


def test_entries_that_are_intervals_are_about_their_own_middle() -> None:
    x = LinearForms(
        (2,), np.array([5.0, 1.0]), np.array([9.0, 0.5]), {INPUT: Symbols(np.ones((1, 2)))}
    )
    found = x.replaced(np.array([True, False]), np.array([-3.0, 7.0]), np.array([2.0, 7.0]))
    low, high = found.ends
    assert low[0] <= -5 and high[0] >= -1 and high[0] < -0.99
    assert (low[1], high[1]) == tuple(end[1] for end in x.ends)


def test_bounds_are_between_those_of_intervals_and_of_rows() -> None:
    net = images(1, 1.0)
    box = Box.linf(np.zeros(3), 0.1)
    width = {}
    for method in ("ibp", "forward", "crown-ibp", "forward+crown", "crown"):
        found = gamma.bounds(net, box, method=method)
        width[method] = float((found.upper - found.lower).sum())
    assert width["crown"] < width["forward+crown"] < min(width["crown-ibp"], width["forward"])
    assert width["forward"] < width["ibp"]
    for guarantee in ("real", "float32"):
        y = net.forward(np.random.default_rng(0).uniform(-0.1, 0.1, (2000, 3)), np.float64)
        found = gamma.bounds(net, box, method="forward", guarantee=guarantee)
        assert (y >= found.lower - 1e-12).all() and (y <= found.upper + 1e-12).all()


def test_memory_that_forms_would_exceed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "LEAST_BYTES", 0)
    build = Builder(ops.Input(), (4,))
    net = build.build(build.add(ops.Gemm(np.ones((400, 4)), None), 0))
    with pytest.raises(ResourceError, match="forms in 4 inputs of up to 400 neurons"):
        walk(net, Box.linf(np.zeros(4), 0.1).batched((4,)), Options("forward", row_bytes=3000))


@pytest.mark.parametrize("reaches", ((101.0,), (1.0, 101.0)))
def test_what_an_execution_may_overflow_in_has_no_form(reaches: tuple[float, ...]) -> None:
    """EXEC.VALUE: exp(101) is a number, and infinite in float32."""
    build = Builder(ops.Input(), (2,))
    weight = np.array([[2.0**-99, 0.0]], np.float32)
    net = build.build(build.add(ops.Gemm(weight, None), build.add(ops.Exp(), 0)))
    upper = np.array([[reach, 0.5] for reach in reaches])
    box = Box(np.zeros_like(upper), upper)
    found = gamma.bounds(net, box, method="forward", guarantee="float32", intermediate=True)
    with np.errstate(over="ignore"):
        largest = np.exp(upper.astype(np.float32))
    _, first, last = found.values()
    assert (largest <= first.upper).all() and (largest[:, :1] * 2.0**-99 <= last.upper).all()
    assert np.isfinite(first.upper[np.array(reaches) < 88]).all()
    real = gamma.bounds(net, box, method="forward")
    assert np.isfinite(real.upper).all()


def test_linear_bounds_of_what_may_overflow_are_infinite() -> None:
    """EXEC.VALUE, as lines."""
    build = Builder(ops.Input(), (2,))
    net = build.build(build.add(ops.Exp(), 0))
    box = Box(np.zeros((2, 2)), np.array([[101.0, 0.5], [1.0, 0.5]]))
    made = gamma.linear_bounds(net, box, guarantee="float32")
    assert np.isposinf(made.upper_constant[0, 0]) and np.isneginf(made.lower_constant[0, 0])
    assert np.isfinite(made.upper_constant[1]).all()


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("power", (0, 524, 528, 531))
def test_slopes_below_the_normal_range(isa: str, power: int) -> None:
    """SET.SUBNORMAL: half of such a slope of 1/x is rounded."""
    r = np.random.default_rng(power)
    lower = r.uniform(1, 4, (1, 200)) * 2.0**power
    upper = lower * r.uniform(1, 9, lower.shape)
    build = Builder(ops.Input(), lower.shape[1:])
    net = build.build(build.add(ops.Reciprocal(), 0))
    with kernels.pinned(isa):
        found = gamma.bounds(net, Box(lower, upper), method="forward", dtype="float64")
    for low, high, below, above in zip(
        *map(np.ravel, (lower, upper, found.lower, found.upper)), strict=True
    ):
        assert Fraction(below) <= 1 / Fraction(high) and 1 / Fraction(low) <= Fraction(above)
