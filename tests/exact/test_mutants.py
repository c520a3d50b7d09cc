"""The mutants of `mutation.py` still apply to the source; `make mutation` runs them."""

from __future__ import annotations

import pytest

from tests.exact.mutation import UNCHANGED, load, main


def test_every_text_is_in_the_source_once() -> None:
    everyone = (*load(), *UNCHANGED)
    assert [f"{m.name}: {m.file}" for m in everyone if not m.applies()] == []


def test_names_are_distinct_and_texts_change() -> None:
    mutants = load()
    assert mutants and len(mutants) == len({m.name for m in mutants})
    assert all(m.old != m.new for m in mutants)


@pytest.mark.parametrize(
    ("argument", "code", "said"), [("--help", 0, "mutants to try"), ("NONE", 2, "NONE")]
)
def test_help_and_unknown_names_run_nothing(
    argument: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
