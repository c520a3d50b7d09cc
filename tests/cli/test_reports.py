"""Reports for CI systems: the shape that their readers ask for, whatever names a list has."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gamma.cli.cases import Case
from gamma.cli.junit import document as junit
from gamma.cli.sarif import document as sarif

CASES = [
    Case("safe", "net.onnx", "a.vnnlib", "verified", "all excluded", 0.5),
    Case("bad \x00\x1b <&\"'\ud800", "net.onnx", "b c.vnnlib", "violated", "a witness \x07", 1.25),
    Case("open", "net.onnx", "c.vnnlib", "unknown", "too loose", 2.0),
    Case("late", "net.onnx", "/else/where.vnnlib", "error", "no such file", 0.0),
]
# What the XSD of the JUnit format (Jenkins, schema version 10) allows where.
ALLOWED = {
    "testsuites": ({"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp",
         "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "assertions", "time", "classname", "status", "class", "file", "line"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("strict", (True, False))
def test_junit(strict: bool) -> None:
    text = junit(CASES, strict)
    root = ElementTree.fromstring(text.encode())
    for element in root.iter():
        names, children = ALLOWED[element.tag]
        assert set(element.attrib) <= names
        assert {child.tag for child in element} <= children
    assert root.tag == "testsuites"
    (suite,) = root
    counts = {k: int(v) for k, v in suite.attrib.items() if k not in ("name", "time")}
    assert counts == {
        "tests": 4,
        "failures": 1 + strict,
        "errors": 1,
        "skipped": 1 - strict,
    }
    assert float(suite.attrib["time"]) == 3.75
    tags = [child.tag for case in suite for child in case]
    assert tags.count("failure") == counts["failures"] and tags.count("error") == 1
    assert tags.count("skipped") == counts["skipped"]
    assert [c.attrib["name"] for c in suite][1] == "bad ?? <&\"'?"


@pytest.mark.parametrize("strict", (True, False))
def test_sarif(strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = json.loads(sarif(CASES, strict))
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "gamma"
    assert len({rule["id"] for rule in rules}) == len(rules)
    levels = [found["level"] for found in run["results"]]
    assert levels == ["error", "error" if strict else "warning", "error"]
    for found in run["results"]:
        assert set(found) <= RESULT
        assert rules[found["ruleIndex"]]["id"] == found["ruleId"]
        assert found["message"]["text"]
        (place,) = found["locations"]
        physical = place["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        assert " " not in physical["artifactLocation"]["uri"]
    uris = [
        r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]
    ]
    assert uris == ["b%20c.vnnlib", "c.vnnlib", "file:///else/where.vnnlib"]


RESULT = {"ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"}
