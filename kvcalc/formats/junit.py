"""JUnit XML: one test case for each deployment, as CI systems display them."""

from __future__ import annotations

from typing import TextIO
from xml.etree import ElementTree

from kvcalc.report.check import CheckReport
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes a test suite; a deployment that does not fit is a failure."""
    findings = document.findings if isinstance(document, CheckReport) else ()
    failures = sum(not finding.fits for finding in findings)
    suite = ElementTree.Element(
        "testsuite", name="kvcalc", tests=str(len(findings)), failures=str(failures), errors="0"
    )
    for finding in findings:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=finding.file,
            name=finding.deployment,
            file=finding.file,
            line=str(finding.line),
        )
        if not finding.fits:
            failure = ElementTree.SubElement(case, "failure", type="does-not-fit", message=finding.message)
            failure.text = f"{finding.file}:{finding.line}: {finding.message}"
    ElementTree.indent(suite)
    stream.write(ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
