"""Writes the table of operators by method in docs/transformers.md from their registry."""

from __future__ import annotations

import re
from pathlib import Path

from gamma.ops import TABLE, Elementwise, Input, Linear, Operator, StoredGemm, StoredMargins
from gamma.propagate.ranges.rules import joint

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transformers.md"
START, END = "<!-- operators -->\n", "<!-- end operators -->"
HEAD = (
    "| operators | intervals | rows (`crown`) | sets that go forward | slopes that `alpha` moves "
    "| norm ranges |\n|---|---|---|---|---|---|\n"
)


def cells(record: type[Operator]) -> tuple[str, ...]:
    """What each method has for an operator."""

    def own(*rules: str) -> bool:
        return any(getattr(record, rule) is not getattr(Operator, rule) for rule in rules)

    if issubclass(record, Linear):
        rows = "exact"
    elif issubclass(record, Elementwise):
        rows = "two lines"
    else:
        rows = "planes" if own("relax") else "–"
    return (
        "yes" if own("propagate", "interval_bounds") else "–",
        rows,
        "yes" if own("enclose") else "–",
        "yes" if issubclass(record, Elementwise) else "–",
        "joint" if joint(record) else "by intervals",
    )


def rows() -> str:
    """The table: one row for all operators that have the same."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for record in (*TABLE.values(), StoredGemm, StoredMargins):
        if record is not Input:
            groups.setdefault(cells(record), []).append(record.__name__)
    made = [HEAD]
    for found, names in groups.items():
        made.append("| " + " | ".join((", ".join(names), *found)) + " |\n")
    return "".join(made)


def written(page: str) -> str:
    """The page with the table of the registry."""
    return re.sub(f"{START}.*?{END}", lambda _: START + rows() + END, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
