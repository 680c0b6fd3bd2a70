"""CSV: one table with one header and exact bytes, for spreadsheets and programs; without titles and notes."""

from __future__ import annotations

from csv import writer
from typing import TextIO

from kvcalc.formats._escapes import csv_cell, visible_cell
from kvcalc.report.sheet import Cell, Document, table_of


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's table."""
    table = table_of(document)
    rows = writer(stream, lineterminator="\n")
    rows.writerow(map(_written, table.names))
    rows.writerows(map(_written, row) for row in table.rows)


def _written(cell: Cell) -> Cell:
    """Booleans as in JSON; text visible, and never a formula."""
    return str(cell).lower() if isinstance(cell, bool) else csv_cell(visible_cell(cell))
