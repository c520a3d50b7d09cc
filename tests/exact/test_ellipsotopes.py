"""Ellipsotopes against exact truth: what a point of a set becomes is in the image of the set.

A point is middle + G·ξ + e with the very numbers that are stored. The value there, in fractions or
to 60 digits, less what the image says of the same ξ, must be in what the image has new: symbols of
its own and an interval. That is asked entry by entry and of random rows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from flint import arb
from msgspec.structs import replace

from gamma import ops
from gamma.ops.ellipsoid import Ellipsoids
from gamma.ops.ellipsotope import Ellipsotope, Symbols, alone, new_key
from gamma.ops.squares import Curved, read
from gamma.tensor import kernels
from tests.exact.symbols import check, exact, image, inside, point, spread, spread_like

Array = Any
pytestmark = pytest.mark.usefixtures("precise")


def evaluated(f: Callable[[Any], Any], x: Array) -> Array:
    """f of fractions to 400 bits, as fractions."""

    def one(value: Fraction) -> Fraction:
        found = f(arb(flint.fmpq(value.numerator, value.denominator))).mid()
        man, exponent = found.man_exp()
        return Fraction(int(man)) * Fraction(2) ** int(exponent)

    return np.vectorize(one, otypes=[object])(x)


def softmax(x: Array, axis: int = -1) -> Array:
    power = evaluated(lambda v: v.exp(), x)
    return power / power.sum(axis=axis, keepdims=True)


def normal(x: Array, epsilon: float, centred: bool) -> Array:
    c = x - x.mean(axis=-1, keepdims=True) if centred else x
    v = (c * c).mean(axis=-1, keepdims=True) + Fraction(epsilon)
    return c * evaluated(lambda a: a.rsqrt(), v)


@pytest.mark.parametrize("size", (1e6, 1e-6))
def test_dense_layers(size: float) -> None:
    r = np.random.default_rng(1)
    w, b = r.normal(size=(5, 7)), r.normal(size=5)
    layer = ops.Gemm(w, b)
    check(layer, lambda x: x @ exact(w).T + exact(b), spread(r, (3, 7), size, 1e-3))
    x = spread(r, (3, 7), size, 1e-3)
    x = Ellipsotope(x.shape, x.middle, 0 * x.rest, x.parts)  # rounding has nowhere to hide
    check(layer, lambda x: x @ exact(w).T + exact(b), x)
    more = r.normal(size=(9, 7))
    check(ops.Gemm(more), lambda x: x @ exact(more).T, spread(r, (3, 7), size, 1e-3))


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("size", (1e6, 1e-6))
def test_dense_layers_of_places(isa: str, size: float) -> None:
    """Places with symbols of their own: one call, through wide and narrow layers."""
    r = np.random.default_rng(4)
    x = spread(r, (3, 7), size, 1e-3)
    x = replace(x, parts={key: part for key, part in x.parts.items() if part.places == 3})
    with kernels.pinned(isa):
        for m in (5, 8, 9):
            w, b = r.normal(size=(m, 7)), r.normal(size=m)
            # Rounding has nowhere to hide in the last ones; an interval that stays one is small.
            cases = (1e-7, 1.0), (1e-7, 0.0), (0.0, 2.0**-28), (0.0, 0.0)
            for error, rest in ((error, share * x.rest) for error, share in cases):
                layer = ops.Gemm(w, b, weight_error=np.full_like(w, error) if error else None)
                real = exact(w) + exact(error)
                found = check(
                    layer,
                    lambda v, real=real, b=b: v @ real.T + exact(b),
                    Ellipsotope(x.shape, x.middle, rest, x.parts),
                )
                ends_as_anew(found)


def test_intervals_alone_through_narrow_and_wide_layers() -> None:
    r, x = np.random.default_rng(2), spread(np.random.default_rng(2), (3, 6), 1.0)
    x = Ellipsotope(x.shape, x.middle, 10 * x.rest, x.parts)
    for m in (3, 8):
        w = r.normal(size=(m, 6))
        found = check(ops.Gemm(w), lambda v, w=w: v @ exact(w).T, x)
        assert len(found.parts) == 5


def test_intervals_that_stay_intervals_beside_large_ones() -> None:
    """What hardly moves gets no symbol of its own, in rows that read nothing else as well."""
    r = np.random.default_rng(2)
    x = spread(r, (2, 6), 1.0)
    few = np.arange(12) >= 6
    rest = np.where(few, 2.0**-34, 0.25)
    parts = {key: Symbols(np.where(few, 0.0, p.columns), p.each) for key, p in x.parts.items()}
    x = Ellipsotope(x.shape, 2.0**-30 * x.middle, rest, parts)
    assert (x.spelled.rest > 0).sum() == 6
    w = r.normal(size=(7, 6))
    check(ops.Gemm(w), lambda v: v @ exact(w).T, x)
    both = x, Ellipsotope((6, 2), x.middle[::-1], rest[::-1], {})
    check(ops.MatMul(), lambda a, b: a @ b, *both)


def test_uncertain_coefficients_and_offsets() -> None:
    r = np.random.default_rng(3)
    scale = ops.Scale(r.normal(size=6), r.normal(size=6), 1e-6, 0.0)
    real = exact(scale.scale) * (1 + Fraction(1, 10**6))
    check(scale, lambda x: x * real + exact(scale.shift), spread(r, (6,), 1e3, 1e-3))
    shifted = ops.Scale(np.ones(6), r.normal(size=6), 0.0, 0.5)
    check(shifted, lambda x: x + exact(shifted.shift) + Fraction(1, 2), spread(r, (6,), 1e-3))


def test_symbols_of_places_become_those_of_fewer() -> None:
    """In each entry the same, place by place in order; blocks stay together."""
    r = np.random.default_rng(21)
    x = Symbols(r.normal(size=(4, 12)), 2, 6)
    xi = r.normal(size=(6, 4))
    value = np.einsum("pk,kpm->pm", xi, x.columns.reshape(4, 6, 2)).reshape(-1)
    for places in (1, 2, 3, 6):
        y = x.at(places)
        assert y.places == places and y.count == x.count and y.each == x.each
        own = xi.reshape(places, -1)  # those of a place, one after another
        size = 12 // places
        for p in range(places):
            at = slice(p * size, (p + 1) * size)
            assert np.allclose(own[p] @ y.columns[:, at], value[at], atol=1e-13)
        assert np.allclose(y.reach, x.reach)


def test_operators_that_mix_places_take_their_symbols_apart() -> None:
    r = np.random.default_rng(22)
    x = spread(r, (2, 2, 3), 1e-3)
    check(ops.Transpose((1, 0, 2)), lambda v: v.transpose(1, 0, 2), x)
    index = r.permutation(12)
    check(ops.Gather(index, (2, 2, 3)), lambda v: v.reshape(-1)[index], x)
    w = r.normal(size=(4, 12))
    flat = check(ops.Reshape((12,)), lambda v: v.reshape(-1), x)
    assert [p.places for p in flat.parts.values()] == [p.places for p in x.parts.values()]
    check(ops.Gemm(w), lambda v: exact(w) @ v, flat)
    check(ops.Softmax(0), lambda v: softmax(v, 0), x)
    check(ops.Normalize(1, 1e-5, False), lambda v: normal(v.reshape(2, 6), 1e-5, False), x)
    check(ops.ReduceSum((1,)), lambda v: v.sum(axis=1), x)
    check(ops.Mul(), lambda a, b: a * b, x, Ellipsotope((3,), x.middle[:3], x.rest[:3], {}))


def test_what_is_left_open_is_apart_where_places_have_as_much() -> None:
    r = np.random.default_rng(23)
    for open_at, places, count in (((0, 1, 3, 5), 2, 2), ((0, 1, 2), 1, 3), ((), 2, 1)):
        some = np.array(open_at, np.int64)
        made = alone((2, 3), some, r.uniform(1, 2, len(some)), 1.5)
        assert (made.places, len(made.columns)) == (places, count)
        assert np.array_equal(np.flatnonzero(made.reach), some)
        assert (np.count_nonzero(made.at(1).columns, axis=1) <= 1).all()


def test_shared_symbols_cancel() -> None:
    r = np.random.default_rng(4)
    x = spread(r, (6,), 1.0)
    twice = image(ops.Scale(-np.ones(6), np.zeros(6)), x)
    found = check(
        ops.Add(),
        lambda a, b: a + b,
        x,
        Ellipsotope(twice.shape, twice.middle, x.rest, twice.parts),
    )
    assert (found.swing <= 2.001 * x.rest).all()


def test_sums_of_sets_with_symbols_of_places_and_of_fewer() -> None:
    """The same symbols in both, and some in one alone."""
    r = np.random.default_rng(24)
    x = spread(r, (2, 3), 1.0)
    parts = {key: part.at(1) for key, part in list(x.parts.items())[1:]}
    y = spread(r, (2, 3), 1.0)
    y = Ellipsotope(y.shape, y.middle, y.rest, {**parts, **y.parts})
    for signs in ((1, -1), (-1, 1), (1, 1)):
        for first, second in ((x, y), (y, x)):
            check(ops.Add(signs), lambda a, b, s=signs: s[0] * a + s[1] * b, first, second)


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("size", (1e-3, 1.0))
def test_functions(isa: str, size: float) -> None:
    r = np.random.default_rng(5)
    with kernels.pinned(isa):
        ends_as_anew(check(ops.Gelu(), gelu, spread(r, (9,), size)))
        relu = spread(r, (9,), size, 0.1 * size)
        ends_as_anew(check(ops.Relu(), lambda x: np.where(x > 0, x, Fraction(0)), relu, times=12))


def ends_as_anew(found: Ellipsotope) -> None:
    """What the call that made a set found of its reach is what the set says, but for rounding."""
    again = replace(found)
    for one, other in zip((found.swing, *found.ends), (again.swing, *again.ends), strict=True):
        assert (abs(one - other) <= 1e-13 * (abs(again.middle) + again.swing).max()).all()


def gelu(x: Array) -> Array:
    return evaluated(lambda v: v * (1 + (v / arb(2).sqrt()).erf()) / 2, x)


def squared(x: Ellipsotope) -> Ellipsotope:
    """GELU's set, of which nothing but the squares says anything."""
    made = image(ops.Gelu(), x)
    assert made.curved is not None
    return replace(made, rest=np.full_like(made.rest, 1e9))


