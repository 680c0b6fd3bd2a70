"""Markdown: for pull requests, issues and documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from kvcalc.formats._cells import cell_text, is_number
from kvcalc.formats._escapes import markdown, visible_sheet
from kvcalc.report.sheet import Document, Sheet


def write(document: Document, stream: TextIO) -> None:
    """Writes a heading, the lines, a table and the notes of each sheet."""
    stream.write("\n".join(_sheet(visible_sheet(sheet)) for sheet in document.sheets()))


def _sheet(sheet: Sheet) -> str:
    shown = [i for i, column in enumerate(sheet.columns) if column.kind != "bar"]
    columns = [sheet.columns[i] for i in shown]
    lines = [f"### {markdown(sheet.title)}", ""]
    lines += [f"- {markdown(f'{line.label} {line.value}'.strip())}" for line in sheet.lines]
    lines += [""] if sheet.lines else []
    if columns:
        lines.append(_row(column.title for column in columns))
        lines.append(_row("--:" if is_number(column) else "---" for column in columns))
    lines += [_row(cell_text(row[i], sheet.columns[i]) for i in shown) for row in sheet.rows]
    lines += [""] if sheet.points else []
    for point in sheet.points:
        lines += [f"- {markdown(point.title)}", *(f"  - {markdown(line)}" for line in point.lines)]
    notes = [f"* {sheet.footnote}", *sheet.notes] if sheet.footnote else sheet.notes
    lines += [""] if notes and lines[-1] else []
    lines += [f"- {markdown(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(markdown, cells)) + " |"
