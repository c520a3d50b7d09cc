"""Every door of the Python API: what is not exactly what it seems ends in a GammaError."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import astuple

import gamma
from gamma.errors import GammaError, UsageError
from gamma.network.graph import Builder, Network, Node
from gamma.ops import Add, Clip, Conv, Gather, Gemm, Input, LeakyRelu, PRelu, Relu, Reshape, Scale
from gamma.ops.charges import UNDERFLOW
from gamma.propagate import StreamingConfig
from gamma.propagate.memory.streaming import estimate_memory_savings
from gamma.tensor.bounded import BoundedTensor

FAR = 2**53 + 1
LONG = np.longdouble(1) + np.longdouble(2) ** -60
ONE = Fraction(1)


def chain(*operators: Any, shape: tuple[int, ...] = (2,)) -> Network:
    builder, last = Builder(Input(), shape), 0
    for op in operators:
        last = builder.add(op, last)
    return builder.build(last)


def region(lower: Any = (Fraction(0),), upper: Any = (ONE,), terms: Any = ((0, ONE),)) -> Any:
    constraint = gamma.LinearConstraint(tuple(terms), (), Fraction(0))
    return gamma.Property((gamma.Region(lower, upper, ((constraint,),)),), 1, 1)


NET, BOX, TENSOR = (
    chain(Gemm(np.ones((2, 2)))),
    gamma.Box([0, 0], [1, 1]),
    BoundedTensor([0.0], [1]),
)
CALLS: dict[str, Callable[[], Any]] = {
    "empty batch": lambda: gamma.bounds(NET, gamma.Box(np.zeros((0, 2)), np.zeros((0, 2)))),
    "path for a network": lambda: gamma.bounds("m.onnx", BOX),  # type: ignore[arg-type]
    "array for a box": lambda: gamma.bounds(NET, np.zeros(2)),  # type: ignore[arg-type]
    "row_bytes": lambda: gamma.bounds(NET, BOX, row_bytes=-5),
    "deadline": lambda: gamma.bounds(NET, BOX, deadline=float("nan")),
    "checkpoint_interval": lambda: StreamingConfig(checkpoint_interval=1.5),  # type: ignore[arg-type]
    "memory": lambda: gamma.bounds(NET, BOX, max_memory_bytes=-1),
    "estimate": lambda: estimate_memory_savings(0, 1),
    "far integers": lambda: gamma.Box([FAR], [FAR]),
    "long doubles": lambda: gamma.Box(np.array([LONG]), np.array([LONG])),
    "objects": lambda: gamma.Box([Fraction(1, 3)], [ONE]),  # type: ignore[list-item]
    "ragged": lambda: gamma.Box([[0], [0, 1]], [[0], [0, 1]]),  # type: ignore[list-item]
    "negative radius": lambda: gamma.Box([0], [1], "2", np.array([0.5]), -1.0),
    "no centre": lambda: gamma.Box([0], [1], "2", None, 1.0),
    "centre of another shape": lambda: gamma.Box([0], [1], "2", np.zeros(2), 1.0),
    "radius in thirds": lambda: gamma.Box.l2([0], Fraction(1, 3)),  # type: ignore[arg-type]
    "radius per entry": lambda: gamma.Box.l1([0, 1], [1, 2]),  # type: ignore[arg-type]
    "epsilon of another shape": lambda: gamma.Box.linf([0, 1], [1, 2, 3]),
    "epsilon that makes more": lambda: gamma.Box.linf([0, 1], [[1], [2]]),
    "clip of another shape": lambda: gamma.Box.linf([0, 1], 1, clip=([0, 0, 0], 1)),
    "clip of one end": lambda: gamma.Box.linf([0, 1], 1, clip=0.5),  # type: ignore[arg-type]
    "tensor of far integers": lambda: BoundedTensor([FAR], [FAR]),
    "tensor epsilon": lambda: BoundedTensor.from_epsilon([1.0, 2.0], np.array([LONG])),
    "tensor astype": lambda: TENSOR.astype(int),
    "tensor reshape": lambda: TENSOR.reshape(3),
    "tensor index": lambda: TENSOR[4],
    "tensor sum": lambda: TENSOR.sum(3),
    "tensor operands": lambda: TENSOR + np.zeros(0) + np.zeros(3) + np.zeros(2),
    "tensor product": lambda: TENSOR @ np.zeros((5, 5)),
    "tensor stack": lambda: BoundedTensor.stack([]),
    "crossed region": lambda: region((ONE,), (Fraction(0),)),
    "region of floats": lambda: region((0.1,), (1.0,)),
    "output -1": lambda: region(terms=[(-1, ONE)]),
    "output 1": lambda: region(terms=[(1, ONE)]),
    "output 0.9": lambda: region(terms=[(0.9, ONE)]),
    "output '0'": lambda: region(terms=[("0", ONE)]),
    "coefficient 0.1": lambda: region(terms=[(0, 0.1)]),
    "label 1.9": lambda: gamma.robustness(BOX, 1.9),  # type: ignore[arg-type]
    "label '1'": lambda: gamma.robustness(BOX, "1"),  # type: ignore[arg-type]
    "label -1": lambda: gamma.robustness(BOX, -1, 2),
    "negative shape": lambda: Builder(Input(), (-2,)),
    "fractional shape": lambda: Builder(Input(), (2.5,)),  # type: ignore[arg-type]
    "negative target": lambda: chain(Reshape((-1, -2))),
    "no neurons": lambda: chain(Gemm(np.zeros((0, 2)))),
    "two inputs": lambda: Builder(Input(), (2,)).add(Relu(), 0, 0),
    "input that is none": lambda: Builder(Input(), (2,)).add(Relu(), 3),
    "output that is none": lambda: Builder(Input(), (2,)).build(5),
    "a name twice": lambda: Network(
        (Node("a", Input(), (), (2,)), Node("a", Relu(), (0,), (2,))), 1
    ),
    "weight of rank 1": lambda: chain(Gemm(np.zeros(2))),
    "bias of another length": lambda: chain(Gemm(np.ones((2, 2)), np.ones(3))),
    "slope of another shape": lambda: chain(PRelu(np.ones(3))),
    "sum of one": lambda: chain(Add((1, 1))),
    "strides": lambda: chain(Conv(np.ones((1, 1, 1, 1)), strides=(0, 1)), shape=(1, 2, 2)),
    "pads": lambda: chain(Conv(np.ones((1, 1, 1, 1)), pads=(1, 1)), shape=(1, 2, 2)),
    "fractional pads": lambda: Conv(np.ones((1, 1, 1, 1)), pads=(0.5, 0, 0, 0)),  # type: ignore[arg-type]
    "alpha": lambda: LeakyRelu(Fraction(1, 3)),  # type: ignore[arg-type]
    "not a limit": lambda: Clip(float("nan"), 1.0),
    "fractional index": lambda: Gather(np.array([0.5]), (1,)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_misuse_is_one_clear_line(call: Callable[[], Any]) -> None:
    with pytest.raises(GammaError) as caught:
        call()
    assert len(str(caught.value)) > 15


INTEGERS = np.array([[3, 4], [-1, 0]])
KINDS = [
    INTEGERS.astype(kind)
    for kind in ("int8", "int32", "int64", ">i4", "float16", ">f4", ">f8", "f4", "f8", "g")
]
KINDS += [np.asfortranarray(INTEGERS), np.tile(INTEGERS, (1, 2))[:, ::2][:, [0, 0]] * 0 + INTEGERS]


@pytest.mark.parametrize("weight", KINDS, ids=lambda w: str(w.dtype))
def test_weights_are_the_numbers_that_were_given(weight: Any) -> None:
    x = np.array([1.0, 2.0])
    for op in (Gemm(weight, weight[0]), Scale(weight[0], weight[1]), PRelu(weight[0])):
        expected = chain(
            type(op)(*(np.array(v, np.float64) for v in astuple(op) if isinstance(v, np.ndarray)))
        ).forward(x, np.float64)
        for method in ("ibp", "crown"):
            lower, upper = gamma.bounds(chain(op), gamma.Box(x, x), method=method, dtype="float64")
            assert (lower <= expected).all() and (expected <= upper).all()
            assert (upper - lower < 1e-9).all()


@pytest.mark.parametrize(
    "weight",
    (
        np.array([[FAR]]),
        np.array([[LONG]]),
        np.array([[ONE]], object),
        np.array([[True]]),
        np.array([["1"]]),
        np.array([[1j]]),
    ),
)
@pytest.mark.parametrize("record", (Gemm, Scale, PRelu, Conv))
def test_other_weights_are_refused(record: Any, weight: Any) -> None:
    with pytest.raises(UsageError, match=f"{record.__name__} (weight|scale|slope)"):
        record(weight)


def test_the_ends_unpack() -> None:
    network = chain(Gemm(np.array([[1.0, 0.0], [0.0, 1.0]])))
    tensor = gamma.bounds(network, gamma.Box([0, 10], [1, 20]))
    lower, upper = tensor
    assert lower is tensor.lower and upper is tensor.upper and list(tensor)[1] is upper
    assert len(tensor) == 2
    full, streamed, percent = estimate_memory_savings(100, 1000, 10)
    assert 0 < streamed < full and percent == 100 * (1 - streamed / full)


@pytest.mark.parametrize("method", ("crown", "crown-ibp"))
def test_products_that_underflow_in_float64_are_charged(method: str) -> None:
    """2^-540 · 2^-540 is 0 as a coefficient, and 2^-81 as a share of an input of 2^999."""
    assert all(value > 0 for value in UNDERFLOW.values())
    network = chain(Gemm(np.array([[2.0**-540]])), Gemm(np.array([[2.0**-540]])), shape=(1,))
    box = gamma.Box([0.0], [2.0**999])
    lower, upper = gamma.bounds(network, box, method=method, dtype="float64")
    assert lower[0] <= 0 and upper[0] >= 2.0**-81
