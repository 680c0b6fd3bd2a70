"""Escapes for each grammar, for text that is already visible; every text of a document passes one of these.

A terminal needs nothing more: `visible` leaves no control character.
"""

from __future__ import annotations

import re

from kvcalc.errors.foreign import MOST_NAME, visible
from kvcalc.report.chart import Bar, Bars, Chart, Curves, Level
from kvcalc.report.sheet import Cell, Line, Point, Sheet, Styled

_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""First characters that make spreadsheets read a cell as a formula. Source: OWASP, "CSV Injection"."""
_PLAIN_NUMBER = re.compile(r"[+-]?\d[\d,._]*(?:[eE][+-]?\d+)?%?")
_MARKDOWN = re.compile(r"[\\`|]|\](?=\()")
"""Backslash, code, cell border, and link characters. Source: GitHub Flavored Markdown, 2.4 and 4.10."""
_LATEX = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
}
_LIGATURE = re.compile(r"([-',])(?=\1)")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters forbidden in XML, even escaped. Source: XML 1.0, 2.2 Char."""
_PLAIN_IN_URI = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
_COMMAND = re.compile(r"^((?:\s|\x1b\[[0-9;]*m)*):(?=:)", re.MULTILINE)


def visible_sheet(sheet: Sheet) -> Sheet:
    """The same sheet with all its texts visible."""
    return sheet._replace(
        title=visible(sheet.title),
        columns=tuple(column._replace(title=visible(column.title)) for column in sheet.columns),
        rows=tuple(tuple(map(visible_cell, row)) for row in sheet.rows),
        lines=tuple(Line(visible(line.label), visible(line.value), line.style) for line in sheet.lines),
        notes=tuple(map(visible, sheet.notes)),
        asked=tuple((visible(name), visible_cell(cell)) for name, cell in sheet.asked),
        footnote=visible(sheet.footnote),
        points=tuple(Point(visible(point.title), tuple(map(visible, point.lines))) for point in sheet.points),
    )


def visible_chart(chart: Chart) -> Chart:
    """The same chart with all its texts visible."""
    notes = tuple(map(visible, chart.notes))
    shown = chart._replace(title=visible(chart.title), notes=notes)
    if isinstance(shown, Curves):
        series = tuple(each._replace(label=visible(each.label, MOST_NAME)) for each in shown.series)
        return shown._replace(series=series, levels=_visible_labels(shown.levels))
    if isinstance(shown, Bars):
        bars = tuple(_visible_bar(bar) for bar in shown.bars)
        return shown._replace(bars=bars, levels=_visible_labels(shown.levels))
    return shown._replace(layers=tuple(each._replace(group=visible(each.group, MOST_NAME)) for each in shown.layers))


def _visible_labels(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple(level._replace(label=visible(level.label, MOST_NAME)) for level in levels)


def _visible_bar(bar: Bar) -> Bar:
    segments = tuple(each._replace(label=visible(each.label, MOST_NAME)) for each in bar.segments)
    return Bar(visible(bar.label, MOST_NAME), segments, visible(bar.words, MOST_NAME))


def visible_cell(cell: Cell) -> Cell:
    """A cell with visible text."""
    if isinstance(cell, str):
        return visible(cell)
    return Styled(visible(cell.words), cell.style) if isinstance(cell, Styled) else cell


def no_commands(text: str) -> str:
    r"""Printed lines without workflow commands: layout may have moved a `::` to the start of a line."""
    return _COMMAND.sub(r"\1\\x3a", text) if "::" in text else text


def csv_cell(cell: Cell) -> Cell:
    """A cell that no spreadsheet reads as a formula: prefixed by an apostrophe if it starts like one."""
    text = str(cell) if isinstance(cell, str | Styled) else ""
    if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return f"'{text}"
    return cell


def markdown(text: str) -> str:
    """Text escaped for Markdown, in cells and elsewhere."""
    return _ENTITY.sub("&amp;", _MARKDOWN.sub(r"\\\g<0>", text)).replace("<", "&lt;")


def latex(text: str) -> str:
    """Text escaped for LaTeX, in any font encoding.

    Source: Lamport, "LaTeX: A Document Preparation System", 2.2.1, the ten special characters; those that old fonts
    render as others; and pairs that would become ligatures.
    """
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return _LIGATURE.sub(r"\1{}", escaped)


def xml(text: str, most: int = MOST_NAME) -> str:
    """Text allowed in XML; ElementTree writes its entities."""
    return _NO_XML.sub("\ufffd", visible(text, most))


def github_data(text: str) -> str:
    """A message of a workflow command. Source: actions/toolkit, packages/core/src/command.ts, escapeData."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str, most: int = MOST_NAME) -> str:
    """A property of a workflow command. Source: as above, escapeProperty."""
    return github_data(visible(text, most)).replace(":", "%3A").replace(",", "%2C")


def uri_path(path: str) -> str:
    """A path as part of a URI. Source: RFC 3986, 2.1 and 2.3."""
    try:
        content = path.encode("utf-8", "surrogateescape")  # bytes of a name that are not valid text are preserved
    except UnicodeEncodeError:
        content = path.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in _PLAIN_IN_URI else f"%{byte:02X}" for byte in content)
