"""The last step of every command: the finished document goes to stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.report.sheet import Document

_taken: ContextVar[list[Document] | None] = ContextVar("taken", default=None)


def check_output_format(name: str, *, findings: bool = False, charts: bool = False, to_file: bool = False) -> None:
    """Raises KvcalcError for a format that this command does not support, before anything is computed.

    to_file: whether the document goes to a file; binary formats must not go to a terminal.
    """
    from kvcalc.cli.asking import located
    from kvcalc.formats import FOR_ANYTHING, FOR_CHARTS, FOR_FINDINGS, OF_BYTES, check_format

    allowed = FOR_ANYTHING + (FOR_FINDINGS if findings else ()) + (FOR_CHARTS if charts else ())
    located("--format", check_format, name, allowed)
    if name in OF_BYTES and not to_file and sys.stdout.isatty():
        raise InvalidValueError(
            f"{name} is binary, and standard output is a terminal",
            where="--format",
            help=f"write it to a file: > chart.{name}",
        )


def format_of(given: str | None, file: str | None, otherwise: str) -> str:
    """The given format, else the one of the file's suffix, else the default."""
    if given is not None or file is None:
        return given or otherwise

    from kvcalc.cli.asking import located
    from kvcalc.formats import format_of_file

    return located("--out", format_of_file, Path(file).suffix)


def show(document: Document, format: str, file: str | None = None) -> None:
    """Writes the document, whole, to stdout or to a file."""
    from kvcalc.formats import write

    taken = _taken.get()
    if taken is not None:
        taken.append(document)
        return
    if file is None:
        write(document, format, sys.stdout)
        return

    from io import BytesIO, TextIOWrapper

    from kvcalc.cli.asking import located
    from kvcalc.io.files import write_whole

    content = BytesIO()
    stream = TextIOWrapper(content, "utf-8", errors="backslashreplace", newline="\n")
    write(document, format, stream)
    stream.flush()
    located("--out", write_whole, Path(file), content.getvalue())


@contextmanager
def taking() -> Iterator[list[Document]]:
    """Captures the documents that commands show, instead of writing them."""
    documents: list[Document] = []
    token = _taken.set(documents)
    try:
        yield documents
    finally:
        _taken.reset(token)


def show_text(text: str) -> None:
    """Writes a preformatted text line by line, with control characters escaped."""
    from kvcalc.errors.foreign import visible

    sys.stdout.write("".join(visible(line, len(line)) + "\n" for line in text.splitlines()))
