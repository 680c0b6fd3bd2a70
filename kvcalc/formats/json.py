"""JSON: every number an exact integer, but for ratios."""

from __future__ import annotations

from json import dumps
from typing import TextIO

from kvcalc.report.sheet import Document, Json


def write(document: Document, stream: TextIO) -> None:
    """Writes the document's values, indented."""
    stream.write(dumped(document.to_dict()))


def dumped(values: Json) -> str:
    """Values as indented JSON, in which no workflow's command is read."""
    return _inert(dumps(values, indent=2)) + "\n"  # in ASCII: whatever acts on a terminal is an escape


def line_of(values: Json) -> str:
    """The same on one line."""
    return _inert(dumps(values))


def _inert(text: str) -> str:
    for command in ("##[", "##vso["):  # two hashes stand in texts alone, and may be an escape there
        text = text.replace(command, f"\\u0023{command[1:]}")
    return text
