"""Charts drawn by matplotlib: the same document gives the same bytes, whatever the user's settings.

Why matplotlib: `CONTRIBUTING.md`. Nothing is computed here; a chart's numbers are drawn as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple
from warnings import catch_warnings, filterwarnings
from xml.etree import ElementTree

from kvcalc.formats._escapes import visible_chart, xml
from kvcalc.formats._palette import HEAT, LIGHT, PARTS, SERIES
from kvcalc.formats._ticks import Scale, scale_of
from kvcalc.report.chart import Axis, Bar, Bars, Chart, Curves, Level, Number, Series, Strip
from kvcalc.units import count, gibibytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "kvcalc",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "text.parse_math": False,
    "text.color": LIGHT["words"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["words"],
    "axes.facecolor": LIGHT["surface"],
    "figure.facecolor": LIGHT["surface"],
    "grid.color": LIGHT["grid"],
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["words"],
    "ytick.labelcolor": LIGHT["words"],
}
_WIDTH_INCHES = 7.0
_DOTS_AN_INCH = 200
_TITLE_CHARACTERS, _NOTE_CHARACTERS, _LABEL_CHARACTERS = 84, 112, 44
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_APART = 0.062
"""Distance between two labels, as a share of the axis height."""
_FEW_MARKS, _MANY_POINTS = 6, 100
_SHARE_FOR_WORDS = 0.13
"""Least width of a bar's part, as a share of the chart, to print its size in it."""
_MOST_KINDS = 8
_SVG = "{http://www.w3.org/2000/svg}"
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class _Tips:
    """Descriptions of single parts of a drawing, by their id."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def id_of(self, words: str) -> str:
        """An id for the part with this description."""
        name = f"tip-{len(self.words)}"
        self.words[name] = words
        return name


class _Ready(NamedTuple):
    """A figure, and the descriptions of its parts."""

    figure: Any
    tips: _Tips


def svg(charts: Sequence[Chart], *, salt: str = "kvcalc", notes: bool = True) -> str:
    """An SVG of the charts, one below the other. salt: makes its ids unique on a page."""
    shown = [visible_chart(chart) for chart in charts]
    with _settings(salt):
        ready = _figure(shown, notes=notes)
        stream = BytesIO()
        ready.figure.savefig(stream, format="svg", bbox_inches="tight", pad_inches=0.08, metadata=_NO_METADATA)
    return _described(stream.getvalue(), shown, ready.tips, salt)


def png(charts: Sequence[Chart]) -> bytes:
    """A PNG of the charts, one below the other."""
    with _settings("kvcalc"):
        ready = _figure([visible_chart(chart) for chart in charts], notes=True)
        stream = BytesIO()
        ready.figure.savefig(
            stream,
            format="png",
            dpi=_DOTS_AN_INCH,
            bbox_inches="tight",
            pad_inches=0.08,
            metadata={"Software": None},
        )
    return stream.getvalue()


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    """The library's defaults plus our settings: a user's style does not change the drawing."""
    import matplotlib as mpl

    defaults: Any = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    settings: Any = {**defaults, **_SETTINGS, "svg.hashsalt": salt}
    with mpl.rc_context(settings), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from font")  # glyphs missing in the font are drawn as boxes
        yield


def _figure(charts: Sequence[Chart], *, notes: bool) -> _Ready:
    """All charts below each other, each with its title and, if requested, its notes."""
    from matplotlib.figure import Figure

    tips = _Tips()
    below = [_wrapped(chart.notes) if notes else [] for chart in charts]
    titles = [wrap(chart.title, _TITLE_CHARACTERS) for chart in charts]
    heights = [_inches(chart) for chart in charts]
    feet = [_foot_points(chart) / 72 + 0.07 + 0.17 * len(own) for chart, own in zip(charts, below, strict=True)]
    whole = sum(heights) + sum(feet) + sum(0.27 + 0.2 * len(title) for title in titles)
    figure = Figure((_WIDTH_INCHES, whole))
    top = whole
    for chart, title, own, height, foot in zip(charts, titles, below, heights, feet, strict=True):
        over = 12 if isinstance(chart, Bars) and chart.levels else 0  # points: room for the label of a limit
        top -= 0.1 + 0.2 * len(title) + over / 72
        axes = figure.add_axes((0.02, (top - height) / whole, 0.96, height / whole))
        _draw(chart, axes, tips)
        axes.annotate(
            "\n".join(title),
            (0, 1),
            (0, 7 + over),
            "axes fraction",
            "offset points",
            fontweight="bold",
            va="bottom",
            annotation_clip=False,
        )
        if own:
            axes.annotate(
                "\n".join(own),
                (0, 0),
                (0, -_foot_points(chart)),
                "axes fraction",
                "offset points",
                fontsize=7.5,
                color=LIGHT["muted"],
                va="top",
                annotation_clip=False,
            )
        top -= height + foot
    return _Ready(figure, tips)


def _wrapped(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in wrap(f"- {note}", _NOTE_CHARACTERS, subsequent_indent="  ")]


def _inches(chart: Chart) -> float:
    """Height of the plot area, without labels."""
    if isinstance(chart, Curves):
        return max(3.3, 0.24 * len(chart.series))
    return 0.35 + 0.34 * len(chart.bars) if isinstance(chart, Bars) else 0.5


def _foot_points(chart: Chart) -> int:
    """Points below an axis for its labels and legend."""
    if isinstance(chart, Curves):
        return 42
    rows = -(-len(chart.kinds()) // _KEY_COLUMNS) if len(chart.kinds()) <= _MOST_KINDS else 1
    return 42 + 14 * rows


_KEY_COLUMNS = 3


def _draw(chart: Chart, axes: Axes, tips: _Tips) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=3)
    axes.set_axisbelow(True)
    if isinstance(chart, Curves):
        _draw_curves(chart, axes, tips)
    elif isinstance(chart, Bars):
        _draw_bars(chart, axes, tips)
    else:
        _draw_strip(chart, axes, tips)


# Lines --------------------------------------------------------------------------------------------------------------


def _draw_curves(chart: Curves, axes: Axes, tips: _Tips) -> None:
    ys = [y for series in chart.series for _, y in series.points] + [level.value for level in chart.levels]
    xs = [x for series in chart.series for x, _ in series.points]
    x_scale = scale_of(chart.x, min(xs), max(xs), 9)
    y_scale = scale_of(chart.y, min((y for y in ys if y > 0), default=1), max(ys), 9)
    _set_axis(axes, "x", chart.x, x_scale)
    _set_axis(axes, "y", chart.y, y_scale)
    axes.grid(visible=True, linewidth=0.6)
    marks = {x for series in chart.series for x in series.marks}
    named = marks if len(marks) <= _FEW_MARKS else set()
    for number, series in enumerate(chart.series):
        _draw_series(chart, series, number, axes, tips, named)
        named = named - set(series.marks)
    for level in chart.levels:
        axes.axhline(level.value, color=LIGHT["alarm"], linewidth=1, linestyle=_DASHES[1])
    _label_lines(chart, axes, y_scale)


def _set_axis(axes: Axes, which: str, axis: Axis, scale: Scale) -> None:
    """Range, ticks and label of one axis."""
    set_of = {name: getattr(axes, f"set_{which}{name}") for name in ("scale", "lim", "ticks", "label")}
    if axis.log:
        set_of["scale"]("log", base=2)
        margin = (scale.high / scale.low) ** 0.025
        set_of["lim"](scale.low / margin, scale.high * margin)
    else:
        set_of["lim"](scale.low, scale.high * 1.025)
    set_of["ticks"]([tick.value for tick in scale.ticks], [tick.label for tick in scale.ticks])
    axes.minorticks_off()
    set_of["label"](axis.label)


def _draw_series(chart: Curves, series: Series, number: int, axes: Axes, tips: _Tips, named: set[Number]) -> None:
    """One line. named: marks that are to be labelled with their number."""
    colour = LIGHT[SERIES[number % len(SERIES)]]
    drawn = [point for point in series.points if point[1] > 0 or not chart.y.log]
    last = max(x for each in chart.series for x, _ in each.points)
    if chart.joined:
        axes.plot(*_columns(drawn), color=colour, linewidth=1.6, linestyle=_DASHES[number % len(_DASHES)])
    else:
        axes.plot(*_columns(drawn), color=colour, linewidth=0.7, linestyle=_DASHES[2], alpha=0.7)
    for x, y in drawn:
        marked = x in series.marks
        if chart.joined and not (marked or _is_round(x) or not chart.x.log):
            continue
        size = 6 if marked else 5 if not chart.joined else 2.5 if len(drawn) <= _MANY_POINTS else 1
        (dot,) = axes.plot([x], [y], "o", markersize=size, color=colour)
        if marked:
            dot.set_markerfacecolor(LIGHT["surface"])
        dot.set_gid(tips.id_of(chart.said(series, (x, y))))
        if x in named and marked:
            side = "right" if x == last else "center"
            axes.annotate(
                chart.x.short(x), (x, y), (0, -12), textcoords="offset points", ha=side, color=colour, fontsize=7.5
            )


def _columns(points: Sequence[tuple[Number, Number]]) -> tuple[list[Number], list[Number]]:
    return [x for x, _ in points], [y for _, y in points]


def _is_round(number: Number) -> bool:
    return int(number).bit_count() == 1


def _label_lines(chart: Curves, axes: Axes, scale: Scale) -> None:
    """Labels at the ends of lines, spread apart, in the colours of their lines."""
    wanted: list[tuple[float, str, str]] = []
    for number, series in enumerate(chart.series):
        last = next((y for _, y in reversed(series.points) if y > 0 or not chart.y.log), scale.low)
        wanted.append((_height(axes, last), series.label, LIGHT[SERIES[number % len(SERIES)]]))
    wanted += [
        (_height(axes, level.value), f"{level.label}, {chart.y.short(level.value)}", LIGHT["alarm"])
        for level in chart.levels
    ]
    for at, (_, label, colour) in _spread(wanted):
        axes.annotate(
            _cut(label),
            (1, at),
            (5, 0),
            "axes fraction",
            "offset points",
            color=colour,
            fontsize=8.5,
            va="center",
            annotation_clip=False,
        )


def _height(axes: Axes, value: Number) -> float:
    """Position of a value on the axis, from 0 to 1."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((1, value)))[1])


