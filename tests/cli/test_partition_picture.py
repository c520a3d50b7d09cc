"""Pictures of cut-up inputs: what is shown as proved is, in fractions; others are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.verification.exact import exact_output
from scripts.partition_picture import BOUND, network, stopped

F = Fraction


def test_outside_of_the_open_boxes_no_input_is_unsafe() -> None:
    found, net = stopped(5).partition, network()
    assert found is not None and len(found.open) > 3 and len(found.closed) > 3
    rng = np.random.default_rng(0)
    outside = 0
    for x in rng.uniform(-2, 2, (300, 2)).astype(np.float32):
        low, high = found.open[:, 0], found.open[:, 1]
        if ((low <= x) & (x <= high)).all(axis=1).any():
            continue
        outside += 1
        assert exact_output(net, x)[0] > BOUND  # type: ignore[index]
    assert outside > 100


def _files(folder: Path, bound: str, inputs: int = 2) -> list[str]:
    gamma.save(network(), folder / "net.safetensors")
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
    ends = [(-2, 2), (-2, 2) if inputs == 2 else (1, 1)]
    text += "".join(
        f"(assert (>= X_{i} {a}))(assert (<= X_{i} {b}))\n" for i, (a, b) in enumerate(ends)
    )
    (folder / "p.vnnlib").write_text(f"{text}(assert (<= Y_0 {bound}))")
    return ["verify", str(folder / "net.safetensors"), "--property", str(folder / "p.vnnlib")]


@pytest.mark.parametrize(("bound", "status"), [("1.1", 0), ("-90", 0), ("3", 3)])
def test_every_verdict_has_a_picture(tmp_path: Path, bound: str, status: int) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "p.svg"
    assert main([*_files(tmp_path, bound), "--picture", str(picture)]) == status
    text = "".join(ElementTree.parse(picture).getroot().itertext())
    assert ElementTree.parse(picture).getroot().tag.endswith("svg") and text is not None
    if status == 0:
        assert main([*_files(tmp_path, bound), "--picture", str(tmp_path / "p.png")]) == 0
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*_files(tmp_path, "1"), "--picture", str(tmp_path / "p.svg")]
    (tmp_path / "old.npz").write_bytes(b"")
    for more, word in (
        (["--branch", "relu"], "--picture"),
        (["--method", "crown"], "--picture"),
        (["--resume", str(tmp_path / "old.npz")], "--picture"),
        (["--picture", "p.gif"], ".svg or .png"),
    ):
        assert main([*asked, *more]) == 2
        assert word in capsys.readouterr().err
    one = _files(tmp_path, "1", inputs=1)
    assert main([*one, "--picture", str(tmp_path / "p.svg")]) == 2
    assert "1 inputs vary" in capsys.readouterr().err
