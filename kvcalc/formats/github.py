"""GitHub workflow commands: one annotation for each finding, at the file and line of its deployment.

Source: GitHub Actions, "Workflow commands": `::error file={name},line={line},title={title}::{message}`.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors.foreign import MOST_TEXT, visible
from kvcalc.formats._escapes import github_data, github_property
from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes an error for each deployment that does not fit and a notice for each that does, with its notes."""
    findings = document.findings if isinstance(document, CheckReport) else ()
    for finding in findings:
        command = "notice" if finding.fits else "error"
        title = f"{visible(finding.deployment)} {'fits' if finding.fits else 'does not fit'}"
        place = f"file={_file(finding)},line={finding.line},title={github_property(title)}"
        message = "\n- ".join(map(visible, (finding.message, *finding.notes)))
        stream.write(f"::{command} {place}::{github_data(message)}\n")


def _file(finding: Finding) -> str:
    """The path, whole: one that was cut names no file."""
    return github_property(finding.file, MOST_TEXT)
