"""Tables as values: typed columns, plain cells, and the lines above and below."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from kvcalc.report.chart import Chart

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""What JSON can hold; numbers are exact ints, but for ratios."""
Kind = Literal["text", "count", "bytes", "gigabytes", "gibibytes", "ratio", "bar"]
_OF_BYTES: tuple[Kind, ...] = ("bytes", "gigabytes", "gibibytes")
_UNITS = ("bytes", "gb", "gib")
Style = Literal["plain", "answer", "alarm", "detail"]
"""How a terminal stresses words: the answer, what does not hold, what belongs to the line above."""


class Line(NamedTuple):
    """A line above a table. label: what the value is of; empty where the value is a sentence."""

    label: str
    value: str
    style: Style = "plain"


class Styled(NamedTuple):
    """A cell of a text column, stressed."""

    words: str
    style: Style

    def __str__(self) -> str:
        return self.words


Cell: TypeAlias = str | int | float | Styled | None


class Column(NamedTuple):
    """A column of a sheet.

    kind: how a format may show its cells; a bar is a share of 1, for eyes alone.
    wide: shown on a terminal only where there is room; files always have it.
    once: on a terminal, left blank where it repeats the row above; files always have it.
    key: its name in such files, as in JSON; default: the title in lower case, with the unit of what is written there.
    """

    title: str
    kind: Kind = "text"
    wide: bool = False
    once: bool = False
    key: str = ""

    @property
    def name(self) -> str:
        """`total GiB` as `total_bytes`: files for programs have bytes, whichever unit eyes see."""
        if self.key:
            return self.key
        words = "".join(c if c.isalnum() else " " for c in self.title.lower()).split()
        if self.kind not in _OF_BYTES:
            return "_".join(words)
        return "_".join([*(word for word in words if word not in _UNITS), "bytes"])


class Point(NamedTuple):
    """What is said of one thing below a table: which, and short lines about it."""

    title: str
    lines: tuple[str, ...]


class Sheet(NamedTuple):
    """A table with what stands above and below it. Cells are plain values of their column's kind; None is empty.

    points: what is said of single rows; footnote: what a `*` in the table means; notes follow them.
    asked: what all rows have in common, by name: columns of files that programs read; eyes have it in the title.
    label_width: characters that a terminal gives labels and the gap after them, whichever lines there are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[tuple[str, Cell], ...] = ()
    footnote: str = ""
    label_width: int = 15
    points: tuple[Point, ...] = ()


class Table(NamedTuple):
    """One table for programs: a name for each column, a row for each thing; bytes and counts are whole numbers."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Cell]]) -> "Table":
        """Table of rows by name; a name that a row has not is empty there."""
        listed = list(rows)
        names = tuple(dict.fromkeys(name for row in listed for name in row))
        return cls(names, tuple(tuple(row.get(name) for name in names) for row in listed))


def plain(value: Json) -> Json:
    """A value of lists, mappings and scalars alone: what JSON gives back when it is read."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


class Document(Protocol):
    """What a format renders."""

    def to_dict(self) -> Json:
        """Plain values, as `--format json` prints them; a list for a document that is one."""
        ...

    def sheets(self) -> Sequence[Sheet]:
        """Tables for eyes and spreadsheets."""
        ...


@runtime_checkable
class Tabled(Protocol):
    """A document whose table for programs is another than what eyes see."""

    def table(self) -> Table:
        """One row for each thing that was asked."""
        ...


def table_of(document: Document) -> Table:
    """A document as one table for programs: its own, or the first of its sheets with what all rows have in common."""
    if isinstance(document, Tabled):
        return document.table()
    sheet = next((sheet for sheet in document.sheets() if sheet.columns), None)
    return Table((), ()) if sheet is None else table_of_sheet(sheet)


def table_of_sheet(sheet: Sheet) -> Table:
    """Each column once, whichever units eyes see it in."""
    named = {column.name: i for i, column in reversed([*enumerate(sheet.columns)]) if column.kind != "bar"}
    shown = [i for i, column in enumerate(sheet.columns) if named.get(column.name) == i]
    common = [(name, cell) for name, cell in sheet.asked if name not in named]
    names = (*(name for name, _ in common), *(sheet.columns[i].name for i in shown))
    return Table(names, tuple((*(cell for _, cell in common), *(row[i] for i in shown)) for row in sheet.rows))


class Stack(NamedTuple):
    """Several documents, one after the other."""

    documents: tuple[Document, ...]

    def to_dict(self) -> list[Json]:
        """The list of their values."""
        return [document.to_dict() for document in self.documents]

    def charts(self) -> "tuple[Chart, ...]":
        """All their charts."""
        from kvcalc.report.chart import all_charts

        return all_charts(self.documents)

    def sheets(self) -> tuple[Sheet, ...]:
        """All their tables."""
        return tuple(sheet for document in self.documents for sheet in document.sheets())


def in_version(engine: str, version: str) -> str:
    """`vllm 0.33.0`, `llama_cpp (llama-cpp-python 0.3.36)`; the engine alone where it has no versions."""
    if not version:
        return engine
    return f"{engine} {version}" if version[0].isdecimal() else f"{engine} ({version})"
