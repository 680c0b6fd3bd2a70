"""Several traces, or one for several models: what each came to, a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from kvcalc.report.deployments import Note
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.replay import CURVE, Replayed
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, plural


class Run(NamedTuple):
    """A trace, by the path that it was read from, and what it came to."""

    trace: str
    replayed: Replayed

    def row(self) -> dict[str, Cell]:
        """All its numbers in one row, by the names that JSON has."""
        one = self.replayed
        quantiles = (("used_blocks", one.used), ("wait_steps", one.waits), ("request_steps", one.spans))
        return {
            "trace": self.trace,
            "model": one.model,
            "engine": one.engine,
            "engine_version": one.engine_version,
            "num_blocks": one.num_blocks,
            "block_bytes": one.block_bytes,
            **one.totals._asdict(),
            "hit_rate": one.hit_rate,
            **{f"{what}_{name}": number for what, numbers in quantiles for name, number in numbers},
        }


class ReplaysReport(NamedTuple):
    """All of them, in the order in which they were named. refused: traces that could not be replayed, and why."""

    runs: tuple[Run, ...]
    refused: tuple[Note, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def stalled(self) -> bool:
        """Whether any left requests that never fit."""
        return any(run.replayed.totals.stalled for run in self.runs)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("replays"),
            "replays": [{"trace": run.trace, **run.replayed.to_dict()} for run in self.runs],
            "refused": [note.to_dict() for note in self.refused],
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """A row for each, and what is refused."""
        refused = ({"trace": note.where, "refused": note.sentence} for note in self.refused)
        return Table.of((*(run.row() for run in self.runs), *refused))

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each, then hit rates by cache size if requested."""
        columns = (
            Column("trace", once=True),
            Column("model"),
            Column("requests", "count"),
            Column("p99 blocks", "count"),
            Column("peak", "count"),
            Column("preempted", "count"),
            Column("hit rate", "ratio"),
            Column("p99 waited", "count"),
            Column("of blocks", "count", wide=True),
            Column("peak GiB", "gibibytes", wide=True),
            Column("steps", "count", wide=True),
        )
        title = f"{plural(len(self.runs), 'replay')} in {', '.join(dict.fromkeys(map(_engine, self.runs)))}"
        rows = tuple(map(_cells, self.runs, self._traces))
        notes = (*dict.fromkeys(note for run in self.runs for note in run.replayed.notes), *self.notes)
        sheets = [Sheet(title, columns, rows, tuple(self._lines()), notes, label_width=11)]
        if any(run.replayed.curve for run in self.runs):
            sheets.append(self._curves())
        if self.refused:
            refused = tuple((note.where, note.sentence) for note in self.refused)
            sheets.append(Sheet("Refused", (Column("trace"), Column("why")), refused))
        return tuple(sheets)

    @property
    def _traces(self) -> list[str]:
        return short([run.trace for run in self.runs])

    def _lines(self) -> Iterator[Line]:
        stalled = sum(run.replayed.totals.stalled for run in self.runs)
        if stalled:
            yield Line("stalled", f"{count(stalled)}: requests were left that never fit", "alarm")
        if self.refused:
            yield Line("refused", count(len(self.refused)), "alarm")

    def _curves(self) -> Sheet:
        columns = (Column("trace", once=True), Column("model", once=True), *CURVE)
        rows = tuple(
            (trace, run.replayed.model, *row)
            for run, trace in zip(self.runs, self._traces, strict=True)
            for row in run.replayed.curve_rows
        )
        return Sheet("hit rate by cache size", columns, rows)


def _engine(run: Run) -> str:
    return in_version(run.replayed.engine, run.replayed.engine_version)


def short(traces: Sequence[str]) -> list[str]:
    """Traces by their names, without the folder where all are in one."""
    folders = {PurePath(trace).parent for trace in traces}
    return [PurePath(trace).name for trace in traces] if len(folders) == 1 else list(traces)


def _cells(run: Run, trace: str) -> tuple[Cell, ...]:
    one = run.replayed
    used, waits = dict(one.used), dict(one.waits)
    return (
        trace,
        Styled(f"{one.model} STALLED", "alarm") if one.totals.stalled else one.model,
        one.totals.requests,
        used["p99"],
        used["peak"],
        one.totals.preemptions,
        one.hit_rate,
        waits["p99"],
        one.num_blocks,
        used["peak"] * one.block_bytes,
        one.totals.steps,
    )
