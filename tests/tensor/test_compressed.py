"""CompressedBounds contain what they compress, on every instruction set; files are checked."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamma.errors import FormatError, UsageError
from gamma.tensor import BoundedTensor, CompressedBounds, CompressionStats, kernels
from gamma.tensor.codes import CODES, LARGEST, decode, difference_up, encode, times_power
from gamma.tensor.stored import MAGIC

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("isa")


def all_values(code: str) -> Array:
    """Every value of a 16-bit code but NaN, ascending, as float32; -0 and 0 both."""
    values = decode(code, np.arange(1 << 16, dtype=np.uint16))
    return np.sort(values[~np.isnan(values)])


def random_floats(seed: int, count: int) -> Array:
    """float32 numbers with random bits: every exponent, subnormals and infinities, no NaN."""
    bits = np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32)
    values = bits.view(np.float32)
    return np.where(np.isnan(values), np.float32(0), values)


def intervals(seed: int, count: int, spread: int = 30) -> BoundedTensor:
    rng = np.random.default_rng(seed)
    ends = rng.standard_normal((2, count)) * 2.0 ** rng.integers(-spread, spread + 1, count)
    ends = ends.astype(np.float32)
    return BoundedTensor(ends.min(0), ends.max(0))


def moderate(seed: int, count: int, radius: float) -> BoundedTensor:
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(count).astype(np.float32)
    return BoundedTensor.from_epsilon(centre, radius * rng.random(count))


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["f16", "bf16"])
def test_every_code_encodes_to_itself(code: str) -> None:
    values = all_values(code)
    assert len(values) == (1 << 16) - {"f16": 2 * 1023, "bf16": 2 * 127}[code]
    for upward in (False, True):
        np.testing.assert_array_equal(decode(code, encode(code, values, upward)), values)


@pytest.mark.parametrize("code", ["f16", "bf16"])
def test_between_two_codes_the_neighbours_are_found(code: str) -> None:
    """All float32 next to a code, and a random one between every two."""
    values = np.unique(all_values(code))
    low, high = values[:-1], values[1:]
    rng = np.random.default_rng(3)
    with np.errstate(all="ignore"):
        inside = low + (high - low) * rng.random(low.shape).astype(np.float32)
    for x in (np.nextafter(low, high), np.nextafter(high, low), inside):
        between = (low < x) & (x < high)
        if code == "f16":
            assert between[1:-1].all() or x is inside
        for upward, expected in ((False, low), (True, high)):
            found = decode(code, encode(code, x, upward))
            np.testing.assert_array_equal(found[between], expected[between])


@pytest.mark.parametrize("code", CODES)
def test_random_bits_round_to_their_side(code: str) -> None:
    x = random_floats(7, 300_001)
    assert (decode(code, encode(code, x, False)) <= x).all()
    assert (decode(code, encode(code, x, True)) >= x).all()


def test_24_bits_round_to_the_neighbours() -> None:
    """The upper bits of a float32 are themselves; what lies between two goes to either."""
    rng = np.random.default_rng(4)
    kept = rng.integers(0, 0x7F7FFF, 100_000, dtype=np.uint32)
    low, high = (((kept + k) << 8).view(np.float32) for k in (np.uint32(0), np.uint32(1)))
    inside = ((kept << 8) + rng.integers(1, 256, kept.size, dtype=np.uint32)).view(np.float32)
    for upward, expected in ((False, low), (True, high)):
        np.testing.assert_array_equal(decode("f24", encode("f24", low, upward)), low)
        np.testing.assert_array_equal(decode("f24", encode("f24", inside, upward)), expected)
        np.testing.assert_array_equal(decode("f24", encode("f24", -inside, not upward)), -expected)
    assert encode("f24", low, False).nbytes == 3 * low.size


def test_nan_goes_to_the_end_that_says_nothing() -> None:
    x = np.array([np.nan, -np.nan], np.float32)
    for code in ("f16", "bf16", "f24"):
        assert (decode(code, encode(code, x, False)) == -np.inf).all()
        assert (decode(code, encode(code, x, True)) == np.inf).all()


def test_difference_and_powers_are_exact_where_they_can_be() -> None:
    a, b = np.array([1.0, 1.0, 3.0]), np.array([0.5, 2.0**-60, -(2.0**-60)])
    np.testing.assert_array_equal(difference_up(a, b), [0.5, 1.0, np.nextafter(3.0, 4)])
    tiny = np.array([5e-324, -5e-324, 1.0])
    np.testing.assert_array_equal(times_power(tiny, -1, False), [0, -5e-324, 0.5])
    np.testing.assert_array_equal(times_power(tiny, -1, True), [5e-324, 0, 0.5])


# --- tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["f16", "bf16"])
def test_a_tensor_of_all_codes_is_kept_exactly(code: str) -> None:
    values = all_values(code)
    values = values[np.isinf(values) | (np.abs(values) <= LARGEST["f16"])]
    points = BoundedTensor.from_point(values[np.isfinite(values)])
    wide = BoundedTensor(values[:-1], values[1:])
    for tensor in (points, wide):
        kept = CompressedBounds.from_bounded_tensor(tensor, code, "ends")
        assert kept.code == code
        back = kept.to_bounded_tensor()
        np.testing.assert_array_equal(back.lower, tensor.lower)
        np.testing.assert_array_equal(back.upper, tensor.upper)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("form", ["auto", "ends", "centre"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("radius", [0.0, 1e-6, 1e-2, 10.0])
def test_what_comes_back_contains_what_went_in(
    code: str, form: str, dtype: type, radius: float
) -> None:
    tensor = moderate(1, 70_001, radius).astype(dtype)
    if dtype is np.float64:
        tensor = tensor * (1 / 3)
    kept = CompressedBounds.from_bounded_tensor(tensor, code, form)
    for target in (None, np.float32, np.float64):
        back = kept.to_bounded_tensor(target)
        assert back.dtype == np.dtype(target or dtype)
        assert back.shape == tensor.shape
        assert back.contains(tensor)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("power", [-1060, -140, -120, -30, 0, 20, 100, 900])
def test_every_scale(code: str, power: int) -> None:
    """Far beyond the range of the code, and where float32 itself ends."""
    base = moderate(2, 1001, 1e-3).astype(np.float64)
    lower, upper = times_power(base.lower, power, False), times_power(base.upper, power, True)
    tensor = BoundedTensor(lower, upper)
    kept = CompressedBounds.from_bounded_tensor(tensor, code)
    assert kept.to_bounded_tensor().contains(tensor)
    assert kept.to_bounded_tensor(np.float32).contains(tensor)
    if -1000 < power:
        assert kept.code == code
        assert kept.stats(tensor).worst <= 2.0 ** (power + 5) * {"bf16": 2**-7}.get(code, 2**-10)
    if abs(power) < 150:
        single = tensor.astype(np.float32)
        assert (
            CompressedBounds.from_bounded_tensor(single, code).to_bounded_tensor().contains(single)
        )


@pytest.mark.parametrize("seed", range(4))
def test_random_bits_with_infinities(seed: int) -> None:
    ends = random_floats(seed, 20_002).reshape(2, -1)
    lower, upper = ends.min(0), ends.max(0)
    lower[lower == np.inf], upper[upper == -np.inf] = 0, 0
    lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
    tensor = BoundedTensor(lower, upper)
    for code in CODES:
        back = CompressedBounds.from_bounded_tensor(tensor, code).to_bounded_tensor()
        assert back.contains(tensor)
        np.testing.assert_array_equal(np.isinf(back.lower), np.isinf(lower))


def test_f32_is_the_same_bits() -> None:
    tensor = intervals(3, 5000, 100)
    back = CompressedBounds.from_bounded_tensor(tensor, "f32").to_bounded_tensor()
    assert back.lower.tobytes() == tensor.lower.tobytes()
    assert back.upper.tobytes() == tensor.upper.tobytes()


def test_range_beyond_the_code_falls_back_to_f32() -> None:
    tensor = BoundedTensor(np.float32([1e-9, 1.0]), np.float32([2e-9, 1e6]))
    assert CompressedBounds.from_bounded_tensor(tensor).code == "f32"
    assert CompressedBounds.from_bounded_tensor(tensor, "bf16").code == "bf16"
    # One in ten thousand is no reason to keep all of them in float32.
    many = BoundedTensor.concat([tensor, moderate(5, 20_000, 0.5)])
    assert CompressedBounds.from_bounded_tensor(many).code == "f16"


def test_the_tighter_form_is_taken() -> None:
    thin = moderate(6, 5000, 1e-5)
    away = BoundedTensor.from_epsilon(np.float32(2) + np.abs(thin.lower), 1e-5)
    kept = {
        form: CompressedBounds.from_bounded_tensor(away, form=form) for form in ("auto", "ends")
    }
    assert kept["auto"].form == "centre"
    assert kept["auto"].stats(away).relative < 0.6 * kept["ends"].stats(away).relative


def test_zeros_and_signs_are_kept() -> None:
    active = moderate(7, 5000, 1e-3).relu()
    for code in ("f16", "bf16"):
        for form in ("auto", "ends", "centre"):
            back = CompressedBounds.from_bounded_tensor(active, code, form).to_bounded_tensor()
            assert (back.lower >= 0).all()
    signed = moderate(8, 5000, 1e-3)
    back = CompressedBounds.from_bounded_tensor(signed).to_bounded_tensor()
    assert ((back.lower >= 0) == (signed.lower >= 0)).all()
    assert ((back.upper <= 0) == (signed.upper <= 0)).all()


def test_statistics() -> None:
    tensor = BoundedTensor(np.float32([0.0, 1.0]), np.float32([1.0, 1.0 + 2.0**-12]))
    stats = CompressedBounds.from_bounded_tensor(tensor, form="ends").stats(tensor)
    grown = 2.0**-10 - 2.0**-12
    assert stats == CompressionStats(16, 8, grown, grown / 2, grown / (1 + 2.0**-12))
    assert stats.saving == 0.5
    points = BoundedTensor.from_point(np.float32([1 / 3, 0.7]))
    assert CompressedBounds.from_bounded_tensor(points).stats(points).relative == np.inf


def test_half_the_memory_and_little_loss() -> None:
    tensor = moderate(9, 100_000, 1.0)
    kept = CompressedBounds.from_bounded_tensor(tensor)
    stats = kept.stats(tensor)
    assert kept.memory_bytes() * 2 == tensor.lower.nbytes + tensor.upper.nbytes
    assert (stats.saving, stats.compressed_bytes) == (0.5, 400_000)
    assert 0 < stats.relative < 1e-3


def test_shapes_and_layouts() -> None:
    tensor = intervals(10, 24, 3).reshape(2, 3, 4)
    for variant in (
        tensor,
        tensor.transpose(2, 0, 1),
        tensor[:, ::2],
        tensor[0:0],
        tensor[0, 0, 0],
    ):
        back = CompressedBounds.from_bounded_tensor(variant).to_bounded_tensor()
        assert back.shape == variant.shape
        assert back.contains(variant)


def test_every_instruction_set_gives_the_same_bits() -> None:
    tensor = moderate(11, 4097, 1e-3)
    for code in CODES:
        for form in ("ends", "centre"):
            kept = CompressedBounds.from_bounded_tensor(tensor, code, form)
            with kernels.pinned("numpy"):
                again = CompressedBounds.from_bounded_tensor(tensor, code, form)
                back = kept.to_bounded_tensor()
            assert kept.first.tobytes() == again.first.tobytes()
            assert kept.second.tobytes() == again.second.tobytes()
            assert back.lower.tobytes() == kept.to_bounded_tensor().lower.tobytes()


def test_widening_on_request() -> None:
    tensor = moderate(12, 1000, 0.1)
    kept = CompressedBounds.from_bounded_tensor(tensor).widen_for_soundness(0.25)
    back = kept.to_bounded_tensor(np.float64)
    assert (back.lower <= tensor.lower - 0.25 * np.abs(tensor.lower.astype(float))).all()
    assert (back.upper >= tensor.upper + 0.25 * np.abs(tensor.upper.astype(float))).all()
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="widening"):
            kept.widen_for_soundness(wrong)


def test_wrong_requests() -> None:
    tensor = moderate(13, 10, 0.1)
    half_line = BoundedTensor(np.float32([0]), np.float32([np.inf]))
    with pytest.raises(UsageError, match="code 'f8'"):
        CompressedBounds.from_bounded_tensor(tensor, "f8")
    with pytest.raises(UsageError, match="form 'middle'"):
        CompressedBounds.from_bounded_tensor(tensor, form="middle")
    with pytest.raises(UsageError, match="unbounded"):
        CompressedBounds.from_bounded_tensor(half_line, form="centre")
    kept = CompressedBounds.from_bounded_tensor(tensor)
    with pytest.raises(UsageError, match="float16"):
        kept.to_bounded_tensor(np.float16)
    with pytest.raises(UsageError, match="shape"):
        kept.stats(tensor[:5])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("form", ["ends", "centre"])
def test_files_give_back_the_same(tmp_path: Path, code: str, form: str) -> None:
    tensor = moderate(14, 60, 1e-3).reshape(3, 4, 5)
    path = tmp_path / "bounds"
    kept = CompressedBounds.from_bounded_tensor(tensor, code, form)
    kept.save(path)
    again = CompressedBounds.load(path)
    assert repr(again) == repr(kept)
    assert (again.floor, again.ceiling, again.dtype) == (kept.floor, kept.ceiling, kept.dtype)
    before, after = kept.to_bounded_tensor(), again.to_bounded_tensor()
    assert before.lower.tobytes() == after.lower.tobytes()
    assert before.upper.tobytes() == after.upper.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["bounds"]


def test_empty_tensors_and_infinities_in_files(tmp_path: Path) -> None:
    empty = BoundedTensor(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32))
    line = BoundedTensor(np.float64([-np.inf, 0]), np.float64([np.inf, np.inf]))
    for tensor in (empty, line):
        CompressedBounds.from_bounded_tensor(tensor).save(tmp_path / "bounds")
        back = CompressedBounds.load(tmp_path / "bounds").to_bounded_tensor()
        np.testing.assert_array_equal(back.lower, tensor.lower)
        np.testing.assert_array_equal(back.upper, tensor.upper)


def sealed(header: Any, payload: bytes) -> bytes:
    """A file with a right checksum around anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = MAGIC + struct.pack("<I", len(text)) + text + payload
    return body + hashlib.sha256(body).digest()


