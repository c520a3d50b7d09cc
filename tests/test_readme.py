"""The examples in README.md and docs/ run, in order, and do what is said beside them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import gamma
from tests.cli import program

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *("docs/getting-started.md", "docs/formats.md", "docs/from-pytorch.md", "docs/choosing.md"),
    *("docs/reading-a-result.md", "docs/ci.md", "docs/common-errors.md"),
]
DOCS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))
GENERATED = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*/*.md"))
PROSE = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md", *DOCS]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"#\s*exit status (\d+)")


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, text)."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that looks like the checkout, where examples may write files."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, folder: Path) -> None:
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page, "exec"), names)  # the examples of our own pages
        elif language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                run_line(line, folder)


def run_line(line: str, folder: Path) -> None:
    """One shell line: ``gamma ...`` must end with status 0 or the one in its comment."""
    words = shlex.split(line, comments=True)
    if not words or words[0] in ("make", "pip", "git"):
        return
    assert words[0] == "gamma", f"only gamma commands are examples: {line}"
    expected = STATUS.search(line)
    result = program.run(*words[1:], cwd=folder)
    assert result.returncode == (int(expected[1]) if expected else 0), line + result.stderr


@pytest.mark.parametrize("page", [*PROSE, *GENERATED, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PROSE)
def test_prose_has_100_columns(page: str) -> None:
    """Tables, code and lines that are one link may be longer."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for skipped in (r"^```.*?^```$", r"^<!-- generated.*?<!-- end"):
        text = re.sub(skipped, "", text, flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 100 and line.lstrip("- ").count(" ")]
    assert not [line for line in long if not line.startswith(("|", "    ", "<!--", "!["))]


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = [Path(page).name for page in DOCS if page != "docs/index.md"]
    assert [n for n in names if f"({n})" not in index or f": {n}\n" not in nav] == []


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8").split()
    public = {f"{getattr(gamma, name).__module__}.{name}" for name in gamma.__all__}
    assert {name for name in public if not name.startswith("gamma.errors.")} <= {*page}


def test_formats_page_lists_every_operator() -> None:
    from gamma.ops import TABLE

    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    missing = [name for name in TABLE if f"`{name}`" not in page]
    assert not missing
