"""Many models, or traces: the best layout of each, a row for each."""

from __future__ import annotations

from typing import Any, NamedTuple

from kvcalc.report.choices import ChoicesReport
from kvcalc.report.deployments import Note
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.replays import short
from kvcalc.report.replicas import ReplicasReport
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table, in_version, table_of
from kvcalc.report.versions import named
from kvcalc.units import count

_OF_WIDE = ("replicas", "one more")
"""Columns for which a narrow terminal has no room next to the names of traces."""
_ALL = "all layouts of each: --format json"


class Fit(NamedTuple):
    """The layouts of a model, best first. trace: the file of its workload; empty without one."""

    trace: str
    report: ReplicasReport | ChoicesReport

    def row(self) -> dict[str, Cell]:
        """The best layout in one row, by the names that the table of all has."""
        table = table_of(self.report)
        best = dict(zip(table.names, table.rows[0], strict=True)) if table.rows else {}
        trace: dict[str, Cell] = {"trace": self.trace} if self.trace else {}
        return {"model": self.report.model, **trace, "fits": self.report.fits, **best}


class FitsReport(NamedTuple):
    """All of them, in the order in which they were asked. refused: what could not be asked, and why."""

    fits: tuple[Fit, ...]
    refused: tuple[Note, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def all_fit(self) -> bool:
        """Whether each has a layout that holds what is asked."""
        return all(fit.report.fits for fit in self.fits)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("fits"),
            "fits": [{"trace": fit.trace or None, "layouts": fit.report.to_dict()} for fit in self.fits],
            "refused": [note.to_dict() for note in self.refused],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """The best of each, and what is refused."""
        refused = ({"model": note.about, "refused": note.sentence} for note in self.refused)
        return Table.of((*(fit.row() for fit in self.fits), *refused))

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """The best layout of each, as in the first row of its own table."""
        traced = any(fit.trace for fit in self.fits)
        own = [fit.report.sheets()[0] for fit in self.fits]
        shown = tuple(
            column._replace(wide=column.wide or (traced and column.title in _OF_WIDE))
            for column in next((sheet.columns for sheet in own if sheet.columns), ())
        )
        columns = (Column("model", once=True), *((Column("trace"),) if traced else ()), Column("fits"), *shown)
        rows = tuple(
            (
                fit.report.model,
                *((trace,) if traced else ()),
                "yes" if fit.report.fits else "NO",
                *(sheet.rows[0] if sheet.rows else (None,) * len(shown)),
            )
            for fit, trace, sheet in zip(self.fits, short([fit.trace for fit in self.fits]), own, strict=True)
        )
        engines = dict.fromkeys(in_version(fit.report.engine, fit.report.engine_version) for fit in self.fits)
        lines = (Line("refused", count(len(self.refused)), "alarm"),) if self.refused else ()
        sheets = [Sheet(f"Best layouts in {', '.join(engines)}", columns, rows, lines, (_ALL, *self.notes))]
        if self.refused:
            refused = tuple((note.about, note.sentence) for note in self.refused)
            sheets.append(Sheet("Refused", (Column("model"), Column("why")), refused))
        return tuple(sheets)