def _spread(wanted: list[tuple[float, str, str]]) -> Iterator[tuple[float, tuple[float, str, str]]]:
    """Heights for labels, as close to the wanted ones as possible without overlap."""
    ordered = sorted(wanted, key=lambda each: each[0])
    heights: list[float] = []
    for want, *_ in ordered:
        heights.append(max(want, heights[-1] + _APART) if heights else want)
    over = heights[-1] - max(1.0, ordered[-1][0]) if heights else 0
    for index in range(len(heights) - 1, -1, -1):
        if over <= 0:
            break
        ceiling = heights[index + 1] - _APART if index + 1 < len(heights) else heights[index] - over
        heights[index] = min(heights[index], ceiling)
    return zip(heights, ordered, strict=True)


def _cut(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"


# Bars ---------------------------------------------------------------------------------------------------------------


def _draw_bars(chart: Bars, axes: Axes, tips: _Tips) -> None:
    most = max((*(bar.total for bar in chart.bars), *(level.value for level in chart.levels)), default=0) or 1
    axis = Axis(chart.label, "bytes", log=False)
    _set_axis(axes, "x", axis, scale_of(axis, 0, most, 7))
    axes.set_ylim(len(chart.bars) - 0.5, -0.5)
    axes.set_yticks(range(len(chart.bars)), [_cut(bar.label) for bar in chart.bars])
    axes.grid(visible=True, axis="x", linewidth=0.6)
    for row, bar in enumerate(chart.bars):
        _draw_bar(chart, bar, row, most, axes, tips)
    for level in chart.levels:
        _draw_limit(level, axes)
    if len(chart.kinds()) > 1:
        _draw_key(_named_parts(chart), axes, _inches(chart))


def _draw_bar(chart: Bars, bar: Bar, row: int, most: int, axes: Axes, tips: _Tips) -> None:
    left = 0
    for segment in bar.segments:
        name = PARTS[segment.tone % len(PARTS)]
        (drawn,) = axes.barh([row], [segment.bytes], left=[left], height=0.7, color=LIGHT[name], linewidth=0)
        drawn.set_gid(tips.id_of(chart.said(bar, segment)))
        if len(bar.segments) > 1 and segment.bytes > _SHARE_FOR_WORDS * most:
            colour = LIGHT["words"] if name in PARTS[3:] else LIGHT["on-part"]
            words = gibibytes(segment.bytes)
            axes.text(left + segment.bytes / 2, row, words, ha="center", va="center", color=colour, fontsize=8)
        left += segment.bytes
    if len(chart.bars) > 1:
        total = ", ".join(filter(None, (gibibytes(bar.total), bar.words)))
        axes.annotate(total, (left, row), (4, 0), textcoords="offset points", va="center", fontsize=8)


def _draw_limit(level: Level, axes: Axes) -> None:
    axes.axvline(level.value, color=LIGHT["alarm"], linewidth=1.2, linestyle=_DASHES[1])
    far = level.value > sum(axes.get_xlim()) / 2
    axes.annotate(
        f"{_cut(level.label)}, {gibibytes(level.value)}",
        (level.value, 1),
        (2 if far else -2, 2),
        ("data", "axes fraction"),
        "offset points",
        ha="right" if far else "left",
        va="bottom",
        color=LIGHT["alarm"],
        fontsize=8,
        annotation_clip=False,
    )


def _named_parts(chart: Bars) -> list[tuple[str, str]]:
    """Colour and label of each part; for a single bar with sizes."""
    alone = chart.bars[0].segments if len(chart.bars) == 1 else ()
    sizes = {segment.label: f", {gibibytes(segment.bytes)}" for segment in alone}
    return [(LIGHT[PARTS[tone % len(PARTS)]], f"{_cut(label)}{sizes.get(label, '')}") for label, tone in chart.kinds()]


def _draw_key(named: Sequence[tuple[str, str]], axes: Axes, height: float) -> None:
    """The legend, below an axis of this many inches."""
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=words) for colour, words in named]
    axes.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.46 / height),
        ncols=_KEY_COLUMNS,
        fontsize=8,
        borderpad=0,
        columnspacing=1.4,
    )


