"""CSV: one table with one header, exact numbers in bytes, for spreadsheets and programs. Titles and notes stay out."""

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
    """A switch as JSON has it; a text that is visible, and no formula."""
    return str(cell).lower() if isinstance(cell, bool) else csv_cell(visible_cell(cell))
