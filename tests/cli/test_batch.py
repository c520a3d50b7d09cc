"""Several inputs at once, from every kind of file, in the units that people have."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.cli.sets import Units, around, between
from gamma.errors import FormatError, GammaError, UsageError
from gamma.formats.inputs import read_inputs, read_labels
from tests.verify.known import dense

SHAPE = (1, 2, 2)
IMAGE = np.array([[0, 51], [102, 255]], np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x of four inputs, three of them with their label as the largest entry."""
    path = tmp_path_factory.mktemp("batch")
    gamma.save(dense((np.eye(4).tolist(), [0.0] * 4)), path / "net.safetensors")
    x = np.eye(4, dtype=np.float32)
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", np.array([0, 1, 2, 0]))
    np.savez(path / "both.npz", x=x, y=np.arange(4))
    np.savez_compressed(path / "one.npz", x)
    return path


def run(folder: Path, *words: object) -> int:
    return main(["verify", str(folder / "net.safetensors"), *map(str, words)])


def test_accuracy_of_a_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--input", folder / "x.npy", "--labels", folder / "y.npy", "--epsilon", "0.25")
    assert run(folder, *asked, "--json", "--witness-out", folder / "w.npz") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gamma.batch/1"
    assert [r["result"]["verdict"] for r in found["results"]] == ["verified"] * 3 + ["violated"]
    assert [r["correct"] for r in found["results"]] == [True, True, True, False]
    counts = {"inputs": 4, "verified": 3, "violated": 1, "unknown": 0}
    assert found["summary"] == counts | {"certified_accuracy": 0.75, "clean_accuracy": 0.75}
    kept = np.load(folder / "w.npz")
    assert kept["index"].tolist() == [3] and kept["x"].shape == (1, 4)
    assert (np.abs(kept["x"][0] - np.eye(4)[3]) <= 0.25).all()
    assert run(folder, *asked, "--fail-on", "unknown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("certified accuracy 75.0 %") and lines[0].startswith("CERTIFIED  3 of")
    assert any(line.split()[:3] == ["3", "0", "violated"] for line in lines)


def test_an_unknown_is_a_status_of_its_own(folder: Path) -> None:
    # A tie at the corner, which no float32 input has: neither proof nor witness.
    asked = ("--input", folder / "both.npz:x", "--labels", folder / "both.npz:y", "--no-attack")
    assert run(folder, *asked, "--epsilon", "0.5", "--method", "ibp") == 4
    assert run(folder, *asked, "--epsilon", "0.5", "--method", "ibp", "--fail-on", "violated") == 0


def test_bounds_of_a_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bounds", str(folder / "net.safetensors"), "--input", str(folder / "one.npz")]
    assert main([*words, "--epsilon", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bounds"]
    assert found["shape"] == [4, 4]
    lower, upper = (np.array(found[end]).reshape(4, 4) for end in ("lower", "upper"))
    assert (lower <= np.eye(4) - 0.5).all() and (np.eye(4) + 0.5 <= upper).all()


ZERO = ("--label", "0", "--epsilon", "1")
MISUSE: dict[str, tuple[tuple[str, ...], str]] = {
    "no labels": (("--input", "x.npy", "--epsilon", "1"), "--labels FILE"),
    "several arrays": (("--input", "both.npz", *ZERO), "of x, y"),
    "no such array": (("--input", "both.npz:z", *ZERO), "no array 'z'"),
    "both": (
        ("--input", "x.npy", "--label", "0", "--labels", "y.npy", "--epsilon", "1"),
        "exclude",
    ),
    "short": (("--input", "one.npz", "--labels", "both.npz:x", "--epsilon", "1"), "a class for"),
    "witness": (
        ("--input", "x.npy", *ZERO, "--witness-out", "w.npy"),
        ".npz",
    ),
    "channels": (
        ("--input", "x.npy", *ZERO, "--mean", "1,2,3"),
        "one for each channel",
    ),
    "vnncomp": (
        ("--input", "x.npy", *ZERO, "--format", "vnncomp"),
        "one",
    ),
    "class": (("--input", "x.npy", "--label", "9", "--epsilon", "1"), "0 to 3"),
    "explain": (
        ("--input", "x.npy", *ZERO, "--explain"),
        "of one input",
    ),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_one_line(
    case: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    words, said = MISUSE[case]
    if "--label" not in words and "--labels" not in words:
        assert main(["verify", "net.safetensors", *words]) == 2
    else:
        assert run(folder, *words) == 2
    err = capsys.readouterr().err
    assert said in err or case == "no labels"
    assert err.count("\n") == 1 and "Traceback" not in err


# --- units ----------------------------------------------------------------------------------------


def test_units_are_exact() -> None:
    x = np.array([[[0.2, 0.5], [0.7, 1.0]]] * 3)
    mean, std = ([Fraction(n, 7) for n in part] for part in ((1, 2, 3), (4, 5, 6)))
    units = Units.of(mean, std, x.shape)
    prop = around(x, Fraction(8, 255), "inf", (Fraction(0), Fraction(1)), units=units)
    for k, value in enumerate(x.ravel().tolist()):
        low = max(Fraction(value) - Fraction(8, 255), Fraction(0))
        high = min(Fraction(value) + Fraction(8, 255), Fraction(1))
        ends = [(end - mean[k // 4]) / std[k // 4] for end in (low, high)]
        assert [prop.regions[0].lower[k], prop.regions[0].upper[k]] == ends
    last = Units.of(mean, None, (2, 2, 3))
    assert last.mean[:4] == (*mean, mean[0]) and last.std == (1,)
    box = between(x[0], x[0], Units.of(mean[:1], std[:1], x[0].shape))
    assert box.regions[0].lower[1] == (Fraction(0.5) - mean[0]) / std[0]
    with pytest.raises(UsageError, match="one --std"):
        around(x, Fraction(1), "2", None, units=units)


def test_a_ball_about_no_float_is_enclosed() -> None:
    """The centre (x - mean) / std is rarely a float64: the box about the nearest one is larger."""
    x = np.array([0.3, 0.7, 0.1])
    units = Units.of([Fraction(1, 3)], [Fraction(2, 7)], x.shape)
    prop = around(x, Fraction(1, 9), "2", None, units=units)
    ball, box = prop.balls[0], prop.box()
    assert box.center is not None and box.radius is not None
    off = [Fraction(a) - b for a, b in zip(box.center[0].tolist(), ball.center, strict=True)]
    assert any(off)
    # (r - away)^2 >= 0 would do for a point of the ball; the whole ball needs radius + |off|_2.
    assert Fraction(box.radius) - ball.radius >= 0
    assert (Fraction(box.radius) - ball.radius) ** 2 >= sum(o * o for o in off)
    plain = around(x, Fraction(1, 9), "2", None)
    assert plain.box().radius == around(x, Fraction(1, 9), "2", None, units=Units()).box().radius


def test_a_witness_is_measured_in_the_units_of_epsilon(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "a.npy", np.array([0.6, 0.5, 0.0, 0.0], np.float32))
    words = ("--input", folder / "a.npy", "--label", "0", "--epsilon", "0.1", "--std", "0.01")
    assert run(folder, *words) == 3
    out = capsys.readouterr().out
    far = next(line.split()[1] for line in out.splitlines() if "distance" in line)
    assert 0.049 <= float(far) <= 0.10001


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ("L", "RGB", "P", "RGBA", "I;16", "1"))
def test_images(mode: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    grey = image.fromarray(IMAGE)
    made = image.fromarray(IMAGE.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    made.save(tmp_path / "i.png")
    channels = 3 if mode in ("RGB", "RGBA", "P") else 1
    x, several = read_inputs(str(tmp_path / "i.png"), (channels, 2, 2))
    levels = IMAGE.astype(np.float32) / np.float32(255)
    expected = (IMAGE > 127).astype(np.float32) if mode == "1" else levels
    assert not several and x.shape == (1, channels, 2, 2)
    if mode != "1":  # dithered
        assert (x == np.broadcast_to(expected, x.shape)).all()
    assert set(np.unique(x)) <= set(levels.ravel().tolist()) | {0.0, 1.0}
    assert read_inputs(str(tmp_path / "i.png"), (4 * channels,))[0].shape == (1, 4 * channels)
    assert (read_inputs(str(tmp_path / "i.png"), (2, 2, channels))[0][0, ..., 0] == x[0, 0]).all()
    with pytest.raises(UsageError, match="resize or convert"):
        read_inputs(str(tmp_path / "i.png"), (channels, 3, 3))


def test_images_that_no_network_sees(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    clear = np.zeros((2, 2, 4), np.uint8)
    image.fromarray(clear).save(tmp_path / "clear.png")
    with pytest.raises(UsageError, match="transparent"):
        read_inputs(str(tmp_path / "clear.png"), (3, 2, 2))
    content = (tmp_path / "clear.png").read_bytes()
    for cut in range(8, len(content), 3):
        (tmp_path / "cut.png").write_bytes(content[:cut])
        with pytest.raises(GammaError):
            read_inputs(str(tmp_path / "cut.png"), (3, 2, 2))
    (tmp_path / "j.png").write_bytes(b"\xff\xd8\xff\xe0" + bytes(8))
    with pytest.raises(FormatError, match="JPEG"):
        read_inputs(str(tmp_path / "j.png"), (3, 2, 2))


def test_images_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    (tmp_path / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UsageError, match=r"gamma-verify\[image\]"):
        read_inputs(str(tmp_path / "i.png"), (1, 2, 2))


def archive(*entries: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return stream.getvalue()


def npy(shape: tuple[int, ...], data: bytes) -> bytes:
    head = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def hostile() -> dict[str, bytes]:
    good = archive(("x.npy", npy((2,), bytes(16))))
    end = good.rfind(b"PK\x05\x06")
    long = good[: end + 12] + struct.pack("<I", 1 << 28) + good[end + 16 :]
    return {
        "bomb": archive(("x.npy", npy((1 << 28, 4), bytes(1 << 20)))),
        "more than it says": archive(("x.npy", npy((2,), bytes(1 << 20)))),
        "pickle": archive(("x.npy", b"\x80\x04N.")),
        "no arrays": archive(("x.txt", b"")),
        "table of contents": long,
        "cut": good[:-30],
        "objects": archive(("x.npy", npy((2,), bytes(16)).replace(b"<f8", b"|O8"))),
    }


@pytest.mark.parametrize("case", hostile())
def test_hostile_archives(case: str, tmp_path: Path) -> None:
    (tmp_path / "h.npz").write_bytes(hostile()[case])
    with pytest.raises(GammaError):
        read_inputs(str(tmp_path / "h.npz"), (2,))


def test_every_cut_and_change_of_an_archive_is_one_error(tmp_path: Path) -> None:
    good = archive(("x.npy", npy((2,), bytes(16))))
    for place in range(0, len(good), 7):
        for content in (good[:place], good[:place] + b"\xff" + good[place + 1 :]):
            (tmp_path / "h.npz").write_bytes(content)
            try:
                read_inputs(str(tmp_path / "h.npz"), (2,))
            except GammaError:
                pass


@pytest.mark.parametrize("labels", ([0.5, 1], [-1, 0], [[0, 1], [1, 0]], [0, 1, 2]))
def test_labels_are_classes(labels: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array(labels))
    with pytest.raises(GammaError):
        read_labels(str(tmp_path / "y.npy"), 2)
