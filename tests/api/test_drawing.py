"""Pictures: SVG that is well formed in both colour schemes, PNG only with matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import gamma
from gamma.drawing import PALETTE, Drawing, Line, Rectangle, Text
from gamma.errors import UsageError

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
IMAGE = np.load(DIGITS / "images/digit3.npy")


def test_a_drawing_is_one_well_formed_document(tmp_path: Path) -> None:
    picture = Drawing(20, 10, "<nothing> & more")
    picture.add(Text(1, 5, "a < b & c", turned=True), Line(0, 0, 9, 9, "red", dashed=True))
    picture.add(Rectangle(1, 1, 4, 4, "blue", radius=1, tip="<tip>"))
    root = ElementTree.fromstring(picture._repr_svg_())
    assert [e.text for e in root.iter() if e.tag.endswith("text")] == ["a < b & c"]
    style = next(e.text or "" for e in root.iter() if e.tag.endswith("style"))
    for light, dark in PALETTE.values():
        assert light in style.split("@media")[0] and dark in style.split("@media")[1]
    picture.save(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text(encoding="utf-8") == picture.svg()


def test_without_matplotlib_there_is_svg_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="matplotlib"):
        Drawing(10, 10, "").save(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_plots_show_what_there_is() -> None:
    net = gamma.load(DIGITS / "mlp.onnx")
    box = gamma.Box.linf(IMAGE, 0.03, clip=(0, 1))
    out, layers = gamma.bounds(net, box), gamma.layer_bounds(net, box)
    pictures = {
        "bounds": gamma.plot(out),
        "core": gamma.plot(out, inside=net(box.sample(20))),
        "layers": gamma.plot(layers),
        "margins": gamma.plot(gamma.verify(net, gamma.robustness(box, 3))),
        "witness": gamma.plot(
            gamma.verify(net, gamma.robustness(gamma.Box.linf(IMAGE, 0.3, clip=(0, 1)), 3))
        ),
    }
    for picture in pictures.values():
        ElementTree.fromstring(picture.svg())
        inside = [s for s in picture.shapes if isinstance(s, Rectangle)]
        assert all(0 <= s.x and s.x + s.width <= picture.width for s in inside)
        assert all(0 <= s.y and s.y + s.height <= picture.height for s in inside)
    cores = [s for s in pictures["core"].shapes if isinstance(s, Rectangle) and s.height == 7]
    bars = [s for s in pictures["core"].shapes if isinstance(s, Rectangle) and s.height == 11]
    for core, bar in zip(cores, bars, strict=True):
        assert bar.x <= core.x and core.x + core.width <= bar.x + bar.width + 1.5
    assert any("±" in s.content for s in pictures["bounds"].shapes if isinstance(s, Text))
    for wrong in (net, IMAGE):
        with pytest.raises(UsageError, match="plot of"):
            gamma.plot(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="inside"):
        gamma.plot(out, inside=IMAGE)
