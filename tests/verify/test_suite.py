"""Lists, durable records and what a run keeps: every cut of the file ends in the same verdicts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import gamma
from gamma.errors import FormatError, ResourceError, UsageError
from gamma.verification import suite
from gamma.verification.choices import AUTO_SECONDS
from gamma.verification.records import Records, seal, unseal
from gamma.verification.suite import Instance, Options, kept_records, read_list
from tests.verify.known import dense

EXPECTED = ["violated", "violated", "violated", "verified", "verified", "verified"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """y = (x0, x1, x0 + x1 - 2) on the unit square; instance k asks for Y_0 >= 0.4 k."""
    weight = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    gamma.save(dense((weight, [0.0, 0.0, -2.0])), tmp_path / "net.safetensors")
    declare = "".join(f"(declare-const X_{i} Real)\n" for i in range(2))
    declare += "".join(f"(declare-const Y_{i} Real)\n" for i in range(3))
    box = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(2))
    for k in range(6):
        (tmp_path / f"p{k}.vnnlib").write_text(declare + box + f"(assert (>= Y_0 {0.4 * k:.1f}))")
    lines = [f"net.safetensors,p{k}.vnnlib,20\n" for k in range(6)]
    (tmp_path / "list.csv").write_text("".join(lines))
    return tmp_path


def complete(folder: Path, resume: bool = False, **options: Any) -> tuple[list[str], int]:
    """Verdicts of the list, and how many instances had to be run."""
    ran = []
    instances = read_list(folder / "list.csv")
    with Records(folder / "out.jsonl", resume) as records:
        done = suite.run(
            instances,
            records,
            Options(**options),
            report=lambda record, left, eta: ran.append((left, eta)),
        )
    assert [r["property"] for r in done] == [f"p{k}.vnnlib" for k in range(len(done))]
    return [r["verdict"] for r in done], len(ran)


# --- lists ----------------------------------------------------------------------------------------


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('﻿onnx,vnnlib,timeout\n# a remark\n\na.onnx, "b c.vnnlib" ,5.5\na.onnx,b\n')
    first, second = read_list(path)
    assert first == Instance("a.onnx", "b c.vnnlib", 5.5, tmp_path)
    assert second == Instance("a.onnx", "b", None, tmp_path)
    path.write_text("m,p,1\nm,q,1\nm,p,2\n")
    assert [instance.key for instance in read_list(path)] == [
        ("m", "p", 0),
        ("m", "q", 0),
        ("m", "p", 1),
    ]
    assert Options(timeout=1.5).limit(first) == 1.5
    assert Options(timeout=9).limit(first) == 5.5
    assert Options(method="crown").limit(second) is None
    assert Options().limit(second) == AUTO_SECONDS


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no instances"),
        (b"# nothing\n", "no instances"),
        (b"a.onnx\n", "line 1: 1 fields"),
        (b"m,p,1\na,b,c,d\n", "line 2: 4 fields"),
        (b"m,,1\n", "line 1"),
        (b"m,p,soon\n", "timeout 'soon'"),
        (b"m,p,-1\n", "timeout '-1'"),
        (b"m,p,nan\n", "timeout 'nan'"),
        (b"m,p,inf\n", "timeout 'inf'"),
        (b"\xff\xfe\x00", "not text"),
        (b"m," + b"x" * 200_000 + b"\n", "line 1"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(FormatError, match=word):
        read_list(tmp_path / "list.csv")
    with pytest.raises(FormatError, match="no such file"):
        read_list(tmp_path / "absent.csv")


# --- records --------------------------------------------------------------------------------------


def test_a_line_is_its_record_or_nothing() -> None:
    record = {"schema": "gamma.suite/1", "verdict": "unknown", "seconds": 0.1, "x": [1, None]}
    line = seal(record)
    assert line.endswith("\n") and line.count("\n") == 1
    assert unseal(line) == record
    for index in range(len(line) - 1):
        flipped = line[:index] + chr(ord(line[index]) ^ 1) + line[index + 1 :]
        assert unseal(flipped) in (None, record)
        assert unseal(line[:index]) is None
    for other in ("", "[]", "1", "{}", '{"schema": "gamma.result/1"}', "[" * 10_000):
        assert unseal(other) is None


def test_a_file_is_one_runs_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    record = {"schema": "gamma.suite/1", "verdict": "unknown"}
    with Records(path) as records:
        records.append(record)
        with pytest.raises(UsageError, match="another run"):
            Records(path, resume=True)
    with pytest.raises(UsageError, match="--resume"):
        Records(path)
    with Records(path, resume=True) as records:
        assert records.found == [record]
    for wrong, word in ((tmp_path, "regular"), (tmp_path / "no" / "out", "cannot be written")):
        with pytest.raises(UsageError, match=word):
            Records(wrong)
    if Path("/dev/full").exists():
        with pytest.raises(UsageError, match="regular"):
            Records(Path("/dev/full"), resume=True)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"schema": "gamma.suite/1", "verdict": "unknown"}
    real = os.write

    def short(file: int, data: Any) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return real(file, data[:40])

    with Records(tmp_path / "out") as records:
        records.append(record)
        size = (tmp_path / "out").stat().st_size
        monkeypatch.setattr(os, "write", short)
        with pytest.raises(ResourceError, match=r"out: no room .*No space left.*--resume"):
            records.append(record)
    assert (tmp_path / "out").stat().st_size == size


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_and_its_records(folder: Path) -> None:
    assert complete(folder) == (EXPECTED, 6)
    lines = (folder / "out.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [record["verdict"] for record in found] == EXPECTED
    assert found[0]["counterexample"]["x"][0] >= 0
    assert found[0]["options"]["timeout"] == 20
    assert len(found[0]["model_sha256"]) == len(found[0]["property_sha256"]) == 64
    assert complete(folder, resume=True) == (EXPECTED, 0)


def test_every_cut_of_the_file_completes_to_the_same(folder: Path) -> None:
    """Whatever a kill leaves of the file; lines are written in order, so a prefix is all it can."""
    complete(folder)
    whole = (folder / "out.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    cuts = {0, len(whole), *ends, *(end - 1 for end in ends), *range(0, len(whole), 97)}
    for cut in sorted(cuts):
        (folder / "out.jsonl").write_bytes(whole[:cut])
        left = sum(end > cut for end in ends)
        assert complete(folder, resume=True) == (EXPECTED, left)
        assert len((folder / "out.jsonl").read_text().splitlines()) == 6


def test_damaged_lines_are_run_again(folder: Path) -> None:
    complete(folder)
    path = folder / "out.jsonl"
    path.write_text(path.read_text().replace('"verdict": "violated"', '"verdict": "verified"', 1))
    with Records(path, resume=True) as records:
        assert (records.damaged, len(records.found)) == (1, 5)
    assert complete(folder, resume=True) == (EXPECTED, 1)


def test_records_are_bound_to_files_and_options(folder: Path) -> None:
    complete(folder)
    assert complete(folder, resume=True, method="ibp") == (EXPECTED, 6)
    assert complete(folder, resume=True, timeout=10) == (EXPECTED, 6)
    assert complete(folder, resume=True, timeout=30) == (EXPECTED, 0)
    text = (folder / "p5.vnnlib").read_text()
    (folder / "p5.vnnlib").write_text(text.replace("2.0", "0.5"))
    changed = [*EXPECTED[:5], "violated"]
    assert complete(folder, resume=True) == (changed, 1)
    gamma.save(dense(([[2.0, 0.0]] * 3, [0.0] * 3)), folder / "net.safetensors")
    found, ran = complete(folder, resume=True)
    assert (found[4], ran) == ("violated", 6)


def test_strange_records_are_no_answer(folder: Path) -> None:
    instances = read_list(folder / "list.csv")
    strange = [{"model": [1], "property": {}, "number": None}, {}, {"model": "net.safetensors"}]
    assert kept_records(strange, instances, Options()) == {}


def test_an_error_costs_its_instance_only(folder: Path) -> None:
    (folder / "p2.vnnlib").write_text("(assert")
    (folder / "p4.vnnlib").unlink()
    found, _ = complete(folder)
    assert found == [*EXPECTED[:2], "error", "verified", "error", "verified"]
    errors = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert "p2.vnnlib" in errors[2]["error"]
    assert errors[4]["property_sha256"] is None
    assert complete(folder, resume=True)[1] == 0
    (folder / "p4.vnnlib").write_text((folder / "p5.vnnlib").read_text())
    assert complete(folder, resume=True)[1] == 1


def test_wrong_requests(folder: Path) -> None:
    instances = read_list(folder / "list.csv")
    with Records(folder / "out.jsonl") as records:
        with pytest.raises(UsageError, match="jobs"):
            suite.run(instances, records, Options(), jobs=0)
        with pytest.raises(UsageError, match="threads"):
            suite.run(instances, records, Options(), threads=0)
        with pytest.raises(UsageError, match="method"):
            suite.run(instances, records, Options(method="guess"))


@pytest.mark.parametrize(
    ("jobs", "asked", "each"), [(1, None, None), (1, 3, 3), (2, None, 4), (2, 3, 3), (16, None, 1)]
)
def test_threads_of_each_instance(
    jobs: int, asked: int | None, each: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []

    def decide(
        instance: Instance, options: Options, threads: int | None, progress: Any = None
    ) -> dict[str, Any]:
        seen.append(threads)
        return suite._lost(instance, 0.0, options)

    def here(chosen: Any, options: Options, jobs: int, threads: int) -> Any:
        return (decide(instance, options, threads) for instance in chosen)

    monkeypatch.setattr(suite, "decide", decide)
    monkeypatch.setattr(suite, "_parallel", here)
    monkeypatch.setattr(suite, "available", lambda: 8)
    instances = read_list(folder / "list.csv")
    with Records(folder / "out.jsonl") as records:
        suite.run(instances, records, Options(), jobs=jobs, threads=asked)
    assert seen == [each] * len(instances)


@pytest.mark.slow
def test_workers_that_die_cost_their_instance_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(instance: Instance, options: Options, threads: int) -> dict[str, Any]:
        if instance.prop in ("p1.vnnlib", "p4.vnnlib"):
            os._exit(9)
        return {
            "schema": "gamma.suite/1",
            "model": instance.model,
            "property": instance.prop,
            "number": 0,
            "verdict": "unknown",
            "seconds": 0.0,
        }

    monkeypatch.setattr(suite, "decide", deadly)
    instances = read_list(folder / "list.csv")
    with Records(folder / "out.jsonl") as records:
        done = suite.run(instances, records, Options(), jobs=2)
    assert [r["verdict"] for r in done] == ["error" if k in (1, 4) else "unknown" for k in range(6)]
    assert suite.DIED in done[1]["error"]
    assert len((folder / "out.jsonl").read_text().splitlines()) == 6
