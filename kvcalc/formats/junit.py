"""JUnit XML: one test case for each deployment, as CI systems display them."""

from __future__ import annotations

from typing import TextIO
from xml.etree import ElementTree

from kvcalc.errors.foreign import MOST_TEXT
from kvcalc.formats._escapes import xml
from kvcalc.formats._notices import notices_of
from kvcalc.report.notices import UNREAD, Notice
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes a test suite; a deployment that does not fit is a failure, and notes are its output.

    Characters beyond ASCII are references, so that the document is well-formed in whatever encoding it is stored.
    """
    notices = notices_of(document)
    errors = sum(notice.rule is UNREAD for notice in notices)
    counts = {"tests": len(notices), "failures": sum(notice.fails for notice in notices) - errors, "errors": errors}
    suite = ElementTree.Element("testsuite", {"name": "kvcalc", **{name: str(n) for name, n in counts.items()}})
    for notice in notices:
        _add_case(suite, notice)
    ElementTree.indent(suite)
    stream.write(ElementTree.tostring(suite, encoding="us-ascii", xml_declaration=True).decode("ascii") + "\n")


def _add_case(suite: ElementTree.Element, notice: Notice) -> None:
    """Adds the test case of one deployment."""
    file, lines = xml(notice.file, MOST_TEXT), [xml(line, MOST_TEXT) for line in notice.lines]
    name, line = xml(notice.deployment), str(notice.line)
    case = ElementTree.SubElement(suite, "testcase", classname=file, name=name, file=file, line=line)
    if notice.fails:
        failure = ElementTree.SubElement(case, _element(notice), type=notice.rule.id, message=lines[0])
        failure.text = "\n".join((f"{file}:{line}: {lines[0]}", *lines[1:]))
    if notice.notes:
        notes = ElementTree.SubElement(case, "system-out")
        notes.text = "\n".join(f"- {xml(note, MOST_TEXT)}" for note in notice.notes)


def _element(notice: Notice) -> str:
    return "error" if notice.rule is UNREAD else "failure"
