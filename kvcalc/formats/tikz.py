r"""TikZ: charts for LaTeX, as pgfplots source with exact numbers, to `\input` into a document.

Source: Christian Feuersänger, "Manual for Package PGFPlots", 4.5 (coordinates), 4.12 (ybar stacked), 4.15 (ticks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from kvcalc.formats._escapes import latex, visible_chart
from kvcalc.formats._palette import HEAT, LIGHT, PARTS, SERIES
from kvcalc.formats._ticks import Scale, scale_of
from kvcalc.report.chart import Axis, Bars, Chart, Curves, Number, Strip, charts_of
from kvcalc.report.sheet import Document

_PREAMBLE = r"% \usepackage{pgfplots} \pgfplotsset{compat=1.18}"
_DASHES = ("solid", "densely dashed", "densely dotted", "dashdotted")
_NAME = str.maketrans("0123456789-", "abcdefghij ")


def write(document: Document, stream: TextIO) -> None:
    """Writes a picture for each chart, with its notes as comments above."""
    stream.write("\n".join("\n".join(_picture(visible_chart(chart))) + "\n" for chart in charts_of(document)))


def _picture(chart: Chart) -> Iterator[str]:
    yield _PREAMBLE
    yield from (f"% {latex(note)}" for note in chart.notes)
    yield r"\begin{tikzpicture}"
    names = SERIES if isinstance(chart, Curves) else PARTS if isinstance(chart, Bars) else HEAT
    yield from (rf"\definecolor{{{_colour(name)}}}{{HTML}}{{{LIGHT[name][1:].upper()}}}" for name in names)
    yield from _axis(chart)
    yield r"\end{tikzpicture}"


def _colour(name: str) -> str:
    """The name of a colour, letters only."""
    return "kvcalc" + name.translate(_NAME).replace(" ", "")


def _axis(chart: Chart) -> Iterator[str]:
    options, plots = (
        _of_curves(chart)
        if isinstance(chart, Curves)
        else _of_bars(chart)
        if isinstance(chart, Bars)
        else _of_strip(chart)
    )
    yield r"\begin{axis}["
    yield f"  title={{{latex(chart.title)}}}, title style={{align=left, text width=\\linewidth}},"
    yield from (f"  {option}," for option in options)
    yield "]"
    yield from plots
    yield r"\end{axis}"


def _ticks(which: str, axis: Axis, scale: Scale) -> list[str]:
    """Range, ticks and label of one axis."""
    values = ",".join(str(tick.value) for tick in scale.ticks)
    labels = ",".join(f"{{{latex(tick.label)}}}" for tick in scale.ticks)
    return [
        *([f"{which}mode=log"] if axis.log else [f"scaled {which} ticks=false"]),
        f"{which}min={scale.low}, {which}max={scale.high}",
        f"{which}tick={{{values}}}",
        f"{which}ticklabels={{{labels}}}",
        f"{which}label={{{latex(axis.label)}}}",
    ]


def _of_curves(chart: Curves) -> tuple[list[str], list[str]]:
    ys = [y for series in chart.series for _, y in series.points] + [level.value for level in chart.levels]
    xs = [x for series in chart.series for x, _ in series.points]
    x_scale = scale_of(chart.x, min(xs), max(xs), 8)
    y_scale = scale_of(chart.y, min((y for y in ys if y > 0), default=1), max(ys), 9)
    options = [
        *_ticks("x", chart.x, x_scale),
        *_ticks("y", chart.y, y_scale),
        "minor tick style={draw=none}, grid=major, grid style={gray!25}",
        "width=12cm, height=7.5cm, legend pos=outer north east, legend cell align=left, legend style={draw=none}",
    ]
    plots = []
    for number, series in enumerate(chart.series):
        style = f"{_colour(SERIES[number % len(SERIES)])}, {_DASHES[number % len(_DASHES)]}"
        marks = "thick" if chart.joined else "only marks, mark=*"
        drawn = ((x, y) for x, y in series.points if y > 0 or not chart.y.log)
        plots += [rf"\addplot[{style}, {marks}] coordinates {{{_coordinates(drawn)}}};", _legend(series.label)]
    for level in chart.levels:
        ends = ((x_scale.low, level.value), (x_scale.high, level.value))
        plots += [rf"\addplot[red, densely dashed] coordinates {{{_coordinates(ends)}}};", _legend(level.label)]
    return options, plots


def _coordinates(points: Iterable[tuple[Number, Number]]) -> str:
    return " ".join(f"({x},{y})" for x, y in points)


def _legend(words: str) -> str:
    return rf"\addlegendentry{{{latex(words)}}}"


def _of_bars(chart: Bars) -> tuple[list[str], list[str]]:
    most = max((*(bar.total for bar in chart.bars), *(level.value for level in chart.levels)), default=0) or 1
    axis = Axis(chart.label, "bytes", log=False)
    last = len(chart.bars) - 1
    options = [
        "xbar stacked, bar width=9pt",
        *_ticks("x", axis, scale_of(axis, 0, most, 6)),
        f"ytick={{{','.join(map(str, range(last + 1)))}}}, y dir=reverse, ymin=-0.6, ymax={last}.6",
        f"yticklabels={{{','.join(f'{{{latex(bar.label)}}}' for bar in chart.bars)}}}",
        f"width=12cm, height={2.6 + 0.55 * (last + 1):.2f}cm, axis lines=left, xmajorgrids, grid style={{gray!25}}",
        "legend style={draw=none, at={(0,0)}, yshift=-1.1cm, anchor=north west, legend columns=3, font=\\footnotesize}",
        "legend cell align=left, clip=false",
    ]
    plots = []
    for label, tone in chart.kinds():
        sizes = [
            sum(part.bytes for part in bar.segments if (part.label, part.tone) == (label, tone)) for bar in chart.bars
        ]
        colour = _colour(PARTS[tone % len(PARTS)])
        points = _coordinates((size, row) for row, size in enumerate(sizes))
        plots += [rf"\addplot[draw=none, fill={colour}] coordinates {{{points}}};", _legend(label)]
    if len(chart.kinds()) == 1:
        plots = plots[:1]
    for level in chart.levels:
        line = rf"\draw[red, densely dashed] (axis cs:{level.value},{last}.6) -- (axis cs:{level.value},-0.6)"
        plots.append(rf"{line} node[above left, font=\footnotesize] {{{latex(level.label)}}};")
    return options, plots


def _of_strip(chart: Strip) -> tuple[list[str], list[str]]:
    most = max((layer.bytes for layer in chart.layers), default=0) or 1
    first, last = chart.layers[0].number, chart.layers[-1].number
    options = [
        f"xmin={first}, xmax={last + 1}, ymin=0, ymax=1, ytick=\\empty, xlabel=layer",
        "width=12cm, height=2.6cm, axis lines=left, clip=false",
    ]
    plots = []
    for layer in chart.layers:
        colour = _colour(HEAT[min(len(HEAT) - 1, layer.bytes * len(HEAT) // most)])
        corners = f"(axis cs:{layer.number},0) rectangle (axis cs:{layer.number + 1},1)"
        plots.append(rf"\fill[{colour}, draw=white] {corners}; % {layer.bytes} bytes")
    return options, plots
