"""Verdicts on a fleet of any size: how many fit, and the first that do not."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.deployments import Note
from kvcalc.report.sheet import Json, Line, Sheet
from kvcalc.units import count, plural

MOST_SHOWN = 20
"""Number of deployments that do not fit, and of refused ones, to keep."""


class FleetReport(NamedTuple):
    """Counts of a stream, with the first that do not fit and the first that are refused."""

    deployments: int
    failing: int
    refused: int
    first_failing: tuple[Finding, ...]
    first_refused: tuple[Note, ...]

    @property
    def fits(self) -> bool:
        """Whether every deployment fits."""
        return not self.failing

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {"fits": self.fits, "deployments": self.deployments, "failing": self.failing, "refused": self.refused}

    def sheets(self) -> tuple[Sheet, ...]:
        """The counts, and a table of the first that do not fit."""
        kept = CheckReport(self.first_failing, self.first_refused)
        table, *notes = kept.sheets()
        if not self.first_failing:
            table = Sheet(table.title, (), ())
        lines = [Line("checked", plural(self.deployments, "deployment"))]
        lines.append(Line("fit", count(self.deployments - self.failing), "answer"))
        if self.failing:
            more = f", the first {MOST_SHOWN} below" if self.failing > MOST_SHOWN else ""
            lines.append(Line("do not", f"{count(self.failing)}{more}", "alarm"))
        if self.refused:
            more = f", the first {MOST_SHOWN} below" if self.refused > MOST_SHOWN else ""
            lines.append(Line("refused", f"{count(self.refused)}{more}", "alarm"))
        verdict = "all fit" if self.fits and not self.refused else "not all fit" if self.failing else "some are refused"
        return (table._replace(title=f"Capacity check of a fleet: {verdict}", lines=tuple(lines)), *notes)
