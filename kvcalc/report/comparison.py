"""Variants of one model, or several models, side by side."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Sheet, Table
from kvcalc.report.size import Report
from kvcalc.report.versions import named
from kvcalc.units import ratio, short_tokens

if TYPE_CHECKING:
    from kvcalc.report.chart import Chart

NOT_APPLICABLE = "n/a"
"""Shown instead of bytes if something does not apply."""


class LeftOut(NamedTuple):
    """A requested variant, method or model that does not apply. label: of its row; reason: why."""

    label: str
    reason: str

    @property
    def note(self) -> str:
        """The same as a sentence."""
        return f"{self.label} does not apply: {self.reason}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {**self._asdict()}


class ComparisonRow(NamedTuple):
    """One variant or model: its report at each token count. made_of: the layer kinds of a model."""

    label: str
    reports: tuple[Report, ...]
    as_built: bool = False
    made_of: str = ""


class Comparison(NamedTuple):
    """Variants of one model, or several models, side by side.

    row_title: what a row is, such as attention or model.
    baseline: label of the row that ratios refer to. left_out: what does not apply, and why.
    """

    title: str
    row_title: str
    rows: tuple[ComparisonRow, ...]
    baseline: str
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def _ratio(self, row: ComparisonRow, index: int) -> float | None:
        base = next(r for r in self.rows if r.label == self.baseline).reports[index]
        return ratio(row.reports[index].total_bytes, base.total_bytes)

    def to_dict(self) -> dict[str, Json]:
        """Plain values: for each row and token count the report, and its ratio to the baseline."""
        return {
            **named("compare"),
            "title": self.title,
            "baseline": self.baseline,
            "notes": list(self.notes),
            "rows": [
                {
                    "label": row.label,
                    "as_built": row.as_built,
                    "made_of": row.made_of,
                    "ratios": [self._ratio(row, index) for index in range(len(row.reports))],
                    "reports": [report.to_dict() for report in row.reports],
                }
                for row in self.rows
            ],
            "left_out": [each.to_dict() for each in self.left_out],
        }

    def table(self) -> Table:
        """One row for each variant or model at each token count, including those that do not apply."""
        return Table.of((*self._long_rows(), *self._left_out_rows()))

    def _long_rows(self) -> Iterable[dict[str, Cell]]:
        for row in self.rows:
            for index, report in enumerate(row.reports):
                yield {
                    **dict(report.asked()),
                    "attention": row.made_of or row.label,
                    "as_built": row.as_built or bool(row.made_of),
                    "total_bytes": report.total_bytes,
                    "bytes_per_token": report.bytes_per_token,
                    "ratio": self._ratio(row, index),
                    "ratio_to": self.baseline,
                    "not_applicable": "",
                }

    def _left_out_rows(self) -> Iterable[dict[str, Cell]]:
        own = {} if self.row_title == "model" else {"model": self.rows[0].reports[0].model}
        for each in self.left_out:
            for report in self.rows[0].reports:
                yield {
                    **dict(report.asked()),
                    **own,
                    self.row_title: each.label,
                    "not_applicable": each.reason,
                }

    def charts(self) -> "tuple[Chart, ...]":
        """A bar for each row; with several token counts, a point for each."""
        from kvcalc.report.chart import at_lengths, one_bar_each

        if len(self.rows[0].reports) == 1:
            return (one_bar_each(self.title, ((row.label, row.reports[0].total_bytes) for row in self.rows)),)
        lines = [(row.label, tuple((each.tokens, each.total_bytes) for each in row.reports)) for row in self.rows]
        return (at_lengths(self.title, lines),)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each variant; with several token counts, a column for each."""
        single = len(self.rows[0].reports) == 1
        return (self._at_one_length() if single else self._at_many_lengths(),)

    def _at_one_length(self) -> Sheet:
        most = max(row.reports[0].total_bytes for row in self.rows)
        columns = (
            Column(self.row_title),
            *self._made_of_column(),
            Column("bytes per token", "bytes"),
            Column("total GB", "gigabytes"),
            Column("total GiB", "gibibytes"),
            Column(f"vs {self.baseline}", "ratio"),
            Column("", "bar"),
        )
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (
                _marked(row),
                *self._made_of(row),
                report.bytes_per_token,
                report.total_bytes,
                report.total_bytes,
                self._ratio(row, 0),
                ratio(report.total_bytes, most),
            )
            for row in self.rows
            for report in row.reports
        )
        return self._sheet(columns, rows)

    def _at_many_lengths(self) -> Sheet:
        lengths = [report.tokens for report in self.rows[0].reports]
        last = len(lengths) - 1
        columns = (
            Column(self.row_title),
            *self._made_of_column(),
            *(Column(f"GiB at {short_tokens(length)}", "gibibytes") for length in lengths),
            Column(f"vs {self.baseline} at {short_tokens(lengths[last])}", "ratio"),
        )
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (_marked(row), *self._made_of(row), *(report.total_bytes for report in row.reports), self._ratio(row, last))
            for row in self.rows
        )
        return self._sheet(columns, rows)

    def _sheet(self, columns: tuple[Column, ...], rows: tuple[tuple[Cell, ...], ...]) -> Sheet:
        """The rows, then one with its reason for each that does not apply."""
        before = 1 + len(self._made_of_column())
        empty: tuple[Cell, ...] = (None,) * (before - 1)
        more = tuple((each.label, *empty, *not_applicable(columns[before:])) for each in self.left_out)
        notes = (*(each.note for each in self.left_out), *self.notes)
        return Sheet(self.title, columns, (*rows, *more), notes=notes, footnote=self._footnote())

    def _made_of_column(self) -> tuple[Column, ...]:
        return (Column("layers", wide=True),) if any(row.made_of for row in self.rows) else ()

    def _made_of(self, row: ComparisonRow) -> tuple[str, ...]:
        return (row.made_of,) if self._made_of_column() else ()

    def _footnote(self) -> str:
        return "as the model was built" if any(row.as_built for row in self.rows) else ""


def not_applicable(columns: Iterable[Column]) -> tuple[Cell, ...]:
    """Cells of a row that does not apply: a remark instead of bytes, and nothing elsewhere."""
    return tuple(NOT_APPLICABLE if column.kind in ("gigabytes", "gibibytes") else None for column in columns)


def _marked(row: ComparisonRow) -> str:
    return f"{row.label} *" if row.as_built else row.label
