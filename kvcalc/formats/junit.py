"""JUnit XML: one test case for each deployment, as CI systems display them."""

from __future__ import annotations

from typing import TextIO
from xml.etree import ElementTree

from kvcalc.errors.foreign import MOST_TEXT
from kvcalc.formats._escapes import xml
from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.deployments import Note
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes a test suite; a deployment that does not fit is a failure, and notes are what its case printed.

    Characters beyond ASCII are references, so that the document is well-formed in whatever encoding it is stored.
    """
    findings = document.findings if isinstance(document, CheckReport) else ()
    refused = document.refused if isinstance(document, CheckReport) else ()
    failures = sum(not finding.fits for finding in findings)
    tests, errors = str(len(findings) + len(refused)), str(len(refused))
    suite = ElementTree.Element("testsuite", name="kvcalc", tests=tests, failures=str(failures), errors=errors)
    for finding in findings:
        _add_case(suite, finding)
    for note in refused:
        _add_refused(suite, note)
    ElementTree.indent(suite)
    stream.write(ElementTree.tostring(suite, encoding="us-ascii", xml_declaration=True).decode("ascii") + "\n")


def _add_case(suite: ElementTree.Element, finding: Finding) -> None:
    """Adds the test case of one deployment."""
    file, message = xml(finding.file, MOST_TEXT), xml(finding.message, MOST_TEXT)
    name, line = xml(finding.deployment), str(finding.line)
    case = ElementTree.SubElement(suite, "testcase", classname=file, name=name, file=file, line=line)
    if not finding.fits:
        failure = ElementTree.SubElement(case, "failure", type="does-not-fit", message=message)
        failure.text = f"{file}:{line}: {message}"
    if finding.notes:
        notes = ElementTree.SubElement(case, "system-out")
        notes.text = "\n".join(f"- {xml(note, MOST_TEXT)}" for note in finding.notes)


def _add_refused(suite: ElementTree.Element, note: Note) -> None:
    """Adds the test case of what cannot be checked."""
    where, about = xml(note.where, MOST_TEXT), xml(note.about)
    case = ElementTree.SubElement(suite, "testcase", classname=where, name=about)
    message = xml(note.sentence, MOST_TEXT)
    ElementTree.SubElement(case, "error", type="refused", message=message)
