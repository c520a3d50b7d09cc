"""Stored weights: decoded bits are gguf-py's, products keep their stated errors, everywhere."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from gamma.errors import FormatError, UsageError
from gamma.tensor import kernels
from gamma.tensor.kernels.stored import BLOCKS
from gamma.tensor.rounding import gamma_factor
from gamma.tensor.weights import Weight

Array = npt.NDArray[Any]
RARE = ("iq2_xxs", "q2_k", "q3_k", "tq1_0", "tq2_0", "iq4_nl", "iq3_s", "mxfp4")
pytestmark = pytest.mark.usefixtures("isa")


def blocks(kind: str, rows: int, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random bytes as ``count`` blocks a row, all of whose weights are finite."""
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, count, size), dtype=np.uint8)
    for _ in range(100):
        values = truth(kind, raw.reshape(rows, -1)).reshape(rows, count, -1)
        bad = ~np.isfinite(values).all(axis=2)
        if not bad.any():
            break
        raw[bad] = rng.integers(0, 256, (int(bad.sum()), size), dtype=np.uint8)
    return raw.reshape(rows, -1)


def truth(kind: str, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        values: npt.NDArray[np.float32] = dequantize(raw, GGMLQuantizationType[kind.upper()])
    return values


def stored(kind: str, rows: int, columns: int, seed: int = 0) -> Weight:
    weights, _ = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
    return Weight((rows, columns), kind, blocks(kind, rows, columns // weights, seed), "w")


def test_layouts_are_those_of_ggml() -> None:
    for kind, layout in BLOCKS.items():
        assert layout == GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]


def test_layouts_in_c_are_those_in_python(isa: str) -> None:
    if isa == "numpy":
        pytest.skip("no compiled library in use")
    from gamma.tensor._simd import lib

    for kind, (weights, size) in BLOCKS.items():
        number = getattr(lib, f"GAMMA_{kind.upper()}")
        assert (lib.gamma_block(number, 0), lib.gamma_block(number, 1)) == (weights, size)


@pytest.mark.parametrize("kind", [*BLOCKS, *RARE])
def test_decoded_bits_are_those_of_gguf_py(kind: str) -> None:
    weights, _ = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
    for count in (1, 3, 7) if weights > 1 else (1, 5, 63, 64, 65, 130):
        weight = stored(kind, 9, count * weights, count)
        expected = truth(kind, weight.raw)
        assert weight.panel(0, 9).tobytes() == expected.tobytes()
        assert weight.panel(2, 5).tobytes() == expected[2:5].tobytes()
        assert np.array_equal(weight.panel(4, 9, np.float64), expected[4:9].astype(np.float64))


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_every_16_bit_number_is_decoded_exactly(kind: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = truth(kind, bits.view(np.uint8).reshape(1, -1))
    finite = bits[np.isfinite(values[0])]
    weight = Weight((len(finite),), kind, finite.view(np.uint8).reshape(1, -1))
    assert weight.array().tobytes() == values[0][np.isfinite(values[0])].tobytes()


@pytest.mark.parametrize("kind", BLOCKS)
def test_bytes_need_no_alignment(kind: str) -> None:
    weight = stored(kind, 3, 512)
    room = np.zeros(weight.nbytes + 1, np.uint8)
    room[1:] = weight.raw.reshape(-1)
    moved = Weight(weight.shape, kind, room[1:].reshape(3, -1))
    assert moved.panel(0, 3).tobytes() == weight.panel(0, 3).tobytes()
    given = np.ones((2, 512)), np.ones((2, 512))
    assert moved.interval(*given)[0].tobytes() == weight.interval(*given)[0].tobytes()


@pytest.mark.parametrize("kind", ["q8_0", "q4_1", "q5_1", "q4_k", "q5_k", "q6_k"])
def test_every_scale_is_decoded_as_gguf_py_does(kind: str) -> None:
    """Subnormal, negative and zero halves as scales and minima."""
    halves = np.array([0, 1, 0x3FF, 0x400, 0x7BFF, 0x8000, 0x8001, 0x83FF, 0xFBFF], np.uint16)
    raw = blocks(kind, len(halves), 1)
    places = (208,) if kind == "q6_k" else (0,) if kind == "q8_0" else (0, 2)
    for at in places:
        raw[:, at : at + 2] = np.roll(halves, at).view(np.uint8).reshape(-1, 2)
    weight = Weight((len(halves), BLOCKS[kind][0]), kind, raw)
    assert weight.panel(0, len(halves)).tobytes() == truth(kind, raw).tobytes()


@pytest.mark.parametrize("kind", [*BLOCKS, "iq4_nl"])
@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7E01])
def test_infinite_weights_are_named(kind: str, bad: int) -> None:
    weight = stored(kind, 5, 512)
    raw = weight.raw.copy()
    at = {"q6_k": 208, "f32": 2, "bf16": 0, "f16": 0}.get(kind, 0)
    pattern = {"f32": 0x7F80, "bf16": 0x7F80}.get(kind, bad)
    raw[3, at : at + 2] = np.frombuffer(np.uint16(pattern).tobytes(), np.uint8)
    wrong = Weight((5, 512), kind, raw, "blk.0.w")
    with pytest.raises(FormatError, match=r"blk\.0\.w: weight at index \[3, \d+\] is -?(inf|nan)"):
        wrong.panel(0, 5)
    with pytest.raises(FormatError, match=r"index \[3, "):
        wrong.interval(np.ones((1, 512)), np.ones((1, 512)))
    wrong.panel(0, 3)


def exact(values: npt.ArrayLike) -> list[Fraction]:
    return [Fraction(float(v)) for v in np.ravel(np.asarray(values))]


def dot(x: Array, y: Array, absolute: bool = False) -> Fraction:
    """Σ x·y (or Σ |x·y|) in whole multiples of 2^-600."""

    def whole(v: float) -> int:
        mantissa, exponent = math.frexp(v)
        return int(mantissa * 2**53) << (exponent + 247)

    products = [whole(float(a)) * whole(float(b)) for a, b in zip(x, y, strict=True)]
    return Fraction(sum(map(abs, products) if absolute else products), 2**600)


@pytest.mark.parametrize("B", [1, 5, 17])
@pytest.mark.parametrize(("kind", "n"), [("q6_k", 512), ("q8_0", 288), ("f16", 301), ("f32", 7)])
def test_products_enclose_the_exact_ones(kind: str, n: int, B: int) -> None:
    weight = stored(kind, 18, n, B)
    rng = np.random.default_rng(B)
    centre = rng.standard_normal((B, n)) * 2.0 ** rng.integers(-20, 20, (B, n))
    radius = np.abs(rng.standard_normal((B, n))) * 2.0 ** rng.integers(-20, 3, (B, n))
    z, spread = weight.interval(centre, radius)
    rows, factor = weight.panel(0, 18), Fraction(gamma_factor(n, np.float64))
    for i, b in itertools.product((0, 15, 16, 17), {0, B - 1}):
        size = dot(rows[i], centre[b], absolute=True)
        wrong = abs(Fraction(z[b, i]) - dot(rows[i], centre[b]))
        assert wrong <= factor * size + Fraction(2) ** -1000
        least = dot(rows[i], radius[b], absolute=True)
        most = least * (1 + Fraction(1, 10000)) + Fraction(2) ** -130
        assert least <= Fraction(spread[b, i]) <= most


def test_a_spread_pays_for_its_float32_sums(isa: str) -> None:
    """One term and 255 that are each half a unit of it and are lost when they are added."""
    n = 256
    values = np.full((1, n), 2.0**-24, np.float32)
    values[0, ::16] = 1.0
    values[0, 16:] *= np.float32(1 - 2.0**-10)
    weight = Weight.of(values)
    radius = np.ones((1, n))
    _, spread = weight.interval(np.zeros((1, n)), radius)
    assert Fraction(spread[0, 0]) >= sum(exact(values))


def test_a_spread_pays_for_products_that_underflow() -> None:
    values = np.full((2, 64), 2.0**-100, np.float32)
    _, spread = Weight.of(values).interval(np.zeros((1, 64)), np.full((1, 64), 2.0**-60))
    assert (spread >= 64 * 2.0**-160).all()


def test_a_radius_below_float32_is_rounded_up() -> None:
    weight = Weight.of(np.full((1, 1), 2.0**100, np.float32))
    _, spread = weight.interval(np.zeros((1, 1)), np.full((1, 1), 2.0**-160))
    assert spread[0, 0] >= 2.0**-60


@pytest.mark.parametrize("kind", ["q4_k", "q5_0", "bf16"])
def test_a_row_is_the_same_alone_and_among_others(kind: str, isa: str) -> None:
    if isa == "numpy":
        pytest.skip("BLAS products depend on their shape")
    weight, rng = stored(kind, 37, 512), np.random.default_rng(0)
    centre, radius = rng.standard_normal((7, 512)), rng.random((7, 512))
    whole = weight.interval(centre, radius)
    for start, stop, b in ((0, 37, slice(2, 3)), (5, 6, slice(0, 7)), (11, 30, slice(3, 7))):
        part = weight.interval(centre[b], radius[b], start, stop)
        for found, all_of_it in zip(part, whole, strict=True):
            assert found.tobytes() == all_of_it[b, start:stop].tobytes()


@pytest.mark.parametrize("kind", ["q6_k", "f16", "f64"])
def test_row_sums_are_upper_bounds(kind: str) -> None:
    rng = np.random.default_rng(1)
    given = rng.standard_normal((6, 256))
    weight = Weight.of(given) if kind == "f64" else stored(kind, 6, 256)
    sums, rows = weight.row_sums(), weight.panel(0, 6, np.float64)
    for i in range(6):
        least = sum(map(abs, exact(rows[i])), Fraction(0))
        assert least <= Fraction(sums[i]) <= least * (1 + Fraction(1, 10**9))


def test_arrays_are_weights() -> None:
    array = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    weight = Weight.of(array, "x")
    assert (weight.rows, weight.columns, weight.nbytes, weight.mapped) == (6, 4, 192, False)
    assert np.array_equal(weight.panel(1, 4, np.float64), array.reshape(6, 4)[1:4])
    assert np.array_equal(weight.array(), array)
    with pytest.raises(UsageError, match="not exact"):
        weight.panel(0, 1)
    with pytest.raises(UsageError, match=r"rows 5\.\.7 of 6"):
        weight.panel(5, 7, np.float64)
    for wrong in (np.ones((2, 2), np.int32), np.ones((0, 2))):
        with pytest.raises(UsageError, match="expected entries"):
            Weight.of(wrong)


def test_panels_use_one_memory() -> None:
    weight = stored("q8_0", 700, 1024)
    seen = [(start, panel.copy(), panel.base) for start, panel in weight.panels()]
    assert len(seen) > 1 and len({id(base) for _, _, base in seen}) == 1
    whole = np.concatenate([panel for _, panel, _ in seen])
    assert whole.tobytes() == truth("q8_0", weight.raw).tobytes()


def test_kernels_refuse_what_does_not_fit() -> None:
    raw = blocks("q8_0", 2, 2)
    with pytest.raises(UsageError, match="kind"):
        kernels.decode_rows("q9", raw, np.empty((2, 64), np.float32))
    with pytest.raises(UsageError, match="multiple of 34"):
        kernels.decode_rows("q8_0", raw[:, :-1], np.empty((2, 64), np.float32))
    with pytest.raises(UsageError, match="out"):
        kernels.decode_rows("q8_0", raw, np.empty((2, 63), np.float32))
    z = np.empty((1, 2))
    with pytest.raises(UsageError, match="radius"):
        kernels.stored_affine("q8_0", raw, np.ones((1, 64)), np.ones((1, 64)), z, z.copy())
