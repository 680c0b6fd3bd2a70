"""One model under several methods, side by side: steady size and peaks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.comparison import LeftOut, not_applicable
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.notes import once
from kvcalc.report.sheet import Cell, Column, Json, Sheet, Table
from kvcalc.report.size import Report
from kvcalc.report.versions import named
from kvcalc.units import ratio, short_tokens

if TYPE_CHECKING:
    from kvcalc.report.chart import Chart


class MethodRow(NamedTuple):
    """A method on the model at one token count. spec: as requested; empty for the unchanged model.

    prefill_peak_bytes: peak of the cache during prefill. decode_peak_bytes: peak in the next step. step_copy_bytes:
    additional copies that its code makes in a step, of one layer. state: what is kept besides keys and values, in
    words. title, source, formula: of the method.
    """

    spec: str
    kind: str
    report: Report
    prefill_peak_bytes: int
    decode_peak_bytes: int
    step_copy_bytes: int = 0
    title: str = ""
    source: str = ""
    formula: str = ""
    state: str = ""
    flash_attention: bool = True
    retraining: bool = False
    per_head_paging: bool = False
    caveat: str = ""

    @property
    def label(self) -> str:
        """The method as requested."""
        return self.spec or "baseline"


class MethodComparison(NamedTuple):
    """Rows of one model by method and token count; the first are the unchanged model, to which ratios refer.

    left_out: methods that do not apply, and why.
    """

    title: str
    rows: tuple[MethodRow, ...]
    notes: tuple[str, ...] = ()
    explained: bool = False
    left_out: tuple[LeftOut, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Token counts."""
        return tuple(row.report.tokens for row in self._as_it_is())

    def _as_it_is(self) -> list[MethodRow]:
        return [row for row in self.rows if not row.spec]

    def _ratio(self, row: MethodRow) -> float | None:
        base = next(each.report for each in self._as_it_is() if each.report.tokens == row.report.tokens)
        return ratio(row.report.total_bytes, base.total_bytes)

    def table(self) -> Table:
        """One row for each method at each token count, including those that do not apply."""
        return Table.of((*map(self._long_row, self.rows), *self._left_out_rows()))

    def _long_row(self, row: MethodRow) -> dict[str, Cell]:
        report = row.report
        return {
            **dict(report.asked()),
            "model": self.rows[0].report.model,
            "method": row.spec,
            "kind": row.kind,
            "total_bytes": report.total_bytes,
            "bytes_per_token": report.bytes_per_token,
            "prefill_peak_bytes": row.prefill_peak_bytes,
            "score_workspace_bytes": report.score_workspace_bytes,
            "decode_peak_bytes": row.decode_peak_bytes,
            "step_copy_bytes": row.step_copy_bytes,
            "ratio": self._ratio(row),
            "state": row.state,
            "flash_attention": row.flash_attention,
            "retraining": row.retraining,
            "per_head_paging": row.per_head_paging,
            "not_applicable": "",
        }

    def _left_out_rows(self) -> Iterable[dict[str, Cell]]:
        for each in self.left_out:
            for row in self._as_it_is():
                yield {**dict(row.report.asked()), "method": each.label, "not_applicable": each.reason}

    def to_dict(self) -> dict[str, Json]:
        """Plain values, including the complete report of each row."""
        rows: list[Json] = [
            {
                "method": row.spec,
                "tokens": row.report.tokens,
                "kind": row.kind,
                "steady_bytes": row.report.total_bytes,
                "prefill_peak_bytes": row.prefill_peak_bytes,
                "score_workspace_bytes": row.report.score_workspace_bytes,
                "decode_peak_bytes": row.decode_peak_bytes,
                "step_copy_bytes": row.step_copy_bytes,
                "ratio": self._ratio(row),
                "state": row.state,
                "flash_attention": row.flash_attention,
                "retraining": row.retraining,
                "per_head_paging": row.per_head_paging,
                "caveat": row.caveat,
                "formula": row.formula,
                "source": row.source,
                "report": row.report.to_dict(),
            }
            for row in self.rows
        ]
        left_out = [each.to_dict() for each in self.left_out]
        return {**named("methods"), "title": self.title, "notes": list(self.notes), "rows": rows, "left_out": left_out}

    def charts(self) -> "tuple[Chart, ...]":
        """A bar for each method; with several token counts, a point for each."""
        from kvcalc.report.chart import at_lengths, one_bar_each

        if len(self.lengths) == 1:
            return (one_bar_each(self.title, ((row.label, row.report.total_bytes) for row in self.rows)),)
        lines: dict[str, tuple[tuple[int, int], ...]] = {}
        for row in self.rows:
            lines[row.label] = (*lines.get(row.label, ()), (row.report.tokens, row.report.total_bytes))
        return (at_lengths(self.title, [*lines.items()]),)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each method; with several token counts, a column for each."""
        columns, rows = self._at_one_length() if len(self.lengths) == 1 else self._at_many_lengths()
        more = tuple((each.label, *not_applicable(columns[1:])) for each in self.left_out)
        caveats = once((row.label, row.caveat) for row in self.rows if row.caveat)
        notes = (*(each.note for each in self.left_out), *caveats, *self.notes)
        sheet = Sheet(self.title, columns, (*rows, *more), notes=notes)
        return (sheet, *self._explanations()) if self.explained else (sheet,)

    def _at_many_lengths(self) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
        lengths = self.lengths
        columns = (
            Column("method"),
            Column("kind", wide=True),
            *(Column(f"GiB at {short_tokens(length)}", "gibibytes") for length in lengths),
            Column(f"vs baseline at {short_tokens(lengths[-1])}", "ratio"),
        )
        rows: list[tuple[Cell, ...]] = []
        for first in range(0, len(self.rows), len(lengths)):
            own = self.rows[first : first + len(lengths)]
            totals = (row.report.total_bytes for row in own)
            rows.append((own[0].label, own[0].kind, *totals, self._ratio(own[-1])))
        return columns, tuple(rows)

    def _at_one_length(self) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
        columns = (
            Column("method"),
            Column("kind", wide=True),
            Column("steady GiB", "gibibytes"),
            Column("in prefill", "gibibytes"),
            Column("in a step", "gibibytes"),
            Column("vs baseline", "ratio"),
            Column("scores", "gibibytes", wide=True),
            Column("copied in a step", "gibibytes", wide=True),
            Column("besides K and V", wide=True),
            Column("FlashAttention", wide=True),
            Column("retraining", wide=True),
            Column("per-head paging", wide=True),
        )
        rows = tuple(
            (
                row.label,
                row.kind,
                row.report.total_bytes,
                row.prefill_peak_bytes,
                row.decode_peak_bytes,
                self._ratio(row),
                row.report.score_workspace_bytes,
                row.step_copy_bytes,
                row.state,
                *("yes" if holds else "no" for holds in (row.flash_attention, row.retraining, row.per_head_paging)),
            )
            for row in self.rows
        )
        return columns, rows

    def _explanations(self) -> tuple[Sheet, ...]:
        """Formula and source of each method."""
        columns = (Column("method"), Column("how much it keeps"), Column("source"))
        rows = tuple(dict.fromkeys((row.label, row.formula, row.source) for row in self.rows if row.spec))
        return (Sheet("Formulas", columns, rows),)
