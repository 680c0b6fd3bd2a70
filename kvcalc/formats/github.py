"""GitHub workflow commands: one annotation for each finding, at the file and line of its deployment.

Source: GitHub Actions, "Workflow commands": `::error file={name},line={line},title={title}::{message}`.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.report.check import CheckReport
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes an error for each deployment that does not fit and a notice for each that does."""
    findings = document.findings if isinstance(document, CheckReport) else ()
    for finding in findings:
        command = "notice" if finding.fits else "error"
        title = f"{finding.deployment} {'fits' if finding.fits else 'does not fit'}"
        place = f"file={_property(finding.file)},line={finding.line},title={_property(title)}"
        stream.write(f"::{command} {place}::{_data(finding.message)}\n")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
