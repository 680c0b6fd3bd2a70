"""Tables for a terminal: colour if supported, plain ASCII if nothing else can be shown."""

from __future__ import annotations

from textwrap import fill
from typing import NamedTuple, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvcalc.formats._cells import cell_text, is_fixed, is_number
from kvcalc.formats._escapes import no_commands, visible_sheet
from kvcalc.report.sheet import Cell, Column, Document, Line, Sheet, Style, Styled

USUAL_WIDTH = 80
"""Columns of a terminal that reports none, as with COLUMNS=0."""
WIDE = 100
"""Terminal width from which less important columns are shown."""
_INDENT = 2
_GAP = 2
"""Spaces between two columns."""
_MANY = 200
"""Rows from which a table that fits is laid out here: rich measures every cell three times."""
_DETAIL = 4
"""Indent of details below a line."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_STYLES: dict[Style, str] = {"plain": "", "answer": "bold green", "alarm": "bold red", "detail": ""}


class _Shown(NamedTuple):
    """A cell for a terminal, in a rich style."""

    text: str
    style: str


_BLANK = _Shown("", "")


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's tables. Width, colour and character set follow the stream and the environment."""
    console = Console(file=stream, highlight=False)
    console.width = console.width or USUAL_WIDTH
    with console.capture() as capture:
        for index, sheet in enumerate(document.sheets()):
            if index:
                console.print()
            _print(visible_sheet(sheet), console)
    stream.writelines(f"{no_commands(line.rstrip())}\n" for line in capture.get().splitlines())


def _print(sheet: Sheet, console: Console) -> None:
    console.print(Text(sheet.title, style="bold"))
    if sheet.columns or sheet.notes:
        console.print()
    for line in sheet.lines:
        _print_line(line, sheet.label_width, console)
    if sheet.lines:
        console.print()
    if sheet.columns:
        _print_rows(sheet, console)
    for point in sheet.points:
        console.print()
        print_hanging(point.title, console)
        for words in point.lines:
            print_hanging(words, console, further=_DETAIL)
    notes = [*([f"* {sheet.footnote}"] if sheet.footnote else []), *(f"- {note}" for note in sheet.notes)]
    if notes and (sheet.columns or sheet.points):
        console.print()
    for note in notes:
        print_hanging(note, console)


def _print_rows(sheet: Sheet, console: Console) -> None:
    shown = [i for i, column in enumerate(sheet.columns) if _has_room(column, console)]
    columns = [sheet.columns[i] for i in shown]
    rows = _once(columns, [[_cell(row[i], sheet.columns[i], console) for i in shown] for row in sheet.rows])
    if len(rows) < _MANY or not _print_many(columns, rows, console):
        table, least_width = _table(columns, rows, console.width - _INDENT)
        # A number is never cut or wrapped: if a terminal is too narrow, the table is wider than it.
        own_width, console.width = console.width, max(least_width + _INDENT, console.width)
        console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))
        console.width = own_width


def _has_room(column: Column, console: Console) -> bool:
    """Whether a column is shown: less important ones are hidden on a narrow terminal."""
    return not column.wide or console.width >= WIDE


def _print_many(columns: list[Column], rows: list[list[_Shown]], console: Console) -> bool:
    """Prints a table as rich would, if no cell needs to wrap and its rule can be drawn; otherwise returns False."""
    cells = [[_Shown(column.title, "bold cyan") for column in columns], *rows]
    widths = [max(cell_len(row[i].text) for row in cells) for i in range(len(columns))]
    whole = sum(widths) + _GAP * (len(columns) - 1)
    if whole > console.width - _INDENT or not console.encoding.lower().startswith("utf"):
        return False
    numbers = [is_number(column) for column in columns]
    lines = [_line(row, widths, numbers) for row in cells]
    lines.insert(1, Text(" " * _INDENT + "─" * whole))
    console.print(Text("\n").join(lines), soft_wrap=True)
    return True


def _line(row: list[_Shown], widths: list[int], numbers: list[bool]) -> Text:
    """One row of a table."""
    line = Text(" " * _INDENT)
    for (text, style), width, number in zip(row, widths, numbers, strict=True):
        blanks = " " * (width - cell_len(text))
        line.append(f"{blanks}{text}" if number else f"{text}{blanks}", style)
        line.append(" " * _GAP)
    line.rstrip()
    return line


def _table(columns: list[Column], rows: list[list[_Shown]], room: int) -> tuple[Table, int]:
    """Table of the rows, and the least width that wraps no number; titles wrap if `room` is too small."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    cells = [max((len(row[i].text) for row in rows), default=0) for i in range(len(columns))]
    words = [max(map(len, column.title.split()), default=0) for column in columns]
    floors = [max(word, cell if is_fixed(c) else 0) for c, word, cell in zip(columns, words, cells, strict=True)]
    widths = [max(len(column.title), cell) for column, cell in zip(columns, cells, strict=True)]
    gaps = _GAP * (len(columns) - 1)
    for i in sorted(range(len(columns)), key=lambda i: -len(columns[i].title)):
        if is_fixed(columns[i]):
            widths[i] = max(floors[i], widths[i] - max(0, sum(widths) + gaps - room))
    for column, width, floor in zip(columns, widths, floors, strict=True):
        number = is_number(column)
        table.add_column(
            fill(column.title, width) if number else column.title,
            justify="right" if number else "left",
            no_wrap=is_fixed(column),
            min_width=floor,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell.text, style=cell.style) for cell in row))
    return table, sum(floors) + gaps


def _once(columns: list[Column], rows: list[list[_Shown]]) -> list[list[_Shown]]:
    """The rows, with repeated values blank in columns marked `once`."""
    above = [[_BLANK] * len(columns), *rows]
    return [
        [
            _BLANK if column.once and cell == over else cell
            for column, cell, over in zip(columns, row, before, strict=True)
        ]
        for row, before in zip(rows, above, strict=False)
    ]


def _print_line(line: Line, label_width: int, console: Console) -> None:
    """Prints a line of a summary, with values aligned after their labels."""
    label = f"{line.label:<{label_width}}" if line.label else ""
    print_hanging(f"{label}{line.value}", console, _STYLES[line.style], _DETAIL if line.style == "detail" else 0)


def print_hanging(words: str, console: Console, style: str = "", further: int = 0) -> None:
    """Prints text indented, `further` than usual if given; wrapped lines are indented by two more."""
    own = _INDENT + further
    for index, part in enumerate(Text(words, style=style).wrap(console, max(20, console.width - own - 2))):
        console.print(Padding(part, (0, 0, 0, own + 2 * bool(index)), expand=False))


def _cell(value: Cell, column: Column, console: Console) -> _Shown:
    if column.kind == "bar" and isinstance(value, int | float):
        return _Shown(_bar(value, 24 if console.width >= WIDE else 12, console), "cyan")
    return _Shown(cell_text(value, column), _STYLES[value.style] if isinstance(value, Styled) else "")


def _bar(share: float, width: int, console: Console) -> str:
    """A bar of `share` of `width` characters, in eighths of a character; values above 0 have at least one."""
    if not console.encoding.lower().startswith("utf"):
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")
