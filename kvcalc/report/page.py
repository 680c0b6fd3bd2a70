"""A page about deployments: the verdicts, and for each its answers with the commands that reproduce them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.sheet import Document, Json, Line, Sheet, Table
from kvcalc.report.versions import named
from kvcalc.units import plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Chart


class Part(NamedTuple):
    """One answer. about: one sentence; command: the command that prints it, empty if no single command does.

    document: None without an answer; then remark says why. folded: whether its tables start collapsed.
    """

    title: str
    about: str
    command: str = ""
    document: Document | None = None
    remark: str = ""
    folded: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Plain values, including the document's."""
        document = None if self.document is None else self.document.to_dict()
        return {"title": self.title, "command": self.command, "document": document, "remark": self.remark}


class Section(NamedTuple):
    """One deployment. lines: the verdict in a few lines; fits: None without a verdict."""

    title: str
    verdict: str
    fits: bool | None
    lines: tuple[Line, ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Sectioned(Protocol):
    """A document of sections."""

    def summary(self) -> Document:
        """Lines above the sections."""
        ...

    def sections(self) -> Sequence[Section]:
        """The sections with their parts."""
        ...

    def heading(self) -> tuple[str, str, str]:
        """The title, the summary, and the command that made it."""
        ...


class Page(NamedTuple):
    """The check of files, and a section for each deployment. left_out: findings without a section."""

    title: str
    command: str
    check: CheckReport
    details: tuple[tuple[Finding, tuple[Part, ...]], ...]
    left_out: int = 0

    def heading(self) -> tuple[str, str, str]:
        """The title, the summary, and the command that made it."""
        return self.title, self.check.sheets()[0].title.partition(": ")[2], self.command

    def summary(self) -> CheckReport:
        """The verdicts."""
        return self.check

    def sections(self) -> tuple[Section, ...]:
        """One section for each deployment."""
        return tuple(
            Section(
                finding.deployment,
                finding.verdict,
                finding.fits,
                tuple(_lines(finding)),
                parts,
                finding.notes,
            )
            for finding, parts in self.details
        )

    def to_dict(self) -> dict[str, Json]:
        """Plain values of the check and of each part."""
        return {
            **named("report"),
            "title": self.title,
            "command": self.command,
            "check": self.check.to_dict(),
            "deployments": [
                {"deployment": finding.deployment, "parts": [part.to_dict() for part in parts]}
                for finding, parts in self.details
            ],
            "left_out": self.left_out,
        }

    def table(self) -> Table:
        """That of the check."""
        return self.check.table()

    def sheets(self) -> tuple[Sheet, ...]:
        """Sheets of the check, then of the parts."""
        documents = [part.document for _, parts in self.details for part in parts if part.document is not None]
        return (*self.check.sheets(), *(sheet for document in documents for sheet in document.sheets()))

    def charts(self) -> "tuple[Chart, ...]":
        """All charts."""
        from kvcalc.report.chart import all_charts

        return all_charts(part.document for _, parts in self.details for part in parts)


def _lines(finding: Finding) -> "list[Line]":
    """The verdict, the request, and what would fit."""
    balance, cause, *advice = finding.lines()
    lines = [Line("verdict", f"{finding.verdict}: {balance}", "answer" if finding.fits else "alarm")]
    lines.append(Line("asked", cause))
    lines += [Line("next step", words) for words in advice]
    if finding.max_sequences is not None:
        lines.append(Line("max users", f"{plural(finding.max_sequences, 'user')} at {plural(finding.tokens, 'token')}"))
    if finding.max_tokens is not None:
        users = plural(finding.sequences, "user")
        lines.append(Line("memory holds", f"{plural(finding.max_tokens, 'token')} at {users}"))
    if finding.file:
        lines.append(Line("where", f"{finding.file}:{finding.line}"))
    return lines
