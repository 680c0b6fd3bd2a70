"""Charts for a terminal, of block characters: full width, in colour if supported, plain in a pipe."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import log2
from typing import NamedTuple, TextIO

from rich.console import Console
from rich.text import Text

from kvcalc.formats._escapes import no_commands, visible_chart
from kvcalc.formats._ticks import Scale, scale_of
from kvcalc.formats.table import USUAL_WIDTH, print_hanging
from kvcalc.report.chart import Axis, Bars, Chart, Curves, Number, Series, Strip, charts_of
from kvcalc.report.sheet import Document
from kvcalc.units import count, gibibytes, plural

_HEIGHT = 16
_LEAST, _MOST = 20, 100
"""Columns of the drawing."""
_INDENT = "  "
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_POINTS, _PLAIN_POINTS = "●○■□▲△◆◇▼▽★☆", "ox+*#@%&=ABC"
_PARTS, _PLAIN_PARTS = "█▓▒░·", "#%=-."
_Cell = tuple[str, str]
"""A character and its style."""


class _Signs(NamedTuple):
    """The set of drawing characters."""

    points: str
    parts: str
    fills: str
    across: str
    edge: str
    tick: str
    corner: str
    line: str
    foot: str
    limit: str


_BLOCKS = _Signs(_POINTS, _PARTS, _EIGHTHS, "╌", "│", "┤", "└", "─", "┬", "┃")
_ASCII = _Signs(_PLAIN_POINTS, _PLAIN_PARTS, " ..::==##", "-", "|", "+", "+", "-", "+", "|")


def write(document: Document, stream: TextIO) -> None:
    """Writes each chart of the document, with a legend below."""
    console = Console(file=stream, highlight=False)
    console.width = console.width or USUAL_WIDTH
    signs = _BLOCKS if console.encoding.lower().startswith("utf") else _ASCII
    with console.capture() as capture:
        for index, chart in enumerate(charts_of(document)):
            if index:
                console.print()
            _print(visible_chart(chart), console, signs)
    stream.writelines(f"{no_commands(line.rstrip())}\n" for line in capture.get().splitlines())


def _print(chart: Chart, console: Console, signs: _Signs) -> None:
    console.print(Text(chart.title, style="bold"))
    console.print()
    drawn, key = _FORMS[type(chart)]
    for line in drawn(chart, console.width, signs):
        console.print(line, soft_wrap=True)
    for index, line in enumerate(key(chart, signs)):
        if not index:
            console.print()
        for part in _hanging(line, console):
            console.print(part, soft_wrap=True)
    if chart.notes:
        console.print()
    for note in chart.notes:
        print_hanging(f"- {note}", console)


def _hanging(line: Text, console: Console) -> Iterator[Text]:
    """A line of a legend, indented; wrapped lines have a hanging indent."""
    for index, part in enumerate(line.wrap(console, max(_LEAST, console.width - len(_INDENT) - 2))):
        yield Text(_INDENT + "  " * bool(index)).append_text(part)


def _room(width: int, taken: int) -> int:
    """Columns left for drawing; if a terminal is too narrow, the chart is wider than it."""
    return max(_LEAST, min(_MOST, width - taken))


# Lines --------------------------------------------------------------------------------------------------------------


def _curves(chart: Curves, width: int, signs: _Signs) -> Iterator[Text]:
    ys = [y for series in chart.series for _, y in series.points] + [level.value for level in chart.levels]
    xs = [x for series in chart.series for x, _ in series.points]
    y_scale = scale_of(chart.y, min((y for y in ys if y > 0), default=1), max(ys), _HEIGHT // 2)
    margin = max(len(tick.label) for tick in y_scale.ticks)
    columns = _room(width, len(_INDENT) + margin + 3)
    x_scale = scale_of(chart.x, min(xs), max(xs), columns // 8)
    labels = {_place(chart.y, y_scale, tick.value, _HEIGHT): tick.label for tick in y_scale.ticks}
    for row, cells in enumerate(reversed(_grid(chart, x_scale, y_scale, columns, signs))):
        label = labels.get(_HEIGHT - 1 - row, "")
        line = Text(f"{_INDENT}{label:>{margin}} {signs.tick if label else signs.edge}")
        for sign, style in cells:
            line.append(sign, style)
        yield line
    yield from (Text(f"{_INDENT}{' ' * margin} {words}") for words in _foot(chart.x, x_scale, columns, signs))


def _place(axis: Axis, scale: Scale, value: float, cells: int) -> int:
    """The cell of an axis that a value falls in."""
    return max(0, min(cells - 1, round(_share(axis, scale, value) * (cells - 1))))


def _share(axis: Axis, scale: Scale, value: float) -> float:
    """Position of a value on an axis, from 0 to 1."""
    if not axis.log:
        return (value - scale.low) / ((scale.high - scale.low) or 1)
    return (log2(max(value, 1)) - log2(scale.low)) / ((log2(scale.high) - log2(scale.low)) or 1)


def _grid(chart: Curves, x_scale: Scale, y_scale: Scale, columns: int, signs: _Signs) -> list[list[_Cell]]:
    """Rows of cells, the lowest first: a single line is drawn as an area, several as lines of characters."""
    rows: list[list[_Cell]] = [[(" ", "")] * columns for _ in range(_HEIGHT)]
    for level in chart.levels:
        rows[_place(chart.y, y_scale, level.value, _HEIGHT)] = [(signs.across, "red")] * columns
    alone = len(chart.series) == 1
    for number, series in reversed([*enumerate(chart.series)]):
        colour = _COLOURS[number % len(_COLOURS)]
        for column, share in _heights(chart, series.points, x_scale, y_scale, columns):
            if alone and chart.joined:
                _fill(rows, column, share, signs, colour)
            else:
                at = max(0, min(_HEIGHT - 1, round(share * (_HEIGHT - 1))))
                rows[at][column] = signs.points[number % len(signs.points)], colour
    return rows


def _heights(
    chart: Curves, points: Sequence[tuple[Number, Number]], x_scale: Scale, y_scale: Scale, columns: int
) -> Iterator[tuple[int, float]]:
    """Height of a line in each column, as a share of the axis: linear between two points."""
    drawn = [(_share(chart.x, x_scale, x), _share(chart.y, y_scale, y)) for x, y in points if y > 0 or not chart.y.log]
    if not chart.joined:
        yield from ((max(0, min(columns - 1, round(x * (columns - 1)))), y) for x, y in drawn)
        return
    places = [x for x, _ in drawn]
    for column in range(columns):
        at = column / (columns - 1)
        after = bisect_left(places, at - 1e-9)
        if after == len(drawn) or (after == 0 and places[0] > at + 1e-9):
            continue
        (x0, y0), (x1, y1) = drawn[max(0, after - 1)], drawn[after]
        yield column, y1 if x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _fill(rows: list[list[_Cell]], column: int, share: float, signs: _Signs, colour: str) -> None:
    """Fills a column from below, in eighths of a character."""
    eighths = max(1, round(share * _HEIGHT * 8))
    for row in range(_HEIGHT):
        part = max(0, min(8, eighths - 8 * row))
        if part and not (part < 8 and rows[row][column][0] != " "):  # noqa: PLR2004  # eighths of a character
            rows[row][column] = signs.fills[part], colour


def _foot(axis: Axis, scale: Scale, columns: int, signs: _Signs) -> Iterator[str]:
    """The horizontal axis, its tick labels and its title."""
    line, labels = [signs.line] * columns, [" "] * (columns + 8)
    free = 0
    for tick in scale.ticks:
        at = _place(axis, scale, tick.value, columns)
        start = max(0, at - len(tick.label) // 2)
        if start < free:
            continue
        line[at] = signs.foot
        labels[start : start + len(tick.label)] = tick.label
        free = start + len(tick.label) + 1
    yield signs.corner + "".join(line)
    yield " " + "".join(labels).rstrip()
    yield f" {axis.label:^{columns}}".rstrip()


def _curves_key(chart: Curves, signs: _Signs) -> Iterator[Text]:
    """The legend, with the last number of each line."""
    width = max(len(series.label) for series in chart.series)
    alone = len(chart.series) == 1 and chart.joined
    for number, series in enumerate(chart.series):
        sign = signs.fills[8] if alone else signs.points[number % len(signs.points)]
        line = Text().append(sign, _COLOURS[number % len(_COLOURS)])
        if series.points:
            line.append(f" {series.label:<{width}}  {_end(chart, series)}")
        if series.marks:
            shown = ", ".join(map(chart.x.short, series.marks[:4]))
            more = f" and {len(series.marks) - 4} more" if len(series.marks) > 4 else ""  # noqa: PLR2004  # as shown
            line.append(f"; {chart.marked} at {shown}{more}")
        yield line
    for level in chart.levels:
        yield Text().append(signs.across, "red").append(f" {level.label}: {chart.y.short(level.value)}")


def _end(chart: Curves, series: Series) -> str:
    """The last number of a line, or its highest where it rises and falls."""
    (_, first), (x, last) = series.points[0], series.points[-1]
    at, highest = max(series.points, key=lambda point: point[1])
    if highest > max(first, last):
        return f"at most {chart.y.short(highest)} at {chart.x.short(at)}"
    return f"{chart.y.short(last)} at {chart.x.short(x)}"


# Bars ---------------------------------------------------------------------------------------------------------------


def _bars(chart: Bars, width: int, signs: _Signs) -> Iterator[Text]:
    most = max((*(bar.total for bar in chart.bars), *(level.value for level in chart.levels)), default=0) or 1
    margin = max((len(bar.label) for bar in chart.bars), default=0)
    beyond = max((len(_of_bar(bar.total, bar.words)) for bar in chart.bars), default=0)
    columns = _room(width, len(_INDENT) + margin + beyond + 3)
    limits = {max(0, level.value * columns // most - 1) for level in chart.levels}
    for bar in chart.bars:
        line = Text(f"{_INDENT}{bar.label:<{margin}} ")
        cells = _stacked([(segment.bytes, segment.tone) for segment in bar.segments], most, columns)
        drawn = [_part(tone, signs) for tone in cells] + [(" ", "")] * (columns - len(cells))
        for column, (sign, style) in enumerate(drawn):
            line.append(*((signs.limit, "bold red") if column in limits else (sign, style)))
        yield line.append(f" {_of_bar(bar.total, bar.words)}")


def _bars_key(chart: Bars, signs: _Signs) -> Iterator[Text]:
    """The legend of the parts; for a single bar with sizes."""
    if len(chart.kinds()) < 2 and not chart.levels:  # noqa: PLR2004  # one part is the whole bar
        return
    alone = chart.bars[0] if len(chart.bars) == 1 else None
    sizes = {segment.label: f"  {gibibytes(segment.bytes)}" for segment in alone.segments} if alone else {}
    width = max((len(label) for label, _ in chart.kinds()), default=0)
    for label, tone in chart.kinds():
        yield Text().append(*_part(tone, signs)).append(f" {label:<{width}}{sizes.get(label, '')}")
    for level in chart.levels:
        yield Text().append(signs.limit, "bold red").append(f" {level.label}: {gibibytes(level.value)}")


def _of_bar(total: int, words: str) -> str:
    return f"{gibibytes(total)}{f', {words}' if words else ''}"


def _part(tone: int, signs: _Signs) -> _Cell:
    return signs.parts[tone % len(signs.parts)], _COLOURS[tone % len(_COLOURS)]


def _stacked(parts: Iterable[tuple[int, int]], most: int, columns: int) -> list[int]:
    """The tone of each cell of a bar; every part that is not 0 has at least one cell."""
    cells: list[int] = []
    total = 0
    for size, tone in parts:
        total += size
        end = max(round(total * columns / most), len(cells) + (size > 0))
        cells += [tone] * (min(end, columns) - len(cells))
    return cells


# Layers -------------------------------------------------------------------------------------------------------------


def _strip(chart: Strip, width: int, signs: _Signs) -> Iterator[Text]:
    margin = len(count(len(chart.layers)))
    columns = _room(width, len(_INDENT) + margin + 1)
    for start in range(0, len(chart.layers), columns):
        line = Text(f"{_INDENT}{chart.layers[start].number:>{margin}} ")
        for layer in chart.layers[start : start + columns]:
            line.append(*_layer(chart, layer.group, layer.bytes, signs))
        yield line


def _layer(chart: Strip, group: str, bytes_: int, signs: _Signs) -> _Cell:
    """A column per layer, relative to the largest layer."""
    most = max((layer.bytes for layer in chart.layers), default=0) or 1
    groups = [*dict.fromkeys(layer.group for layer in chart.layers)]
    eighths = max(1, -(-bytes_ * 8 // most)) if bytes_ else 0
    return signs.fills[eighths], _COLOURS[groups.index(group) % len(_COLOURS)]


def _strip_key(chart: Strip, signs: _Signs) -> Iterator[Text]:
    """The bytes of each group."""
    for group, bytes_, number in chart.kinds():
        said = f"{plural(number, 'layer')}, {gibibytes(bytes_)} each"
        yield Text().append(*_layer(chart, group, bytes_, signs)).append(f" {group}: {said}")


_FORMS: dict[type, tuple[Callable[..., Iterator[Text]], Callable[..., Iterator[Text]]]] = {
    Curves: (_curves, _curves_key),
    Bars: (_bars, _bars_key),
    Strip: (_strip, _strip_key),
}
"""How each form of chart is drawn, and its legend."""
