"""Tables as values: typed columns, plain cells, and the lines above and below."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""What JSON can hold; numbers are exact ints, but for ratios."""
Kind = Literal["text", "count", "bytes", "gigabytes", "gibibytes", "ratio", "bar"]
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
    for_programs: only in files that programs read, since eyes have it elsewhere.
    """

    title: str
    kind: Kind = "text"
    wide: bool = False
    once: bool = False
    for_programs: bool = False


class Point(NamedTuple):
    """What is said of one thing below a table: which, and short lines about it."""

    title: str
    lines: tuple[str, ...]


class Sheet(NamedTuple):
    """A table with what stands above and below it. Cells are plain values of their column's kind; None is empty.

    points: what is said of single rows; footnote: what a `*` in the table means; notes follow them.
    answers: the lines above as a table of their own, for files that programs read; eyes have the lines.
    label_width: characters that a terminal gives labels and the gap after them, whichever lines there are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    answers: tuple[tuple[str, Cell], ...] = ()
    footnote: str = ""
    label_width: int = 15
    points: tuple[Point, ...] = ()


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


class Stack(NamedTuple):
    """Several documents, one after the other."""

    documents: tuple[Document, ...]

    def to_dict(self) -> list[Json]:
        """The list of their values."""
        return [document.to_dict() for document in self.documents]

    def sheets(self) -> tuple[Sheet, ...]:
        """All their tables."""
        return tuple(sheet for document in self.documents for sheet in document.sheets())


def in_version(engine: str, version: str) -> str:
    """`vllm 0.33.0`, `llama_cpp (llama-cpp-python 0.3.36)`; the engine alone where it has no versions."""
    if not version:
        return engine
    return f"{engine} {version}" if version[0].isdecimal() else f"{engine} ({version})"
