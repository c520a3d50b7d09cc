"""Cases as SARIF 2.1.0, which code scanning shows as alerts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gamma import __version__

if TYPE_CHECKING:
    from gamma.cli.cases import Case

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "violated": "An input of the set has an unsafe output: the witness was replayed",
    "unknown": "The property is neither proved nor refuted",
    "error": "There is no answer: a file or a resource failed",
}


def document(cases: Sequence[Case], fail_unknown: bool) -> str:
    """One run with a result for each case that is not verified."""
    levels = {"violated": "error", "error": "error"}
    levels["unknown"] = "error" if fail_unknown else "warning"
    found = [case for case in cases if case.status in RULES]
    driver = {
        "name": "gamma",
        "version": __version__,
        "rules": [
            {
                "id": name,
                "shortDescription": {"text": text},
                "defaultConfiguration": {"level": levels[name]},
            }
            for name, text in RULES.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(case, levels[case.status]) for case in found],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(case: Case, level: str) -> dict[str, Any]:
    place = {"artifactLocation": _location(case.file), "region": {"startLine": 1}}
    return {
        "ruleId": case.status,
        "ruleIndex": list(RULES).index(case.status),
        "level": level,
        "message": {"text": f"{case.name}: {case.status}: {case.text}"},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"question/v1": f"{case.model} {case.name}"},
    }


def _location(file: str) -> dict[str, str]:
    """A file under this folder relative to it, as code scanning needs; others absolute."""
    path = PurePath(os.path.abspath(file))
    try:
        return {"uri": quote(path.relative_to(os.getcwd()).as_posix()), "uriBaseId": "%SRCROOT%"}
    except ValueError:
        return {"uri": path.as_uri()}