# Layers -------------------------------------------------------------------------------------------------------------


def _draw_strip(chart: Strip, axes: Axes, tips: _Tips) -> None:
    most = max((layer.bytes for layer in chart.layers), default=0) or 1

    def colour(bytes_: int) -> str:
        return LIGHT[HEAT[min(len(HEAT) - 1, bytes_ * len(HEAT) // most)]]

    for layer in chart.layers:
        (drawn,) = axes.bar(
            [layer.number], [1], width=1, color=colour(layer.bytes), linewidth=0.4, edgecolor=LIGHT["surface"]
        )
        drawn.set_gid(tips.id_of(chart.said(layer)))
    first, last = chart.layers[0].number, chart.layers[-1].number
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    step = max(1, -(-(last - first + 1) // 12))
    axes.set_xticks(range(first, last + 1, step))
    axes.set_xlabel("layer")
    kinds = chart.kinds()
    if len(kinds) > _MOST_KINDS:
        kinds = (min(kinds, key=lambda kind: kind[1]), max(kinds, key=lambda kind: kind[1]))
    named = [(colour(bytes_), f"{count(n)} {_cut(group)}, {gibibytes(bytes_)}") for group, bytes_, n in kinds]
    _draw_key(named, axes, _inches(chart))


# Descriptions -------------------------------------------------------------------------------------------------------


def _described(drawing: bytes, charts: Sequence[Chart], tips: _Tips, salt: str) -> str:
    """The SVG with a title, a description, and descriptions of its parts; without matplotlib's metadata."""
    for prefix, uri in (("", _SVG[1:-1]), ("xlink", "http://www.w3.org/1999/xlink")):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(drawing)
    for element in root.findall(f"{_SVG}metadata"):
        root.remove(element)
    root.set("role", "img")
    root.set("aria-labelledby", f"{salt}-title")
    title = ElementTree.Element(f"{_SVG}title", {"id": f"{salt}-title"})
    title.text = xml("; ".join(chart.title for chart in charts), 2000)
    root.insert(0, title)
    for element in root.iter(f"{_SVG}g"):
        name = element.get("id", "")
        if name in tips.words:
            element.set("class", "tip")
            said = ElementTree.Element(f"{_SVG}title")
            said.text = xml(tips.words[name], 2000)
            element.insert(0, said)
        if name:
            element.set("id", f"{salt}-{name}")
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r"[ \t]+\n", "\n", text) + "\n"
