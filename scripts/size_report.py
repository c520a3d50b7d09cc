"""Lines of code per package and the largest files, so that growth is seen; fails on none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

SUFFIXES = (".py", ".c", ".h", ".inc")
LIMIT = 400


def main() -> None:
    """Print the report for the source tree this script lies in."""
    root = Path(__file__).resolve().parents[1]
    sizes: dict[Path, int] = {}
    for top in ("gamma", "csrc", "tests", "benches", "examples", "scripts"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                sizes[path.relative_to(root)] = len(path.read_text().splitlines())
    totals: Counter[str] = Counter()
    for path, lines in sizes.items():
        totals["/".join(path.parts[: 2 if path.parts[0] == "gamma" else 1])] += lines
    for name, lines in sorted(totals.items()):
        print(f"{lines:7d}  {name}")
    print(f"{sum(sizes.values()):7d}  total in {len(sizes)} files")
    for path, lines in sorted(sizes.items(), key=lambda item: -item[1]):
        if lines > LIMIT:
            print(f"{lines:7d}  {path}: over {LIMIT} lines, wants splitting")


if __name__ == "__main__":
    main()
