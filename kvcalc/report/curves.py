"""Curves over the context: bytes of the cache, or users that fit."""

from typing import Any, NamedTuple

from kvcalc.report.chart import Axis, Curves, Level, Series
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.notes import once
from kvcalc.report.sheet import Cell, Column, Json, Sheet, Table
from kvcalc.report.versions import named
from kvcalc.units import plural


class Curve(NamedTuple):
    """One curve with its question. asked: model, engine and so on, by name. left_out: tokens beyond its end."""

    label: str
    asked: tuple[tuple[str, Cell], ...]
    points: tuple[tuple[int, int], ...]
    marks: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class CurvesReport(NamedTuple):
    """Curves on the same axes. of: the quantity, bytes or users; levels: bytes of reference lines.

    linear: whether the axes are linear instead of logarithmic. over: what the tokens belong to.
    """

    title: str
    of: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()
    linear: bool = False
    over: str = "cached tokens of each sequence"

    def to_dict(self) -> dict[str, Json]:
        """Plain values: each curve with its points."""
        return {
            **named("plot"),
            "title": self.title,
            "x": self.over,
            "y": self.of,
            "series": [
                {
                    "label": curve.label,
                    **dict(curve.asked),
                    "points": [{"tokens": x, self.of: y} for x, y in curve.points],
                    "growth_changes_at": list(curve.marks),
                    "notes": list(curve.notes),
                }
                for curve in self.curves
            ],
            "levels": [{"label": level.label, "bytes": level.value} for level in self.levels],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """One row for each point."""
        return Table.of(
            {"series": curve.label, **dict(curve.asked), "tokens": x, self.of: y}
            for curve in self.curves
            for x, y in curve.points
        )

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each point."""
        y = (
            (Column("bytes", "bytes"), Column("GiB", "gibibytes"))
            if self.of == "bytes"
            else (Column("users", "count"),)
        )
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (curve.label, x, *(value for _ in y)) for curve in self.curves for x, value in curve.points
        )
        columns = (Column("series", once=True), Column("tokens", "count"), *y)
        levels = tuple(f"{level.label}: {plural(level.value, 'byte')}" for level in self.levels)
        return (Sheet(self.title, columns, rows, notes=(*levels, *self._remarks())),)

    def charts(self) -> tuple[Curves, ...]:
        """One chart of all curves."""
        y = Axis("bytes of the cache", "bytes", not self.linear)
        if self.of == "users":
            y = Axis("users", "users", not self.linear)
        lines = tuple(Series(curve.label, curve.points, curve.marks) for curve in self.curves)
        x = Axis(self.over, "tokens", not self.linear)
        return (Curves(self.title, x, y, lines, self.levels, self._remarks()),)

    def _remarks(self) -> tuple[str, ...]:
        common = [note for note in self.curves[0].notes if all(note in curve.notes for curve in self.curves)]
        if len(self.curves) == 1:
            return (*common, *self.notes)
        own = once((curve.label, note) for curve in self.curves for note in curve.notes if note not in common)
        return (*common, *own, *self.notes)
