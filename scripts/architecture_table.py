"""Writes the table of architectures in docs/transformers.md from the registry."""

from __future__ import annotations

import re
from pathlib import Path

from gamma.architectures.registry import architectures

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transformers.md"
START, END = "<!-- architectures -->\n", "<!-- end -->"
HEAD = "| architecture | `model_type` | GGUF | input → outputs |\n|---|---|---|---|\n"


def rows() -> str:
    """The table: one row for each record."""
    made = [HEAD]
    for a in architectures():
        source = "token embeddings" if a.text else "log-mel spectrogram"
        names = (", ".join(f"`{n}`" for n in group) or "–" for group in (a.model_types, a.gguf))
        ends = ", ".join(f"`{name}`" for name in a.outputs)
        made.append("| " + " | ".join((a.title, *names, f"{source} → {ends}")) + " |\n")
    return "".join(made)


def written(page: str) -> str:
    """The page with the table of the registry."""
    return re.sub(f"{START}.*?{END}", lambda _: START + rows() + END, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
