"""JSON: every number is an exact integer, except ratios."""

from __future__ import annotations

from json import dumps
from typing import TextIO

from kvcalc.report.sheet import Document, Json


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's values, indented."""
    stream.write(dumped(document.to_dict()))


def dumped(values: Json) -> str:
    """Values as indented JSON that no workflow runner reads as a command."""
    return _inert(dumps(values, indent=2)) + "\n"  # in ASCII: control characters become escapes


def line_of(values: Json) -> str:
    """The same on one line."""
    return _inert(dumps(values))


def _inert(text: str) -> str:
    for command in ("##[", "##vso["):  # `##` occurs only inside strings, where an escape is allowed
        text = text.replace(command, f"\\u0023{command[1:]}")
    return text
