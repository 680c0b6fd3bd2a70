"""SARIF 2.1.0: a result for each deployment that fails, for GitHub's code scanning and other viewers.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; GitHub, "SARIF support for code
scanning", which distinguishes results by `primaryLocationLineHash`.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc import __version__
from kvcalc.errors.foreign import MOST_TEXT, visible
from kvcalc.formats._escapes import uri_path
from kvcalc.formats._notices import fingerprints, notices_of, relative
from kvcalc.formats.json import dumped
from kvcalc.report.notices import RULES, Notice, Rule
from kvcalc.report.sheet import Document, Json

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://github.com/kvcalc/kvcalc"
_ROOT = "%SRCROOT%"
"""Base of relative paths: the root of the repository."""


def write(document: Document, stream: TextIO) -> None:
    """Writes a log of one run, with all rules and the results that break them."""
    failing = tuple(notice for notice in notices_of(document) if notice.fails)
    results = [_result(notice, print_) for notice, print_ in zip(failing, fingerprints(failing), strict=True)]
    driver: Json = {
        "name": "kvcalc",
        "version": __version__,
        "semanticVersion": __version__,
        "informationUri": _HOME,
        "rules": [_rule(rule) for rule in RULES],
    }
    run: Json = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    stream.write(dumped({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}))


def _rule(rule: Rule) -> Json:
    name = "".join(word.capitalize() for word in rule.id.split("-"))
    return {
        "id": rule.id,
        "name": name,
        "shortDescription": {"text": rule.about},
        "fullDescription": {"text": rule.help},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": "error"},
    }


def _result(notice: Notice, print_: str) -> Json:
    said = (visible(notice._replace(deployment=visible(notice.deployment)).title), *map(visible, notice.lines))
    uri = uri_path(relative(notice.file))
    at: Json = {"uri": uri} if uri.startswith("/") else {"uri": uri, "uriBaseId": _ROOT}
    physical: Json = {"artifactLocation": at, "region": {"startLine": max(1, notice.line)}}
    return {
        "ruleId": notice.rule.id,
        "ruleIndex": RULES.index(notice.rule),
        "level": "error",
        "message": {"text": "\n".join((*said, *(f"- {visible(note, MOST_TEXT)}" for note in notice.notes)))},
        "locations": [{"physicalLocation": physical}],
        "partialFingerprints": {"primaryLocationLineHash": f"{print_}:1"},
    }
