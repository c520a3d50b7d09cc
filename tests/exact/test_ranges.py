"""Ranges: one test per term, against rationals. docs/numerics.md names the terms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gamma import ops
from gamma.network.graph import Builder
from gamma.propagate.ranges import layout, spectral
from gamma.propagate.ranges.dense import dense
from gamma.propagate.ranges.matrix import Matrix
from gamma.propagate.ranges.sets import Image, Known, Sphere, norm_of
from gamma.propagate.ranges.walk import FORMATS, range_walk
from gamma.tensor import eigenvalues

Array = Any
ROUNDS = 20


def q(x: Any) -> Fraction:
    return Fraction(float(x))


def rough(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """Numbers of unlike size whose last bits matter; some cancel each other."""
    power = 2.0 ** rng.integers(-12, 12, shape)
    x = (rng.uniform(1, 2, shape) * power * rng.choice([-1, 1], shape)).astype(dtype)
    x[..., 1::2] = -x[..., : 2 * (shape[-1] // 2) : 2] * (1 + dtype(2.0**-20))
    return x


def vectors(gain: Array, bias: Array, centred: bool, radius: float = 3.0) -> Sphere:
    zero = np.zeros((1, len(gain)))
    return Sphere(1, gain[None], bias[None], zero, radius, 0.0, centred)


def everything(sphere: Sphere, n: int) -> Known:
    end = np.full((1, n), np.inf)
    return Known((1, n), -end, end, sphere)


@pytest.mark.parametrize(
    ("dtype", "turned"), [(np.float32, False), (np.float32, True), (np.float64, False)]
)
def test_products_with_a_weight_enclose_the_exact_ones(dtype: Any, turned: bool) -> None:
    rng = np.random.default_rng(1)
    for step in range(12):
        m, n = (int(v) for v in rng.integers(1, 24, 2))
        W = rough(rng, (m, n + n % 2), dtype)
        n = W.shape[1]
        signed, doubt = rough(rng, (2, n), np.float64), abs(rough(rng, (3, n), np.float64))
        squares = doubt[:1] ** 2
        signed[step % 2] *= step % 3 > 0  # rows of zeros are left out
        doubt *= step % 4 > 0  # alone: what the sums are off by
        z, spread, power = Matrix(W.T.copy() if turned else W, turned).multiply(
            signed, doubt, squares
        )
        for i in range(m):
            row = [q(w) for w in W[i]]
            for k in range(3):
                least = sum(abs(w) * q(d) for w, d in zip(row, doubt[k], strict=True))
                if k < 2:
                    exact = sum(w * q(s) for w, s in zip(row, signed[k], strict=True))
                    least += abs(exact - q(z[k, i]))
                assert q(spread[k, i]) >= least
            assert q(power[0, i]) >= sum(w * w * q(s) for w, s in zip(row, squares[0], strict=True))


def test_products_below_the_normal_range_are_not_lost() -> None:
    tiny = np.full((1, 4), np.float32(1e-30))
    z, spread, power = Matrix(tiny).multiply(
        np.full((1, 4), 1e-15), np.full((1, 4), 1e-15), np.ones((1, 4))
    )
    exact = 4 * q(tiny[0, 0]) * q(1e-15)
    assert q(spread[0, 0]) >= exact + abs(exact - q(z[0, 0]))
    assert q(power[0, 0]) >= 4 * q(tiny[0, 0]) ** 2


@pytest.mark.parametrize("centred", [False, True])
def test_rows_read_a_sphere(centred: bool) -> None:
    """|w·y - w·b| <= radius·‖P(w∘g)‖, compared by squares; and not much more is said."""
    rng = np.random.default_rng(2)
    for step in range(ROUNDS):
        n = 2 * int(rng.integers(1, 12))
        W, gain, bias = rough(rng, (5, n)), rough(rng, (n,)), rough(rng, (n,))
        if step % 3 == 0:  # nearly the same product everywhere: the mean takes almost all of it
            W = (np.float32(7.3) / gain * (1 + 2.0**-9 * rng.standard_normal((5, n)))).astype("f4")
        form = vectors(gain.astype(float), bias.astype(float), centred)
        made = dense(Matrix(W), None, everything(form, n))
        for i in range(5):
            read = [q(w) * q(g) for w, g in zip(W[i], gain, strict=True)]
            mean = sum(read) / n if centred else Fraction(0)
            square = 9 * sum((r - mean) ** 2 for r in read)
            middle = sum(q(w) * q(b) for w, b in zip(W[i], bias, strict=True))
            up, down = q(made.upper[0, i]) - middle, middle - q(made.lower[0, i])
            assert up > 0 and down > 0 and up**2 >= square and down**2 >= square


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", [(12,), (1, 12)])
def test_rows_read_the_vectors_of_all_places(centred: bool, shape: tuple[int, ...]) -> None:
    """A row over 3 vectors of 4, joined: each may be the one that is worst for it."""
    rng = np.random.default_rng(12)
    for step in range(ROUNDS):
        W, gain, bias = rough(rng, (5, 12)), rough(rng, (3, 1)), rough(rng, (3, 4))
        if step % 2:  # the same row everywhere: one vector of all cannot do more
            W = np.tile(W[:, :4], 3) / np.repeat(gain.ravel(), 4) * np.float32(gain[0, 0])
        form = Sphere(
            1, gain.astype(float), bias.astype(float), np.zeros((1, 1)), 3.0, 0.5, centred
        )
        end = np.full((1, 1), np.inf)
        known = layout.reshaped(Known((3, 4), -end, end, form), shape)
        made = dense(Matrix(W.astype("f4")), None, known)
        for i in range(5):
            read = [[q(W[i, 4 * p + k].astype("f4")) * q(gain[p, 0]) for k in range(4)]
                    for p in range(3)]  # fmt: skip
            least = 0.0
            for row in read:
                mean = sum(row) / 4 if centred else Fraction(0)
                off, whole = sum((r - mean) ** 2 for r in row), sum(r**2 for r in row)
                least += 3 * math.sqrt(off) + 0.5 * math.sqrt(whole)
            middle = sum(q(w) * q(b) for w, b in zip(W[i].astype("f4"), bias.ravel(), strict=True))
            for far in (
                q(made.upper[..., i].item()) - middle,
                middle - q(made.lower[..., i].item()),
            ):
                assert far >= q(least * (1 - 1e-12))


def test_axes_of_length_1_leave_a_sphere_as_it_is() -> None:
    known = everything(vectors(np.arange(1.0, 5), np.arange(4.0), True), 4)
    for shape, axis in (((1, 1, 4), 2), ((4, 1), 0), ((4,), 0)):
        form = layout.reshaped(known, shape).form
        assert isinstance(form, Sphere) and form.axis == axis
        assert 3.0 <= form.radius <= 3.0 * (1 + 2.0**-30)
    assert layout.reshaped(known, (2, 2)).form is None


def singular(rng: np.random.Generator, n: int) -> Array:
    """I - BᵀB for a B of integers and rank n - 1: its largest eigenvalue is exactly 1."""
    B = rng.integers(-4000, 4001, (n - 1, n)).astype(float)
    return np.eye(n) - B.T @ B


def test_a_factorisation_that_should_fail_but_ends_proves_nothing_false() -> None:
    rng, ended = np.random.default_rng(3), 0
    for _ in range(400):
        G = singular(rng, int(rng.integers(3, 9)))
        proved = eigenvalues._proved(G, 1 - 2.0**-32)
        ended += proved is not None
        assert proved is None or proved >= 1
    assert ended > 20


@pytest.mark.parametrize("scale", [1.0, 2.0**-300, 2.0**300])
def test_the_largest_eigenvalue_is_never_below(scale: float) -> None:
    """Matrices of known spectrum: Hadamard vectors, multiple and clustered eigenvalues."""
    H = np.ones((1, 1))
    for _ in range(4):
        H = np.block([[H, H], [H, -H]])
    n = len(H)
    rng = np.random.default_rng(4)
    for k in range(12):
        values = n * rng.integers(0, 2000, n).astype(float)
        values[: k + 1] = values.max()
        G = H.T @ np.diag(values) @ H / n * scale  # integers: exact
        found = eigenvalues.largest_eigenvalue(G)
        assert values.max() * scale <= found <= values.max() * scale * 1.2
        pair = eigenvalues.largest_eigenvalues(np.stack((G, G / 4)))
        for one, part in zip(pair, (1.0, 0.25), strict=True):
            assert values.max() * scale * part <= one <= values.max() * scale * part * 1.2
        assert eigenvalues.largest_eigenvalues(np.stack((G, 0.0 * G)))[1] == 0.0


def test_what_is_known_of_the_errors_of_a_gram_matrix_is_added() -> None:
    made = spectral.Gram(np.diag([5.0, 1.0]), 4.0, 10.0, 0.5, 10.0)
    assert made.norm() >= 3.5
    w = np.array([[1.0, 0.0]])
    assert q(made.forms(w)[0][0]) >= 3.5


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("last", [2.0**-12 + 2.0**-20, 2.0**-14 - 2.0**-21])
def test_errors_of_short_sums_are_known(sign: int, last: float) -> None:
    """RᵀR of equal rows: float32 sums of many equal products drift, here by an exact amount."""
    W = np.full((700, 2), np.float32(1 + last))
    W[:, 1] *= sign
    found = spectral._gram(Matrix(W), np.ones(2), False, True, 0, 700)
    exact = 700 * q(W[0, 0]) ** 2
    away = 2 * max(abs(abs(q(entry)) - exact) for entry in found.matrix.ravel())
    assert 0 < away <= q(found.error)
    assert q(found.frobenius) ** 2 >= 2 * exact


def test_norms_of_vectors_are_rounded_up() -> None:
    rng = np.random.default_rng(5)
    for scale in (1.0, 2.0**-600, 2.0**600):
        for _ in range(ROUNDS):
            x = abs(rough(rng, (1, 14), np.float64)) * scale
            assert q(norm_of(x, 1)[0, 0]) ** 2 >= sum(q(v) ** 2 for v in x[0])
            assert q(eigenvalues.frobenius(x)) ** 2 >= sum(q(v) ** 2 for v in x[0])


def test_forms_of_a_gram_matrix() -> None:
    """‖wᵀM‖ for rows that all but cancel: the Gram matrix's own error decides."""
    rng = np.random.default_rng(6)
    for _ in range(ROUNDS):
        n, k = int(rng.integers(2, 12)), int(rng.integers(2, 6))
        M = rng.standard_normal((k, n)) * 2.0 ** rng.integers(-3, 3)
        M[1] = M[0] * (1 + 2.0**-30 * rng.standard_normal(n))
        gain = rng.uniform(0.5, 2, n)
        w = np.zeros((1, k))
        w[0, :2] = 1.0, -1.0
        made = spectral.gram(spectral.read(M, gain, False)).forms(w)[0][0]
        read = [sum(q(w[0, i]) * q(M[i, j]) * q(gain[j]) for i in range(k)) for j in range(n)]
        assert q(made) ** 2 >= sum(r * r for r in read)


