"""The notebook's cells run in order, and each result has a form that a notebook shows."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []  # what a machine printed once is no part of it
        tree = ast.parse("".join(cell["source"]))
        last = tree.body[-1]
        expression = isinstance(last, ast.Expr)
        body = ast.Module(tree.body[:-1] if expression else tree.body, [])
        exec(compile(body, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert len(shown) >= 6
    assert all(value is None or hasattr(value, "_repr_html_") or "(" in repr(value)
               or hasattr(value, "_repr_svg_") for value in shown)  # fmt: skip
