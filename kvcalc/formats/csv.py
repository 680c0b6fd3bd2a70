"""CSV: one header and one row each, exact numbers, for spreadsheets. Titles and notes below a table stay out."""

from __future__ import annotations

from csv import writer
from typing import TextIO

from kvcalc.formats._escapes import csv_cell, visible_sheet
from kvcalc.report.sheet import Cell, Document
from kvcalc.units import GB, GIB

_SCALES = {"gigabytes": GB, "gibibytes": GIB}


def write(document: Document, stream: TextIO) -> None:
    """Writes each table, below its answers where it has them; an empty line stands between two."""
    table = writer(stream, lineterminator="\n")
    for index, sheet in enumerate(map(visible_sheet, document.sheets())):
        if index:
            stream.write("\n")
        if sheet.answers:
            table.writerows(map(csv_cell, row) for row in zip(*sheet.answers, strict=True))
            stream.write("\n")
        if not sheet.columns:
            continue
        shown = [i for i, column in enumerate(sheet.columns) if column.kind != "bar"]
        scales = [_SCALES.get(column.kind, 1) for column in sheet.columns]
        table.writerow([csv_cell(sheet.columns[i].title) for i in shown])
        table.writerows([_scaled(row[i], scales[i]) for i in shown] for row in sheet.rows)


def _scaled(value: Cell, scale: int) -> Cell:
    return value / scale if scale > 1 and isinstance(value, int) else csv_cell(value)
