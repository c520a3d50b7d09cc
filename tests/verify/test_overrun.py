"""Where an answer comes later than its limit, the result says what was not cut short."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from gamma.cli.main import main
from gamma.verification.describe import overrun, timeline
from tests.formats.onnx_models import model

TIMES = {
    "load": 0.9,
    "property": 0.01,
    "rows": 0.2,
    "bounds": 0.4,
    "bounds.rows": 3.0,
    "total": 1.6,
}


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (None, ()),
        (2.0, ()),
        (1.31, ()),
        (1.2, ("0.4 s over the limit of 1.2 s: bounds (0.40 s) had to finish",)),
        (0.3, ("1.3 s over the limit of 0.3 s: reading the model (0.90 s) and making its linear "
               "questions (0.20 s) and bounds (0.40 s) had to finish",)),
    ],
)  # fmt: skip
def test_what_had_to_finish(limit: float | None, found: tuple[str, ...]) -> None:
    assert overrun(TIMES, limit) == found


def test_phases_and_the_rest_are_the_total() -> None:
    shown = timeline(TIMES)
    phases = [spent for name, spent in shown.items() if name != "total" and "." not in name]
    assert sum(phases) == pytest.approx(1.6) and shown["other"] == pytest.approx(0.09)
    assert shown["bounds.rows"] == 3.0 and timeline({}) == {}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_slow_file_is_named(
    form: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from gamma.formats import detect

    read = detect.load

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return read(*args, **options)

    monkeypatch.setattr(detect, "load", slow)
    path = tmp_path / "m.onnx"
    path.write_bytes(model([("Relu", ["x"], ["y"], {})], (1, 3)).SerializeToString())
    asked = ["--input", "zeros", "--epsilon", "0.1", "--label", "0", "--timeout", "0.02"]
    main(["verify", str(path), *asked, *form])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"s over the limit of 0.02 s: reading the model \(0.[5-9]", shown)
