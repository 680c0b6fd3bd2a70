"""GitLab's code quality report: an issue for each deployment that fails, shown at its line in a merge request.

Source: GitLab, "Code Quality", report format: description, check_name, fingerprint, severity, location; paths from the
root of the repository, without `./`, and no byte order mark.
"""

from __future__ import annotations

from typing import TextIO

from kvcalc.errors.foreign import MOST_TEXT, visible
from kvcalc.formats._notices import fingerprints, notices_of, relative
from kvcalc.formats.json import dumped
from kvcalc.report.notices import Notice
from kvcalc.report.sheet import Document, Json


def write(document: Document, stream: TextIO) -> None:
    """Writes the list of issues, empty if everything fits."""
    failing = tuple(notice for notice in notices_of(document) if notice.fails)
    issues = [_issue(notice, print_) for notice, print_ in zip(failing, fingerprints(failing), strict=True)]
    stream.write(dumped(issues))


def _issue(notice: Notice, print_: str) -> Json:
    title = notice._replace(deployment=visible(notice.deployment)).title
    return {
        "description": visible(f"{title}: {'; '.join(notice.lines)}"),
        "check_name": notice.rule.id,
        "fingerprint": print_,
        "severity": "major",
        "location": {"path": visible(relative(notice.file), MOST_TEXT), "lines": {"begin": max(1, notice.line)}},
    }
