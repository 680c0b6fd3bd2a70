"""GitHub workflow commands: one annotation for each notice, at the file and line of its deployment.

Source: GitHub Actions, "Workflow commands": `::error file={name},line={line},title={title}::{message}`.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors.foreign import MOST_TEXT, visible
from kvcalc.formats._escapes import github_data, github_property
from kvcalc.formats._notices import notices_of
from kvcalc.report.notices import Notice
from kvcalc.report.sheet import Document


def write(document: Document, stream: TextIO) -> None:
    """Writes an error for each deployment that fails and a notice for each that does not, with its notes."""
    for notice in notices_of(document):
        command = "error" if notice.fails else "notice"
        title = notice._replace(deployment=visible(notice.deployment)).title
        place = f"file={_file(notice)},line={notice.line},title={github_property(title)}"
        message = "\n".join((*map(visible, notice.lines), *(f"- {visible(note)}" for note in notice.notes)))
        stream.write(f"::{command} {place}::{github_data(message)}\n")


def _file(notice: Notice) -> str:
    """The complete path: a shortened one would name no file."""
    return github_property(notice.file, MOST_TEXT)