@pytest.mark.parametrize("size", (1e-3, 0.1, 1.0))
def test_squares_of_functions_through_narrow_layers(size: float) -> None:
    """Values of GELU to second order, then their sums: points of the set before the function."""
    r = np.random.default_rng(15)
    x, w = spread(r, (2, 8), size, 2.0), r.normal(size=(3, 8))
    found = image(ops.Gemm(w), squared(x))
    assert found.known and found.swing.max() < 1e6
    for _ in range(4):
        known, value = point(r, x, {})
        inside(r, found, known, (gelu(value).reshape(2, 8) @ exact(w).T).reshape(-1))


@pytest.mark.parametrize(
    ("middle", "size"), ((0.0, 1e-2), (0.7923, 0.3), (-0.7923, 0.3), (2.5, 0.5))
)
def test_squares_of_one_symbol_are_met(middle: float, size: float) -> None:
    """All of a vector moves together, near where GELU has no third derivative, or most of it."""
    column, w = size * np.array([[1.0, -1.0, 0.9]]), np.ones((1, 3))
    x = Ellipsotope((3,), np.full(3, middle), np.zeros(3), {new_key(): Symbols(column)})
    found, (key,) = image(ops.Gemm(w), squared(x)), x.parts
    for xi in (-1.0, 1.0, 0.5):
        value = gelu(exact(x.middle) + Fraction(xi) * exact(column[0]))
        inside(np.random.default_rng(0), found, {key: exact([xi])}, value @ exact(w).T)