HEADER = {
    "code": "f16",
    "form": "ends",
    "exponent": 0,
    "shape": [2],
    "dtype": "float32",
    "floor": "-inf",
    "ceiling": "inf",
}
GOOD = np.array([0, 0, 0x3C00, 0x3C00], "<u2").tobytes()


def test_the_hand_made_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(sealed(HEADER, GOOD))
    back = CompressedBounds.load(tmp_path / "b").to_bounded_tensor()
    assert (back.lower.tolist(), back.upper.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a file of compressed bounds"),
        (b"\x80\x04" + bytes(100), "not a file of compressed bounds"),
        (sealed(HEADER, GOOD)[:-1], "6 bytes|7 bytes"),
        (sealed(HEADER, GOOD) + b"x", "9 bytes"),
        (sealed(HEADER, GOOD[:-2]), "6 bytes"),
        (sealed(b"[" * 60_000, GOOD), "not JSON"),
        (sealed(b" " * 70_000, GOOD), "at most"),
        (sealed([1], GOOD), "exactly the fields"),
        (sealed({**HEADER, "more": 1}, GOOD), "exactly the fields"),
        (sealed({**HEADER, "code": ["f16"]}, GOOD), "not known"),
        (sealed({**HEADER, "code": "f32", "form": "centre"}, GOOD), "not known"),
        (sealed({**HEADER, "shape": [2**40, 2**40]}, GOOD), "shape"),
        (sealed({**HEADER, "shape": [0, 2**70]}, b""), "shape"),
        (sealed({**HEADER, "shape": [-1]}, GOOD), "shape"),
        (sealed({**HEADER, "shape": [True, 2]}, GOOD), "shape"),
        (sealed({**HEADER, "shape": [1] * 40}, GOOD), "shape"),
        (sealed({**HEADER, "exponent": 10**9}, GOOD), "exponent"),
        (sealed({**HEADER, "exponent": 0.5}, GOOD), "exponent"),
        (sealed({**HEADER, "dtype": "object"}, GOOD), "dtype"),
        (sealed({**HEADER, "floor": 1}, GOOD), "floor"),
        (sealed({**HEADER, "floor": "0x1p99999"}, GOOD), "floor"),
        (sealed({**HEADER, "floor": "0x0p0"}, GOOD), "centre form"),
        (sealed({**HEADER, "ceiling": "0x1p3"}, GOOD), "centre form"),
        (sealed({**HEADER, "form": "centre", "floor": "nan"}, GOOD), "not a number"),
        (sealed({**HEADER, "form": "centre", "floor": "0x1p3"}, GOOD), "bounds at index"),
        (sealed(HEADER, GOOD[::-1]), "bounds at index"),
        (sealed(HEADER, np.array([0x7E00] * 4, "<u2").tobytes()), "bounds at index"),
        (
            sealed({**HEADER, "form": "centre"}, np.array([0, 0, 0xBC00, 0], "<u2").tobytes()),
            "at i",
        ),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "bounds"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=word) as caught:
        CompressedBounds.load(path)
    assert str(path) in str(caught.value)


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "bounds"
    CompressedBounds.from_bounded_tensor(moderate(15, 5, 0.1)).save(path)
    good = path.read_bytes()
    for index in range(len(good)):
        path.write_bytes(good[:index] + bytes([good[index] ^ 0x11]) + good[index + 1 :])
        with pytest.raises(FormatError):
            CompressedBounds.load(path)
        path.write_bytes(good[:index])
        with pytest.raises(FormatError):
            CompressedBounds.load(path)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    kept = CompressedBounds.from_bounded_tensor(moderate(16, 5, 0.1))
    with pytest.raises(FormatError, match="no such file"):
        CompressedBounds.load(tmp_path / "absent")
    with pytest.raises(UsageError, match="cannot be written"):
        kept.save(tmp_path / "absent" / "bounds")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        kept.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
