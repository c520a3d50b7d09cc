"""The page about transformers lists what the registry holds, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

from scripts import operator_table
from scripts.architecture_table import PAGE, rows
from tests.architectures import small_models


def test_the_table_is_the_registry() -> None:
    assert rows() in PAGE.read_text(encoding="utf-8"), "run python scripts/architecture_table.py"


def test_the_operators_are_those_of_the_registry() -> None:
    said = operator_table.rows()
    assert said in PAGE.read_text(encoding="utf-8"), "run python scripts/operator_table.py"


def test_the_example_runs(tmp_path: Path) -> None:
    small = small_models.folder(tmp_path, small_models.QWEN3, scale=0.25)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict[str, object] = {"path": small.path}
    exec(compile(code, "transformers.md", "exec"), names)
    assert names["out"].lower.shape == (40,)  # type: ignore[attr-defined]
