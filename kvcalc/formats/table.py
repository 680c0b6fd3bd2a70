"""Tables for a terminal: colour where it is wanted, plain characters where nothing else can be shown."""

from __future__ import annotations

from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvcalc.formats._cells import cell_text, is_number
from kvcalc.report.sheet import Column, Document, Sheet

WIDE = 100
"""Terminal columns from which on the less important table columns are shown."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's tables. Width, colour and character set are those of the stream and its environment."""
    console = Console(file=stream, highlight=False)
    with console.capture() as capture:
        for index, sheet in enumerate(document.sheets()):
            if index:
                console.print()
            _print(sheet, console)
    stream.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _print(sheet: Sheet, console: Console) -> None:
    console.print(Text(sheet.title, style="bold"))
    console.print()
    for line in sheet.lines:
        _print_indented(line, console, "bold green" if line.startswith("total ") else "")
    if sheet.lines:
        console.print()
    shown = [i for i, column in enumerate(sheet.columns) if not column.wide or console.width >= WIDE]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    for i in shown:
        column = sheet.columns[i]
        # A number is never cut or broken: where a terminal is too narrow for the table, the table is wider than it.
        cells = [cell_text(row[i], column) for row in sheet.rows] if is_number(column) else []
        table.add_column(
            column.title,
            justify="right" if is_number(column) else "left",
            no_wrap=column.kind == "bar",
            overflow="fold",
            min_width=max(map(len, cells), default=None),
        )
    above: tuple[Any, ...] = (None,) * len(sheet.columns)
    for row in sheet.rows:
        repeats = [sheet.columns[i].once and row[i] == above[i] for i in shown]
        texts = (_cell(row[i], sheet.columns[i], console) for i in shown)
        table.add_row(*("" if again else text for again, text in zip(repeats, texts, strict=True)))
        above = row
    console.print(Padding(table, (0, 0, 0, 2), expand=False), crop=False)
    if sheet.notes:
        console.print()
    for note in sheet.notes:
        _print_indented(note if note.startswith("* ") else f"- {note}", console)


def _print_indented(line: str, console: Console, style: str = "") -> None:
    """Prints a line indented by two; what it wraps into hangs two further."""
    own = len(line) - len(line.lstrip())
    for index, part in enumerate(Text(line.strip(), style=style).wrap(console, max(20, console.width - own - 4))):
        console.print(Padding(part, (0, 0, 0, 2 + own + 2 * bool(index)), expand=False))


def _cell(value: Any, column: Column, console: Console) -> Text | str:
    if column.kind == "bar":
        return Text(_bar(value, 24 if console.width >= WIDE else 12, console), style="cyan")
    text = escape(cell_text(value, column))
    return Text(text, style="bold red") if text == "TOO LARGE" else text


def _bar(share: float, width: int, console: Console) -> str:
    """A bar of `share` of `width` characters, in eighths of a character; at least a sliver for what is not 0."""
    if not console.encoding.lower().startswith("utf"):
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")