def test_squares_cancel_where_intervals_do_not() -> None:
    r = np.random.default_rng(16)
    w, x = r.normal(size=(2, 96)), Ellipsotope((96,), r.normal(size=96), np.zeros(96), {})
    x = replace(x, parts={new_key(): Symbols(r.normal(size=(16, 96)) * 0.01, 16)})
    made = image(ops.Gelu(), x)
    apart, together = (
        sum(p.reach.sum() for key, p in image(ops.Gemm(w), y).parts.items() if key not in x.parts)
        for y in (replace(made, curved=None), made)
    )
    assert together < 0.5 * apart


def test_squares_in_an_uncertain_ellipsoid() -> None:
    around = Ellipsoids(np.zeros((1, 2, 2)), np.array([4.0]), np.ones((1, 2)))
    base = Ellipsotope((2,), np.zeros(2), np.zeros(2), {})
    found = read(lambda f: f.T[:, :, None], Curved(base, np.array([3.0, 0.0]), around))
    assert found.factors()[0, 0, 0] >= 12.0


def test_third_derivatives() -> None:
    x = np.linspace(-9, 9, 40001)
    size = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * abs(x**3 - 4 * x)
    assert 0.77 < size.max() < ops.Gelu().third
    near = np.linspace(-3, 3, 61)
    step = (ops.Gelu().derivative(near + 1e-5) - ops.Gelu().derivative(near - 1e-5)) / 2e-5
    assert np.allclose(step, ops.Gelu().second(near), atol=1e-8)


