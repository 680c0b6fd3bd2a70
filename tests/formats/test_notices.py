"""What CI systems get: the same findings in four grammars, each known again from run to run."""

from __future__ import annotations

import io
import json
from typing import NamedTuple

import pytest
from strict_readers import commands, read_strictly, run

from kvcalc.formats import FOR_FINDINGS, write
from kvcalc.report.notices import RULES, TOO_LARGE, Notice

NOTICE = Notice(TOO_LARGE, True, "chat", "does not fit", ("needs 2", "cause", "next"), "plans/a.yaml", 7, ("a note",))


class Noticed(NamedTuple):
    noticed: tuple[Notice, ...]

    def notices(self) -> tuple[Notice, ...]:
        return self.noticed

    def data(self) -> list[str]:
        return []

    def sheets(self) -> tuple[()]:
        return ()


def rendered(format: str, *notices: Notice) -> str:
    stream = io.StringIO()
    write(Noticed(notices), format, stream)
    read_strictly(format, stream.getvalue())
    return stream.getvalue()


def sarif(*notices: Notice) -> list[dict]:
    return json.loads(rendered("sarif", *notices))["runs"][0]["results"]


def test_three_short_lines_reach_each_format():
    assert sarif(NOTICE)[0]["message"]["text"] == "chat does not fit\nneeds 2\ncause\nnext\n- a note"
    assert json.loads(rendered("gitlab", NOTICE))[0]["description"] == "chat does not fit: needs 2; cause; next"
    ((name, properties, message),) = commands(rendered("github", NOTICE))
    assert (name, message) == ("error", "needs 2%0Acause%0Anext%0A- a note")
    assert properties == {"file": "plans/a.yaml", "line": "7", "title": "chat does not fit"}
    assert "plans/a.yaml:7: needs 2\ncause\nnext" in rendered("junit", NOTICE)


@pytest.mark.parametrize("format", ["sarif", "gitlab"])
def test_what_fits_is_no_issue(format):
    assert "chat" not in rendered(format, NOTICE._replace(fails=False, outcome="fits"))


@pytest.mark.parametrize("format", FOR_FINDINGS)
def test_a_document_without_findings_is_still_one(format):
    rendered(format)


def identity(notice: Notice, *others: Notice) -> tuple[str, str]:
    """By what GitHub and GitLab know the last of several notices."""
    notices = (*others, notice)
    (*_, result) = sarif(*notices)
    (*_, issue) = json.loads(rendered("gitlab", *notices))
    return result["partialFingerprints"]["primaryLocationLineHash"], issue["fingerprint"]


def test_a_finding_is_the_same_where_lines_move_and_numbers_change():
    moved = NOTICE._replace(line=70, lines=("needs 3",), notes=())
    assert identity(moved) == identity(NOTICE)
    assert identity(NOTICE._replace(file="./plans/../plans/a.yaml")) == identity(NOTICE)


@pytest.mark.parametrize("other", [{"file": "plans/b.yaml"}, {"deployment": "x"}, {"rule": RULES[1]}, {}], ids=str)
def test_others_are_others(other):
    assert identity(NOTICE._replace(**other), NOTICE) != identity(NOTICE)


def test_paths_are_those_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, uri in (
        ("./a b.yaml", "a%20b.yaml"),
        (str(tmp_path / "plans/a.yaml"), "plans/a.yaml"),
        ("plans/é.yaml", "plans/%C3%A9.yaml"),
        ("/elsewhere/a.yaml", "/elsewhere/a.yaml"),
    ):
        at = sarif(NOTICE._replace(file=file))[0]["locations"][0]["physicalLocation"]["artifactLocation"]
        assert at["uri"] == uri
        assert ("uriBaseId" in at) == (not uri.startswith("/"))


def test_a_finding_without_a_line_is_on_the_first():
    (result,) = sarif(NOTICE._replace(line=0))
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


@pytest.mark.parametrize("format", FOR_FINDINGS)
def test_only_findings_have_these_formats(format):
    done = run("size", "r1", "1k", "--format", format)
    assert (done.code, done.out) == (2, "")
    assert f"the format {format} renders findings" in done.err
