"""Rows through dense weights of mostly zeros."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gamma import tuning
from gamma.errors import UsageError
from gamma.network.graph import Builder, Network
from gamma.ops import Gemm, Input, Relu
from gamma.propagate import dense_form
from gamma.propagate.options import Options
from gamma.propagate.rows import chain as chains
from gamma.propagate.walks import walk
from gamma.tensor import kernels
from gamma.tensor.box import Box

pytestmark = pytest.mark.skipif(kernels.isa == "numpy", reason="no compiled library")


def matrix(rng: np.random.Generator, rows: int, columns: int) -> Any:
    """Small integers, most of them 0, some rows and columns empty."""
    found = rng.integers(-4, 5, (rows, columns)).astype(np.float32)
    found[rng.random(found.shape) < 0.93] = 0
    return found


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("seed", range(4))
def test_parts_and_their_products(dtype: type, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(chains, "_SPARSE_FROM", 1)
    monkeypatch.setattr(chains, "_SPARSE", 1.0)
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    weight = matrix(rng, 30, 41)
    whole = chains.nonzeros(Gemm(weight), kind)
    assert whole is not None
    rows = np.flatnonzero(rng.random(30) < 0.5) if seed % 2 else None
    columns = np.flatnonzero(rng.random(41) < 0.6) if seed > 1 else None
    part = chains.part_of(whole, rows, columns)
    chosen = weight if rows is None else weight[rows]
    chosen = chosen if columns is None else chosen[:, columns]
    A = rng.integers(-5, 6, (9, len(chosen))).astype(kind)
    for j in range(chosen.shape[1]):
        chain = kernels.chain(2, 1, kind)
        assert chain is not None
        pick = np.zeros((1, chosen.shape[1]))
        pick[0, j] = 1
        chain.pay(0, chosen.shape[1], pick, None)
        chain.pay(1, len(chosen), None, None)
        chain.sparse(1, part)
        d = np.zeros(9)
        chain.run(1, A.copy(), d, np.zeros(9, np.int64), 1 << 12)
        exact = abs(A.astype(float) @ chosen[:, j].astype(float))
        assert (abs(-d - exact) <= 2.0**-40 * exact + 1e-200).all()


def lattice(rng: np.random.Generator) -> Network:
    """Maxima of pairs by ReLUs, max(a, b) = b + relu(a - b), from 32 affine functions down to 1."""
    builder = Builder(Input(), (3,))
    first = rng.integers(-8, 9, (32, 3)).astype(np.float32) / 8
    node = builder.add(Gemm(first, rng.integers(-8, 9, 32).astype(np.float32) / 8), 0)
    count = 32
    while count > 1:
        spread = np.zeros((3 * count // 2, count), np.float32)
        join = np.zeros((count // 2, 3 * count // 2), np.float32)
        for k in range(count // 2):
            spread[3 * k, [2 * k, 2 * k + 1]] = 1, -1
            spread[3 * k + 1, 2 * k + 1], spread[3 * k + 2, 2 * k + 1] = 1, -1
            join[k, 3 * k : 3 * k + 3] = 1, 1, -1
        node = builder.add(Relu(), builder.add(Gemm(spread), node))
        node, count = builder.add(Gemm(join), node), count // 2
    return builder.build(node)


@pytest.mark.parametrize("gates", ((), ("fused_network",)))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_a_lattice_by_its_nonzeros(gates: tuple[str, ...], dtype: type, monkeypatch: Any) -> None:
    """The bounds enclose the exact values, and are those of the dense products."""
    monkeypatch.setattr(chains, "_SPARSE_FROM", 1 << 10)
    monkeypatch.setattr(dense_form, "_ONE_BY_ONE", 8.0)
    rng = np.random.default_rng(1)
    net, options = lattice(rng), Options(dtype=np.dtype(dtype))
    first = net.nodes[1].op.dense
    assert first is not None and first.bias is not None
    centre = rng.integers(-8, 9, (4, 3)) / 8
    box = Box(centre - 0.25, centre + 0.25)
    with tuning.disabled(*gates):
        made = walk(net, box, options)
        found = made.output()
    form = dense_form.form_of(net, np.dtype(dtype))
    assert (made._walked is None) == bool(gates) and form is not None and form.sparse
    if gates:
        assert made.descent.chain is not None and made.descent.chain.used
        derived = net.nodes[2].op._derived.items()  # type: ignore[attr-defined]
        assert any("sparse" in key and value for key, value in derived)
    with tuning.disabled("sparse_weights"):
        plain = walk(net, box, options).output()
    assert (abs(found.lower - plain.lower) < 1e-4).all()
    assert (abs(found.upper - plain.upper) < 1e-4).all()
    for b in range(4):
        for corner in np.ndindex(2, 2, 2):
            x = [Fraction(float((box.lower, box.upper)[s][b, i])) for i, s in enumerate(corner)]
            value = max(
                sum((Fraction(float(w)) * e for w, e in zip(row, x, strict=True)), Fraction(c))
                for row, c in zip(first.weight, map(float, first.bias), strict=True)
            )
            assert Fraction(found.lower[b, 0]) <= value <= Fraction(found.upper[b, 0])


def test_what_is_no_sparse_weight_is_refused() -> None:
    chain = kernels.chain(2, 1, np.dtype(np.float64))
    assert chain is not None
    chain.pay(1, 2, None, None)
    starts, places, values = np.array([0, 1, 2]), np.array([0, 3], np.int32), np.ones(2)
    chain.sparse(1, kernels.Sparse(starts, places, values, 4))
    for bad in (
        kernels.Sparse(starts, places, values, 3),
        kernels.Sparse(starts, places - 1, values, 4),
        kernels.Sparse(np.array([0, 2, 1]), places, values, 4),
        kernels.Sparse(starts[:-1], places, values, 4),
        kernels.Sparse(starts, places, values.astype(np.float32), 4),
    ):
        with pytest.raises(UsageError):
            chain.sparse(1, bad)
