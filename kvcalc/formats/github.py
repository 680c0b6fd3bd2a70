"""GitHub workflow commands: one annotation for each finding, at the file and line of its deployment.

Source: GitHub Actions, "Workflow commands": `::error file={name},line={line},title={title}::{message}`.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors.foreign import MOST_TEXT, visible
from kvcalc.formats._escapes import github_data, github_property
from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.deployments import Note
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes an error for each deployment that does not fit or is refused, and a notice for each that fits."""
    findings = document.findings if isinstance(document, CheckReport) else ()
    for finding in findings:
        command = "notice" if finding.fits else "error"
        title = f"{visible(finding.deployment)} {'fits' if finding.fits else 'does not fit'}"
        place = f"file={_file(finding)},line={finding.line},title={github_property(title)}"
        message = "\n- ".join(map(visible, (finding.message, *finding.notes)))
        stream.write(f"::{command} {place}::{github_data(message)}\n")
    for note in document.refused if isinstance(document, CheckReport) else ():
        stream.write(f"::error {_place(note)}::{github_data(visible(note.sentence))}\n")


def _place(note: Note) -> str:
    file, _, line = note.where.rpartition(":")
    known = line.isdecimal()
    path = github_property(file if known else note.where, MOST_TEXT)
    return f"file={path},line={line if known else 1},title={github_property(f'{visible(note.about)}: refused')}"


def _file(finding: Finding) -> str:
    """The path, whole: one that was cut names no file."""
    return github_property(finding.file, MOST_TEXT)
