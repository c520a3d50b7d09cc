"""The demo runs, its pictures are well-formed, and a page shows what it prints."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gamma

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^   digit (\d)((?: +[✓✗?])+)$", re.MULTILINE)


RADII = (0.01, 0.05, 0.1, 0.2)
"""Of the demo's; between the last two the questions are that take their whole time."""
DEMO = """
import sys
sys.path.insert(0, {examples!r})
import demo
sys.argv, demo.EPSILONS = ["demo.py", "--output", "pictures"], {radii}
sys.exit(demo.main())
"""


def run(folder: Path, radii: tuple[float, ...], before: str = "") -> str:
    """What the demo prints about these radii, after the lines ``before``."""
    code = before + DEMO.format(examples=str(ROOT / "examples"), radii=radii)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo prints, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("demo")
    return run(folder, RADII), folder / "pictures"


def marks(text: str) -> list[str]:
    """The table's cells in order of appearance."""
    return [mark for _, row in ROW.findall(text) for mark in row.split()]


def test_all_outcomes_are_shown(output: tuple[str, Path]) -> None:
    text, _ = output
    cells = marks(text)
    assert len(cells) == 2 * 10 * len(RADII)
    assert {"✓", "✗"} <= set(cells) <= {"✓", "✗", "?"}
    for word in ("PROVED ", "REFUTED ", "DIVIDED ", "witness, replayed by ", "pictures in "):
        assert word in text
    assert ("OPEN " in text) == ("?" in cells)


def test_verdicts_are_monotone_in_epsilon(output: tuple[str, Path]) -> None:
    """A larger set contains the smaller: nothing is proved beyond a refutation."""
    text, _ = output
    for _, row in ROW.findall(text):
        line = row.replace(" ", "")
        assert "✗" not in line or "✓" not in line[line.index("✗") :]


def test_pictures_are_well_formed(output: tuple[str, Path]) -> None:
    _, folder = output
    for name in ("verdicts", "bounds", "layers", "witness", "blends"):
        picture = folder / f"{name}.svg"
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert picture.stat().st_size < 600_000


def test_a_divided_square_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many boxes a fast machine makes: every open point is drawn, in a bounded file."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from demo_pictures import MOST_BOXES, partition_figure

    from gamma.drawing import Rectangle
    from gamma.verification.partition import Partition

    rng = np.random.default_rng(0)
    low = 0.49 * rng.random((60_000, 2)) * [1.0, 0.25]
    boxes = np.stack([low, low + 0.002 * rng.random((60_000, 2))], axis=1)
    square = np.array([[[0.0, 0.0], [0.5, 0.5]]])
    digits, empty = [np.zeros((1, 8, 8))] * 3, np.zeros((0, 2, 2))
    few = partition_figure(digits, (1, 2, 3), 0.5, Partition((0, 1), square, boxes[:9], empty))
    many = partition_figure(digits, (1, 2, 3), 0.5, Partition((0, 1), square, empty, boxes))
    assert sum(isinstance(s, Rectangle) and s.stroke == "page" for s in few.shapes) <= 9
    assert len(many.svg()) < 600_000 and len(many.shapes) > MOST_BOXES
    drawn = np.array([(s.x, s.y, s.x + s.width, s.y + s.height) for s in many.shapes
                      if isinstance(s, Rectangle) and s.fill == "orange"])  # fmt: skip
    for x, y in boxes.mean(axis=1)[::97]:  # centres, in points of the page
        at = 104 + x / 0.5 * 400, 64 + 400 - y / 0.5 * 400
        inside = (drawn[:, :2] - 0.06 <= at) & (at <= drawn[:, 2:] + 0.06)
        assert inside.all(axis=1).any()
    far = drawn[drawn[:, 1] < 64 + 400 * 0.74]  # nothing is said of the upper part
    assert len(far) <= 1  # the legend


def test_the_page_shows_this_output(output: tuple[str, Path]) -> None:
    """The page's copy has the same table: no contradiction, little open on a busy machine."""
    text, _ = output
    page = (ROOT / "docs/getting-started.md").read_text(encoding="utf-8")
    (head,) = set(re.findall(r"^   epsilon +(.*)$", page, re.MULTILINE))
    columns = [head.split().index(f"{radius:g}") for radius in RADII]
    shown = [row.split()[k] for _, row in ROW.findall(page) for k in columns]
    found = marks(text)
    assert shown and len(found) % len(shown) == 0
    pairs = list(zip(shown, found, strict=False))
    assert not [pair for pair in pairs if set(pair) == {"✓", "✗"}]
    assert sum(a == b for a, b in pairs) >= 0.9 * len(pairs)
    for line in text.splitlines()[:3]:
        assert line in page


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The demo as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("demo")


def refuted(demo: ModuleType, x: np.ndarray, y: np.ndarray) -> Any:
    """A case that claims the witness ``x`` with scores ``y``."""
    result = SimpleNamespace(
        verdict="violated", counterexample=SimpleNamespace(x=x, y=y, replayed_by="nobody")
    )
    return demo.Case("mlp", 3, 0.05, result)


def test_a_false_claim_ends_the_demo(demo: ModuleType) -> None:
    net = gamma.load(ROOT / "examples" / "digits" / "mlp.safetensors")
    image = np.load(ROOT / "examples" / "digits" / "images" / "digit3.npy")
    scores = net.forward(image)
    flipped = np.roll(scores, 1)
    for case, claim in (
        (refuted(demo, image, scores), "the witness changes the answer"),
        (refuted(demo, np.clip(image + 0.06, 0, 1), flipped), "lies in the box"),
        (refuted(demo, image, flipped), "gamma's own pass agrees"),
    ):
        with pytest.raises(SystemExit, match=claim) as caught:
            demo.show_refuted(net, image, case)
        assert isinstance(caught.value.code, str)  # printed, with exit status 1
    box = gamma.Box.linf(image, 0.05, clip=(0, 1))
    bounds = gamma.bounds(net, box)
    narrow = bounds.lower + 0.9 * (bounds.upper - bounds.lower)
    with pytest.raises(SystemExit, match="sampled scores"):
        demo.sample_inside(net, box, narrow.ravel(), bounds.upper.ravel())
    nothing = demo.Case("mlp", 3, 0.05, SimpleNamespace(proved=0, counterexample=None, margins=()))
    with pytest.raises(SystemExit, match="has margins"):
        demo.show_open(nothing)


FAST = """
import time
for name in ("monotonic", "perf_counter"):
    def quick(clock=getattr(time, name), start=getattr(time, name)()):
        return start + {times} * (clock() - start)
    setattr(time, name, quick)
"""


@pytest.mark.parametrize("times", [10, 100_000])
def test_a_slow_machine_does_not_break_the_demo(tmp_path: Path, times: int) -> None:
    """With a clock so many times as fast ten seconds are one, or a tenth of a millisecond."""
    text = run(tmp_path, (0.01, 0.2), FAST.format(times=times))
    cells = marks(text)
    assert len(cells) == 2 * 10 * 2
    if "?" in cells:
        assert "OPEN " in text and "the worst margin only >= " in text


def test_printed_numbers_stay_on_their_side(demo: ModuleType) -> None:
    for value in (0.12345, -0.12345, 1.0, -1e-9, 1e-9, 123.4567):
        assert Fraction(demo.floor(value)) <= Fraction(value) <= Fraction(demo.ceiling(value))
