"""The assumed errors of functions hold in the runtimes people use; `runtimes` measures them."""

from __future__ import annotations

import numpy as np
import pytest

from gamma import ops
from gamma.ops import Elementwise
from tests.exact.runtimes import (
    FLUSHING,
    FUNCTIONS,
    grid,
    numpy_function,
    onnxruntime_function,
    share,
    torch_function,
    xla_function,
)

X = grid()


def test_every_function_is_measured() -> None:
    known = {type(op) for op, _ in FUNCTIONS.values()}
    assert known == {record for record in ops.TABLE.values() if issubclass(record, Elementwise)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_onnxruntime_and_numpy(name: str) -> None:
    pytest.importorskip("onnxruntime")
    op, spellings = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        for function in (*map(onnxruntime_function, spellings), numpy_function(op)):
            assert share(op, X, function(X))[0] <= 1.0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    assert share(FUNCTIONS[name][0], X, torch_function(name)(X))[0] <= 1.0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_xla(name: str) -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    assert share(FUNCTIONS[name][0], X, xla_function(name)(X), "XLA" in FLUSHING)[0] <= 1.0


def test_a_sigmoid_without_absolute_error_is_noticed() -> None:
    """The measurement can fail: x·sigmoid(x) of onnxruntime leaves what SiLU assumed before."""
    pytest.importorskip("onnxruntime")

    class Careless(ops.Silu):
        float32_error = (2.0**-20, 2.0**-119, 0.0)

    run = onnxruntime_function(FUNCTIONS["Silu"][1][0])
    ratio, at = share(Careless(), X, run(X))
    assert ratio > 1.0 and at < -4.0