@pytest.mark.parametrize("size", (1e-3, 0.5))
def test_softmax(size: float) -> None:
    r = np.random.default_rng(6)

    def logarithm(x: Array) -> Array:
        return evaluated(lambda v: v.log(), softmax(x))

    check(ops.Softmax(-1), softmax, spread(r, (2, 4), size))
    check(ops.LogSoftmax(-1), logarithm, spread(r, (2, 4), size))


@pytest.mark.parametrize("size", (1e-160, 1e-6, 1.0))
@pytest.mark.parametrize("shapes", (((2, 2, 2), (2, 2, 4)), ((2, 2, 4), (2, 4, 2))))
def test_products_of_matrices(shapes: Any, size: float) -> None:
    """Fewer terms than entries of a vector, and more: ellipsoids, and lengths."""
    r = np.random.default_rng(7)
    x, y = (spread(r, shape, size) for shape in shapes)
    y = Ellipsotope(y.shape, y.middle, y.rest, {**y.parts, **spread_like(r, x, y)})
    found = check(ops.MatMul(), lambda a, b: a @ b, x, y)
    plain = Ellipsotope(y.shape, y.middle, y.rest, y.parts)
    check(
        ops.Mul(),
        lambda a, b: a * b,
        x,
        Ellipsotope(x.shape, x.middle[::-1].copy(), x.rest, x.parts),
    )
    assert plain.known and found.known


@pytest.mark.parametrize("centred", (True, False))
@pytest.mark.parametrize("size", (1e-8, 1e-3, 0.05))
def test_normalisation(size: float, centred: bool) -> None:
    r = np.random.default_rng(8)
    op = ops.Normalize(-1, 1e-5, centred)
    found = check(op, lambda x: normal(x, 1e-5, centred), spread(r, (2, 6), size))
    if size < 1e-2:  # first order decides
        assert (found.swing < 20 * size).all()


@pytest.mark.parametrize("centred", (True, False))
def test_a_variance_that_an_interval_moves(centred: bool) -> None:
    """Corners of the interval at which v is largest and smallest; an entry stays where it is."""
    middle, sign = np.arange(1.0, 9.0) - 4.5 * centred, np.ones(8)
    rest = 0.4 * abs(middle) * (np.arange(8) > 0)
    x = Ellipsotope((8,), middle, rest, {new_key(): Symbols(np.full((1, 8), 1e-6))})
    found = image(ops.Normalize(-1, 1e-5, centred), x)
    r, (key,) = np.random.default_rng(0), x.parts
    for side in (sign, -sign, np.sign(middle), -np.sign(middle)):
        known, value = {key: exact(np.ones(1))}, exact(middle) + exact(side) * exact(rest)
        value = value + known[key] @ exact(x.parts[key].columns)
        inside(r, found, known, normal(value, 1e-5, centred))


def test_a_variance_that_grows_without_moving_the_large_entries() -> None:
    """Only the line of 1/√v knows that they shrink: their own set is a point."""
    column = Symbols(np.array([[0.0, 0.0, 0.3, -0.3]]))
    x = Ellipsotope((4,), np.array([3.0, -3.0, 0.0, 0.0]), np.zeros(4), {new_key(): column})
    check(ops.Normalize(-1, 1e-5, True), lambda x: normal(x, 1e-5, True), x)
