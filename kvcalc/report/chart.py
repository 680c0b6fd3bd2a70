"""Charts as values: exact numbers and their meaning.

Formats draw only these. Every number in a chart is also in the document's JSON; the line between two points is only
drawn.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from kvcalc.units import both_units, count, gibibytes, plural, short_share, short_tokens

Number: TypeAlias = int | float
"""A number of an axis: a float is a share of 1, all others are whole."""
BYTES, TOKENS, SHARE = "bytes", "tokens", "share"
"""Units with their own formatting; any other is a plural noun, such as users or blocks."""


class Axis(NamedTuple):
    """One of two axes. log: whether the scale is logarithmic."""

    label: str
    unit: str
    log: bool = True

    def said(self, number: Number) -> str:
        """One of its numbers, in full."""
        if self.unit == BYTES:
            return both_units(int(number))
        return short_share(number) if self.unit == SHARE else plural(int(number), self.unit.removesuffix("s"))

    def short(self, number: Number) -> str:
        """A number of it, as short as it can be read."""
        if self.unit == BYTES:
            return gibibytes(int(number))
        return short_tokens(int(number)) if self.unit == TOKENS else self.said(number)


class Series(NamedTuple):
    """One line. points: (x, y), ascending by x; marks: those x at which something happens, as `Curves.marked` says."""

    label: str
    points: tuple[tuple[Number, Number], ...]
    marks: tuple[Number, ...] = ()


class Level(NamedTuple):
    """A horizontal line, such as the memory of a GPU."""

    label: str
    value: int


GROWTH_CHANGES = "growth changes"
"""What a mark on a line over the context means: a window is full, or a method begins to drop."""


class Curves(NamedTuple):
    """Curves over an axis. joined: whether values between points are valid; otherwise only the points are.

    marked: what a mark on a line means.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()
    joined: bool = True
    marked: str = GROWTH_CHANGES

    def numbers(self) -> set[Number]:
        """All numbers drawn."""
        points = (number for series in self.series for point in series.points for number in point)
        return {*points, *(level.value for level in self.levels)}

    def said(self, series: Series, point: tuple[Number, Number]) -> str:
        """`llama-3-70b: 10,737,418,240 bytes (...) at 32,768 tokens`."""
        x, y = point
        mark = f"; {self.marked}" if x in series.marks else ""
        return f"{series.label}: {self.y.said(y)} at {self.x.said(x)}{mark}"


def at_lengths(title: str, lines: Sequence[tuple[str, tuple[tuple[int, int], ...]]]) -> Curves:
    """Bytes of the cache at a few token counts; no claim about values in between."""
    x, y = Axis("cached tokens of each sequence", TOKENS), Axis("bytes of the cache", BYTES)
    return Curves(title, x, y, tuple(Series(label, points) for label, points in lines), joined=False)


def one_bar_each(title: str, sizes: Iterable[tuple[str, int]]) -> "Bars":
    """One bar of cache bytes for each of several items."""
    bars = tuple(Bar(label, (Segment("cache", size, 2),)) for label, size in sizes)
    return Bars(title, "bytes of the cache", bars)


class Segment(NamedTuple):
    """A part of a bar. tone: its role; the same role has the same colour everywhere."""

    label: str
    bytes: int
    tone: int = 0


class Bar(NamedTuple):
    """One bar of stacked parts. words: a remark at its end."""

    label: str
    segments: tuple[Segment, ...]
    words: str = ""

    @property
    def total(self) -> int:
        """Sum of its parts."""
        return sum(segment.bytes for segment in self.segments)


class Bars(NamedTuple):
    """Stacked bars of bytes. levels: reference lines, in bytes."""

    title: str
    label: str
    bars: tuple[Bar, ...]
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()

    def numbers(self) -> set[Number]:
        """All numbers drawn."""
        segments = (segment.bytes for bar in self.bars for segment in bar.segments)
        return {*segments, *(level.value for level in self.levels)}

    def kinds(self) -> tuple[tuple[str, int], ...]:
        """Labels and tones of the parts, each once."""
        return tuple(dict.fromkeys((part.label, part.tone) for bar in self.bars for part in bar.segments))

    def said(self, bar: Bar, segment: Segment) -> str:
        """`weights: 16,060,522,496 bytes (...)`."""
        return f"{bar.label}, {segment.label}: {both_units(segment.bytes)}"


class Layer(NamedTuple):
    """A layer and its bytes. group: the group of equal layers that it belongs to."""

    number: int
    group: str
    bytes: int


class Strip(NamedTuple):
    """Layers side by side, with the bytes of each."""

    title: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    def numbers(self) -> set[Number]:
        """All numbers drawn."""
        return {number for layer in self.layers for number in (layer.number, layer.bytes)}

    def kinds(self) -> tuple[tuple[str, int, int], ...]:
        """Each group with the bytes of one layer and the number of such layers."""
        found: dict[tuple[str, int], int] = {}
        for layer in self.layers:
            found[layer.group, layer.bytes] = found.get((layer.group, layer.bytes), 0) + 1
        return tuple((group, bytes_, number) for (group, bytes_), number in found.items())

    def said(self, layer: Layer) -> str:
        """`layer 3, full: 1,024 bytes`."""
        return f"layer {count(layer.number)}, {layer.group}: {both_units(layer.bytes)}"


Chart: TypeAlias = Curves | Bars | Strip


@runtime_checkable
class Charted(Protocol):
    """A document with charts."""

    def charts(self) -> Sequence[Chart]:
        """Its charts, the most important first."""
        ...


def charts_of(document: object) -> tuple[Chart, ...]:
    """The charts of a document, if any."""
    return tuple(document.charts()) if isinstance(document, Charted) else ()


def all_charts(documents: Iterable[object]) -> tuple[Chart, ...]:
    """The charts of several documents."""
    return tuple(chart for document in documents for chart in charts_of(document))
