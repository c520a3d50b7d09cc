"""A suite's summary, plot and page: one file, nothing from elsewhere, names escaped."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.cli.suite_report import solved_within
from tests.verify.known import dense

HOSTILE = "<img src=x onerror=alert(1)>&\"'.vnnlib"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "headless_shell")


class Tags(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a proved, a refuted and an unreadable instance, all with hostile names."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("report")
    gamma.save(dense((np.eye(2).tolist(), [0.0, 0.0])), folder / "net.safetensors")
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
    text += "(declare-const Y_1 Real)(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 0))\n"
    text += "(assert (<= X_1 1))(assert (>= Y_0 {}))"
    lines = []
    for bound in ("2", "0.5"):
        (folder / f"{bound}{HOSTILE}").write_text(text.format(bound))
        lines.append(f'net.safetensors,"{bound}{HOSTILE.replace(chr(34), chr(34) * 2)}",20')
    lines.append("<script>alert(1)</script>.onnx,none.vnnlib,20")
    (folder / "list.csv").write_text("\n".join(lines))
    command = ["suite", str(folder / "list.csv"), "-o", str(folder / "r.jsonl"), "--plot"]
    command += [str(folder / "plot.svg"), "--report", str(folder / "page.html")]
    assert main(command) == 2  # an instance ended in an error
    assert "<svg" in (folder / "plot.svg").read_text()
    return folder / "page.html"


def test_the_page_is_one_file_and_escapes_names(page: Path) -> None:
    found = Tags(page.read_text())
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "iframe", "link", "object", "form"}
    images = [a for tag, a in found.tags if tag == "img"]
    assert len(images) == 1 and str(images[0]["src"]).startswith("data:image/png;base64,")
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert "http" not in re.sub("http-equiv", "", page.read_text())
    policy = next(a for tag, a in found.tags if "http-equiv" in a)
    assert "default-src 'none'" in str(policy["content"])
    assert any(a.get("name") == "viewport" for _, a in found.tags)
    for words in (HOSTILE, "<script>alert(1)</script>.onnx", "1 of 1 unsafe sets are excluded"):
        assert words in found.text
    assert "replayed by" in found.text and "does not exist" in found.text


def test_a_browser_shows_it(page: Path, tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    picture = tmp_path / "page.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,800"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=60)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_solved_within() -> None:
    seconds = {"verified": (0.02, 0.5, 40.0), "violated": (2.0,), "timeout": (120.0,)}
    records = [{"verdict": v, "seconds": s} for v, times in seconds.items() for s in times]
    rows = [line.split()[:3] for line in solved_within(records)[1:]]
    counts = {float(t): int(count) for t, _, count in rows}
    assert counts == {0.1: 1, 0.3: 1, 1.0: 2, 3.0: 3, 10.0: 3, 30.0: 3, 60.0: 4}
    assert solved_within([{"verdict": "timeout", "seconds": 1.0}]) == []


def test_other_suffixes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text("a.onnx,b.vnnlib\n")
    assert main(["suite", str(tmp_path / "list.csv"), "--plot", "x.gif"]) == 2
    assert "--plot x.gif" in capsys.readouterr().err
