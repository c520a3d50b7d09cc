"""The demo runs, its pictures are well-formed, and README shows what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^   digit (\d)((?: +[✓✗?])+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo prints, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("demo")
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", "--output", folder / "pictures"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, folder / "pictures"


def marks(text: str) -> list[str]:
    """The table's cells in order of appearance."""
    return [mark for _, row in ROW.findall(text) for mark in row.split()]


def test_all_three_outcomes_are_shown(output: tuple[str, Path]) -> None:
    text, _ = output
    cells = marks(text)
    assert len(cells) == 2 * 10 * 7
    assert {"✓", "✗", "?"} == set(cells)
    for word in ("PROVED ", "REFUTED ", "OPEN ", "witness, replayed by ", "pictures in "):
        assert word in text


def test_verdicts_are_monotone_in_epsilon(output: tuple[str, Path]) -> None:
    """A larger set contains the smaller: nothing is proved beyond a refutation."""
    text, _ = output
    for _, row in ROW.findall(text):
        line = row.replace(" ", "")
        assert "✗" not in line or "✓" not in line[line.index("✗") :]


def test_pictures_are_well_formed(output: tuple[str, Path]) -> None:
    _, folder = output
    for name in ("verdicts", "bounds", "witness"):
        picture = folder / f"{name}.svg"
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert picture.stat().st_size < 200_000


def test_readme_shows_this_output(output: tuple[str, Path]) -> None:
    """README's copy has the same table: no contradiction, and the search equally lucky."""
    text, _ = output
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown, found = marks(readme), marks(text)
    assert shown and len(found) % len(shown) == 0
    pairs = list(zip(shown, found, strict=False))
    assert not [pair for pair in pairs if set(pair) == {"✓", "✗"}]
    assert sum(a == b for a, b in pairs) >= 0.97 * len(pairs)
    for line in text.splitlines()[:3]:
        assert line in readme
