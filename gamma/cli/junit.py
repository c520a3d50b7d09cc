"""Cases as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from gamma.cli.cases import Case

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(cases: Sequence[Case], fail_unknown: bool) -> str:
    """One ``testsuite``: violated is a failure, unknown one too or skipped, no answer an error."""
    kinds = {"violated": "failure", "error": "error", "verified": ""}
    kinds["unknown"] = "failure" if fail_unknown else "skipped"
    said = [kinds[case.status] for case in cases]
    counts = {"tests": str(len(cases)), "failures": str(said.count("failure"))}
    counts |= {"errors": str(said.count("error"))}
    spent = {"time": f"{sum(case.seconds for case in cases):.3f}"}
    root = ElementTree.Element("testsuites", {"name": "gamma", **counts, **spent})
    counts["skipped"] = str(said.count("skipped"))
    suite = ElementTree.SubElement(root, "testsuite", {"name": "gamma", **counts, **spent})
    for case, kind in zip(cases, said, strict=True):
        about = {"name": case.name, "classname": case.model, "time": f"{case.seconds:.3f}"}
        made = ElementTree.SubElement(suite, "testcase", _clean(about))
        if kind:
            why = {"message": case.text} | ({"type": case.status} if kind != "skipped" else {})
            ElementTree.SubElement(made, kind, _clean(why))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _clean(values: dict[str, str]) -> dict[str, str]:
    """Without characters that XML has no form for: names are a list's words."""
    return {name: _NOT_XML.sub("?", value) for name, value in values.items()}
