"""Tables as values: typed columns, plain cells, and the lines above and below."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["text", "count", "bytes", "gigabytes", "gibibytes", "ratio", "bar"]


class Column(NamedTuple):
    """A column of a sheet.

    kind: how a format may show its cells; a bar is a share of 1, for eyes alone.
    wide: shown on a terminal only where there is room; files always have it.
    once: on a terminal, left blank where it repeats the row above; files always have it.
    """

    title: str
    kind: Kind = "text"
    wide: bool = False
    once: bool = False


class Sheet(NamedTuple):
    """A table with what stands above and below it. Cells are plain values of their column's kind; None is empty.

    answers: the lines above as a table of their own, for files that programs read; eyes have the lines.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    answers: tuple[tuple[str, Any], ...] = ()


class Document(Protocol):
    """What a format renders."""

    def data(self) -> Any:
        """Plain values: dicts, lists, strings, ints, floats for ratios, None."""
        ...

    def sheets(self) -> Sequence[Sheet]:
        """Tables for eyes and spreadsheets."""
        ...


class Stack(NamedTuple):
    """Several documents, one after the other."""

    documents: tuple[Document, ...]

    def data(self) -> list[Any]:
        """The list of their values."""
        return [document.data() for document in self.documents]

    def sheets(self) -> tuple[Sheet, ...]:
        """All their tables."""
        return tuple(sheet for document in self.documents for sheet in document.sheets())


def in_version(engine: str, version: str) -> str:
    """`vllm 0.33.0`, `llama_cpp (llama-cpp-python 0.3.36)`; the engine alone where it has no versions."""
    if not version:
        return engine
    return f"{engine} {version}" if version[0].isdecimal() else f"{engine} ({version})"
