"""HTML fragments: tables, charts and notes of a document, for pages and notebooks.

Everything is also well-formed XML, so that a strict reader can read it. Nothing is loaded from a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.util import find_spec

from kvcalc.errors.extras import install
from kvcalc.errors.foreign import MOST_TEXT
from kvcalc.formats._cells import cell_text, is_number
from kvcalc.formats._escapes import visible_sheet, xml
from kvcalc.formats._palette import DARK, LIGHT
from kvcalc.report.chart import Bars, Chart, Curves
from kvcalc.report.sheet import Cell, Column, Line, Point, Sheet, Styled

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_NAMES = {colour: name for name, colour in LIGHT.items()}
_STYLE_OF = re.compile(r'style="[^"]*"')
_SIZE = re.compile(r'(<svg\b[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"')
_MANY_ROWS = 16
"""Rows from which a table is collapsed."""
NO_CHARTS = f"Charts need matplotlib: {install('plot')}. Their numbers are in the tables."


def html(text: object) -> str:
    """Text escaped for HTML, in an element or an attribute."""
    return escape(xml(str(text), MOST_TEXT), quote=True)


def draws() -> bool:
    """Whether charts can be drawn."""
    return find_spec("matplotlib") is not None


def theme(of: dict[str, str]) -> str:
    """Declarations of all colours."""
    return " ".join(f"--{name}: {colour};" for name, colour in of.items())


STYLE = f"""
.kvcalc {{ color-scheme: light dark; {theme(LIGHT)}
  color: var(--words); background: var(--surface); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }}
@media (prefers-color-scheme: dark) {{ .kvcalc {{ {theme(DARK)} }} }}
.kvcalc .wide {{ overflow-x: auto; max-width: 100%; }}
.kvcalc table {{ border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; margin: 0; }}
.kvcalc caption {{ text-align: left; color: var(--muted); padding: 0 0 0.35rem; }}
.kvcalc th, .kvcalc td {{ padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); background: none; }}
.kvcalc thead th {{ border-bottom: 2px solid var(--muted); font-weight: 600; vertical-align: bottom; }}
.kvcalc .n {{ text-align: right; white-space: nowrap; }}
.kvcalc .answer {{ color: var(--good); font-weight: 600; }}
.kvcalc .alarm {{ color: var(--alarm); font-weight: 600; }}
.kvcalc dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 0.6rem 0; }}
.kvcalc dt {{ color: var(--muted); }}
.kvcalc dd {{ margin: 0; overflow-wrap: anywhere; }}
.kvcalc td.answer, .kvcalc td.alarm {{ white-space: nowrap; }}
.kvcalc ul.notes {{ color: var(--muted); font-size: 0.875rem; padding-left: 1.1rem; margin: 0.6rem 0; }}
.kvcalc ul.notes li {{ overflow-wrap: anywhere; }}
.kvcalc figure {{ margin: 0.8rem 0; }}
.kvcalc figure svg {{ width: 100%; min-width: 34rem; max-width: 60rem; height: auto; display: block; }}
.kvcalc figcaption {{ color: var(--muted); font-size: 0.875rem; }}
.kvcalc summary {{ cursor: pointer; color: var(--link); padding: 0.3rem 0; }}
.kvcalc :focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; }}
""".strip()
"""The style of fragments, in pages and notebooks."""


def sheet(each: Sheet, level: int, *, titled: bool = True, folded: bool = False) -> Iterator[str]:
    """A sheet: heading of a level, lines, table, points and notes. folded: the table starts collapsed."""
    shown = visible_sheet(each)
    if titled:
        yield f"<h{level}>{html(shown.title)}</h{level}>"
    yield from lines(shown.lines)
    if shown.columns:
        whole = table(shown)
        rows = f"{len(shown.rows):,} rows" if len(shown.rows) != 1 else "1 row"
        if folded or len(shown.rows) >= _MANY_ROWS:
            whole = f"<details><summary>Table, {rows}</summary>{whole}</details>"
        yield whole
    yield from (_point(point) for point in shown.points)
    yield from notes([*([f"* {shown.footnote}"] if shown.footnote else []), *shown.notes])


def lines(of: Iterable[Line]) -> Iterator[str]:
    """The lines above a table: names and values, and sentences."""
    named = [line for line in of if line.label]
    sentences = [line for line in of if not line.label]
    if named:
        pairs = "".join(f"<dt>{html(line.label)}</dt><dd{_class(line.style)}>{html(line.value)}</dd>" for line in named)
        yield f"<dl>{pairs}</dl>"
    for line in sentences:
        yield f"<p{_class(line.style)}>{html(line.value)}</p>"


def _class(style: str) -> str:
    return f' class="{style}"' if style in ("answer", "alarm") else ""


def _point(point: Point) -> str:
    words = "".join(f"<br/>{html(line)}" for line in point.lines)
    return f"<p><strong>{html(point.title)}</strong>{words}</p>"


def notes(words: Iterable[str]) -> Iterator[str]:
    """Remarks, as a list."""
    items = "".join(f"<li>{html(note)}</li>" for note in words)
    if items:
        yield f'<ul class="notes">{items}</ul>'


def table(shown: Sheet) -> str:
    """A table that may be wider than its container."""
    columns = [(i, column) for i, column in enumerate(shown.columns) if column.kind != "bar"]
    head = "".join(f'<th scope="col"{_right(column)}>{html(column.title)}</th>' for _, column in columns)
    body = "".join(f"<tr>{''.join(_cell(row[i], column) for i, column in columns)}</tr>" for row in shown.rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _wide(whole, f"Table: {shown.title}")


def _wide(content: str, label: str) -> str:
    """Content that may be wider than its container, scrollable by keyboard, too."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{html(label)}">{content}</div>'


def _right(column: Column) -> str:
    return ' class="n"' if is_number(column) else ""


def _cell(value: Cell, column: Column) -> str:
    style = _class(value.style) if isinstance(value, Styled) else _right(column)
    return f"<td{style}>{html(cell_text(value, column))}</td>"


def chart(each: Chart, name: str) -> str:
    """A chart as a figure, drawn in the colours of the page. name: prefix of its ids."""
    from kvcalc.formats._drawing import svg

    drawing = _in_colours(svg([each], salt=name, notes=False))
    drawing = _SIZE.sub(r"\1\2", drawing, count=1)
    caption = f"<figcaption>{html(about(each))}</figcaption>{''.join(notes(each.notes))}"
    return f"<figure>{_wide(drawing, f'Chart: {each.title}')}{caption}</figure>"


def about(each: Chart) -> str:
    """A sentence on what a chart shows."""
    if isinstance(each, Curves):
        return f"{each.y.label[:1].upper()}{each.y.label[1:]} over {each.x.label}."
    if isinstance(each, Bars):
        return f"{each.label[:1].upper()}{each.label[1:]}, part by part."
    return "Bytes of each layer; darker means more."


def _in_colours(drawing: str) -> str:
    """The same drawing with colours taken from the page by name."""

    def named(match: re.Match[str]) -> str:
        colour = match[0]
        return f"var(--{_NAMES[colour]}, {colour})" if colour in _NAMES else colour

    return _STYLE_OF.sub(lambda style: _COLOUR.sub(named, style[0]), drawing)
