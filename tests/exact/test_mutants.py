"""The mutants of `mutation.py` still apply to the source; `make mutation` runs them."""

from __future__ import annotations

import pytest

from tests.exact.mutation import COMPILED, MUTANTS, UNCHANGED, main


def test_every_text_is_in_the_source_once() -> None:
    everyone = (*MUTANTS, *COMPILED, *UNCHANGED)
    assert [f"{m.name}: {m.file}" for m in everyone if not m.applies()] == []


def test_names_are_distinct_and_texts_change() -> None:
    names = [m.name for m in (*MUTANTS, *COMPILED)]
    assert len(names) == len(set(names))
    assert all(m.old != m.new for m in (*MUTANTS, *COMPILED))


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
