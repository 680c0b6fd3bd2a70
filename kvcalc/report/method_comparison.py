"""One model under several methods, side by side: what stays, and what was held on the way there."""

from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Sheet
from kvcalc.report.size import Report
from kvcalc.units import ratio


class MethodRow(NamedTuple):
    """A method on the model. spec: as it was asked for; empty for the model as it is.

    prefill_peak_bytes: most that the cache takes while the prompt is read. decode_peak_bytes: most in the next step.
    step_copy_bytes: what its code writes beside that in a step, of one layer. state: what is kept beside keys and
    values, in words. title, source, formula: what it is, who says so, and how much it keeps.
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
        """The method as it was asked for."""
        return self.spec or "as it is"


class MethodComparison(NamedTuple):
    """Rows of one model; the first is the model as it is, and ratios are to it."""

    title: str
    rows: tuple[MethodRow, ...]
    notes: tuple[str, ...] = ()
    explained: bool = False

    def _ratio(self, row: MethodRow) -> float | None:
        return ratio(row.report.total_bytes, self.rows[0].report.total_bytes)

    def to_dict(self) -> dict[str, Json]:
        """Plain values, the whole report of each row among them."""
        rows: list[Json] = [
            {
                "method": row.spec,
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
        return {"title": self.title, "notes": list(self.notes), "rows": rows}

    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each method."""
        columns = (
            Column("method"),
            Column("kind", wide=True),
            Column("steady GiB", "gibibytes"),
            Column("in prefill", "gibibytes"),
            Column("in a step", "gibibytes"),
            Column("vs as it is", "ratio"),
            Column("scores", "gibibytes", wide=True),
            Column("copied in a step", "gibibytes", wide=True),
            Column("beside K and V", wide=True),
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
        caveats = tuple(f"{row.label}: {row.caveat}" for row in self.rows if row.caveat)
        sheet = Sheet(self.title, columns, rows, notes=(*caveats, *self.notes))
        return (sheet, *self._explanations()) if self.explained else (sheet,)

    def _explanations(self) -> tuple[Sheet, ...]:
        """Formula and source of each method."""
        columns = (Column("method"), Column("how much it keeps"), Column("source"))
        rows = tuple((row.label, row.formula, row.source) for row in self.rows if row.spec)
        return (Sheet("Formulas", columns, rows),)
