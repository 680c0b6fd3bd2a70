"""Tables as values: typed columns, plain cells, and the lines above and below."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from kvcalc.report.chart import Chart

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""JSON scalars; numbers are exact ints, except ratios."""
Kind = Literal["text", "count", "bytes", "gigabytes", "gibibytes", "ratio", "bar"]
_OF_BYTES: tuple[Kind, ...] = ("bytes", "gigabytes", "gibibytes")
_UNITS = ("bytes", "gb", "gib")
Style = Literal["plain", "answer", "alarm", "detail"]
"""How a terminal highlights text: the answer, a failure, details of the line above."""


class Line(NamedTuple):
    """A line above a table. label: of the value; empty if the value is a sentence."""

    label: str
    value: str
    style: Style = "plain"


class Styled(NamedTuple):
    """A highlighted cell of a text column."""

    words: str
    style: Style

    def __str__(self) -> str:
        return self.words


Cell: TypeAlias = str | int | float | Styled | None


class Column(NamedTuple):
    """A column of a sheet.

    kind: how a format may show its cells; a bar is a share of 1, only for display.
    wide: shown on a terminal only if there is room; files always have it.
    once: left blank on a terminal if it repeats the row above; files always have it.
    key: its name in files, as in JSON; default: the title in lower case, with the unit used there.
    """

    title: str
    kind: Kind = "text"
    wide: bool = False
    once: bool = False
    key: str = ""

    @property
    def name(self) -> str:
        """`total GiB` as `total_bytes`: files have bytes, whatever unit the table shows."""
        if self.key:
            return self.key
        words = "".join(c if c.isalnum() else " " for c in self.title.lower()).split()
        if self.kind not in _OF_BYTES:
            return "_".join(words)
        return "_".join([*(word for word in words if word not in _UNITS), "bytes"])


class Point(NamedTuple):
    """Remarks on one row below a table: the row, and short lines about it."""

    title: str
    lines: tuple[str, ...]


class Sheet(NamedTuple):
    """A table with the text above and below it. Cells are plain values of their column's kind; None is empty.

    points: remarks on single rows; footnote: meaning of a `*` in the table; notes follow them.
    asked: what all rows have in common, by name: columns of files; the title has it for people.
    label_width: characters on a terminal for labels and the gap after them.
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
    """One table for programs: column names and rows; bytes and counts are integers."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Cell]]) -> "Table":
        """Table from rows by column name; missing names are empty."""
        listed = list(rows)
        names = tuple(dict.fromkeys(name for row in listed for name in row))
        return cls(names, tuple(tuple(row.get(name) for name in names) for row in listed))


def plain(value: Json) -> Json:
    """A value of only lists, mappings and scalars, as JSON round-trips it."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


class Document(Protocol):
    """Anything that a format can render."""

    def to_dict(self) -> Json:
        """Plain values, as `--format json` prints them; a list for a document that is one."""
        ...

    def sheets(self) -> Sequence[Sheet]:
        """Tables for eyes and spreadsheets."""
        ...


@runtime_checkable
class Tabled(Protocol):
    """A document whose table for programs differs from the displayed one."""

    def table(self) -> Table:
        """One row for each answer."""
        ...


def table_of(document: Document) -> Table:
    """A document as one table for programs: its own, or its first sheet with the values common to all rows."""
    if isinstance(document, Tabled):
        return document.table()
    sheet = next((sheet for sheet in document.sheets() if sheet.columns), None)
    return Table((), ()) if sheet is None else table_of_sheet(sheet)


def table_of_sheet(sheet: Sheet) -> Table:
    """Each column once, whatever units the table shows."""
    named = {column.name: i for i, column in reversed([*enumerate(sheet.columns)]) if column.kind != "bar"}
    shown = [i for i, column in enumerate(sheet.columns) if named.get(column.name) == i]
    common = [(name, cell) for name, cell in sheet.asked if name not in named]
    names = (*(name for name, _ in common), *(sheet.columns[i].name for i in shown))
    return Table(names, tuple((*(cell for _, cell in common), *(row[i] for i in shown)) for row in sheet.rows))


class Stack(NamedTuple):
    """Several documents in sequence."""

    documents: tuple[Document, ...]

    def to_dict(self) -> list[Json]:
        """The list of their values."""
        return [document.to_dict() for document in self.documents]

    def table(self) -> Table:
        """Rows of all that are of one kind; of several kinds, those of the first."""
        first = self.documents[0]
        alike = [table_of(document) for document in self.documents if type(document) is type(first)]
        return Table.of(dict(zip(table.names, row, strict=True)) for table in alike for row in table.rows)

    def charts(self) -> "tuple[Chart, ...]":
        """All their charts."""
        from kvcalc.report.chart import all_charts

        return all_charts(self.documents)

    def sheets(self) -> tuple[Sheet, ...]:
        """All their tables."""
        return tuple(sheet for document in self.documents for sheet in document.sheets())


def in_version(engine: str, version: str) -> str:
    """`vllm 0.33.0`, `llama_cpp (llama-cpp-python 0.3.36)`; only the engine if it has no versions."""
    if not version:
        return engine
    return f"{engine} {version}" if version[0].isdecimal() else f"{engine} ({version})"
