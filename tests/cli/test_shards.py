"""Parts of a suite for job arrays, what becomes of the records, and what they look like."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gamma
from gamma.cli.main import main
from gamma.verification.records import seal
from tests.cli.test_schema import validator
from tests.verify.known import dense

COUNT = 5
HEAD = "".join(f"(declare-const {n}_{i} Real)" for n in "XY" for i in range(2))
BOX = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instance k asks whether Y_0 >= k/2 on the unit square; and a model that is missing."""
    folder = tmp_path_factory.mktemp("shards")
    gamma.save(dense((np.eye(2).tolist(), [0.0, 0.0])), folder / "net.safetensors")
    lines = ""
    for k in range(COUNT):
        (folder / f"p{k}.vnnlib").write_text(HEAD + BOX + f"(assert (>= Y_0 {k / 2}))")
        lines += f"net.safetensors,p{k}.vnnlib,20\n"
    (folder / "list.csv").write_text(lines + "absent.onnx,p0.vnnlib,20\n")
    return folder / "list.csv"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


EXPECTED = ["violated"] * 3 + ["verified"] * 2 + ["error"]


def test_shards_and_their_merge(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (1, 2):
        assert main(["suite", str(suite), "--shard", f"{part}/2"]) == (2 if part == 2 else 0)
    parts = [suite.with_name(f"list.results.{part}-of-2.jsonl") for part in (1, 2)]
    assert [len(records(part)) for part in parts] == [3, 3]
    files = [f"--{n}={tmp_path / n}" for n in ("csv", "junit", "sarif", "witnesses")]
    capsys.readouterr()
    assert main(["suite", "merge", str(suite), *files, "--fail-on", "violated"]) == 2
    said = capsys.readouterr()
    assert "6 records of 2 files" in said.out and "no record" not in said.err
    whole = records(suite.with_name("list.results.jsonl"))
    assert [record["verdict"] for record in whole] == EXPECTED
    for record in whole:
        validator().validate(record)
    rows = list(csv.DictReader((tmp_path / "csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows] == EXPECTED
    assert rows[3]["timeout"] == "20.0" and float(rows[3]["worst_margin"]) > 0
    assert "does not exist" in rows[5]["error"] and rows[5]["worst_margin"] == ""
    tree = ElementTree.parse(tmp_path / "junit").getroot()
    assert (tree.get("tests"), tree.get("failures"), tree.get("errors")) == ("6", "3", "1")
    assert len(json.loads((tmp_path / "sarif").read_text())["runs"][0]["results"]) == 4
    found = sorted(path.name for path in (tmp_path / "witnesses").iterdir())
    assert found == [f"{k + 1:04d}.net.p{k}.counterexample" for k in range(3)]
    assert (tmp_path / "witnesses" / found[2]).read_text().startswith("sat\n((X_0 1.0)")
    # The merged file is one of a whole run: nothing is left for it to do.
    assert main(["suite", str(suite), "--resume", "--fail-on", "none"]) == 2
    assert "0 run in" in capsys.readouterr().out
    assert main(["suite", "merge", str(suite)]) == 2 and "--force" in capsys.readouterr().err


def test_what_a_merge_refuses(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, out = tmp_path / "few.csv", tmp_path / "out"
    few.write_text(f"{suite.parent}/net.safetensors,{suite.parent}/p0.vnnlib,20\n" * 2)
    assert main(["suite", str(few), "-o", str(tmp_path / "a")]) == 0
    assert main(["suite", str(few), "-o", str(tmp_path / "b"), "--seed", "1"]) == 0
    merge = ["suite", "merge", str(few), str(tmp_path / "a")]
    capsys.readouterr()
    assert main([*merge, str(tmp_path / "b"), "-o", str(out)]) == 2
    assert "seed 1" in capsys.readouterr().err and not out.exists()
    first, _ = records(tmp_path / "a")
    first.pop("sha256")
    (tmp_path / "c").write_text(seal(first | {"verdict": "verified", "counterexample": None}))
    assert main([*merge, str(tmp_path / "c"), "-o", str(out)]) == 2
    assert "one of them is wrong" in capsys.readouterr().err
    (tmp_path / "d").write_text(seal(first | {"verdict": "timeout", "counterexample": None}))
    assert main([*merge, str(tmp_path / "d"), "-o", str(out)]) == 0
    assert [record["verdict"] for record in records(out)] == ["violated"] * 2
    one = ["suite", "merge", str(few), str(tmp_path / "d"), "-o", str(out), "--force"]
    assert main(one) == 2  # one is missing
    assert "1 of 2 instances have no record" in capsys.readouterr().err
    (tmp_path / "e").write_text(seal(first | {"model_sha256": "0" * 64}))
    assert main(["suite", "merge", str(few), str(tmp_path / "e"), "-o", str(out), "--force"]) == 2
    assert "2 of 2 instances" in capsys.readouterr().err


def test_force_replaces_records(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["suite", str(suite), "--shard", "5/5", "-o", str(out)]
    assert main(words) == 0 and len(records(out)) == 1
    assert main(words) == 2
    assert main([*words, "--force", "--resume"]) == 2
    assert main([*words, "--force"]) == 0 and len(records(out)) == 1
    # More parts than instances: the last ones have nothing to do.
    assert main(["suite", str(suite), "--shard", "9/9", "-o", str(tmp_path / "none")]) == 0
    with pytest.raises(SystemExit):
        main(["suite", str(suite), "--shard", "3/2"])
