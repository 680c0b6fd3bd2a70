"""LaTeX: tables for papers, with booktabs rules.

Source: Simon Fear, "Publication quality tables in LaTeX" (the package booktabs): no vertical rules, three horizontal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from kvcalc.formats._cells import cell_text, is_number
from kvcalc.formats._escapes import latex, visible_sheet
from kvcalc.report.sheet import Document, Sheet


def write(document: Document, stream: TextIO) -> None:
    """Writes a table for each sheet, with its title as caption and notes below."""
    stream.write("\n".join(_sheet(visible_sheet(sheet)) for sheet in document.sheets()))


def _sheet(sheet: Sheet) -> str:
    words = _words(sheet)
    lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{latex(sheet.title)}}}"]
    lines += _tabular(sheet) if sheet.columns else []
    lines += [r"\par\smallskip"] if sheet.columns and words else []
    lines += [rf"\parbox{{\linewidth}}{{\footnotesize {latex(each)}}}\par" for each in words]
    return "\n".join((*lines, r"\end{table}")) + "\n"


def _tabular(sheet: Sheet) -> Iterable[str]:
    shown = [i for i, column in enumerate(sheet.columns) if column.kind != "bar" and not column.wide]
    columns = [sheet.columns[i] for i in shown]
    yield rf"\begin{{tabular}}{{{''.join('r' if is_number(column) else 'l' for column in columns)}}}"
    yield r"\toprule"
    yield _row(column.title for column in columns)
    yield r"\midrule"
    for row in sheet.rows:
        yield _row(cell_text(row[i], sheet.columns[i]) for i in shown)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def _words(sheet: Sheet) -> list[str]:
    """Lines, remarks on single rows, and notes."""
    lines = [f"{line.label} {line.value}".strip() for line in sheet.lines]
    points = [": ".join((point.title, "; ".join(point.lines))) for point in sheet.points]
    return [*lines, *points, *([f"* {sheet.footnote}"] if sheet.footnote else []), *sheet.notes]
