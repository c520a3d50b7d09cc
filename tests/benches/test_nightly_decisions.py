"""Runs of the nightly decisions add up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benches import nightly_decisions
from tests.verify import decisions


def test_a_resumed_run_asks_what_is_not_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def noted(seed: int, count: int) -> Counter[str]:
        asked.append(seed)
        return decisions.ask(seed, count)

    monkeypatch.setattr(decisions, "PROPERTIES", 4)
    monkeypatch.setattr(nightly_decisions, "BATCH", 4)
    monkeypatch.setattr(nightly_decisions, "ask", noted)
    record, told = tmp_path / "record.jsonl", []
    for count in (4, 8):
        words = f"--seed 7 --count {count} --resume {record}".split()
        with pytest.raises(SystemExit) as ended:
            nightly_decisions.main(words)
        assert ended.value.code == 0
        told.append(capsys.readouterr().out.splitlines())
    assert asked == [7, 8]
    assert told[1][0] == told[0][0] and len(told[1]) == 2
    tallies = nightly_decisions.recorded(record)
    assert sum(t.total() for t in tallies.values()) == 8