def test_forms_in_float32_say_hardly_more() -> None:
    """Rows that cancel, are too small or too large for float32 are taken in float64."""
    rng = np.random.default_rng(11)
    for _ in range(ROUNDS):
        n, k = int(rng.integers(8, 12)), int(rng.integers(2, 6))
        M = rng.standard_normal((k, n)) * 2.0 ** rng.integers(-60, 60)
        w = rng.standard_normal((6, k)).astype(np.float32)
        w[1], w[2], w[3] = 0, w[2] * np.float32(1e-30), w[3] * np.float32(1e30)
        M[1] = M[0] * (1 + 2.0**-12 * rng.standard_normal(n))
        w[4], w[4, :2] = 0, (1, -1)
        made, length = spectral.gram(spectral.read(M, np.ones(n), False)).forms(w)
        for i, row in enumerate(w):
            read = [sum(q(a) * q(M[r, j]) for r, a in enumerate(row)) for j in range(n)]
            square = sum(x * x for x in read)
            assert q(length[i]) ** 2 >= sum(q(a) ** 2 for a in row)
            assert square <= q(made[i]) ** 2 <= square * Fraction(101, 100) + Fraction(2) ** -800


@pytest.mark.parametrize("centred", [False, True])
def test_what_reading_a_layer_rounds_is_made_up_for(
    centred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix of rank one has the norm of a product of vectors; the eigenvalue given is exact."""
    monkeypatch.setattr(
        spectral, "largest_eigenvalue", lambda G: float(np.linalg.eigvalsh(G)[-1] * (1 - 1e-13))
    )
    rng = np.random.default_rng(7)
    for step in range(12):
        m, n = (2 * int(v) for v in rng.integers(70, 90, 2))
        u, v = np.ones(m), 2.0 ** rng.integers(-2, 3, n)
        gain = rng.uniform(1, 2, n) * (1 + 2.0**-25)
        if step % 2:  # nearly the same everywhere: the mean leaves what rounding made of it
            v, gain = np.ones(n), 1 + 2.0**-24 * rng.uniform(0, 0.9, n)
        W = np.outer(u, v).astype(np.float32)
        found, plain = spectral.of_layer(Matrix(W), gain, centred)
        read = [q(a) * q(g) for a, g in zip(v, gain, strict=True)]
        mean = sum(read) / n if centred else Fraction(0)
        assert q(found) ** 2 >= m * sum((r - mean) ** 2 for r in read)
        assert q(plain) ** 2 >= m * sum(r * r for r in read)


def test_wide_layers_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    W = rng.standard_normal((300, 40)).astype(np.float32)
    exact = np.linalg.norm(W.astype(float), 2)
    assert exact <= spectral.of_layer(Matrix(W), np.ones(40), False)[0] <= 1.1 * exact
    monkeypatch.setattr(spectral, "FULL", 16)
    assert exact <= spectral.of_layer(Matrix(W), np.ones(40), False)[0] <= 2 * exact


def test_every_head_has_a_mean_of_its_own() -> None:
    """Two heads that read one sphere may look different ways: norms add, over the heads."""
    W = np.array([[1, 0], [1, 0]], np.float32)  # both heads read the first entry
    form = Sphere(1, np.ones((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)), 1.0)
    rows, zero = np.arange(2).reshape(1, 2), np.zeros((1, 2))
    end = np.full((1, 2), np.inf)
    for block, most in (([[0]], 0.0), ([[0, 1]], 2.0)):
        image = Image(Matrix(W), form, rows, np.array(block), np.ones((1, 1)), zero, zero)
        difference = np.array([[1, -1]], np.float32)
        found = dense(Matrix(difference), None, Known((1, 2), -end, end, image))
        assert most <= found.upper[0, 0] <= most + 1e-6


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_what_hardware_rounds_to(name: str) -> None:
    import ml_dtypes

    storage, kind = FORMATS[name], {"f16": np.float16, "bf16": ml_dtypes.bfloat16}[name]
    assert storage.largest == float(
        np.finfo(kind).max if name == "f16" else ml_dtypes.finfo(kind).max
    )
    rng = np.random.default_rng(9)
    x = rng.uniform(1, 2, 20_000) * 2.0 ** rng.integers(-24 if name == "f16" else -126, 15, 20_000)
    lost = abs(x.astype(np.float32).astype(kind).astype(float) - x.astype(np.float32))
    allowed = storage.unit * x.astype(np.float32) + storage.quantum
    assert (lost <= allowed).all() and (lost > 0.9 * storage.unit * x).any()


@pytest.mark.parametrize("stray", [0.0, 0.5])
def test_a_rounded_sphere_holds_what_every_entry_moved_by(stray: float) -> None:
    """RANGE.STRAY: entries of a longest vector, all of them rounded away from 0."""
    unit, n = 2.0**-8, 4
    form = vectors(np.array([1.0, -2.0, 0.5, 3.0]), np.zeros(n), False)
    made = replace(form, stray=stray).rounded(unit, 0.0, np.full((1, n), np.inf))
    longest = q(form.radius) + q(stray)
    assert not made.error.any() and (made.gain == form.gain).all()
    assert q(made.radius) + q(made.stray) >= longest * (1 + q(unit))


def test_constants_that_differ_from_position_to_position_count_with_their_hull() -> None:
    builder = Builder(ops.Input(), (3, 2))
    shift = np.array([[0.0, 1.0], [2.0, -5.0], [1.0, 3.0]])
    builder.add(ops.Scale(np.array([2.0]), shift), 0)
    source = Known((3, 2), -np.ones((1, 2)), np.ones((1, 2)))
    lower, upper = range_walk(builder.build(1), source)[1].bounds
    assert (lower[:, 0] <= -2).all() and (upper[:, 0] >= 4).all()
    assert (lower[:, 1] <= -7).all() and (upper[:, 1] >= 5).all() and math.isfinite(upper.max())


def test_rounding_of_an_image_is_read_by_what_comes_after() -> None:
    W, zero = np.zeros((1, 2), np.float32), np.zeros((1, 2))
    source = Sphere(1, np.ones((1, 2)), zero, zero, 1.0)
    ones = np.ones((1, 1))
    form = Image(
        Matrix(W), source, np.zeros((1, 1), int), np.zeros((1, 1), int), ones, ones, 0 * ones
    )
    kept = FORMATS["f16"].stored(Known((1, 1), ones, ones, form))
    end = np.full((1, 1), np.inf)
    found = dense(Matrix(np.full((1, 1), np.float32(8))), None, Known((1, 1), -end, end, kept.form))
    assert found.upper[0, 0] >= 8 * (1 + 2.0**-11) and found.lower[0, 0] <= 8 * (1 - 2.0**-11)


def test_a_rotation_that_is_rounded_at_every_step_stays_inside() -> None:
    """Both products and their sum are rounded up: more than one rounding allows."""
    angle, k, f = 0.7868211972398474, 1.45703125, np.float16
    builder = Builder(ops.Input(), (1, 1, 2))
    other = builder.add(ops.Gather(np.array([1, 0]), (1, 1, 2)), 0)
    cos = builder.add(ops.Scale(np.full(2, math.cos(angle))), 0)
    sin = builder.add(ops.Scale(math.sin(angle) * np.array([-1.0, 1.0])), other)
    net = builder.build(builder.add(ops.Add(), cos, sin))
    end = np.full((1, 1, 2), k - 2.0**-11)  # what is read is rounded, too: up to k
    found = range_walk(net, Known((1, 1, 2), -end, end), FORMATS["f16"])[-1]
    most = float(f(f(math.cos(angle) * k) + f(math.sin(angle) * k)))
    assert math.sqrt(2) * k * (1 + 2.0**-11) < most <= found.upper.max()


def test_chances_that_were_rounded_sum_to_one_within_their_excess() -> None:
    rng = np.random.default_rng(10)
    powers = np.exp(rng.normal(0, 3, (2000, 9)))
    chances = powers / powers.sum(axis=1, keepdims=True)
    kept = chances.astype(np.float16).astype(float)
    zero = np.zeros((1, 9))
    excess = FORMATS["f16"].stored(Known((1, 9), zero, zero + 1, None, 0.0)).excess
    away = abs(kept.sum(axis=1) - 1).max()
    assert excess is not None and 2.0**-13 < away <= excess
    builder = Builder(ops.Input(), (1, 9))
    p = builder.add(ops.Softmax(), 0)
    values = builder.add(ops.Scale(np.zeros(1), np.ones(9)), 0)
    mixed = builder.add(ops.MatMul(), p, builder.add(ops.Reshape((9, 1)), values))
    end = np.full((1, 9), 20.0)
    found = range_walk(builder.build(mixed), Known((1, 9), -end, end), FORMATS["f16"])[-1]
    assert found.upper.max() >= 1 + away + 2.0**-11
